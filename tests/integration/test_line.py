"""The whole line on a tiny world, as on GPUs: two ranks of ZeRO-3 over a base in bfloat16, soft slots everywhere, dropout; experts side by
side, adapters that plain PEFT loads."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from http_load import ask, free_port, load, until
from ray import serve
from tiny import as_on_gpus

from thinkrec.artefacts.ingest import bucket_files, read_items, read_users
from thinkrec.artefacts.prior import scan_offsets
from thinkrec.artefacts.scores import read_model_weight, read_scores
from thinkrec.config import run as run_file
from thinkrec.config.refresh import RefreshSection
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.evaluate.report.table import report_text
from thinkrec.evaluate.run_report.publish import publish
from thinkrec.events import Event, GroupStarted, NothingToDo, StageStarted
from thinkrec.model.base import load_model
from thinkrec.pipeline.execute import run_graph, run_stages
from thinkrec.pipeline.stages import select_stages
from thinkrec.prompt.catalogue import ArtefactPaths, base_folder, load_tables
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.lists import Lists
from thinkrec.recommend.ranker import Ranker
from thinkrec.recommend.request import Request
from thinkrec.refresh.refresh import plan_refresh, refresh
from thinkrec.routing.gate_table import Routing
from thinkrec.routing.reroute import Move
from thinkrec.run import open_run
from thinkrec.score.serving import serving_model
from thinkrec.serve.assemble import write_package
from thinkrec.serve.deployment import serving
from thinkrec.serve.opened import open_package
from thinkrec.serve.options import ServeOptions, sha256_of_key
from thinkrec.store.artefacts import Artefact

KEY = "a key of more than sixteen characters"
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Config:
    return run_file.parse(as_on_gpus("zero3") | {"run": {"dir": str(tmp_path_factory.mktemp("line"))}})


@pytest.fixture(scope="module")
def told() -> list[Event]:
    """What the run reported."""
    return []


@pytest.fixture(scope="module")
def artefacts(ray_cluster, config, told) -> dict[str, Artefact]:
    return run_stages(config, told.append)


def places(artefacts: dict[str, Artefact]) -> ArtefactPaths:
    return ArtefactPaths({name: artefact.uri for name, artefact in artefacts.items()})


def test_every_artefact_is_whole(artefacts, config):
    assert list(artefacts) == [stage.name for stage in select_stages(config)]
    for artefact in artefacts.values():
        artefact.verify()
    learned = [artefacts[stage].figures for stage in ("instances", "global")]
    assert len({(figures["num_rows"], figures["num_traces"]) for figures in learned}) == 1


def test_experts_had_two_groups_and_each_was_trained_once(artefacts, told):
    """Which group takes which depends on who is there first."""
    assert {event.group for event in told if isinstance(event, GroupStarted)} == {0, 1}
    spans = json.loads(artefacts["experts"].path("timeline.json").read_text())
    assert [span["expert"] for span in spans] == ["0", "1"]
    assert {span["group"] for span in spans} <= {0, 1}


def test_each_adapter_reloads_in_plain_peft_with_equal_logits(artefacts, config):
    from peft import PeftModel

    where, whole = places(artefacts), config.base.model_copy(update={"dtype": "float32"})
    tables = load_tables(config, where, slots=False)
    num_experts = Routing(where).num_experts
    served = serving_model(config.model_copy(update={"prompt": tables.template.settings, "base": whole}), where, tables, num_experts)
    ids = torch.tensor([tables.prompt(int(np.flatnonzero(tables.interactions.split == 2)[0])).ids])
    folders = [artefacts["experts"].path(f"experts/{expert}") for expert in range(num_experts)]
    for slot, folder in enumerate([*folders, artefacts["global"].path("adapter")]):
        plain = PeftModel.from_pretrained(load_model(base_folder(where), "float32"), str(folder)).eval()
        gates = torch.nn.functional.one_hot(torch.tensor([slot]), num_experts + 1).float()
        with torch.no_grad(), served.bank.gated(gates):
            ours, theirs = served.llm(input_ids=ids).logits, plain(input_ids=ids).logits
        assert (ours - theirs).abs().max() <= 1e-5
        assert not torch.equal(theirs, load_model(base_folder(where), "float32")(input_ids=ids).logits)


def test_scores_cover_every_test_row_once_and_explanations_stop_or_say_so(artefacts, config):
    interactions = pl.read_parquet(f"{artefacts['ingest'].path('interactions')}/**/*.parquet").filter(pl.col("split") == "test")
    for variant in ("global", "experts", "fusion"):
        scores = read_scores(artefacts["score"].path(), variant)
        assert sorted(scores["row"]) == sorted(interactions["row"])
        assert scores["score"].is_finite().all()
        weight = read_model_weight(artefacts["score"].path())
        np.testing.assert_allclose(scores["score"], scores["prior"] + weight * scores["model"], atol=1e-5)
        offsets = scan_offsets(artefacts["prior"].path()).collect()
        assert scores.join(offsets, on="row").select((pl.col("prior") == pl.col("offset")).all()).item()
    explained = pl.read_parquet(artefacts["score"].path("explanations.parquet"))
    assert explained.height == config.evaluate.num_explanations
    assert set(explained["finish_reason"]) <= {"stop", "length"}
    assert (explained["text"].str.len_chars() > 0).all()


def test_the_run_opens_in_python_with_the_scores_of_its_files(artefacts, config):
    publish(artefacts, config.run.dir)
    run, rows = open_run(config.run.dir), read_scores(artefacts["score"].path(), "fusion")
    weight = read_model_weight(artefacts["score"].path())
    found = run.score(rows["user_id"], rows["item_id"])
    assert np.abs(found - rows["score"].to_numpy()).max() <= 2e-2 * max(1.0, weight)  # the model is in bfloat16
    assert run.settings == config


def test_lists_of_all_users_are_streamed_over_buckets(artefacts, config):
    """Of items that they have not met; a second call makes none."""
    section = config.recommend.model_copy(update={"num_candidates": 4})
    lists = Lists.plan(config.model_copy(update={"recommend": section}), artefacts, Request(top=2))
    counts = lists.make(lambda event: None, lambda config: nullcontext())
    table = pl.read_parquet(f"{lists.out}/*/part-0.parquet", hive_partitioning=False)
    log = pl.read_parquet(f"{artefacts['ingest'].path('interactions')}/**/*.parquet")
    assert table["user_id"].n_unique() == counts.num_users == log["user_id"].n_unique()
    assert counts.num_listed == table.height > counts.num_users
    assert table.join(log, on=["user_id", "item_id"]).is_empty()
    assert lists.to_do() == []


def test_a_package_is_served_over_http_and_changed_under_load(artefacts, config, tmp_path):
    """Every answer is the ranker's, none fails while a second package takes over and the first comes back; a spoilt one changes nothing."""
    for name, batch_tokens in (("first", 4096), ("second", 2048)):
        section = config.evaluate.model_copy(update={"batch_tokens": batch_tokens})
        write_package(config.model_copy(update={"evaluate": section}), artefacts, str(tmp_path / name))
    ranker, package = open_package(str(tmp_path / "first"))
    log = ranker_log(ranker)
    expected = ranker.rank(log, [np.arange(3)] * len(log.user_ids)).score
    bodies = [{"user_id": user, "items": log.item_ids[:3]} for user in log.user_ids]
    options, url = ServeOptions(deadline_s=120.0, key_sha256=sha256_of_key(KEY)), f"http://127.0.0.1:{free_port()}"
    try:
        with (
            serving(options, str(tmp_path / "first"), "127.0.0.1", int(url.rpartition(":")[2])),
            load(f"{url}/score", bodies, KEY) as found,
        ):
            status, refused = ask(f"{url}/admin/package", {"package": str(tmp_path / "none")}, KEY)
            assert (status, refused["what"]) == (422, "there is no serving package here")
            for page, body in (("package", {"package": str(tmp_path / "second")}), ("rollback", {})):
                status, told = ask(f"{url}/admin/{page}", body, KEY)
                assert (status, told["status"]) == (202, "starting")
                until(f"{url}/healthz", "package", told["package"])
    finally:
        serve.shutdown()
    assert {status for _, status, _ in found} == {200}
    assert {answer["package"] for _, _, answer in found} >= {package.key}
    assert told["package"] == package.key
    for number, _, answer in found:
        scores = [item["score"] for item in answer["items"]]
        assert np.abs(scores - expected[number]).max() <= 2e-2  # bfloat16


