"""What the nano base is told of a planted world: the rules of train rows, where the coin fell with them, and nothing of other rows."""

from __future__ import annotations

import polars as pl
import pytest
from planted import artefacts, planted_world

from thinkrec.artefacts.ingest import TRAIN
from thinkrec.artefacts.models import MODEL_FOLDER, read_token_rows
from thinkrec.config.run import parse
from thinkrec.data.interactions import Interactions
from thinkrec.nano.stage import planted_reasons, write_lessons
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.prompt.tokenizer import load_tokenizer

RULE = "space is liked with crew, noir or not."
TREE = {"base": {"nano": {"hidden_size": 32, "num_layers": 1, "vocab_size": 300}}, "prompt": {"priors": False, "titles": False}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return artefacts(planted_world(), tmp_path_factory.mktemp("reasons"))


def tell(made, trace: pl.Expr) -> Interactions:
    """The log, whose truth table says `trace`."""
    file = made["ingest"].path("truth.parquet")
    data = Interactions.load(made["ingest"].path())
    split = pl.DataFrame({"row": data.row, "split": data.split, "label": data.label})
    pl.read_parquet(file).select("row", "p_like").join(split, on="row").with_columns(trace=trace).write_parquet(file)
    return data


def lessons(made, folder, share: float):
    """Token rows as text with the places that count, and the rows themselves."""
    config = parse(TREE | {"base": {"nano": {**TREE["base"]["nano"], "reason_share": share, "text_weight": 0.0}}})
    places = ArtefactPaths({stage: artefact.uri for stage, artefact in made.items()})
    write_lessons(config, folder, Interactions.load(made["ingest"].path()), places)
    rows = read_token_rows(folder)
    tokenizer = load_tokenizer(folder / MODEL_FOLDER)
    return rows, [tokenizer.decode([token for token, w in zip(*row, strict=True) if w]) for row in zip(*rows, strict=True)]


def test_reasons_are_those_of_train_rows_whose_coin_fell_with_the_rule(made):
    data = tell(made, pl.format("{} {}", "split", "row"))
    truth = dict(pl.read_parquet(made["ingest"].path("truth.parquet")).select("row", "p_like").iter_rows())
    found = planted_reasons(data, made["ingest"].path(), 1.0, 0)
    with_the_rule = [at for at in range(len(data)) if data.split[at] == TRAIN and (truth[data.row[at]] >= 0.5) == data.label[at]]
    assert found == {at: f"{TRAIN} {data.row[at]}" for at in with_the_rule}
    some = planted_reasons(data, made["ingest"].path(), 0.25, 0)
    assert some.items() < found.items()
    assert 0.15 < len(some) / len(found) < 0.35


def test_no_reason_of_another_row_reaches_the_base(made, tmp_path):
    tell(made, pl.when(pl.col("split") == TRAIN).then(pl.lit(RULE)).otherwise(pl.lit("leak of what comes")))
    rows, said = lessons(made, tmp_path / "a", 1.0)
    assert sum(RULE in text for text in said) > 0.5 * len(said)
    tell(made, pl.when(pl.col("split") == TRAIN).then(pl.lit(RULE)).otherwise(pl.lit("another future")))
    assert lessons(made, tmp_path / "b", 1.0)[0] == rows
    tell(made, pl.lit("another past of ours"))
    assert lessons(made, tmp_path / "c", 1.0)[0] != rows  # the control
    assert not any("past" in text for text in lessons(made, tmp_path / "d", 0.0)[1])
