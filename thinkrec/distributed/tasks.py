"""A function over a stream of values as tasks of the cluster: in order, a few at a time, the values never all in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from thinkrec.distributed.placement import await_room
from thinkrec.distributed.raised import as_itself

if TYPE_CHECKING:
    import ray

STOP_S = 60.0  # for a task that is cancelled
Value = TypeVar("Value")
Result = TypeVar("Result")


class Mapper(Protocol):
    """What runs a pure function over a stream, results in order: `map_tasks`, or `map` itself in one process."""

    def __call__(self, function: Callable[[Value], Result], values: Iterable[Value], /) -> Iterator[Result]: ...


def map_tasks(function: Callable[[Value], Result], values: Iterable[Value], /) -> Iterator[Result]:
    """function(value) of each value, in order, in Ray tasks of one CPU, as many at once as the cluster has CPUs.

    A task whose worker died is done again, so the function must bear that. Its ThinkrecError or OSError is raised here.
    """
    import ray

    await_room("a task over the data")
    shared, call = ray.put(function), ray.remote(_call)
    most = max(1, int(ray.cluster_resources().get("CPU", 1)))
    begun: deque[ray.ObjectRef] = deque()
    try:
        for value in values:
            if len(begun) >= most:
                yield _result(begun.popleft())
            begun.append(call.remote(shared, value))
        while begun:
            yield _result(begun.popleft())
    finally:
        for task in begun:
            ray.cancel(task)
        if begun:  # it is asked and does not stop at once: nobody may still write when the caller clears up
            ray.wait(list(begun), num_returns=len(begun), timeout=STOP_S)


def _call(function: Callable[[Value], Result], value: Value) -> Result:
    return function(value)


def _result(task: ray.ObjectRef) -> Any:
    import ray

    with as_itself():
        return ray.get(task)
