"""The artefact `promotion`: promotion.json, whether a refreshed model takes over, and by which figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from thinkrec.store.address import known_record, write_json

PROMOTION_FILE = "promotion.json"


class Compared(TypedDict):
    """A metric of yesterday's model and of today's on the same rows; low and high bound the paired difference, None where nothing can."""

    metric: str
    before: float | None
    after: float | None
    low: float | None
    high: float | None
    is_worse: bool


@dataclass(frozen=True)
class Promotion:
    """What was compared on so many rows of so many users."""

    num_rows: int
    num_users: int
    compared: Sequence[Compared]

    @property
    def worse(self) -> list[str]:
        """The metrics that keep today's model from taking over."""
        return [one["metric"] for one in self.compared if one["is_worse"]]

    @property
    def is_promoted(self) -> bool:
        return not self.worse


def write_promotion(folder: Path, promotion: Promotion) -> None:
    """Write promotion.json."""
    write_json(f"{folder}/{PROMOTION_FILE}", asdict(promotion))


def read_promotion(folder: Path) -> Promotion:
    """What `write_promotion` wrote; raises ArtefactError where it is gone or says something else."""
    return known_record(f"{folder}/{PROMOTION_FILE}", Promotion)
