"""What stands between a shard and its engine, so that a row the engine cannot survive costs that row alone.

Requests over which `generate` raises are halved until the culprit stands alone. Requests over which the whole process dies are written
down beforehand, so that the next process asks them in halves, too; the request that dies twice alone is given up. Either way the row is
answered by an error, which the stages quarantine with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thinkrec.errors import StageFailed, ThinkrecError
from thinkrec.generate.engines.protocol import Capability, Engine, EngineDied, GenRequest, GenResult
from thinkrec.store.address import read_json, write_json

RAISED = (
    ArithmeticError,
    AssertionError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)  # whatever a library throws at odd input
MAX_DEATHS = 32  # of one shard: enough to find two rows among thousands
FEW_ERRORS = 10  # are never too many


@dataclass
class InFlight:
    """What was in hand when the last process died: how often the shard has died, how often with the very same requests."""

    ids: list[str]
    num_deaths: int
    num_deaths_alike: int
    given_up: list[str]


class Guard:
    """An engine that answers every request. One for each shard and process; `note` is where it writes what it has in hand."""

    def __init__(self, engine: Engine, note: str) -> None:
        self._engine, self._note = engine, note
        self._asked: set[str] = set()
        self._failed: dict[str, str] = {}  # id -> error
        self._hand = self._after_death(read_json(note))

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._engine.capabilities

    def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        self._asked.update(request.id for request in requests)
        suspects = [request for request in requests if request.id in self._hand.ids]
        given_up = [request for request in requests if request.id in self._hand.given_up]
        known = {request.id for request in [*suspects, *given_up]}
        groups = [[request for request in requests if request.id not in known], *_halves(suspects)]
        results = {request.id: self._refused(request, "the engine died twice over this row alone") for request in given_up}
        for group in filter(None, groups):
            results |= {result.id: result for result in self._answer(group)}
        return [results[request.id] for request in requests]

    def close(self) -> None:
        """The engine outlives the shard."""

    def check(self, max_error_share: float) -> None:
        """Raises StageFailed when the engine is to blame for what went wrong."""
        check_share([*self._failed.values()], len(self._asked), max_error_share)

    @property
    def num_errors(self) -> int:
        return len(self._failed)

    def _answer(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        ids = [request.id for request in requests]
        write_json(
            self._note, {**vars(self._hand), "ids": ids, "num_deaths_alike": self._hand.num_deaths_alike if ids == self._hand.ids else 0}
        )
        try:
            results = self._engine.generate(requests)
        except (ThinkrecError, EngineDied):
            raise
        except RAISED as error:
            if len(requests) == 1:
                return [self._refused(requests[0], f"{type(error).__name__}: {error}")]
            return [result for half in _halves(requests) for result in self._answer(half)]
        self._failed |= {result.id: result.error for result in results if result.finish_reason == "error"}
        return results

    def _refused(self, request: GenRequest, error: str) -> GenResult:
        self._failed[request.id] = error
        return GenResult(request.id, "", finish_reason="error", error=error)

    def _after_death(self, note: dict[str, object] | None) -> InFlight:
        """What the note of a process that did not come to its end means for this one."""
        if note is None:
            return InFlight([], 0, 0, [])
        hand = InFlight(**note)  # type: ignore[arg-type]
        hand.num_deaths, hand.num_deaths_alike = hand.num_deaths + 1, hand.num_deaths_alike + 1
        if hand.num_deaths > MAX_DEATHS:
            raise StageFailed(
                f"the engine died {hand.num_deaths} times over one shard, last with {len(hand.ids)} rows in hand",
                self._note,
                "look at the worker's log for the cause; delete that note and run the same command again",
            )
        if len(hand.ids) == 1 and hand.num_deaths_alike > 1:
            hand.given_up, hand.ids = [*hand.given_up, *hand.ids], []
        return hand


def check_share(errors: Sequence[str], num_asked: int, max_error_share: float) -> None:
    """Raises StageFailed when so many rows went wrong that the engine is to blame, not they; nothing of the shard is kept then."""
    if len(errors) > max(FEW_ERRORS, max_error_share * num_asked):
        raise StageFailed(
            f"{len(errors)} of {num_asked} rows got no answer, among them: {errors[0]}",
            "engine",
            "fix the engine and run the same command again; if the rows are at fault, raise engine.max_error_share",
        )


def _halves(requests: Sequence[GenRequest]) -> list[Sequence[GenRequest]]:
    middle = (len(requests) + 1) // 2
    return [half for half in (requests[:middle], requests[middle:]) if half]
