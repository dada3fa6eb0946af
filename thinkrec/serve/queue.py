"""A bounded queue in front of the model: what waits is answered together, what is too much or too late is refused."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class QueueFull(Exception):
    """So many wait already that this one is shed."""


class TooLate(Exception):
    """The deadline passed before there was an answer."""


@dataclass(frozen=True, eq=False)  # two may ask the same
class _Waiting(Generic[Q, A]):
    question: Q
    size: int
    answer: asyncio.Future[A]


class BatchQueue(Generic[Q, A]):
    """Questions of one event loop, answered by `compute` in a thread of its own, as many at once as `max_size` allows.

    While one batch is computed the next one gathers, so that nobody waits for company. A batch that fails is asked again one by one: a bad
    question is answered with its own error and spoils no other's.
    """

    def __init__(self, compute: Callable[[Sequence[Q]], Sequence[A]], max_waiting: int, max_size: int, deadline_s: float) -> None:
        self._compute, self._max_waiting, self._max_size, self._deadline_s = compute, max_waiting, max_size, deadline_s
        self._waiting: deque[_Waiting[Q, A]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._work: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, question: Q, size: int) -> A:
        """The answer; `size` says how much work it is. Raises QueueFull at once, TooLate after the deadline, and what `compute` raises."""
        if len(self._waiting) >= self._max_waiting:
            raise QueueFull
        loop = asyncio.get_running_loop()
        one = _Waiting[Q, A](question, size, loop.create_future())
        self._waiting.append(one)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._drain())
        try:
            async with asyncio.timeout(self._deadline_s):
                return await one.answer
        except TimeoutError:
            raise TooLate from None
        finally:
            with suppress(ValueError):  # taken up
                self._waiting.remove(one)  # who has left keeps nobody out

    async def _drain(self) -> None:
        while batch := self._next():
            await self._answer(batch)

    def _next(self) -> list[_Waiting[Q, A]]:
        """Those who have waited longest, but for those who are just leaving."""
        batch, room = list[_Waiting[Q, A]](), self._max_size
        while self._waiting and (not batch or self._waiting[0].size <= room):
            one = self._waiting.popleft()
            if not one.answer.done():
                batch.append(one)
                room -= one.size
        return batch

    async def _answer(self, batch: Sequence[_Waiting[Q, A]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._thread, self._compute, [one.question for one in batch])
        except Exception as error:  # noqa: BLE001 - whoever asked hears of it
            if len(batch) == 1:
                _settle(batch[0], error)
                return
            for one in batch:
                if not one.answer.done():  # else he has left
                    await self._answer([one])
            return
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)


def _settle(one: _Waiting[Q, A], error: Exception) -> None:
    if not one.answer.done():
        one.answer.set_exception(error)