def ranker_log(ranker: Ranker) -> Interactions:
    """Three users of the package."""
    log = Interactions.load(ranker.places.path("ingest"))
    return of_users(log, log.user_ids[:3])


def test_teachers_were_asked_about_the_explained_rows_and_nobody_learned_from_it(artefacts):
    explained = pl.read_parquet(artefacts["score"].path("explanations.parquet"))
    told = [pl.read_parquet(artefacts["references"].path(f"{folder}references.parquet"))["row"] for folder in ("", "quarantine/")]
    assert set(pl.concat(told)) == set(explained["row"])
    assert [name for name, artefact in artefacts.items() if "references" in artefact.manifest["inputs"]] == ["evaluate"]


def test_the_report_names_models_and_baselines(artefacts):
    report: dict[str, Any] = json.loads(artefacts["evaluate"].path("report.json").read_text())
    table = report_text(report)
    first = ("Prior + language model", "Counted prior (no language model)", "Language model alone", "Prior + nearest expert")
    places = [table.index(f"\n{name} ") for name in (*first, "Prior + global adapter", "Item rate", "User + item rate", "Logistic", "MF")]
    assert places == sorted(places)
    assert report["prior"] == {name: artefacts["score"].figures[name] for name in ("model_weight", "num_valid_rows")}
    assert report["prior"]["num_valid_rows"] > 0
    assert report["planted"]["linear_auc"] == pytest.approx(report["planted"]["bayes_auc"], abs=1e-6)  # facets add up in this world
    assert report["explanations"]["rules"]["num_rows"] == report["explanations"]["num_rows"]
    page = artefacts["evaluate"].path("report.html").read_text()
    assert "<svg" in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert "<script src" not in page


