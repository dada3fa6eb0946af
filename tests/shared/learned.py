"""Instances of tables in memory, as the stage would write them. Not a test itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thinkrec.config.run import Config
from thinkrec.instances.records import Trace, row_records, trace_records
from thinkrec.prompt.catalogue import PromptData
from thinkrec.train.instances import Instances
from thinkrec.train.parts import Parts, Rows


def instances_of(
    config: Config,
    tables: PromptData,
    positions: Sequence[int] | NDArray[np.int64],
    traces: Sequence[Trace] = (),
    offsets: NDArray[np.float32] | None = None,
) -> Instances:
    """The rows at these positions and these traces."""
    rows, told = row_records(tables, positions, offsets), trace_records(tables, traces, offsets)
    return Instances(config, Rows(Parts.held(rows)), Rows(Parts.held(told)), tables.item_vectors)
