"""The wheels that a bare machine is given along (`make gpu-wheels`): Python, torch, transformers and peft are there, the rest is not."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "gpu-wheels"
NEEDED = ("pydantic", "pyarrow", "deepspeed")


def add(target: Path, folder: Path = FOLDER) -> None:
    """Install the wheels into `target`, ahead of what is installed, if a package is missing; compiled ones cannot be read from the zip."""
    wheels = [str(wheel) for wheel in sorted(folder.glob("*.whl"))]
    if not wheels or all(find_spec(name) for name in NEEDED):
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--target", str(target)]
    subprocess.run([*command, *wheels], check=True, stdout=sys.stderr)
    sys.path.insert(0, str(target))
    importlib.invalidate_caches()
