"""The plan: steps as training counts them, memory by stage, layout on machines, and all of it without torch and Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_folder import make_hollow

from thinkrec.config import run as run_file
from thinkrec.config.run import Config
from thinkrec.config.training import TrainSection
from thinkrec.errors import ConfigError
from thinkrec.pipeline.stages import select_stages
from thinkrec.plan.data_sizes import mean_history
from thinkrec.plan.machines import Machines
from thinkrec.plan.memory import Load, Zero, advise, of_worker
from thinkrec.plan.model_shape import Shape
from thinkrec.plan.phases import largest_micro_batch, num_steps
from thinkrec.plan.plan import INSTANCE_BYTES, TOKEN_BYTES, make_plan
from thinkrec.plan.text import plan_text
from thinkrec.train.deepspeed.engine import read_config
from thinkrec.train.order import NO_TRACES, Order, Whole

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "ray_jobs/recipes/world_nano.toml"
LLAMA_8B = Shape(4096, 14336, 32, 32, 8, 128, 128256, False)
LOAD = Load(LLAMA_8B.num_params, 3_407_872, 32, 8 * 512.0, 8 * 2.0, frozenset({"q_proj", "v_proj"}), 8, 2)
GIB = 2**30


@pytest.fixture
def big_base(tmp_path) -> Path:
    """A base of 8B."""
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
    return make_hollow(tmp_path, **sizes, num_key_value_heads=8, vocab_size=128256)


def plan_of(*overrides: str, gpus: str = "", **sizes: int):
    config = run_file.load(RECIPE, ("run.dir=nobody/ran/here", *overrides))
    return make_plan(config, Machines.parse(gpus) if gpus else Machines.of_config(config), **sizes)


def test_the_command_needs_neither_torch_nor_ray(tmp_path):
    code = (
        "import sys\nfrom thinkrec.cli.main import main\n"
        f"try: main(['plan', {str(RECIPE)!r}, '--json', '--set', 'run.dir={tmp_path}'])\n"
        "finally: print(sorted({'torch', 'ray', 'vllm', 'faiss', 'transformers'} & set(sys.modules)), file=sys.stderr)\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert done.stderr.strip() == "[]"
    plan = json.loads(done.stdout)
    assert [stage["state"] for stage in plan["stages"]] == ["to do"] * len(select_stages(Config()))
    assert [phase["name"] for phase in plan["phases"]] == ["base", "global", "projector", "experts", "score"]


@pytest.mark.parametrize("batch_size", [16, 64])
@pytest.mark.parametrize("num_traces", [0, 30])
@pytest.mark.parametrize("num_epochs", [0.5, 2.0])
def test_steps_are_those_of_the_order(batch_size, num_traces, num_epochs):
    config = run_file.parse({"train": {"experts": {"batch_size": batch_size, "num_epochs": num_epochs}}})
    order = Order(Whole(np.repeat(np.arange(90), 13)), np.array([num_traces]), batch_size, 1, config.train.trace_share, 0)
    assert num_steps(config, config.train.experts, 90 * 13, 90, num_traces) == order.num_steps(num_epochs)


def test_steps_with_rows_of_one_user_together_are_within_a_tenth():
    config = run_file.parse({"train": {"loss": {"rank": 0.3, "rows_per_user": 8}}})
    users = np.repeat(np.arange(200), np.random.default_rng(0).poisson(30, 200) + 1)
    order = Order(Whole(users), NO_TRACES, 64, 8, 0.2, 0)
    assert num_steps(config, config.train.experts, len(users), 200, 0) == pytest.approx(order.num_steps(1.0), rel=0.1)


def test_the_mean_history_is_that_of_equal_users():
    for each in (1, 7, 10, 25):
        assert mean_history(40 * each, 40, 10) == pytest.approx(np.minimum(np.arange(each), 10).mean())


def test_zero_stages_shard_what_they_say():
    world, n, p = 8, LOAD.num_frozen, LOAD.num_trained
    held = {stage: of_worker(LLAMA_8B, LOAD, Zero(stage, bf16=True), world) for stage in (0, 1, 2, 3)}
    assert [held[stage].base for stage in held] == [2 * n, 2 * n, 2 * n, 2 * n / world]
    assert [held[stage].optimizer for stage in held] == [12 * p, *[12 * p / world] * 3]
    assert [held[stage].gradients for stage in held] == [2 * p, 2 * p, *[2 * p / world] * 2]
    assert [held[stage].gathered for stage in held] == [0, 0, 0, 2 * 1_050_000_000]
    bucket = {1: 2 * 2 * p, 2: 2 * 2 * p, 3: 2 * p}  # one more while another is sent, which stages 1 and 2 do in the shipped files
    shipped = {stage: Zero.of_file(read_config(f"zero{stage}")) for stage in bucket}
    assert {stage: of_worker(LLAMA_8B, LOAD, file, world).buckets for stage, file in shipped.items()} == bucket
    assert len({held[stage].activations for stage in held}) == 1
    assert of_worker(LLAMA_8B, LOAD, Zero(3), 1).gathered == 0  # there is nobody to gather from


def test_shipped_deepspeed_files_are_understood():
    stages = {name: Zero.of_file(read_config(name)) for name in ("cpu", "zero1", "zero2", "zero3", "zero3_offload")}
    assert [zero.stage for zero in stages.values()] == [3, 1, 2, 3, 3]
    assert [name for name, zero in stages.items() if zero.offload_params] == ["zero3_offload"]
    assert not stages["cpu"].bf16
    assert stages["zero3"].bf16


@pytest.mark.parametrize(
    ("room", "stage", "offload", "fits"), [(72, 1, False, True), (10, 3, False, True), (3, 3, True, True), (0.5, 3, True, False)]
)
def test_the_lowest_stage_that_fits_is_advised(room, stage, offload, fits):
    load = replace(LOAD, num_tokens=512.0, answer_tokens=2.0)
    advice = advise(LLAMA_8B, load, Zero(3, max_live=10**8, bf16=True), 8, room * GIB, 8000)
    assert (advice.stage, advice.offload, advice.fits) == (stage, offload, fits)
    assert "GiB" in advice.reason


def test_checkpointing_is_advised_where_nothing_else_fits():
    wide = replace(LOAD, num_tokens=128 * 512.0, answer_tokens=128 * 2.0)
    advice = advise(LLAMA_8B, wide, Zero(3, bf16=True), 8, 72 * GIB, 8000)
    assert not advice.fits
    assert "train.gradient_checkpointing = true" in advice.reason
    again = advise(LLAMA_8B, replace(wide, recomputed=True), Zero(3, bf16=True), 8, 72 * GIB, 8000)
    assert (again.stage, again.fits) == (1, True)


def test_an_8b_run_on_512_gpus_is_laid_out_inside_nodes(big_base):
    unread = ("data.source=canonical", f"data.path={ROOT}/ds_configs", "split.mode=given")
    base = (*unread, "base.source=folder", f"base.path={big_base}", "base.dtype=bfloat16", "traces.enabled=false", "train.ds_config=zero3")
    plan = plan_of(
        *base, "train.workers_per_group=4", "cluster.num_clusters=256", "train.use_gpu=true", gpus="64x8", num_rows=10**8, num_users=10**6
    )
    layout = plan.layout
    assert (layout.num_groups, plan.machines.num_workers) == (128, 512)
    assert layout.places[:3] == ("node 0, GPU 0-3", "node 0, GPU 4-7", "node 1, GPU 0-3")
    assert sorted(expert for group in layout.experts for expert in group) == list(range(256))
    assert layout.lower_bound_hours <= layout.makespan_hours <= 1.03 * layout.lower_bound_hours
    experts = next(phase for phase in plan.phases if phase.name == "experts")
    assert experts.advice.stage == 1
    assert experts.worker_hours == pytest.approx(512 * layout.makespan_hours)
    assert any("train.num_groups = 128" in note for note in plan.notes)
    assert any("2 of 512 workers" in note for note in plan.notes)
    assert 420 * 10**8 <= plan.host_bytes["driver in ingest"] < 500 * 10**8
    assert plan.host_bytes["training worker"] < 30 * 2**20  # a window of the rows, however many there are
    assert 4 * 10**8 * plan.lengths.prompt <= plan.disk_bytes["instances"] < 4 * 10**8 * (plan.lengths.prompt + 40) * 2
    text = plan_text(plan)
    for shown in (
        "64 x 8 GPUs",
        "8,030.26 M parameters",
        "the command line",
        "plan.tokens_per_item = 40",
        "30% of 989 TFLOP/s",
        "take ZeRO-1",
        "rows in RAM",
    ):
        assert shown in text


def test_experts_without_a_group_and_groups_without_an_expert():
    assert plan_of(gpus="64x8").layout.num_groups == 2  # two experts alone
    assert any("cannot hold" in note for note in plan_of(gpus="1x1").notes)
    assert plan_of("train.num_groups=1").layout.experts == ((0, 1),)


def test_memory_holds_a_micro_batch_or_the_longest_row():
    assert largest_micro_batch(TrainSection(micro_batch_tokens=1000), 100.0, 64) == 1000
    assert largest_micro_batch(TrainSection(micro_batch_tokens=1000), 100.0, 8) == 800  # a worker has no more rows
    assert largest_micro_batch(TrainSection(micro_batch_tokens=50), 100.0, 8) == 100
    few, many = (plan_of(f"train.micro_batch_tokens={tokens}").phases[1] for tokens in (512, 1024))
    assert many.memory.activations == pytest.approx(2 * few.memory.activations)
    assert few.places == many.places == few.tokens  # nothing is padded


def test_rows_that_share_a_history_cost_less():
    alone, shared = (plan_of("traces.enabled=false", f"prompt.targets_per_history={number}").phases[1] for number in (1, 16))
    assert alone.tokens == shared.tokens == alone.places
    assert shared.places < 0.6 * alone.places


def test_traces_and_what_is_written_twice_take_disk():
    """A trace has a history and an answer of its own; a training that begins before the last trace is written has all instances twice."""
    few, many = (plan_of(f"traces.num_instances={number}") for number in (100, 400))
    more = 300 * (TOKEN_BYTES * (few.lengths.prompt + Config().prompt.max_answer_tokens) + INSTANCE_BYTES)
    assert many.disk_bytes["instances"] == pytest.approx(few.disk_bytes["instances"] + 2 * more)  # with soft slots and without
    early = plan_of("traces.num_instances=100", "traces.start_share=0.5", "train.global_adapter.num_epochs=2")
    assert early.disk_bytes["instances"] == 2 * few.disk_bytes["instances"]
    assert early.disk_bytes["scores"] == few.disk_bytes["scores"]


def test_hours_follow_the_assumed_rate_and_the_rows():
    slow, fast = (plan_of(f"plan.mfu={mfu}").phases[1].hours for mfu in (0.1, 0.4))
    assert slow == pytest.approx(4 * fast)
    few, many = (plan_of(num_rows=rows, num_users=rows // 40).phases[1].flops for rows in (40_000, 400_000))
    assert many == pytest.approx(10 * few, rel=0.02)


def test_sizes_say_where_they_come_from():
    assert "planted world" in plan_of().sizes.source
    assert plan_of(num_rows=1000, num_users=50).sizes.source == "the command line"
    unread = ("data.source=canonical", f"data.path={ROOT}/ds_configs", "split.mode=given")
    with pytest.raises(ConfigError, match="amount of data is unknown"):
        plan_of(*unread)
    assert "tokens_per_item" in plan_of(*unread, num_rows=1000, num_users=50).lengths.source


@pytest.mark.parametrize("text", ["64", "0x8", "64x", "8x-1", "64x8x2", "a lot"])
def test_gpus_are_nodes_by_gpus(text):
    with pytest.raises(ConfigError, match="nodes x GPUs"):
        Machines.parse(text)


@pytest.mark.parametrize(("size", "groups"), [(1, 32), (3, 8), (8, 4), (16, 2), (24, 1), (64, 0)])
def test_groups_fit_inside_nodes_or_take_whole_ones(size, groups):
    assert Machines.parse("4x8").num_groups(size) == groups
