"""What does one GPU make of a base of Llama-3-8B's shape, and is what it computes right? Ten minutes on one H100.

Ceilings of the device; every phase in bfloat16 against float32 on the CPU; tokens a second, utilisation and peak memory beside the plan's,
by plain torch and by the trainer of the adapter stages under ZeRO-1 and ZeRO-3; fused scoring, packed experts, FAISS. Weights are random,
so nothing is downloaded. Each part prints a line of JSON when it ends, and takes no other down when it fails.

    python benchmarks/gpu_check.py                   needs one CUDA device of 80 GB
    python benchmarks/gpu_check.py --shape tiny      the same on whatever there is, to see that it works
    python benchmarks/gpu_check.py --store           and keep the lines in benchmarks/baselines/gpu_check.json

A bare machine needs Python 3.12, torch, transformers and peft; the rest is in the folder that `make gpu-wheels` makes, which is installed
into a temporary folder at the start. What is still missing is named by the part that is skipped for it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TOTAL_S = 570  # no part begins after that
MAY_LACK = ("cpuinfo", "deepspeed", "einops", "faiss", "hjson", "msgpack", "psutil")  # DeepSpeed's own among them
NO_DEVICE = 3  # the exit code of an EnvironmentFault


def main(words: list[str]) -> int:
    """The exit code: 0, 1 if a part failed, 3 if there is no device for the shape."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shape", choices=("llama3_8b", "tiny"), default="llama3_8b")
    parser.add_argument("--store", action="store_true", help="keep the lines in benchmarks/baselines/gpu_check.json")
    options = parser.parse_args(words)
    sys.path[:0] = [str(HERE.parent), str(HERE)]
    from gpu import device

    if options.shape != "tiny" and device.kind() == "cpu":
        print("no CUDA device is visible: --shape tiny runs without one", file=sys.stderr)
        return NO_DEVICE
    with tempfile.TemporaryDirectory(prefix="thinkrec-") as name:
        lines = list_of_lines(options.shape, Path(name))
    if options.store:
        keep(lines)
    return int(any("error" in line for line in lines))


def list_of_lines(shape: str, folder: Path) -> list[dict[str, Any]]:
    """Run the parts one after the other and print a line as each one ends."""
    from gpu import device, wheels

    with redirect_stdout(sys.stderr):  # DeepSpeed keeps the stream that it meets at its import
        wheels.add(folder / "packages")
        import torch
        from gpu.bench import Bench
        from gpu.parts import parts
        from gpu.sizes import SIZES

    bench, begun = Bench(SIZES[shape], folder), time.monotonic()
    lines: list[dict[str, Any]] = [
        {
            "part": "start",
            "shape": shape,
            "device": device.title(),
            "date": datetime.now(UTC).date().isoformat(),
            "num_params": bench.sizes.shape.num_params,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
    ]
    print(json.dumps(lines[0]), flush=True)
    for part in parts(bench):
        late = time.monotonic() - begun > TOTAL_S
        found = {"skipped": f"{TOTAL_S} s were used up"} if late else attempt(part.run)
        device.release()
        lines.append({"part": part.name, **found, "elapsed_s": round(time.monotonic() - begun, 1)})
        print(json.dumps(lines[-1]), flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return lines


def attempt(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a part found, or why it was skipped or failed."""
    try:
        with redirect_stdout(sys.stderr):
            return run()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        return {"skipped" if missing in MAY_LACK else "error": f"there is no module {error.name}"}
    except Exception as error:  # noqa: BLE001 - whatever it is, the parts after it have something to say
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def keep(lines: list[dict[str, Any]]) -> None:
    """Write the lines where the figures of this check are kept."""
    from _baseline import path_of

    path_of(__file__).write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
