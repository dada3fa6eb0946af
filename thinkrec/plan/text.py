"""A plan as text for people; the same facts as its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from thinkrec.plan.memory import Memory
from thinkrec.plan.plan import Phase, Plan

SHOWN_GROUPS = 8
MIB, GIB = 2**20, 2**30


def plan_text(plan: Plan) -> str:
    """Sections of plain lines, each with its assumptions beside it."""
    return "\n".join([*_head(plan), *_phases(plan), *_memory(plan), *_layout(plan), *_tail(plan)])


def _head(plan: Plan) -> Iterator[str]:
    machines, size, length = plan.machines, plan.sizes, plan.lengths
    yield f"run {plan.run_dir}"
    done = [stage.name for stage in plan.stages if stage.state == "committed"]
    yield f"  committed  {', '.join(done) or 'nothing'}"
    yield f"  to do      {', '.join(stage.name for stage in plan.stages if stage.name not in done) or 'nothing'}"
    kind = "GPUs" if machines.have_gpus else "CPU workers"
    yield f"machines     {machines.num_nodes} x {machines.workers_per_node} {kind} (from {machines.source})"
    yield f"data         {size.num_train:,} train rows, {size.num_test:,} test rows, {size.num_users:,} users (from {size.source})"
    yield f"prompts      {length.prompt:.1f} tokens, the longest {length.longest:.1f} ({length.source})"
    yield f"base         {plan.num_params / 1e6:,.2f} M parameters, {plan.shape.num_layers} layers, hidden {plan.shape.hidden}"


def _phases(plan: Plan) -> Iterator[str]:
    yield ""
    yield f"phase        workers    steps       tokens       computed      TFLOP     hours  {_worker(plan)}-hours"
    for phase in plan.phases:
        yield (
            f"{phase.name:<12} {phase.num_workers:7d} {phase.num_steps:8d} {phase.tokens:12.4g} {phase.places:14.4g} "
            f"{phase.flops / 1e12:10.4g} {phase.hours:9.3g} {phase.worker_hours:9.3g}"
        )
    yield f"still to run {plan.hours:.3g} h, {plan.worker_hours:.3g} {_worker(plan)}-hours"
    yield f"  assumed    {plan.mfu:.0%} of {plan.peak_tflops:g} TFLOP/s a worker (plan.mfu, plan.peak_tflops)"


def _memory(plan: Plan) -> Iterator[str]:
    parts = list(Memory.__dataclass_fields__)
    unit, size = ("GiB", GIB) if max(phase.memory.total for phase in plan.phases) >= GIB else ("MiB", MIB)
    yield ""
    yield f"{unit} a worker {' '.join(f'{part:>11}' for part in parts)}       total   ({plan.ds_config}, ZeRO-{plan.zero_stage})"
    for phase in plan.phases:
        numbers = [*(getattr(phase.memory, part) for part in parts), phase.memory.total]
        yield f"{phase.name:<12} {' '.join(f'{number / size:11.2f}' for number in numbers)}"
    trained = [phase for phase in plan.phases if phase.advice]
    for verdict in dict.fromkeys(_verdict(phase) for phase in trained):
        alike = [phase for phase in trained if _verdict(phase) == verdict]
        largest = max(alike, key=lambda phase: phase.memory.total)
        yield f"  {', '.join(phase.name for phase in alike)}: {verdict}. {largest.name}: {largest.advice.reason if largest.advice else ''}"


def _verdict(phase: Phase) -> str:
    advice = phase.advice
    assert advice is not None
    return f"take ZeRO-{advice.stage}{' with offload' if advice.offload else ''}{'' if advice.fits else ', and even that does not fit'}"


def _layout(plan: Plan) -> Iterator[str]:
    layout = plan.layout
    yield ""
    yield f"experts      {len(plan.sizes.rows_per_cluster)} on {layout.num_groups} groups of {layout.workers_per_group}"
    for group, (place, experts) in enumerate(zip(layout.places[:SHOWN_GROUPS], layout.experts, strict=False)):
        yield f"  group {group:<4} {place:<24} experts {', '.join(map(str, experts))}"
    if layout.num_groups > SHOWN_GROUPS:
        yield f"  and {layout.num_groups - SHOWN_GROUPS} groups more"
    bound = f"lower bound {layout.lower_bound_hours:.3g} h"
    yield f"  makespan   {layout.makespan_hours:.3g} h, {bound}, {layout.idle_share:.1%} of the groups' time idle"


def _tail(plan: Plan) -> Iterator[str]:
    yield ""
    yield f"disk         {_bytes(sum(plan.disk_bytes.values()))}: {_listed(plan.disk_bytes)}"
    yield f"rows in RAM  {_listed(plan.host_bytes)}"
    yield from (f"note         {note}" for note in plan.notes)


def _listed(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_bytes(number)}" for name, number in sizes.items() if number)


def _bytes(number: float) -> str:
    return f"{number / MIB:.1f} MiB" if number < GIB else f"{number / GIB:.1f} GiB"


def _worker(plan: Plan) -> str:
    return "GPU" if plan.machines.have_gpus else "worker"
