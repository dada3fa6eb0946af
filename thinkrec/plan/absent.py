"""What a plan can do without: a base whose shape is known without its weights, and data whose size is given."""

from __future__ import annotations

from thinkrec.config.run import Config
from thinkrec.store.address import exists, is_folder, list_folder

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def absent_files(config: Config, num_rows: int) -> tuple[str, ...]:
    """Keys of the run file whose files are not here and need not be: plan.base_shape, a config.json alone or `num_rows` stand for them."""
    base, data = config.base, config.data
    found = []
    if base.source == "folder" and _is_shape_alone(base.path, bool(config.plan.base_shape)):
        found.append("base.path")
    if num_rows:
        named = (("data.path", data.path), ("data.items_path", data.items_path))
        found += [key for key, path in named if path and not exists(path)]
    return tuple(found)


def _is_shape_alone(folder: str, is_named: bool) -> bool:
    """Whether the folder holds no weights, and something else tells the shape."""
    names = [file.base_name for file in list_folder(folder)] if is_folder(folder) else []
    return not any(name.endswith(WEIGHTS) for name in names) and (is_named or "config.json" in names)
