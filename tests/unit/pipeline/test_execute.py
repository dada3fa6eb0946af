"""The stage graph: what a changed setting reruns, what a second run does not, and what is refused before anything starts."""

from __future__ import annotations

import errno
import importlib.util
import os
import pickle
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.distributed.placement import Node
from thinkrec.errors import ConfigError, EnvironmentFault, MissingFileError, StageFailed
from thinkrec.events import Event, Warned
from thinkrec.pipeline import stages
from thinkrec.pipeline.execute import run_stages
from thinkrec.pipeline.keys import KEY_LENGTH, stage_keys
from thinkrec.pipeline.stages import STAGES, Stage, lookup, select_stages
from thinkrec.pipeline.view import UnlistedSetting

NAMES = [stage.name for stage in select_stages(Config())]
LEARNED = {"global", "projector", "experts", "score", "references", "evaluate"}
TOLD = {"instances"} | LEARNED
FROM_CLUSTER = {"cluster", "traces"} | TOLD
AFTER_BASE = {"base", "teacher", "traces"} | TOLD
AFTER_WORDS = {"prior"} | AFTER_BASE
EVERYTHING = set(NAMES)
EARLY_STAGES = {"traces-first", "instances-first", "global-first"}

RERUNS = {
    "evaluate.num_bootstrap=50": {"evaluate"},
    "evaluate.max_rows=9": {"score", "references", "evaluate"},
    "evaluate.max_valid_rows=9": {"score", "references", "evaluate"},
    "evaluate.fusion='peft_linear'": {"score", "references", "evaluate"},
    "train.experts.lr=1e-5": {"experts", "score", "references", "evaluate"},
    "train.projector.batch_size=32": LEARNED - {"global"},
    "train.global_adapter.num_epochs=2": LEARNED,
    "train.loss.rank=0.5": LEARNED,
    "train.trace_share=0.1": LEARNED,
    "adapter.rank=4": LEARNED,
    "traces.num_instances=10": {"teacher", "traces"} | TOLD,
    "cluster.temperature=0.2": FROM_CLUSTER,
    "cluster.num_clusters=3": FROM_CLUSTER,
    "encoder.dim=4": {"encode"} | FROM_CLUSTER,
    "encoder.source='sasrec'": {"encode"} | FROM_CLUSTER,
    "prompt.history_policy='train_only'": {"encode", "cluster"} | AFTER_WORDS,
    "prompt.slots='all'": AFTER_BASE,
    "prompt.history_length=3": AFTER_BASE,
    "prompt.history_dislikes=false": AFTER_BASE,
    "prior.within_user=0.1": {"prior"} | TOLD,
    "prompt.domain='movie'": {"keywords"} | AFTER_WORDS,
    "engine.http.model='another'": {"keywords"} | AFTER_WORDS,
    "engine.vllm.dtype='float32'": {"keywords"} | AFTER_WORDS,
    "keywords.max_per_item=3": {"extractor", "keywords"} | AFTER_WORDS,
    "base.nano.num_layers=1": {"extractor", "keywords"} | AFTER_WORDS,
    "data.world.num_items=50": EVERYTHING,
    "data.num_buckets=3": EVERYTHING,
    "split.test_quantile=0.9": EVERYTHING,
    "run.seed=7": EVERYTHING,
    # What only says where or how fast, and not what comes out.
    "run.dir='elsewhere'": set(),
    "ray.num_cpus=7": set(),
    "ray.address='auto'": set(),
    "train.num_groups=1": set(),
    "train.max_pack=3": set(),
    "train.num_workers=1": set(),
    "train.workers_per_group=2": set(),
    "train.micro_batch_tokens=512": set(),
    "train.checkpoint_every=5": set(),
    "train.num_checkpoints=3": set(),
    "faults.hang_s=3600": set(),
    "engine.batch_size=2": set(),
    "engine.num_actors=2": set(),
    "engine.shard_rows=9": set(),
    "engine.http.max_tries=2": set(),
    "engine.vllm.tensor_parallel_size=2": set(),
    "engine.vllm.gpu_memory_utilization=0.5": set(),
}


