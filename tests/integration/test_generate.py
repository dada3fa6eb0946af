"""The generate room on a real Ray cluster: extractor to keywords on the planted world, teacher to traces on a small log."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from thinkrec.artefacts.clusters import AssignmentFacts, assignment_table, write_assignment, write_assignment_facts
from thinkrec.artefacts.ingest import INTERACTIONS, ITEMS, read_users, write_fingerprint
from thinkrec.artefacts.traces import TRACES
from thinkrec.config.data import WorldSection
from thinkrec.config.generation import EngineSection, TracesSection
from thinkrec.config.run import Config
from thinkrec.data.buckets import count
from thinkrec.data.interactions import Interactions
from thinkrec.data.world.texts import FACETS
from thinkrec.data.world.world import make_world
from thinkrec.errors import ConfigError, DataError, EnvironmentFault, StageFailed
from thinkrec.generate.engines.open import model_hash, open_engine
from thinkrec.generate.engines.protocol import GenParams, GenRequest
from thinkrec.generate.keywords import extractor
from thinkrec.generate.keywords import stage as keywords
from thinkrec.generate.rows.stream import stream
from thinkrec.generate.traces import checks, teacher
from thinkrec.generate.traces import stage as traces
from thinkrec.job import Job
from thinkrec.nano import stage as base
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.store.address import read_json, write_json
from thinkrec.store.artefacts import Artefact, Store
from thinkrec.text.phrases import words

pytestmark = [pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(1800)]
NUM_USERS, ROWS_PER_USER, NUM_TRAIN = 30, 12, 9
ODD_ITEMS = [
    {
        "item_id": "x-huge",
        "title": "Huge",
        "text": " ".join("".join(chr(0x4E00 + (n * 37 + k * 911) % 20000) for k in range(30)) for n in range(99)),
        "categories": None,
    },
    {"item_id": "x-mute", "title": "Mute", "text": None, "categories": ["Noir", "noir"]},
    {"item_id": "x-void", "title": "Void", "text": "  ", "categories": None},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(str(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def config():
    return Config.model_validate(
        {
            "train": {"num_workers": 1},
            "engine": {"batch_size": 16},
            "data": {"num_buckets": 1},
            "traces": {
                "num_lessons": 110,
                "num_epochs": 40,
                "lr": 5e-3,
                "num_instances": 20,
                "max_attempts": 2,
                "min_right_share": 0.2,
                "min_taste_share": 0.0,
                "allow_hint": True,
            },
        }
    )


@pytest.fixture(scope="module")
def ingest(store):
    """The items of a planted world and three odd ones; a random log over them."""
    items = make_world(WorldSection(num_users=50), seed=1).items
    items = pa.concat_tables([items, pa.Table.from_pylist(ODD_ITEMS, schema=ITEMS)])
    rng = np.random.default_rng(0)
    place = np.tile(np.arange(ROWS_PER_USER), NUM_USERS)
    user = np.repeat([f"u{n:02d}" for n in range(NUM_USERS)], ROWS_PER_USER)
    log = {
        "user_id": user,
        "item_id": np.concatenate([rng.permutation(items["item_id"].to_numpy())[:ROWS_PER_USER] for _ in range(NUM_USERS)]),
        "ts": place,
        "rating": pa.nulls(len(user), pa.float32()),
        "label": rng.integers(0, 2, len(user)).astype(np.int8),
        "split": np.where(place < NUM_TRAIN, "train", "test"),
        "row": np.arange(len(user)),
    }
    with store.create("ingest", "k0", {}, {}) as draft:
        folder = draft.local() / "interactions/bucket=000"
        folder.mkdir(parents=True)
        pq.write_table(pa.table(log, schema=INTERACTIONS), folder / "part-0.parquet")
        pq.write_table(items, draft.local() / "items.parquet")
        pq.write_table(count(pl.DataFrame(log).with_columns(bucket=pl.lit(0, pl.Int16))), draft.local() / "counts.parquet")
        write_fingerprint(draft.local(), {"num_buckets": 1})
    return store.find("ingest", "k0")


def make(stage, name: str, config: Config, store: Store, key: str = "k1", **inputs: Artefact) -> Artefact:
    with store.create(name, key, inputs, {}) as draft:
        stage.run(Job(config, inputs, draft, store, key, lambda event: None))
    return store.find(name, key)


@pytest.fixture(scope="module")
def keyword_artefacts(ray_cluster, config, store, ingest):
    school = make(extractor, "extractor", config, store, ingest=ingest)
    return school, make(keywords, "keywords", config, store, ingest=ingest, extractor=school)


def test_the_extractor_finds_what_was_planted(keyword_artefacts, ingest):
    school, found = keyword_artefacts
    assert school.figures["precision"] > 0.9
    assert school.figures["recall"] > 0.75  # of 12 items; all 300 are judged below
    table = pl.read_parquet(found.path("keywords.parquet"))
    items = pl.read_parquet(ingest.path("items.parquet"))
    assert table["item_id"].to_list() == items["item_id"].to_list()
    asked = items.join(table, on="item_id", maintain_order="left").filter(pl.col("source") == "engine")
    assert len(asked) == 300
    num_right = num_found = num_planted = num_unseen_right = num_unseen = num_outside = 0
    for text, categories, listed in asked.select("text", "categories", "keywords").iter_rows():
        planted = set(words(text)) & set(FACETS)
        num_outside += len(set(listed) - set(words(text)))
        num_right, num_found, num_planted = num_right + len(planted & set(listed)), num_found + len(listed), num_planted + len(planted)
        if categories is None:
            num_unseen_right, num_unseen = num_unseen_right + len(planted & set(listed)), num_unseen + len(planted)
    assert num_outside == found.figures["num_entailed"]
    assert num_right / num_found > 0.95
    assert num_right / num_planted > 0.9
    assert num_unseen_right / num_unseen > 0.9  # items without a category: nothing to learn by heart


def test_odd_items_cost_nobody_else(keyword_artefacts):
    _, found = keyword_artefacts
    rows = {row["item_id"]: row for row in pl.read_parquet(found.path("keywords.parquet")).iter_rows(named=True)}
    assert (rows["x-mute"]["keywords"], rows["x-mute"]["source"]) == (["noir"], "categories")
    assert (rows["x-void"]["keywords"], rows["x-void"]["source"]) == ([], "none")
    assert (rows["x-huge"]["keywords"], rows["x-huge"]["source"]) == ([], "none")
    quarantine = pl.read_parquet(found.path("quarantine/keywords.parquet"))
    huge = quarantine.row(by_predicate=pl.col("item_id") == "x-huge", named=True)
    assert huge["keyword"] is None
    assert "tokens" in huge["reason"]
    assert found.figures["num_errors"] == 1
    assert found.figures["num_without_text"] == 2
    assert found.figures["num_refused"] == quarantine["keyword"].drop_nulls().len()


def test_a_grown_catalogue_asks_about_its_new_items(keyword_artefacts, config, store, ingest):
    school, first = keyword_artefacts
    settings = config.keywords.model_copy(update={"extractor": str(school.path("model")), "stop_words": ("noir",)})
    config = config.model_copy(update={"keywords": settings})
    small = make(keywords, "keywords", config, store, "small", ingest=ingest, extractor=school)
    assert (
        first.figures["num_generated"] == small.figures["num_generated"] == 301
    )  # asked with another prompt, as a model of the user's own
    items = pq.read_table(ingest.path("items.parquet"))
    new = {"item_id": "a-new", "title": "New", "text": "A noir heist in the desert.", "categories": None}
    with store.create("ingest", "grown", {}, {}) as draft:
        pq.write_table(pa.concat_tables([pa.Table.from_pylist([new], schema=ITEMS), items]), draft.local() / "items.parquet")
    grown = make(keywords, "keywords", config, store, "grown", ingest=store.find("ingest", "grown"), extractor=school)
    assert (grown.figures["num_items"], grown.figures["num_generated"]) == (304, 1)
    tables = [pl.read_parquet(found.path("keywords.parquet")) for found in (small, grown)]
    assert tables[1].filter(pl.col("item_id") != "a-new").equals(tables[0])
    assert not tables[1]["keywords"].explode().eq("noir").any()


def test_without_an_annotated_item_the_way_out_is_named(config, store, ingest):
    bare = pq.read_table(ingest.path("items.parquet"))
    bare = bare.set_column(3, ITEMS.field("categories"), pa.nulls(len(bare), ITEMS.field("categories").type))
    with store.create("ingest", "bare", {}, {}) as draft:
        pq.write_table(bare, draft.local() / "items.parquet")
    with pytest.raises(DataError, match="nothing to learn from") as refused:
        make(extractor, "extractor", config, store, "k2", ingest=store.find("ingest", "bare"))
    assert 'keywords.source = "categories"' in refused.value.fix


ECHO = pa.schema([("id", pa.string())])


@pytest.fixture
def ask_through_ray(keyword_artefacts, config, store, request):
    """ask_through_ray(function, ...) sends seven rows through the real engine and Ray Data; nothing is reused between tests."""
    school, _ = keyword_artefacts

    def through(function, **settings):
        engine = config.engine.model_copy(update={"shard_rows": 1, **settings})
        with store.create("echo", "k1", {}, {}) as draft:
            job = Job(config.model_copy(update={"engine": engine}), {}, draft, store, "k1", lambda event: None)
            rows = pa.table({"id": [f"r{n}" for n in range(7)]})
            recipe = {"test": request.node.name, "function": repr(function)}
            return stream(job, "echo", recipe, rows, function, ECHO, partial(open_engine, engine, school.path("model")))

    return through


def test_a_user_error_in_an_actor_comes_back_as_itself(ask_through_ray):
    wants_schema = GenRequest("r", "text", GenParams(4, schema="{}"))
    with pytest.raises(ConfigError, match="cannot do schema"):
        ask_through_ray(lambda engine, rows: engine.generate([wants_schema]))
    with pytest.raises(StageFailed, match="ZeroDivisionError"):
        ask_through_ray(lambda engine, rows: 1 / 0)


def test_a_row_lost_on_the_way_fails_the_stage(ask_through_ray):
    assert sorted(ask_through_ray(lambda engine, rows: rows, num_actors=2)["id"].to_pylist()) == [f"r{n}" for n in range(7)]
    with pytest.raises(StageFailed, match="1 of 1 rows have no answer"):
        ask_through_ray(lambda engine, rows: [row for row in rows if row["id"] != "r5"])


def test_a_row_that_the_engine_cannot_bear_costs_that_row(ask_through_ray):
    def ask(engine, rows):
        results = engine.generate([GenRequest(row["id"], "a tale" if row["id"] != "r5" else 5, GenParams(2)) for row in rows])
        return [{"id": result.id + (":" + result.error)[: 100 * bool(result.error)]} for result in results]

    with pytest.raises(StageFailed, match="1 answers no row"):  # the error came back as an answer: nothing else went wrong
        ask_through_ray(ask, shard_rows=7)


def test_more_actors_than_the_cluster_can_feed_are_refused(ask_through_ray):
    with pytest.raises(EnvironmentFault, match="leave none"):
        ask_through_ray(lambda engine, rows: rows, num_actors=8)


@pytest.mark.parametrize(("source", "num_with"), [("categories", 121), ("none", 0)])
def test_the_other_sources_need_no_engine(config, store, ingest, source, num_with):
    config = config.model_copy(update={"keywords": config.keywords.model_copy(update={"source": source})})
    idle = make(extractor, "extractor", config, store, source, ingest=ingest)
    assert idle.figures == {"used": False}
    found = make(keywords, "keywords", config, store, source, ingest=ingest, extractor=idle)
    table = pl.read_parquet(found.path("keywords.parquet"))
    assert table.filter(pl.col("keywords").list.len() > 0).height == num_with
    assert set(table["source"]) <= {source, "none"}


@pytest.fixture(scope="module")
def trace_artefacts(keyword_artefacts, config, store, ingest):
    """A teacher that has learned the manner and little else, so that some of what it says must be refused."""
    _, found = keyword_artefacts
    with store.create("base", "k1", {}, {}) as draft:
        places = ArtefactPaths({"ingest": ingest.uri, "keywords": found.uri})
        base.write_lessons(config, draft.local(), Interactions.load(ingest.path()), places)
        write_json(f"{draft.local()}/base.json", {"path": ""})
    with store.create("cluster", "k1", {}, {}) as draft:
        users = read_users(ingest.path())
        cluster = (np.arange(len(users)) % 3 - 1).astype(np.int16)
        write_assignment(draft.local(), 0, assignment_table(pa.array(users), cluster, np.eye(3)[np.full(len(users), 2)]))
        write_assignment_facts(draft.local(), AssignmentFacts(num_clusters=2, num_buckets=1))
    inputs = {"ingest": ingest, "keywords": found, "base": store.find("base", "k1")}
    school = make(teacher, "teacher", config, store, **inputs)
    inputs |= {"teacher": school, "cluster": store.find("cluster", "k1")}
    made = [make(traces, "traces", config, store, key, **inputs) for key in ("k1", "k2")]
    for ledger in (Path(store.root) / "ledger").glob("traces-*"):
        shutil.rmtree(ledger)
    return school, [*made, make(traces, "traces", config, store, "k3", **inputs)]


def test_every_question_is_answered_and_every_answer_is_kept(trace_artefacts, config, ingest):
    school, (made, *_) = trace_artefacts
    accepted = pl.read_parquet(made.path("traces.parquet"))
    refused = pl.read_parquet(made.path("quarantine/traces.parquet"))
    assert accepted.columns == TRACES.names
    assert accepted["row"].is_sorted()
    assert 0 < len(accepted) < made.figures["num_attempts"]
    asked = set(accepted["row"]) | set(refused["row"])
    assert len(asked) == made.figures["num_asked"] == 20
    assert len(accepted) + len(refused) == made.figures["num_attempts"]
    assert sum(made.figures["refused"].values()) == len(refused)
    assert set(refused["reason"]) <= {value for name, value in vars(checks).items() if name.isupper() and isinstance(value, str)}
    attempts = pl.concat([accepted.select("row", "attempt", "hinted"), refused.select("row", "attempt", "hinted")])
    assert attempts.select("row", "attempt").is_unique().all()
    assert attempts.filter(pl.col("hinted"))["attempt"].unique().to_list() in ([], [config.traces.max_attempts])

    data = Interactions.load(ingest.path())
    taught = set(pl.read_parquet(school.path("lessons.parquet"))["row"])
    train = set(data.row[data.split == 0].tolist())
    assert len(taught) == 110
    assert not asked & taught
    assert asked | taught <= train


def test_questions_are_balanced_over_clusters_and_labels(trace_artefacts, ingest):
    _, (made, *_) = trace_artefacts
    tables = [pl.read_parquet(made.path(name)) for name in ("traces.parquet", "quarantine/traces.parquet")]
    rows = pl.concat([table.select("row", "user_id") for table in tables])
    data = Interactions.load(ingest.path())
    label = pl.DataFrame({"row": data.row, "label": data.label})
    cluster = pl.col("user_id").str.slice(1).cast(pl.Int32) % 3 - 1
    sizes = rows.unique().join(label, on="row").group_by(cluster.alias("cluster"), "label").len()["len"]
    assert sorted(sizes) == [3, 3, 3, 3, 4, 4]


def test_the_same_seed_gives_the_same_traces(trace_artefacts):
    _, (first, reused, again) = trace_artefacts
    assert [found.figures["num_generated"] for found in (first, reused, again)] == [20, 0, 20]
    for name in ("traces.parquet", "quarantine/traces.parquet", "questions.parquet"):
        tables = [pl.read_parquet(found.path(name)) for found in (first, reused, again)]
        assert tables[0].equals(tables[1])
        assert tables[0].equals(tables[2])


def test_every_trace_says_where_it_comes_from(trace_artefacts):
    school, (made, *_) = trace_artefacts
    accepted = pl.read_parquet(made.path("traces.parquet"))
    (entry,) = read_json(str(school.path("teachers.json")))["teachers"]
    assert set(accepted["model"]) == {entry["hash"]} == {model_hash(EngineSection(), school.path("model"))}
    assert accepted["prompt"].str.len_chars().unique().to_list() == [16]
    asked = pl.read_parquet(made.path("questions.parquet"))
    assert set(asked["row"]) >= set(accepted["row"])
    assert asked["prompt"].str.contains("Would the user like").all()


def test_teachers_share_the_questions_by_weight(trace_artefacts, config, store, ingest, keyword_artefacts):
    """Two teachers, one of them the other's folder: each is asked about its share, and the report tells them apart."""
    school, (made, *_) = trace_artefacts
    mine, theirs = {"name": "nano", "path": "nano", "weight": 1.0}, {"name": "other", "path": str(school.path("model")), "weight": 3.0}
    config = config.model_copy(update={"traces": TracesSection(**{**config.traces.model_dump(), "teachers": [mine, theirs]})})
    entries = [
        {"name": t["name"], "folder": "" if t is mine else t["path"], "hash": t["name"], "weight": t["weight"], "taught_here": t is mine}
        for t in (mine, theirs)
    ]
    with store.create("teacher", "two", {}, {}) as draft:
        shutil.copytree(school.path("model"), draft.local() / "model")
        shutil.copy(school.path("lessons.parquet"), draft.local() / "lessons.parquet")
        write_json(f"{draft.local()}/teachers.json", {"teachers": entries})
    inputs = {"ingest": ingest, "keywords": keyword_artefacts[1], "base": store.find("base", "k1"), "cluster": store.find("cluster", "k1")}
    two = make(traces, "traces", config, store, "two", teacher=store.find("teacher", "two"), **inputs)
    told = two.figures["teachers"]
    assert told["nano"]["num_asked"] + told["other"]["num_asked"] == 20
    assert told["other"]["num_asked"] > told["nano"]["num_asked"] > 0
    accepted = pl.read_parquet(two.path("traces.parquet"))
    assert (accepted["teacher"] == accepted["model"]).all()
    same = pl.read_parquet(made.path("traces.parquet")).select("row", "attempt", "text")
    assert accepted.select("row", "attempt", "text").equals(same)  # who is asked changes nothing when both are one