def test_a_second_run_does_no_work_and_says_so(artefacts, config, reported):
    again = run_stages(config, reported.append)
    assert NothingToDo(config.run.dir) in reported
    assert {name: artefact.key for name, artefact in again.items()} == {name: artefact.key for name, artefact in artefacts.items()}


def test_a_changed_setting_runs_only_what_depends_on_it(artefacts, config, reported):
    changed = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"num_bootstrap": 60})})
    run_stages(changed, reported.append)
    assert [event.stage for event in reported if isinstance(event, StageStarted)] == ["evaluate"]


def test_a_new_day_makes_a_run_that_goes_on_from_this_one(artefacts, config, tmp_path, reported):
    """One expert is trained on, one stays byte for byte, and what serves afterwards is what was judged; again it does no work."""
    publish(artefacts, config.run.dir)
    settings = RefreshSection(path=str(write_day(artefacts["ingest"].path(), tmp_path)), num_steps=2, proximal=0.1)
    dated = config.model_copy(update={"refresh": settings})
    begun = {place: node for place, node in plan_refresh(dated, artefacts).items() if place[0] in ("ingest", "encode", "cluster")}
    moves = [Move(**move) for move in run_graph(dated, begun, reported.append)["cluster"].figures["moves"]]
    still, moved = sorted(moves, key=lambda move: move.share)
    assert 0 < still.share < moved.share
    last = dated.model_copy(update={"refresh": settings.model_copy(update={"moved_share": still.share})})
    done = refresh(last, artefacts, reported.append)
    assert done.artefacts["experts"].figures["trained_on"] == [moved.cluster]
    weights = [
        {move.cluster: artefact.path(f"experts/{move.cluster}/adapter_model.safetensors").read_bytes() for move in moves}
        for artefact in (artefacts["experts"], done.artefacts["experts"])
    ]
    assert {cluster for cluster in weights[0] if weights[0][cluster] == weights[1][cluster]} == {still.cluster}
    judged = [read_scores(done.artefacts[stage].path(), "fusion") for stage in ("score", "score-before")]
    assert [set(rows["user_id"]) for rows in judged] == [{"newcomer", *day_users(artefacts["ingest"].path())}] * 2
    assert {artefact.key for artefact in open_run(config.run.dir).artefacts.values()} == {
        artefact.key for artefact in (done.artefacts if done.promotion.is_promoted else artefacts).values()
    } - {done.artefacts[stage].key for stage in ("score-before", "promotion")}
    assert {folder.name for folder in Path(config.run.dir, "adapters").iterdir()} == {"global", *(f"expert-{one.cluster}" for one in moves)}
    refresh(last, artefacts, reported.append)
    assert isinstance(reported[-1], NothingToDo)


def day_users(ingest: Path) -> list[str]:
    return read_users(ingest)[:3].to_list()


def write_day(ingest: Path, folder: Path) -> Path:
    """A day of three users and a newcomer, in canonical form, with an item that is new; each meets what he has not met."""
    log = pl.concat([pl.read_parquet(file) for file in bucket_files(ingest)])
    items = read_items(ingest)
    new = items.head(1).with_columns(item_id=pl.lit("novelty"), title=pl.lit("A Novelty"))
    rows = []
    for user in (*day_users(ingest), "newcomer"):
        unmet = items.filter(~pl.col("item_id").is_in(log.filter(user_id=user)["item_id"].implode()))["item_id"].to_list()
        rows += [(user, item, log["ts"].max() + 1000 + len(rows) + at, at % 2) for at, item in enumerate([*unmet[:3], "novelty"])]
    table = pl.DataFrame(rows, schema=["user_id", "item_id", "ts", "label"], orient="row")
    table.write_parquet(folder / "interactions.parquet")
    pl.concat([items, new]).write_parquet(folder / "items.parquet")
    return folder
