"""Is what the device trains and serves in bfloat16 under a shipped ZeRO file what plain torch makes in float32 on the CPU?"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu import device
from gpu.bench import Bench
from gpu.phases import NUM_TITLE_WORDS, Found, by_plain_torch, by_trainer, walk
from gpu.rows import VECTOR_DIM, tables_of
from thinkrec.config import run as run_file
from thinkrec.config.model import NanoSection
from thinkrec.config.run import Config
from thinkrec.model.base import load_model
from thinkrec.nano import model as nano
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.train.deepspeed import engine

TOLERANCE = 1e-2  # of a loss and of a score
MAX_TIED = 0.01  # share of rows with the score of another one


class Comparison:
    """One base and one reference for every ZeRO file."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def under(self, ds_config: str) -> dict[str, Any]:
        self.bench.join_group()
        config, wrong = _config(ds_config, "bfloat16"), list[str]()
        ours = self._walk(config, ds_config, by_trainer(config, wrong), device.kind())
        off_by = {name: _distance(losses, self.reference.losses[name]) for name, losses in ours.losses.items()}
        off_by["scores"] = _distance(ours.scores, self.reference.scores)
        tied = 1 - len(set(ours.scores)) / len(ours.scores)
        frequencies = _frequencies(Path(self.places.uris["base"]) / "model", ds_config)
        wrong += [f"{name} are off by {distance}" for name, distance in off_by.items() if not distance <= TOLERANCE]
        wrong += ["experts do not matter"] * (_distance(ours.scores, ours.mixed_up) <= TOLERANCE)  # the control: then nothing is compared
        wrong += [f"{tied:.1%} of the scores tie"] * (tied > MAX_TIED) + ["nothing is said"] * (not ours.num_said)
        wrong += [f"rotary frequencies are {frequencies}"] * (frequencies != torch.float32)
        found = {
            "off_by": off_by,
            "scores_std": _rounded(np.std(self.reference.scores)),
            "tied": _rounded(tied),
            "tokens_said": ours.num_said,
        }
        return found | ({"error": "; ".join(wrong)} if wrong else {})

    @cached_property
    def reference(self) -> Found:
        config = _config("zero1", "float32")  # of that file only its clipping is taken
        return self._walk(config, "reference", by_plain_torch(config), "cpu")

    @cached_property
    def places(self) -> ArtefactPaths:
        """A small base with random weights, as a folder: ZeRO-3 partitions it while it is loaded."""
        folder, config = self.bench.folder / "base", _config("zero1", "float32")
        tokenizer = tables_of(config.prompt, NUM_TITLE_WORDS).template.tokenizer
        nano.save(folder / "model", nano.make_model(len(tokenizer), config.prompt.max_tokens, NanoSection(), seed=0), tokenizer)
        (folder / "base.json").write_text(json.dumps({"path": str(folder / "model")}), encoding="utf-8")
        return ArtefactPaths({"base": str(folder)})

    def _walk(self, config: Config, name: str, learn: Any, on: str) -> Found:
        folder = self.bench.folder / name
        folder.mkdir(exist_ok=True)
        return walk(config, self.places, folder, learn, on, self.bench.sizes.num_compared)


def _config(ds_config: str, dtype: str) -> Config:
    """No dropout: its masks differ between dtypes and devices."""
    tree = {
        "base": {"dtype": dtype},
        "encoder": {"dim": VECTOR_DIM - 1},
        "prompt": {"slots": "all", "priors": False, "history_length": 6, "max_tokens": 256, "max_answer_tokens": 12},
        "adapter": {"dropout": 0.0, "last_layers": 1},
        "train": {"ds_config": ds_config, "micro_batch_tokens": 1024},
    }
    return run_file.parse(tree)


def _frequencies(base: Path, ds_config: str) -> torch.dtype:
    """In what the rotary embedding turns, of a base that is loaded as this file wants it."""
    llm = load_model(base, "bfloat16", engine.read_config(ds_config))
    [found] = {module.inv_freq.dtype for module in llm.modules() if hasattr(module, "inv_freq")}
    return found


def _distance(ours: list[float], whole: list[float]) -> float:
    return _rounded(np.abs(np.array(ours) - np.array(whole)).max()) if len(ours) == len(whole) else float("inf")


def _rounded(value: Any) -> float:
    return round(float(value), 5)
