"""What a task or a map of Ray raises is told as what it is: errors of ours and of the system as themselves, bugs as such."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError, RayTaskError

from thinkrec.distributed.raised import as_itself, blocks
from thinkrec.errors import MissingFileError, ModelError, StageFailed

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "scores/part-0.parquet")
OWN = [ModelError("no token is left for the history", "prompt.max_tokens", "raise it"), MissingFileError("gone", "x"), FULL]


def of_ray(cause: Exception) -> RayTaskError:
    """As Ray hands over what a task raised, with its traceback."""
    return RayTaskError("f", "Traceback of a worker", cause, proctitle="", pid=1, ip="::1").as_instanceof_cause()


def failing(error: Exception):
    """A Ray data set whose second block cannot be computed."""

    def iter_batches(**asked):
        yield "a block"
        raise error

    return SimpleNamespace(context=SimpleNamespace(raise_original_map_exception=False), iter_batches=iter_batches)


@pytest.mark.parametrize("cause", OWN, ids=lambda cause: type(cause).__name__)
def test_an_error_of_ours_or_of_the_system_arrives_as_itself(cause):
    with pytest.raises(type(cause)) as caught, as_itself():
        raise of_ray(cause)
    assert caught.value is cause
    rows = failing(of_ray(cause))
    with pytest.raises(type(cause)) as caught:
        list(blocks(rows, "the instances"))
    assert caught.value is cause
    assert rows.context.raise_original_map_exception


def test_advice_of_ray_data_does_not_pass_for_a_file_of_ours():
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device$"), as_itself():
        raise of_ray(OSError(*FULL.args, "Failed to apply UDF transform after 1/1 attempts.\nTo change retry attempts, configure ..."))


def test_a_bug_shows_itself_in_a_task_and_stops_the_stage_in_a_map():
    bug = of_ray(KeyError("x"))
    with pytest.raises(KeyError) as caught, as_itself():
        raise bug
    assert caught.value is bug
    with pytest.raises(StageFailed, match=r"^the scores failed: KeyError\('x'\)"):
        list(blocks(failing(bug), "the scores"))


def test_what_no_task_raised_is_let_through():
    for error in (RayActorError(), ValueError("a bug of the driver's own")):
        with pytest.raises(type(error)) as caught:
            list(blocks(failing(error), "the scores"))
        assert caught.value is error
