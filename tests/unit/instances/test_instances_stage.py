"""The stage on a finished run: each train row is there once, as its prompt has it, and a worker finds it by bucket and cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import thinkrec
from thinkrec.artefacts.clusters import read_clusters
from thinkrec.artefacts.ingest import TRAIN, read_num_buckets
from thinkrec.artefacts.instances import instance_file, write_instance_facts
from thinkrec.artefacts.prior import read_offsets
from thinkrec.config.run import Config
from thinkrec.errors import ArtefactError
from thinkrec.instances import records
from thinkrec.instances.stage import BucketInstances, accepted, facts_of
from thinkrec.prompt.catalogue import ArtefactPaths, PromptData, load_tables
from thinkrec.train.fleet.group import clustered
from thinkrec.train.instances import Instances, TrainInputs, step_batches

BATCH_ROWS = 40  # of a record batch: a bucket then has several


def written(config: Config, uris: Mapping[str, str], folder: Path, buckets: Sequence[int]) -> ArtefactPaths:
    """The artefact, made in this process from these buckets."""
    places = ArtefactPaths({**uris, "instances": str(folder)})
    told = map(BucketInstances(config, places, str(folder)), buckets)
    write_instance_facts(str(folder), facts_of(pl.concat(map(pl.DataFrame, told))))
    return places


@pytest.fixture(scope="module")
def config(finished) -> Config:
    made = thinkrec.open_run(finished).settings
    changed = {"prompt": made.prompt.model_copy(update={"slots": "all"}), "traces": made.traces.model_copy(update={"enabled": True})}
    return made.model_copy(update=changed)


@pytest.fixture(scope="module")
def uris(finished) -> dict[str, str]:
    return {stage: artefact.uri for stage, artefact in thinkrec.open_run(finished).artefacts.items()}


@pytest.fixture(scope="module")
def places(config, uris, tmp_path_factory) -> ArtefactPaths:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BATCH_ROWS", BATCH_ROWS)
        return written(config, uris, tmp_path_factory.mktemp("instances"), range(read_num_buckets(ArtefactPaths(uris).path("ingest"))))


@pytest.fixture(scope="module")
def tables(config, places) -> PromptData:
    return load_tables(config, places)


@pytest.fixture(scope="module")
def instances(config, places) -> Instances:
    return TrainInputs.load(config, places).instances(config)


def rows_of(instances: Instances) -> np.ndarray:
    """The row of INTERACTIONS behind every number."""
    num_rows = len(instances.rows) + len(instances.traces)
    found = [instances._find(number) for number in range(num_rows)]
    return np.array([one.row[at] for _, one, at in found])


def test_every_train_row_and_every_trace_is_there_once(instances, tables, config, places):
    rows, data = rows_of(instances), tables.interactions
    assert sorted(rows[: len(instances.rows)]) == sorted(data.row[data.split == TRAIN])
    assert sorted(rows[len(instances.rows) :]) == sorted(accepted(config, places)["row"])
    assert len(instances.traces) > 0
    assert len(instances.rows.counts) > read_num_buckets(places.path("ingest"))


def test_a_row_is_its_prompt_answer_offset_and_vectors(instances, tables, places):
    data, position_of = tables.interactions, {row: at for at, row in enumerate(tables.interactions.row.tolist())}
    for number, row in list(enumerate(rows_of(instances).tolist()))[::7]:
        found, position = instances.row(number), position_of[row]
        prompt = tables.prompt(position)
        assert (found.prompt.prefix, found.prompt.suffix, found.prompt.slots) == (prompt.prefix, prompt.suffix, prompt.slots)
        text = "because" if number >= len(instances.rows) else ""
        assert found.answer == tables.template.answer(bool(data.label[position]), text)
        assert found.label == data.label[position]
        assert found.offset == read_offsets(places.find("prior"), data.row[[position]])[0]
        assert torch.equal(torch.from_numpy(instances.vector(number).copy()), tables.user_vectors[data.user[position]])


def test_batches_take_the_vectors_of_their_users_and_items(instances, tables):
    numbers = np.array([3, len(instances.rows) - 1, len(instances.rows), 3 + len(instances.rows) // 2])
    alone = [next(iter(step_batches([instances], np.zeros(1, np.int64), numbers[[at]], np.ones(1, np.float32), 1))) for at in range(4)]
    data = tables.interactions
    position_of = {row: at for at, row in enumerate(data.row.tolist())}
    for number, batch in zip(numbers, alone, strict=True):
        position = position_of[int(rows_of(instances)[number])]
        owners = [owner for _, owner in tables.prompt(position).slots]
        expected = [tables.user_vectors[data.user[position]] if owner < 0 else tables.item_vectors[owner] for owner in owners]
        assert torch.equal(batch.slot_vectors, torch.stack(expected))
    [together] = step_batches([instances], np.zeros(4, np.int64), numbers, np.ones(4, np.float32) / 4, 10**6, run_length=4)
    assert torch.equal(together.slot_vectors, torch.cat([batch.slot_vectors for batch in alone]))
    assert len(set(together.user.tolist())) > 1


def test_rows_on_one_history_share_it_on_disk(config, uris, places, tmp_path):
    """Of four targets a history: a fraction of the prefixes, and the prompts of snapshots."""
    shared = config.model_copy(update={"prompt": config.prompt.model_copy(update={"targets_per_history": 4, "slots": "none"})})
    found = TrainInputs.load(shared, written(shared, uris, tmp_path, range(1)))
    plain = TrainInputs.load(config, places, slots=False)
    sizes = [sum(len(parts.records(part).user) for part in np.flatnonzero(parts.bucket == 0)) for parts in (found.rows, plain.rows)]
    assert sizes[0] < 0.5 * sizes[1]
    assert found.rows.counts[found.rows.bucket == 0].sum() == plain.rows.counts[plain.rows.bucket == 0].sum()
    assert not (tmp_path / "soft").exists()
    records = found.rows.records(0)
    own = records.record_of(np.arange(len(records.row)))
    assert (np.bincount(own) > 1).any()
    assert len({(records.user[at], records.snapshot[at]) for at in own}) < len(records.row)


def test_clusters_part_the_rows(instances, places, tables):
    inputs, data = TrainInputs.load(instances.config, places), tables.interactions
    own, traces = clustered(places, inputs.rows, inputs.traces)
    cluster = dict(zip(data.user_ids, read_clusters(places.path("cluster"), data.user_ids).tolist(), strict=True))
    for number in range(own.num_clusters):
        rows = own.rows(number)
        chosen = Instances(instances.config, rows, traces.rows(number))
        train = [
            row
            for row, user, split in zip(data.row, data.user, data.split, strict=True)
            if split == TRAIN and cluster[data.user_ids[user]] == number
        ]
        assert sorted(rows_of(chosen)[: len(rows)]) == sorted(train)
    tokens = [len(row.prompt.prefix) + len(row.prompt.suffix) for row in map(instances.row, range(len(instances.rows)))]
    known = sum(cluster[user] >= 0 for user in np.array(data.user_ids)[data.user[data.split == TRAIN]])
    if known == len(tokens):
        assert own.tokens().sum() == sum(tokens)


def test_made_twice_it_is_the_same_and_a_bucket_that_is_gone_is_named(config, uris, places, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BATCH_ROWS", BATCH_ROWS)
        again = written(config, uris, tmp_path, range(1))
    for form in ("plain", "soft"):
        for kind in ("rows", "traces"):
            first, second = (Path(instance_file(one.path("instances"), form, kind, 0)) for one in (places, again))
            assert first.read_bytes() == second.read_bytes()
    Path(instance_file(tmp_path, "soft", "rows", 0)).unlink()
    with pytest.raises(ArtefactError, match="bucket=000"):
        TrainInputs.load(config, again).rows.records(0)
