"""What the operator of a run on GPUs should know before it starts; `plan` and the start of a run say the same lines."""

from __future__ import annotations

from collections.abc import Iterator

from thinkrec.config.run import Config
from thinkrec.plan.resolve import reason
from thinkrec.store.address import is_folder, list_folder

HF_BYTES = 2 * 10**9  # about a billion parameters in bfloat16


def remarks(config: Config) -> Iterator[str]:
    """Lines about a resolved run; none without GPUs."""
    if not config.train.use_gpu:
        return
    yield reason(config)
    if config.engine.kind == "hf":
        for path in _generators(config):
            size = sum(file.size for file in (list_folder(path) if is_folder(path) else ()) if file.base_name.endswith(".safetensors"))
            if size > HF_BYTES:
                yield (
                    f'engine.kind = "hf" answers in static batches without paging: for {path} ({size / 1e9:.0f} GB of weights) '
                    'take engine.kind = "vllm" or "http"'
                )


def _generators(config: Config) -> Iterator[str]:
    """The folders of the models that write texts."""
    if config.keywords.source == "engine" and config.keywords.extractor != "nano":
        yield config.keywords.extractor
    if config.traces.enabled:
        yield from (teacher.path for teacher in config.traces.teachers if teacher.has_folder)
