"""The work of a run: each phase that computes with the base as steps, rows and tokens, and its price in FLOPs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thinkrec.config.run import Config
from thinkrec.config.training import PhaseSection, TrainSection
from thinkrec.plan.memory import Load
from thinkrec.plan.model_shape import Shape

if TYPE_CHECKING:  # reading a run file needs no polars
    from thinkrec.plan.data_sizes import Lengths, Sizes

PLAIN_ANSWER = 2  # the verdict and the end token
NUM_VARIANTS = 3  # scores are made for the global adapter, hard routing and the fusion


@dataclass(frozen=True)
class Work:
    """One phase on one worker group; several experts are several of these.

    `row_tokens` are those of a mean row, and `row_places` what the model computes for it, which is what costs: more where rows are padded,
    less where they share a history. `micro_tokens` are those of the largest micro batch, which the memory must hold.
    """

    name: str
    num_workers: int
    num_steps: int
    rows_per_step: int
    row_tokens: float
    row_places: float
    micro_tokens: float
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

        For LoRA on all layers this is the 4 N a token by which published utilisations are counted (docs/design.md 12).
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
            self.micro_tokens,
            self.answer_tokens * self.micro_tokens / self.row_places,
            frozenset(targets),
            0 if self.whole_model else config.adapter.rank,
            number_bytes,
            bool(config.adapter.dropout) and not self.whole_model,
            self.recomputed,
        )


def works(config: Config, size: Sizes, length: Lengths, shape: Shape, traces: Sequence[float], num_scorers: int) -> list[Work]:
    """Every such phase in order; `traces` are the answer tokens of each, and so many actors score.

    Extractor, teacher and generation depend on texts yet unwritten and are left out.
    """
    train, adapter = config.train, config.adapter
    all_layers, last_layers = shape.num_layers, min(adapter.last_layers or shape.num_layers, shape.num_layers)
    weights = {layers: shape.adapter_params(adapter.target_modules, adapter.rank, layers) for layers in (all_layers, last_layers)}
    # The end token of an answer is predicted and never read.
    answer = PLAIN_ANSWER + (train.trace_share * sum(traces) / len(traces) if traces else 0.0)
    alone = train.trace_share if traces else 0.0  # a trace keeps its own history
    saved = (1 - alone) * (length.prompt - length.question) * (1 - 1 / rows_per_history(config, size))

    def learn(
        name: str, phase: PhaseSection, workers: int, num_rows: Sequence[int], trained: int, layers: int, slots: float
    ) -> Iterator[Work]:
        """One of these for each number of rows; they differ in nothing else."""
        tokens, longest = (prompt - slots + answer - 1 for prompt in (length.prompt, length.longest))
        micro, places = largest_micro_batch(train, longest, phase.batch_size // workers), tokens - saved
        for rows in num_rows:
            steps = num_steps(config, phase, rows, size.num_users * rows / max(1, size.num_train), len(traces))
            recomputed = train.gradient_checkpointing
            yield Work(name, workers, steps, phase.batch_size, tokens, places, micro, answer, trained, layers, recomputed=recomputed)

    found, whole = [_nano(config, size, length, shape)] if config.base.source == "nano" else [], [size.num_train]
    # The global adapter is trained without soft slots.
    found += learn("global", train.global_adapter, train.num_workers, whole, weights[all_layers], all_layers, length.slots)
    if config.prompt.slots != "none":
        found += learn("projector", train.projector, train.num_workers, whole, projector_params(config, shape), all_layers, 0.0)
    found += learn("experts", train.experts, train.workers_per_group, size.rows_per_cluster, weights[last_layers], last_layers, 0.0)
    return [*found, _score(config, size, length, num_scorers)]


def rows_per_history(config: Config, size: Sizes) -> float:
    """Mean train rows that are asked about on one history, when all users have equally many."""
    each = max(1, round(size.num_train / max(1, size.num_users)))
    return each / -(-each // config.prompt.targets_per_history)


def largest_micro_batch(train: TrainSection, longest: float, num_rows: int) -> float:
    """Tokens that a worker with so many rows in a step, the longest of so many tokens, takes through the model at once."""
    return min(num_rows * longest, max(longest, train.micro_batch_tokens))


def _score(config: Config, size: Sizes, length: Lengths, num_scorers: int) -> Work:
    rows = min(size.num_test, config.evaluate.max_rows or size.num_test)
    batch = max(1, min(int(config.evaluate.batch_tokens / length.prompt), rows))  # tokens are counted, and no row is padded
    num_batches = NUM_VARIANTS * -(-rows // batch)
    return Work("score", num_scorers, num_batches, batch, length.prompt, length.prompt, batch * length.prompt)


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
    steps = max(1, round(small.num_epochs * windows / batch))
    longest = min(length.line * small.window, config.prompt.max_tokens * 1.0)
    micro = largest_micro_batch(config.train, longest, batch // workers)
    # Every place with a weight meets the vocabulary: about the mark alone, or all of them.
    answer = mean if small.text_weight else mean / max(1.0, length.line)
    return Work("base", workers, steps, batch, mean, longest, micro, answer, shape.num_params, shape.num_layers, True)
