"""The first pass of `ingest`: stretches of the source in, usable rows to their buckets' files and refused ones to quarantine out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import pyarrow as pa

from thinkrec.artefacts.ingest import write_refused
from thinkrec.config.data import DataSection
from thinkrec.data.readers.source import REFUSED_ROWS, Batch
from thinkrec.data.refused import reasons_of
from thinkrec.data.spill import Spill
from thinkrec.data.validate import Census, judge

BLOCK_ROWS = 2**18


def blocks(batches: Iterable[Batch], block_rows: int = BLOCK_ROWS) -> Iterator[Batch]:
    """The rows of a stream in stretches of at least `block_rows`, but for the last, and less than twice as many."""
    held, num_rows = list[Batch](), 0
    for batch in batches:
        for start in range(0, max(1, batch.rows.num_rows), block_rows):
            bad = batch.bad if start == 0 else REFUSED_ROWS.empty_table()
            held.append(Batch(batch.rows.slice(start, block_rows), bad))
            num_rows += held[-1].rows.num_rows
            if num_rows >= block_rows or sum(one.bad.num_rows for one in held) >= block_rows:
                yield _join(held)
                held, num_rows = [], 0
    if held:
        yield _join(held)


@dataclass(frozen=True)
class BlockJudge:
    """Judges a numbered block, puts its rows where they belong below `uri`, and returns what it counted."""

    uri: str
    spill: Spill
    item_ids: pa.Array = field(repr=False)  # of the usable items, in order
    settings: DataSection

    def __call__(self, numbered: tuple[int, Batch]) -> Census:
        number, block = numbered
        rows, bad, census = judge(block.rows, self.item_ids, self.settings)
        refused = pa.concat_tables([block.bad, bad])
        self.spill.write_block(number, rows)
        if refused.num_rows:
            write_refused(self.uri, number + 1, refused)
        return replace(census, refused=reasons_of(refused))


def _join(held: list[Batch]) -> Batch:
    """One batch; a column that some files of a folder lack is null there."""
    rows = pa.concat_tables([one.rows for one in held], promote_options="default")
    return Batch(rows, pa.concat_tables([one.bad for one in held]))
