"""The planted world as a data source."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from thinkrec.config import DataSection
from thinkrec.data.readers.tables import Tables
from thinkrec.data.world import make_world


def read(settings: DataSection, seed: int) -> Tables:
    """Make the world of these settings and seed."""
    world = make_world(settings.world, seed)
    rows = pa.array(np.arange(world.interactions.num_rows))
    return Tables("world", world.interactions.append_column("row", rows), world.items, world.truth)