@pytest.fixture
def configured(tmp_path) -> Callable[..., Config]:
    """configured(override, ...) is the config of an empty run file in a run folder of the test's own."""

    def load(*overrides: str) -> Config:
        (tmp_path / "run.toml").write_text("")
        return run_file.load(tmp_path / "run.toml", [f"run.dir={tmp_path / 'run'}", *overrides])

    return load


class House:
    """Three tiny stages in the place of the real ones: what they did, and which of them must fail."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.said: list[str] = []
        self.sessions = 0
        self.now = threading.Lock()
        self.broken: dict[str, Exception] = {}

    def report(self, event: Event) -> None:
        self.said.append(f"{event.event} {event.stage}" if hasattr(event, "stage") else event.event)

    @contextmanager
    def session(self, config: Config):
        self.sessions += 1
        yield

    def work(self, name: str) -> Callable[[Any], None]:
        def run(job: Any) -> None:
            assert self.now.acquire(blocking=False), "one stage at a time"
            self.ran.append(name)
            texts = [artefact.path("out.txt").read_text() for artefact in job.inputs.values()]
            (job.draft.local() / "out.txt").write_text("".join([*texts, name]))
            self.now.release()
            if name in self.broken:
                raise self.broken[name]

        return run


@pytest.fixture
def house(monkeypatch) -> House:
    found = House()
    stages = (
        Stage("one", "fake_one", (), ("run.seed",)),
        Stage("two", "fake_two", ("one",), ("cluster",)),
        Stage("aside", "fake_aside", ("one",), ("traces",)),
        Stage("three", "fake_three", ("one", "two"), ("evaluate",)),
    )
    monkeypatch.setattr("thinkrec.pipeline.stages.STAGES", stages)
    for stage in stages:
        monkeypatch.setitem(sys.modules, stage.module, SimpleNamespace(run=found.work(stage.name)))
    return found


def run(house: House, config: Config, until: str | None = None):
    house.ran.clear()
    house.said.clear()
    return run_stages(config, house.report, until, house.session)


def test_what_a_stage_needs_stands_above_it():
    for place, stage in enumerate(STAGES):
        assert set(stage.needs) <= {other.name for other in STAGES[:place]}
    assert len({stage.name for stage in STAGES}) == len(STAGES)


def test_every_row_of_the_table_names_what_is_there():
    for stage in STAGES:
        assert importlib.util.find_spec(stage.module)
        assert set(stage.settings(Config())) == set(stage.reads)
        for key in stage.uses:
            lookup(Config().model_dump(), key)


@pytest.mark.parametrize("override", RERUNS)
def test_a_setting_reruns_exactly_what_depends_on_it(configured, override):
    before, after = stage_keys(configured()), stage_keys(configured(override))
    assert {name for name in NAMES if before[name] != after[name]} == RERUNS[override]


def test_a_stage_that_is_off_needs_nothing_and_parts_nothing(configured):
    """Traces are drawn from clusters; without them the clusters decide nothing about the global adapter."""
    off = "traces.enabled=false"
    before, after = stage_keys(configured(off)), stage_keys(configured(off, "cluster.num_clusters=3"))
    assert {name for name in NAMES if before[name] != after[name]} == FROM_CLUSTER - {
        "traces",
        "instances",
        "global",
        "projector",
        "references",
    }
    assert [stage.name for stage in select_stages(configured(off)) if stage.needs and not stage.inputs(configured(off))] == [
        "teacher",
        "traces",
        "references",
    ]
    assert all(stage.inputs(configured(*EARLY)) == stage.needs for stage in STAGES)


def test_a_run_without_a_prior_has_no_such_stage(configured):
    without = configured("prior.kind='none'")
    assert {stage.name for stage in select_stages(configured())} - {stage.name for stage in select_stages(without)} == {"prior"}


def test_a_taken_artefact_changes_what_builds_on_it_alone(configured):
    before, after = stage_keys(configured()), stage_keys(configured(), {"global": "k" * KEY_LENGTH})
    assert after["global"] == "k" * KEY_LENGTH
    assert {name for name in NAMES if before[name] != after[name]} == LEARNED


def test_a_changed_template_changes_what_is_made_from_prompts_and_nothing_else(configured, monkeypatch):
    before = stage_keys(configured())
    monkeypatch.setattr("thinkrec.prompt.template.TEMPLATE_VERSION", 2)
    after = stage_keys(configured())
    assert {name for name in NAMES if before[name] != after[name]} == AFTER_BASE


def test_early_traces_change_no_key_of_a_run_without_them(configured):
    early = stage_keys(configured(*EARLY))
    assert list(early) == [stage.name for stage in STAGES]
    assert set(early) - set(stage_keys(configured())) == EARLY_STAGES
    assert {stage.name for stage in STAGES if not stage.is_in(configured())} == EARLY_STAGES
    other = stage_keys(configured(*EARLY, "traces.start_share=0.25"))
    assert {name for name in early if early[name] != other[name]} == EARLY_STAGES | {"teacher", "traces"} | TOLD


def test_keys_are_names_and_all_unlike(configured):
    found = stage_keys(configured())
    assert list(found) == NAMES
    assert len(set(found.values())) == len(NAMES)
    assert all(len(key) == KEY_LENGTH for key in found.values())


def test_the_content_of_the_users_files_counts(configured, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "items.parquet").write_text("a")
    config = configured("data.source='canonical'", f"data.path={source}")
    before = stage_keys(config)
    assert stage_keys(config) == before
    (source / "items.parquet").write_text("b")
    assert all(stage_keys(config)[name] != before[name] for name in NAMES)


@pytest.mark.parametrize(("source", "key"), [("data.source='canonical'", "data.path"), ("base.source='folder'", "base.path")])
def test_a_run_may_live_inside_its_input_but_not_be_it(configured, tmp_path, monkeypatch, source, key):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    inside = configured(source, f"{key}=.", "run.dir=runs/a")
    before = stage_keys(inside)
    (tmp_path / "runs/a/ingest/k").mkdir(parents=True)
    (tmp_path / "runs/a/ingest/k/items.parquet").write_text("made")
    (tmp_path / "analysis.ipynb").write_text("{}")
    assert stage_keys(inside) == before
    assert stage_keys(configured(source, f"{key}=.", "run.dir=runs/b")) != before  # the control: this one is no part of runs/b
    with pytest.raises(ConfigError, match=f"among its own input, {key}"):
        stage_keys(configured(source, f"{key}=.", f"run.dir={tmp_path}"))


@pytest.mark.parametrize(
    ("key", "changed"), [("train.ds_config", LEARNED), ("base.nano.ds_config", {"extractor", "keywords"} | AFTER_WORDS)]
)
def test_the_content_of_the_deepspeed_file_counts(configured, tmp_path, key, changed):
    file = tmp_path / "mine.json"
    file.write_text('{"zero_optimization": {"stage": 1}}')
    before = stage_keys(configured(f"{key}={file}"))
    file.write_text('{"zero_optimization": {"stage": 2}}')
    after = stage_keys(configured(f"{key}={file}"))
    assert {name for name in NAMES if before[name] != after[name]} == changed


def test_select_keeps_the_order_and_only_what_is_needed():
    assert [stage.name for stage in select_stages(Config())] == NAMES
    assert [stage.name for stage in select_stages(Config(), "cluster")] == ["ingest", "encode", "cluster"]
    assert [stage.name for stage in select_stages(Config(), "base")] == ["ingest", "extractor", "keywords", "base"]
    with pytest.raises(ConfigError, match="no stage 'evaluat'") as caught:
        select_stages(Config(), "evaluat")
    assert "ingest, encode" in caught.value.fix


def test_a_run_goes_in_order_and_hands_artefacts_on(house, configured):
    made = run(house, configured())
    assert house.ran == ["one", "two", "aside", "three"]
    assert made["three"].path("out.txt").read_text() == "oneonetwothree"
    assert made["three"].manifest["settings"] == {"evaluate": Config().evaluate.model_dump(mode="json")}
    assert set(made["three"].manifest["inputs"]) == {"one", "two"}
    assert house.said[:3] == ["run", "stage started one", "stage done one"]
    assert "nothing to do" not in house.said


def test_a_second_run_does_nothing_and_says_so(house, configured):
    first = run(house, configured())
    second = run(house, configured())
    assert house.ran == []
    assert house.sessions == 1
    assert house.said == ["run", *(f"stage cached {name}" for name in ("one", "two", "aside", "three")), "nothing to do"]
    assert second == first


def test_a_stage_that_is_off_is_handed_nothing(house, configured, monkeypatch):
    one, two, aside, three = stages.STAGES
    off = Stage(aside.name, aside.module, aside.needs, aside.reads, switch="traces.enabled")
    monkeypatch.setattr("thinkrec.pipeline.stages.STAGES", (one, two, off, three))
    assert set(run(house, configured(), "aside")["aside"].manifest["inputs"]) == {"one"}
    assert run(house, configured("traces.enabled=false"), "aside")["aside"].manifest["inputs"] == {}


@pytest.mark.parametrize(
    ("read", "is_named"),
    [
        (lambda config: config.cluster.temperature, True),
        (lambda config: config.train.loss.rank, True),
        (lambda config: pickle.loads(pickle.dumps(config)).train.loss, True),
        (lambda config: config.traces.starts_early, True),  # a property of a section of which one key is named
        (lambda config: config.model_dump()["ray"], True),
        (lambda config: config.ray, False),
        (lambda config: config.train.num_workers, False),
        (lambda config: pickle.loads(pickle.dumps(config)).train.num_workers, False),
    ],
)
def test_a_stage_sees_only_the_settings_that_its_row_names(house, configured, read, is_named):
    seen = Stage("seen", "fake_seen", (), ("cluster", "traces.enabled"), uses=("train.loss",)).view(configured())
    if is_named:
        read(seen)
        return
    with pytest.raises(UnlistedSetting, match=r"^(ray|train\.num_workers): "):
        read(seen)


def test_until_runs_only_what_is_needed(house, configured):
    assert list(run(house, configured(), "three")) == ["one", "two", "three"]
    assert house.ran == ["one", "two", "three"]


def test_a_changed_setting_reruns_its_stages_and_the_old_artefacts_stay(house, configured):
    run(house, configured())
    run(house, configured("cluster.temperature=0.2"))
    assert house.ran == ["two", "three"]
    run(house, configured())
    assert house.ran == []


@pytest.mark.parametrize("error", [StageFailed("the group died"), ZeroDivisionError("a bug")], ids=["failure", "bug"])
def test_a_failing_stage_keeps_the_earlier_ones_and_alone_is_tried_again(house, configured, error):
    house.broken["two"] = error
    with pytest.raises(type(error)):
        run(house, configured())
    assert house.ran == ["one", "two"]
    assert ("stage failed two" in house.said) == isinstance(error, StageFailed)
    house.broken.clear()
    run(house, configured())
    assert house.ran == ["two", "aside", "three"]
    assert "stage cached one" in house.said


@pytest.mark.parametrize(("number", "text"), [(errno.ENOSPC, "disk full: "), (errno.EIO, "storage away: ")])
def test_a_disk_that_fails_is_told_as_such_and_not_as_a_bug(house, configured, number, text):
    house.broken["two"] = OSError(number, os.strerror(number))
    with pytest.raises(EnvironmentFault, match=text + r".*" + os.strerror(number)) as caught:
        run(house, configured())
    assert caught.value.exit_code == 3
    assert "stage failed two" in house.said
    house.broken["two"] = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    with pytest.raises(FileNotFoundError):
        run(house, configured())


REFUSED = {
    "no DeepSpeed file": (["train.ds_config=nowhere.json"], MissingFileError, r"nowhere\.json"),
    "no base folder": (["base.source='folder'", "base.path='nowhere'", "traces.enabled=false"], MissingFileError, "nowhere"),
    "no BERTScore folder": (["evaluate.bert_score_path='nowhere'"], MissingFileError, r"evaluate\.bert_score_path"),
    "no data": (["data.source='canonical'", "data.path='nowhere'"], MissingFileError, r"data\.path names something that is not there"),
    "no vectors": (
        ["encoder.source='given'", "encoder.users_path='nowhere'", "encoder.items_path='nowhere'"],
        MissingFileError,
        r"encoder\.users_path",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_trip_a_late_stage_is_refused_before_the_first(monkeypatch, configured, case):
    overrides, kind, message = REFUSED[case]
    monkeypatch.setattr("thinkrec.pipeline.execute.make_stage", lambda *arguments: pytest.fail("a stage was started"))
    with pytest.raises(kind, match=message):
        run_stages(configured(*overrides), lambda event: None, session=lambda config: pytest.fail("a session was opened"))


def test_an_unknown_stage_is_refused_before_the_first(house, configured):
    with pytest.raises(ConfigError, match="no stage 'four'"):
        run(house, configured(), "four")
    assert house.ran == []
    assert house.sessions == 0


class Streamed:
    """A stage that ends only when another has begun beside it, unless it is told not to wait."""

    def __init__(self) -> None:
        self.begun, self.events = threading.Event(), list[str]()
        self.fails: Exception | None = None

    def traces(self, job: Any) -> None:
        assert self.begun.wait(30)
        self.events.append("traces")
        if self.fails:
            raise self.fails

    def early(self, job: Any) -> None:
        self.events.append("early")
        self.begun.set()

    def last(self, job: Any) -> None:
        self.events.append(f"last on {' and '.join(job.inputs)}")


@pytest.fixture
def streamed(monkeypatch) -> Streamed:
    found = Streamed()
    stages = (
        Stage("traces", "fake_traces", (), ("traces",)),
        Stage("early", "fake_early", (), ("run.seed",), only_if="traces.starts_early", beside="traces"),
        Stage("last", "fake_last", ("traces", "early"), ("evaluate",)),
    )
    monkeypatch.setattr("thinkrec.pipeline.stages.STAGES", stages)
    for stage in stages:
        monkeypatch.setitem(sys.modules, stage.module, SimpleNamespace(run=getattr(found, stage.name)))
    return found


EARLY = ("traces.start_share=0.5", "train.global_adapter.num_epochs=2")
WHOLE = "last on traces and early"


def test_a_stage_is_made_beside_the_one_that_the_table_names(streamed, configured):
    run_stages(configured(*EARLY), lambda event: None)
    assert streamed.events == ["early", "traces", WHOLE]


@pytest.mark.parametrize("overrides", [(), (*EARLY, "traces.enabled=false")])
def test_a_run_has_no_stage_that_it_does_not_ask_for(streamed, configured, overrides):
    streamed.begun.set()
    assert list(run_stages(configured(*overrides), lambda event: None)) == ["traces", "last"]
    assert streamed.events == ["traces", "last on traces"]
    with pytest.raises(ConfigError, match="no stage 'early'"):
        select_stages(configured(*overrides), "early")


def test_traces_are_written_first_where_the_cluster_has_no_gpus_for_teachers_beside_training(streamed, configured, monkeypatch, reported):
    has = [Node("a", {"GPU": 8.0, "CPU": 16.0})]
    monkeypatch.setattr("thinkrec.generate.rows.capacity.nodes", lambda: has)
    streamed.begun.set()
    gpus = (*EARLY, "train.use_gpu=true", "train.ds_config=zero1", "engine.num_actors=4", "train.num_workers=8")
    run_stages(configured(*gpus), reported.append)
    assert streamed.events == ["traces", "early", WHOLE]
    [warning] = [event.text for event in reported if isinstance(event, Warned)]
    assert "4 GPUs of engines and 8 of the global adapter, and the cluster has 8" in warning
    has.append(Node("b", {"GPU": 4.0, "CPU": 16.0}))
    streamed.events.clear()
    streamed.begun.clear()
    run_stages(configured(*gpus, "run.seed=7", "traces.num_instances=9"), lambda event: None)
    assert streamed.events == ["early", "traces", WHOLE]


def test_what_fails_beside_a_stage_fails_the_run_and_is_tried_again(streamed, configured):
    streamed.fails = StageFailed("the engine is gone", "slow", "see to it")
    with pytest.raises(StageFailed, match="the engine is gone"):
        run_stages(configured(*EARLY), lambda event: None)
    assert streamed.events == ["early", "traces"]
    streamed.fails = None
    run_stages(configured(*EARLY), lambda event: None)
    assert streamed.events[2:] == ["traces", WHOLE]
