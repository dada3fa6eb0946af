"""The planted world as a data source."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from thinkrec.config.data import DataSection
from thinkrec.data.readers.source import Batch, Source
from thinkrec.data.world.world import make_world


def read(settings: DataSection, seed: int) -> Source:
    """Make the world of these settings and seed."""
    world = make_world(settings.world, seed)
    rows = pa.array(np.arange(world.interactions.num_rows))
    interactions = Batch(world.interactions.append_column("row", rows))
    return Source("world", iter([interactions]), iter([Batch(world.items)]), world.truth)
