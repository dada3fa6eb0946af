"""What a task or a map of Ray raised on purpose, or the operating system did, as itself: Ray hands it over inside an error of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from thinkrec.errors import StageFailed, ThinkrecError

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data


@contextmanager
def as_itself() -> Iterator[None]:
    """A ThinkrecError or OSError of a task that is waited for in the block is raised as such, without Ray's text; any other as Ray does."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ThinkrecError):
            raise error.cause from None
        if isinstance(error.cause, OSError):
            raise _without_advice(error.cause) from error
        raise


def _without_advice(error: OSError) -> OSError:
    """Ray Data puts advice about settings of its own where the name of the file belongs."""
    return OSError(error.errno, error.strerror) if str(error.filename).startswith("Failed to apply") else error


@contextmanager
def of_map(rows: ray.data.Dataset, what: str, where: str = "Ray Data") -> Iterator[None]:
    """`as_itself` where a Ray data set is computed in the block; whatever else its maps raise comes out as StageFailed."""
    import ray

    rows.context.raise_original_map_exception = True  # else errors arrive as the text of Ray's own
    try:
        with as_itself():
            yield
    except ray.exceptions.RayTaskError as error:
        raise StageFailed(f"{what} failed: {error.cause!r}", where, "run the same command again") from error


def blocks(rows: ray.data.Dataset, what: str, where: str = "Ray Data") -> Iterator[pa.Table]:
    """What a Ray data set computes, block by block as they come; errors as `of_map` says."""
    with of_map(rows, what, where):
        yield from rows.iter_batches(batch_size=None, batch_format="pyarrow")
