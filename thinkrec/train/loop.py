"""The one training loop: everything that learns by gradient on the language model goes through `run`.

A model has one or more slots, and each slot one learner with a schedule, a step count, checkpoints and an end of its own. Learners share
the passes through the model and nothing else: what one of them becomes does not depend on the others.
"""

from __future__ import annotations

import json
import math
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from thinkrec.distributed.stopping import Notice
from thinkrec.errors import NonFiniteLoss
from thinkrec.train.checkpoint import Checkpoints, TrainState
from thinkrec.train.deepspeed import engine as zero

STOP = "stop"
# feed(steps) -> this rank's micro batches, each the arguments of engine(...), which returns (loss, {name: one value a slot}); losses and
# values add up to the step's. None: that slot rests. A pure function, so a resumed run sees the same rows.
Feed = Callable[[Sequence[int | None]], Iterable[tuple[object, ...]]]


@dataclass(frozen=True)
class Learner:
    """One thing that learns; `lr_at` is linear warm-up, then cosine down to min_lr (docs/method.md 8). `log` is for rank 0 alone."""

    num_steps: int
    lr: float
    checkpoints: Checkpoints
    log: Path | None = None
    min_lr: float = 0.0
    warmup_steps: int = 0
    last_step: int | None = None  # where it ends, if that is before the schedule does
    begun: tuple[int, TrainState] | None = None  # step and state that it goes on from, if another training made them
    is_held: bool = False  # at the weights that it has begun with, by the optimizer's `proximal`

    @property
    def end(self) -> int:
        return self.num_steps if self.last_step is None else min(self.last_step, self.num_steps)

    def lr_at(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        return self.min_lr + (self.lr - self.min_lr) / 2 * (1 + math.cos(math.pi * progress))


def run(
    engine: zero.Engine[nn.Module],
    learners: Sequence[Learner],
    feed: Feed,
    start: TrainState,
    *,
    num_slots: int = 1,
    seed: int = 0,
    checkpoint_every: int = 10**9,
    beat: Callable[[], None] = lambda: None,
    notice: Notice | None = None,
) -> Iterator[tuple[int, TrainState]]:
    """Train each learner from its newest checkpoint, else from what it has `begun` or `start`; yields (slot, state) of each one that ended.

    `start` is the state of one slot. With several slots every trained parameter has them as its first axis. Every rank gets the slots, rank
    0 their states. One that ended rests until the next checkpoint of the others: a kill before it takes all of them back to the same step,
    a kill after it finds the others where they were saved, so those that go on from there meet the very batches they would have met. Raises
    NonFiniteLoss before the optimizer moves. `beat` is called after every step, checkpoint and yield, see watchdog.py. Once any rank's
    `notice` is given, all learners are saved and every rank raises its error.
    """
    rank, begun, prepare = torch.distributed.get_rank(), time.monotonic(), _Ahead(feed)
    steps, states = _resume(learners, start, rank)
    resting, ended = num_slots - len(learners), list[int]()
    zero.deal_state(engine, _stack([*states, *[start] * resting]), [*steps, *[0] * resting])
    if any(learner.is_held for learner in learners):
        anchors = [learner.begun[1] if learner.begun else start for learner in learners]
        zero.deal_anchor(engine, _stack([*anchors, *[start] * resting]))
    engine.train()
    while active := [slot for slot, learner in enumerate(learners) if steps[slot] < learner.end]:
        torch.manual_seed(seed * 1_000_003 + steps[active[0]] * 1_009 + rank)  # dropout, too, is a function of the step
        at, following = _at(steps, learners), _at([step + 1 for step in steps], learners)
        rates = [0.0 if step is None else learner.lr_at(step) for learner, step in zip(learners, at, strict=True)]
        zero.set_rates(engine, [*rates, *[0.0] * resting])
        figures = _step(engine, prepare(at, following), [learners[slot].checkpoints.name for slot in active], notice)
        stops = any(figures.pop(STOP))
        spent = {"elapsed_s": round(time.monotonic() - begun, 3), "peak_bytes": peak_bytes()}
        for slot in active:
            shown = {name: values[slot] for name, values in figures.items()}
            _write(learners[slot], steps[slot], shown | {"lr": rates[slot], **spent})
            steps[slot] += 1
        beat()
        ended += [slot for slot in active if steps[slot] == learners[slot].end]
        going = [slot for slot in active if slot not in ended]
        if going and not stops and steps[active[0]] % checkpoint_every:
            continue
        state = zero.gather_state(engine)
        for slot in going:
            if rank == 0:
                learners[slot].checkpoints.save(steps[slot], _slot(state, slot, num_slots))
            _meet(beat)
        for slot in ended:
            yield slot, _slot(state, slot, num_slots)
            _meet(beat)
        ended.clear()
        if stops and notice and going:
            raise notice.error()


def _at(steps: Sequence[int], learners: Sequence[Learner]) -> list[int | None]:
    """The step of each learner; None for one that has ended."""
    return [step if step < learner.end else None for step, learner in zip(steps, learners, strict=True)]


class _Ahead:
    """A feed whose next step is made ready in a thread while the device computes this one."""

    def __init__(self, feed: Feed) -> None:
        self._feed, self._thread = feed, ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._steps: Sequence[int | None] = ()
        self._made: Future[list[tuple[object, ...]]] | None = None

    def __call__(self, steps: Sequence[int | None], following: Sequence[int | None]) -> list[tuple[object, ...]]:
        """The micro batches of these steps; those of the `following` ones, if there are any, are begun."""
        made = self._made if self._made and self._steps == steps else self._thread.submit(self._make, steps)
        batches = made.result()
        self._steps, self._made = following, None
        if any(step is not None for step in following):
            self._made = self._thread.submit(self._make, following)
        return batches

    def _make(self, steps: Sequence[int | None]) -> list[tuple[object, ...]]:
        return list(self._feed(steps))


def _meet(beat: Callable[[], None]) -> None:
    """Wait for rank 0, which alone writes: whatever it has written is a sign of life of all ranks."""
    if torch.distributed.get_world_size() > 1:
        torch.distributed.barrier()
    beat()


def fresh(parameters: Mapping[str, Tensor]) -> TrainState:
    """A start state: these weights, zero moments."""
    return {name: (weight.float(), *(torch.zeros_like(weight).float() for _ in range(2))) for name, weight in parameters.items()}


def _resume(learners: Sequence[Learner], start: TrainState, rank: int) -> tuple[list[int], list[TrainState]]:
    """Step and state of every learner, as rank 0 finds them: its view of the storage is everybody's."""
    box = [_steps_to_resume(learners, start) if rank == 0 else []]
    if torch.distributed.get_world_size() > 1:
        torch.distributed.broadcast_object_list(box, src=0)
    [steps] = box
    states = []
    for slot, learner in enumerate(learners):
        first, state = learner.begun or (0, start)
        states.append(learner.checkpoints.load(steps[slot], start) if steps[slot] else state)
        steps[slot] = steps[slot] or first
    return steps, states


def _steps_to_resume(learners: Sequence[Learner], start: TrainState) -> list[int]:
    """The newest step that all have saved, so that a killed pack goes on as it was, else each its own."""
    newest = [learner.checkpoints.latest(start) for learner in learners]
    if len(set(newest)) == 1:
        return newest
    together = [learner.checkpoints.latest(start, min(newest)) for learner in learners]
    return together if len(set(together)) == 1 and together[0] else newest  # none begins again because another has not begun


def _stack(states: Sequence[TrainState]) -> TrainState:
    if len(states) == 1:
        return states[0]
    return {name: tuple(torch.cat(parts) for parts in zip(*(state[name] for state in states), strict=True)) for name in states[0]}


def _slot(state: TrainState, slot: int, num_slots: int) -> TrainState:
    if num_slots == 1:
        return state
    return {name: tuple(part[slot : slot + 1].clone() for part in parts) for name, parts in state.items()}


def _step(
    engine: zero.Engine[nn.Module], batches: Sequence[tuple[object, ...]], names: Sequence[str], notice: Notice | None
) -> dict[str, list[float]]:
    """One optimizer step over these micro batches; the figures summed over them, one value a slot. STOP is among them: above 0 on every
    rank if any has been given notice, so that agreeing on it costs nothing more.
    """
    sums = dict[str, Tensor]()
    for number, batch in enumerate(batches, 1):
        engine.set_gradient_accumulation_boundary(number == len(batches))
        loss, parts = engine(*batch)
        for name, values in parts.items():
            sums[name] = sums[name] + values.detach() if name in sums else values.detach()
        engine.backward(loss, scale_wrt_gas=False)
    told = torch.full_like(next(iter(sums.values())), float(bool(notice and notice.given)))
    figures = _agreed({**sums, STOP: told}, names)  # the one place where the host waits for the device
    engine.step()
    if not engine.was_step_applied():  # DeepSpeed skips a step whose gradient overflows, without a word
        raise NonFiniteLoss("a gradient is NaN or infinite", ", ".join(names), "lower the lr or set gradient_clipping")
    return figures


def _agreed(figures: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, list[float]]:
    """Means over all ranks. A NaN on one rank reaches all of them, so they stop together instead of hanging in the next collective."""
    means = torch.stack([values.float() for values in figures.values()])
    if torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(means)
        means /= torch.distributed.get_world_size()
    means = means.cpu()
    if not bool(means.isfinite().all()):
        raise NonFiniteLoss(f"the loss is not finite: {means.tolist()}", ", ".join(names), "lower its lr, or look at the rows of that step")
    return dict(zip(figures, means.tolist(), strict=True))


def _write(learner: Learner, step: int, figures: Mapping[str, float]) -> None:
    if learner.log is not None:
        with learner.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"phase": learner.checkpoints.name, "step": step, **figures}) + "\n")


def peak_bytes() -> int:
    """The most memory this process has held so far: allocated on its GPU, or resident where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
