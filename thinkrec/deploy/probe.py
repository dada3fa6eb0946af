"""What one node can tell about itself; plain functions that run anywhere, `preflight` sends them to every node as Ray tasks."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from thinkrec.distributed.worker_group import Worker
from thinkrec.store.address import open_root, read_json
from thinkrec.store.artefacts import installed_versions
from thinkrec.store.digests import file_digest, list_files

GPU_QUERY = "name,memory.total,memory.used,ecc.errors.uncorrected.volatile.total,clocks_event_reasons.hw_thermal_slowdown"


@dataclass(frozen=True)
class Gpu:
    """What the driver's own tool says of a GPU, in its words; or why it says nothing."""

    name: str
    memory_mib: str = ""
    used_mib: str = ""
    ecc_errors: str = ""
    thermal_slowdown: str = ""
    error: str = ""


@dataclass(frozen=True)
class NodeFacts:
    """Everything preflight asks of a node. model: digest of each file of the base; free_bytes: None for object storage."""

    versions: Mapping[str, str]
    gpus: Sequence[Gpu]
    storage_error: str
    free_bytes: int | None
    model: Mapping[str, str]
    missing_secrets: Sequence[str]


def look(root: str, token: str, model_folder: str, secrets: Sequence[str]) -> NodeFacts:
    """The facts of this node. `token` names the file the driver has left below `root`."""
    return NodeFacts(
        versions={"python": platform.python_version(), **installed_versions()},
        gpus=gpus(),
        storage_error=storage_error(root, token),
        free_bytes=free_bytes(root),
        model=model_digest(model_folder) if model_folder else {},
        missing_secrets=[name for name in secrets if not os.environ.get(name)],  # names alone ever leave the node
    )


def gpus() -> list[Gpu]:
    """One entry a GPU as the driver's own tool reports it; none where there is no such tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    done = subprocess.run([tool, f"--query-gpu={GPU_QUERY}", "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=30)
    if done.returncode:
        return [Gpu("", error=(done.stderr or done.stdout).strip()[:200])]
    return [Gpu(*line.split(", ")[:5]) for line in done.stdout.splitlines() if line.strip()]  # the columns of GPU_QUERY


def storage_error(root: str, token: str) -> str:
    """What goes wrong when this node reads the driver's file, then writes, reads and deletes one of its own; "" when nothing does."""
    name = f"{root}/preflight-{uuid.uuid4().hex}"
    try:
        if (read_json(f"{root}/{token}") or {}).get("token") != token:
            return "the driver's file is not here: the folder is not shared"
        system, path = open_root(name)
        with system.open_output_stream(path) as stream:
            stream.write(token.encode())
        with system.open_input_stream(path) as stream:
            back = stream.read().decode()
        system.delete_file(path)
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return "" if back == token else "what was read is not what was written"


def free_bytes(root: str) -> int | None:
    """Free space where the run folder lies; None for object storage."""
    if "://" in root:
        return None
    folder = Path(root)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def model_digest(folder: str) -> dict[str, str]:
    """`digests.file_digest` of each file that may decide what the model is; at an address their times, for nobody fetches them to ask."""
    if "://" in folder:
        base = open_root(folder)[1]
        return {info.path[len(base) :].lstrip("/"): str(info.mtime_ns) for info in list_files(folder)}
    root = Path(folder).absolute()
    files = list_files(str(root)) if root.is_dir() else []
    return {str(Path(info.path).relative_to(root)): file_digest(info.path) for info in files}


@dataclass(frozen=True)
class ReduceTask:
    """Sum a buffer of `num_bytes` over all ranks, several times; what rank 0 measures goes to the file `out`."""

    out: str
    num_bytes: int
    num_repeats: int


@dataclass(frozen=True)
class Reduced:
    """Whether every sum was right, and the bandwidth of a link, of so many workers over this backend."""

    right: bool
    gbytes_per_s: float
    world: int
    backend: str


def all_reduce(worker: Worker, task: ReduceTask) -> None:
    """The train function of the collective check."""
    import time

    import torch
    import torch.distributed as dist

    from thinkrec.store.address import write_json

    rank, world = worker.rank, worker.world_size
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    buffer = torch.empty(task.num_bytes // 4, device=device)
    times, right = [], torch.ones(1, device=device)
    for _ in range(task.num_repeats):
        buffer.fill_(float(rank + 1))
        dist.barrier()
        begun = time.perf_counter()
        dist.all_reduce(buffer)
        right *= (buffer == world * (world + 1) / 2).all()
        right.item()  # waits for the device, too
        times.append(time.perf_counter() - begun)
    dist.all_reduce(right, dist.ReduceOp.MIN)  # on every rank
    if rank == 0:
        # Bytes that cross each link: 2 (n - 1) / n of the buffer (the convention of nccl-tests, "bus bandwidth").
        moved = 2 * (world - 1) / world * task.num_bytes
        write_json(task.out, asdict(Reduced(bool(right), moved / min(times) / 1e9, world, dist.get_backend())))
