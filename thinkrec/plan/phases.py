"""The work of a run: each phase that computes with the base as steps, rows and tokens, and its price in FLOPs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinkrec.config.run import Config
from thinkrec.config.training import PhaseSection
from thinkrec.plan.memory import Load
from thinkrec.plan.model_shape import Shape

if TYPE_CHECKING:  # reading a run file needs no polars
    from thinkrec.plan.data_sizes import Lengths, Sizes

PLAIN_ANSWER = 2  # the verdict and the end token
NUM_VARIANTS = 3  # scores are made for the global adapter, hard routing and the fusion


@dataclass(frozen=True)
class Work:
    """One phase on one worker group; several experts are several of these.

    `row_tokens` are those of a mean row; `row_places` of the longest in a micro batch: all others are padded to it, which is what costs.
    """

    name: str
    num_workers: int
    num_steps: int
    rows_per_step: int
    micro_rows: int
    row_tokens: float
    row_places: float
    answer_tokens: float = 0.0
    num_trained: int = 0
    layers_back: int = 0  # layers that gradients pass, counted from the last
    whole_model: bool = False  # the base itself is trained
    recomputed: bool = False  # gradient checkpointing: those layers once more forward

    @property
    def num_rows(self) -> int:
        return self.num_steps * self.rows_per_step

    def flops(self, shape: Shape) -> float:
        """Forward 2 a weight and token, the same again for gradients that pass a frozen layer, 6 for a trained weight; the head apart.

        For LoRA on all layers this is the 4 N a token by which published utilisations are counted (anchors_perf.md 3).
        """
        forward, back = shape.forward_flops(self.row_places), 0.0
        if self.layers_back:
            back = shape.forward_flops(self.row_places, self.layers_back) * (1 + self.whole_model + self.recomputed)
        adapter = 0.0 if self.whole_model else 6.0 * self.num_trained
        head = (6 if self.whole_model else 4) * self.answer_tokens * shape.vocab * shape.hidden
        return self.num_rows * (self.row_places * (forward + back + adapter) + head)

    def load(self, shape: Shape, config: Config, number_bytes: int) -> Load:
        """What one worker holds meanwhile."""
        targets = shape.linears if self.whole_model else config.adapter.target_modules
        return Load(
            0 if self.whole_model else shape.num_params,
            self.num_trained,
            self.layers_back,
            self.micro_rows,
            self.row_places,
            self.answer_tokens,
            frozenset(targets),
            0 if self.whole_model else config.adapter.rank,
            number_bytes,
            bool(config.adapter.dropout) and not self.whole_model,
            self.recomputed,
        )


def works(config: Config, size: Sizes, length: Lengths, shape: Shape, traces: Sequence[float]) -> list[Work]:
    """Every such phase in order; `traces` are the answer tokens of each.

    Extractor, teacher and generation depend on texts yet unwritten and are left out.
    """
    train, adapter = config.train, config.adapter
    all_layers, last_layers = shape.num_layers, min(adapter.last_layers or shape.num_layers, shape.num_layers)
    weights = {layers: shape.adapter_params(adapter.target_modules, adapter.rank, layers) for layers in (all_layers, last_layers)}
    # The end token of an answer is predicted and never read.
    answer = PLAIN_ANSWER + (train.trace_share * sum(traces) / len(traces) if traces else 0.0)

    def learn(name: str, phase: PhaseSection, workers: int, rows: int, trained: int, layers: int, prompt: float, longest: float) -> Work:
        users = size.num_users * rows / max(1, size.num_train)
        steps = num_steps(config, phase, rows, users, len(traces))
        micro = min(train.micro_batch_size, phase.batch_size // workers)
        lengths = prompt + answer - 1, longest + answer - 1
        return Work(
            name, workers, steps, phase.batch_size, micro, *lengths, answer, trained, layers, recomputed=train.gradient_checkpointing
        )

    bare, long = length.prompt - length.slots, length.longest - length.slots  # the global adapter is trained without soft slots
    found = [_nano(config, size, length, shape)] if config.base.source == "nano" else []
    found.append(learn("global", train.global_adapter, train.num_workers, size.num_train, weights[all_layers], all_layers, bare, long))
    full = (length.prompt, length.longest)
    if config.prompt.slots != "none":
        trained = projector_params(config, shape)
        found.append(learn("projector", train.projector, train.num_workers, size.num_train, trained, all_layers, *full))
    for rows in size.rows_per_cluster:
        found.append(learn("experts", train.experts, train.workers_per_group, rows, weights[last_layers], last_layers, *full))
    rows = min(size.num_test, config.evaluate.max_rows or size.num_test)
    batch = max(1, min(config.evaluate.batch_size, rows))
    found.append(Work("score", config.engine.num_actors, NUM_VARIANTS * -(-rows // batch), batch, batch, *full))
    return found


def num_steps(config: Config, phase: PhaseSection, num_rows: int, num_users: float, num_traces: int) -> int:
    """As train/order.py counts; when rows of one user stand together, from the mean number of rows a user has."""
    loss = config.train.loss
    length = loss.rows_per_user if loss.rank > 0 else 1
    # A user whose rows do not fill the last run starts over: half a run is repeated on average.
    runs = num_rows / length + num_users * (length - 1) / 2 / length
    per_batch = phase.batch_size // length
    has_traces = num_traces and config.train.trace_share
    traces = min(max(round(per_batch * config.train.trace_share), 1), per_batch - 1) if has_traces else 0
    steps = max(1, round(phase.num_epochs * runs / (per_batch - traces)))
    return min(steps, phase.max_steps) if phase.max_steps else steps


def projector_params(config: Config, shape: Shape) -> int:
    """d -> 10 d -> hidden with biases (model/projector.py); learned vectors carry a bias beside their `encoder.dim` numbers."""
    dim = config.encoder.dim + (config.encoder.source != "given")
    return (dim + 1) * 10 * dim + (10 * dim + 1) * shape.hidden


def _nano(config: Config, size: Sizes, length: Lengths, shape: Shape) -> Work:
    small = config.base.nano
    windows = -(-size.num_train // small.window) + size.num_users // 2  # the last window of a user is half full on average
    mean = length.line * size.num_train / windows
    batch, workers = small.batch_size, config.train.num_workers
    micro = min(config.train.micro_batch_size, batch // workers)
    steps = max(1, round(small.num_epochs * windows / batch))
    longest = min(length.line * small.window, config.prompt.max_tokens * 1.0)
    # Every place with a weight meets the vocabulary: about the mark alone, or all of them.
    answer = mean if small.text_weight else mean / max(1.0, length.line)
    return Work("base", workers, steps, batch, micro, mean, longest, answer, shape.num_params, shape.num_layers, True)
