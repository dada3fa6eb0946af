"""The queue answers everybody with his own answer, together where they fit, and refuses what is too much or too late."""

from __future__ import annotations

import asyncio
import threading

from thinkrec.serve.queue import BatchQueue, QueueFull, TooLate


class Computing:
    """Doubles numbers, keeps its batches, refuses 13, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, numbers):
        self.may_go.wait(10)
        self.batches.append(list(numbers))
        if 13 in numbers:
            raise ValueError("13")
        return [2 * number for number in numbers]


async def all_of(queue, numbers, size=1):
    return await asyncio.gather(*(queue.ask(number, size) for number in numbers), return_exceptions=True)


def test_those_who_wait_are_answered_together_within_the_size():
    computing = Computing()
    assert asyncio.run(all_of(BatchQueue(computing, 10, 4, 10.0), range(6), size=2)) == [0, 2, 4, 6, 8, 10]
    assert [len(batch) for batch in computing.batches] == [2, 2, 2]


def test_one_that_is_larger_than_a_batch_goes_alone():
    computing = Computing()
    assert asyncio.run(all_of(BatchQueue(computing, 10, 4, 10.0), [1, 2], size=9)) == [2, 4]
    assert computing.batches == [[1], [2]]


def test_a_bad_question_spoils_no_other():
    computing = Computing()
    found = asyncio.run(all_of(BatchQueue(computing, 10, 9, 10.0), [1, 13, 3]))
    assert (found[0], str(found[1]), found[2]) == (2, "13", 6)
    assert computing.batches == [[1, 13, 3], [1], [13], [3]]


def test_what_is_too_much_is_shed_at_once():
    found = asyncio.run(all_of(BatchQueue(Computing(), 2, 9, 10.0), range(5)))
    assert found[:2] == [0, 2]
    assert [type(one) for one in found[2:]] == [QueueFull] * 3


def test_what_is_too_late_is_not_computed():
    computing = Computing()
    computing.may_go.clear()

    async def ask():
        queue = BatchQueue(computing, 10, 1, 0.05)
        found = await all_of(queue, range(3))
        computing.may_go.set()
        while queue._work and not queue._work.done():
            await asyncio.sleep(0.001)
        return found

    assert [type(one) for one in asyncio.run(ask())] == [TooLate] * 3
    assert computing.batches == [[0]]  # the one that was being computed; the others had left


def held_up(max_size, numbers, then, deadline_s=0.05):
    """What `then(queue, computing, asked)` finds where the first batch of these numbers is held up, and all batches."""
    computing = Computing()
    computing.may_go.clear()

    async def ask():
        queue = BatchQueue(computing, len(numbers), max_size, deadline_s)
        asked = [asyncio.create_task(queue.ask(number, 1)) for number in numbers]
        await asyncio.sleep(0)  # they ask
        await asyncio.sleep(0)  # the first batch is taken up
        found = await then(queue, computing, asked)
        computing.may_go.set()
        await asyncio.gather(queue._work, *asked, return_exceptions=True)
        return found

    return asyncio.run(ask()), computing.batches


def test_who_has_left_keeps_nobody_out():
    async def too_late(queue, computing, asked):
        await asyncio.wait(asked)
        return len(queue)

    async def cancelled(queue, computing, asked):
        asked[2].cancel()
        await asyncio.wait(asked[2:])
        return len(queue)

    assert held_up(1, range(3), too_late) == (0, [[0]])
    assert held_up(1, range(3), cancelled, deadline_s=60.0)[0] == 1  # the second waits on


def test_a_bad_question_is_not_asked_again_for_those_who_have_left():
    async def too_late(queue, computing, asked):
        await asyncio.wait(asked)

    assert held_up(9, [1, 13, 3], too_late)[1] == [[1, 13, 3]]


def test_the_next_questions_are_answered_after_the_queue_ran_dry():
    async def twice():
        queue = BatchQueue(Computing(), 10, 4, 10.0)
        return [await queue.ask(1, 1), await queue.ask(2, 1), len(queue)]

    assert asyncio.run(twice()) == [2, 4, 0]


def test_the_control_without_that_bound_nobody_is_shed():
    assert asyncio.run(all_of(BatchQueue(Computing(), 100, 9, 10.0), range(5))) == [0, 2, 4, 6, 8]
