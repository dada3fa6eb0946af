"""What Ray Train does with a worker's error: one raised on purpose stops the run at once, any other is tried again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thinkrec.config import FaultsSection
from thinkrec.errors import DataError, StageFailed
from thinkrec.launch import fit

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def stumbler() -> Callable[[dict[str, Any]], None]:
    """A train function made here, so that it travels whole: a worker cannot import this file."""

    def stumble(settings: dict[str, Any]) -> None:
        """Count the try; fail in the way the settings say, for as many tries as they say."""
        tries = Path(settings["tries"])
        tries.write_text(tries.read_text() + "x" if tries.is_file() else "x")
        if len(tries.read_text()) <= settings["failures"]:
            raise DataError("a row is wrong", "row 7", "mend it") if settings["on_purpose"] else RuntimeError("a cable was pulled")

    return stumble


def launch(tmp_path: Path, *, failures: int, on_purpose: bool, **budgets: int) -> None:
    settings = {"tries": str(tmp_path / "tries"), "failures": failures, "on_purpose": on_purpose}
    fit(stumbler(), settings, name="stumble", root=str(tmp_path), num_workers=1, use_gpu=False, faults=FaultsSection(**budgets))


def test_an_error_raised_on_purpose_comes_back_as_itself_after_one_try(ray_cluster, tmp_path):
    with pytest.raises(DataError, match="a row is wrong") as caught:
        launch(tmp_path, failures=9, on_purpose=True, unknown=3)
    assert caught.value.mend == "mend it"
    assert (tmp_path / "tries").read_text() == "x"


def test_any_other_error_is_tried_again_within_its_budget(ray_cluster, tmp_path):
    launch(tmp_path, failures=1, on_purpose=False, unknown=1)
    assert (tmp_path / "tries").read_text() == "xx"
    (tmp_path / "tries").unlink()
    with pytest.raises(StageFailed, match="a cable was pulled"):
        launch(tmp_path, failures=9, on_purpose=False, unknown=1)
    assert (tmp_path / "tries").read_text() == "xx"
