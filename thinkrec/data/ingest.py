"""The stage `ingest`: reader, validation, the one shuffle of the whole system, split and leak audit.

The log streams: each block of it is judged and spread over files of its users' buckets (blocks.py, spill.py), then each bucket is labelled,
filtered, split, audited and written by itself (buckets.py), so that every history is a slice of one bucket and every later stage is a
streaming map. Both passes are tasks of the cluster; this process holds the items, one stretch of the log, and sums. What comes out
(artefacts/ingest.py) is the same for the same source and settings, whatever the blocks and the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from thinkrec.artefacts.ingest import (
    COUNTS_FILE,
    ITEMS,
    ITEMS_FILE,
    TRUTH,
    TRUTH_FILE,
    Fingerprint,
    FoundRows,
    read_row_numbers,
    write_audit,
    write_fingerprint,
    write_refused,
)
from thinkrec.artefacts.tables import rows_as, write_table
from thinkrec.config.data import DataSection, SplitSection
from thinkrec.data import fingerprint
from thinkrec.data.arrival import Scale, doubts, refuse_one_label
from thinkrec.data.audit.log import Finding, Suspects, add, enforce
from thinkrec.data.blocks import BlockJudge, blocks
from thinkrec.data.buckets import (
    ACTIVE,
    DRAWN,
    GATHERED,
    Activity,
    CountTimes,
    FindBegins,
    Finish,
    Finished,
    Gather,
    Negatives,
    Tallies,
    Tally,
)
from thinkrec.data.filters import refuse_nothing_left
from thinkrec.data.labels import Births
from thinkrec.data.readers import amazon, canonical, movielens, prepared, recbole, user_columns, world, yelp
from thinkrec.data.readers.source import Source, collect_items
from thinkrec.data.refused import reasons_of
from thinkrec.data.spill import Spill, spilled
from thinkrec.data.split import NUM_BINS, Begins, Cuts, Span, Window, find_cuts, refuse_no_split, refuse_splits
from thinkrec.data.validate import Census, Items, refuse_log, validate_items
from thinkrec.distributed.tasks import Mapper, map_tasks
from thinkrec.events import Ingested, Noted, Warned
from thinkrec.job import Job

MAX_LIKE_RATE_MOVE = 0.05  # between train and a later split; more is worth a warning
BUCKET_ROWS, MIN_BUCKETS, NUM_SLOTS = 10**6, 8, 256  # for data.num_buckets = 0, known only when the whole log has been read
READERS: Mapping[str, Callable[[DataSection], Source]] = {
    "movielens1m": movielens.read_1m,
    "movielens10m": movielens.read_10m,
    "movielens_csv": movielens.read_csv,
    "amazon2018": amazon.read_2018,
    "amazon2023": amazon.read_2023,
    "yelp": yelp.read,
    "recbole": recbole.read,
    "csv": user_columns.read_text,
    "jsonl": user_columns.read_text,
    "parquet": user_columns.read_table,
    "delta": user_columns.read_table,
    "iceberg": user_columns.read_table,
    "canonical": canonical.read,
    "prepared": prepared.read,
}


@dataclass(frozen=True)
class Built:
    """What the artefact's files do not say: facts of fingerprint.json, what the audit found, and what looks wrong."""

    facts: Fingerprint
    findings: Sequence[Finding]
    doubts: Sequence[str]


def run(job: Job) -> None:
    """Fill the draft with the files listed in artefacts/ingest.py."""
    data, split = job.config.data, job.config.split
    source = open_source(data, job.config.run.seed)
    for note in source.notes:
        job.report(Noted(note))
    built = build(source, data, split, job.config.run.seed, job.draft.shared(), map_tasks)
    tell(job, built)


def tell(job: Job, built: Built) -> None:
    """Refuse leaks, and report what was built and looks wrong."""
    leaks = enforce(built.findings, job.config.split.allow_leaks)
    num_leaks = sum(finding.num_rows for finding in built.findings if finding.severity == "stop")
    job.draft.figures |= fingerprint.headline(built.facts) | {"num_leaks": num_leaks}
    for text in [*warnings(built.facts), *built.doubts, *leaks]:
        job.report(Warned(text))
    job.report(Ingested(job.draft.figures))


def open_source(data: DataSection, seed: int) -> Source:
    """The source of the run file, opened by its reader."""
    return READERS[data.source](data) if data.source != "world" else world.read(data, seed)


def build(source: Source, data: DataSection, split: SplitSection, seed: int, uri: str, mapper: Mapper) -> Built:
    """Validate, label, split and audit a source, and write the artefact's files below the address `uri`.

    Raises DataError, ConfigError, or StageFailed where a file of the shuffle was lost.
    """
    items = validate_items(source.name, *collect_items(source))
    with spilled(f"{uri}/spill", data.num_buckets or NUM_SLOTS) as spill:
        return _Building(source, items, data, split, seed, uri, spill, mapper).done()


@dataclass(frozen=True)
class _Building:
    """The passes, in order; `mapper` runs each over its blocks or buckets."""

    source: Source
    items: Items
    data: DataSection
    split: SplitSection
    seed: int
    uri: str
    spill: Spill
    mapper: Mapper

    def done(self) -> Built:
        log, num_blocks = self._judged()
        buckets = range(self.data.num_buckets or num_buckets_for(log.num_good))
        step, kept = self._kept(log, num_blocks, buckets)
        cuts = self._cuts(step, kept, buckets)
        begins = sum(self.mapper(FindBegins(self.spill, step, cuts), buckets), start=Begins())
        refuse_splits(begins, cuts)
        return self._finished(step, kept, cuts, begins, log, buckets)

    def _judged(self) -> tuple[Census, int]:
        """All blocks judged and spread over the slots."""
        refused = reasons_of(self.items.bad)
        item_ids = self.items.table["item_id"].combine_chunks()
        judge = BlockJudge(self.uri, self.spill, item_ids, self.data)
        log, num_blocks = Census(), 0
        for census in self.mapper(judge, enumerate(blocks(self.source.interactions))):
            log, num_blocks = log + census, num_blocks + 1
        refuse_log(self.source.name, log, self.items, refused, self.data)
        if self.split.mode == "given":
            refuse_no_split(log.columns)
        return log, num_blocks

    def _kept(self, log: Census, num_blocks: int, buckets: range) -> tuple[str, Tallies]:
        """The name of the last step that decides which rows there are, and what it left."""
        data, spill = self.data, self.spill
        kept = self._tallied(Gather(spill, num_blocks, len(buckets), data, log.highest), buckets, {})
        step = GATHERED
        spill.remove("blocks")
        if data.min_rows:
            kept = self._tallied(Activity(spill, kept.num_by_item, data.min_rows), buckets, kept.left_out)
            step = ACTIVE
        refuse_nothing_left(kept.num_rows, kept.left_out)
        if data.label_rule == "implicit":
            births = Births.of(kept.first_ts, pl.Series(self.items.table["item_id"]))
            kept = self._tallied(Negatives(spill, step, births, data.num_negatives, self.seed), buckets, kept.left_out)
            step = DRAWN
        return step, kept

    def _tallied(self, step: Callable[[int], Tally], buckets: range, before: Mapping[str, int]) -> Tallies:
        """A step done; `left_out` also tells of the steps before it."""
        kept = Tallies(self.items.table.num_rows)
        for tally in self.mapper(step, buckets):
            kept.add(tally)
        kept.left_out = {**before, **{rule: number for rule, number in kept.left_out.items() if number}}
        return kept

    def _cuts(self, step: str, kept: Tallies, buckets: range) -> Cuts | None:
        def histogram(window: Window) -> NDArray[np.int64]:
            return sum(self.mapper(CountTimes(self.spill, step, window), buckets), start=np.zeros(NUM_BINS, np.int64))

        return None if self.split.mode == "given" else find_cuts(Span(kept.num_rows, *kept.span), histogram, self.split)

    def _finished(self, step: str, kept: Tallies, cuts: Cuts | None, begins: Begins, log: Census, buckets: range) -> Built:
        items = pl.DataFrame(self.items.table)
        suspects = Suspects.of(items, begins.first_ts)
        finish = Finish(self.spill, step, self.uri, self.items.table["item_id"].combine_chunks(), cuts, suspects)
        known: Fingerprint = {
            "quarantined": num_refused(log, self.items),
            "num_buckets": len(buckets),
            "left_out": kept.left_out,
            "notes": list(self.source.notes),
        }
        built = conclude(self.uri, self.mapper(finish, buckets), self.items, self.data, known)
        if self.source.truth is not None:
            kept_rows = pl.DataFrame(read_row_numbers(self.uri))
            truth = pl.DataFrame(self.source.truth).join(kept_rows, on="row", how="semi")
            write_table(f"{self.uri}/{TRUTH_FILE}", truth.to_arrow().cast(TRUTH))
        return built


def conclude(uri: str, finished: Iterable[Finished], items: Items, data: DataSection, known: Fingerprint) -> Built:
    """Write the artefact's tables beside its buckets, which are `finished` in their order; raises DataError for one label alone.

    known: what buckets do not tell of the fingerprint: quarantined, num_buckets, left_out, notes.
    """
    described = items.table.select(ITEMS.names)
    totals, scale, findings, counts, rows = fingerprint.Totals(len(described)), Scale(), list[Finding](), list[pa.Table](), list[int]()
    for done in finished:
        totals.add(done.part)
        scale += done.scale
        findings = add(findings, done.findings) if rows else list(done.findings)
        counts.append(done.counts)
        rows.append(done.part.num_rows)
    likes = totals.likes
    refuse_one_label(likes, scale, data)
    write_table(f"{uri}/{ITEMS_FILE}", described)
    write_table(f"{uri}/{COUNTS_FILE}", pa.concat_tables(counts).sort_by([("item_id", "ascending"), ("bucket", "ascending")]))
    write_refused(uri, 0, items.bad)
    facts: Fingerprint = {
        **totals.facts(described, known["quarantined"]),
        "num_buckets": known["num_buckets"],
        "bucket_rows": rows,
        "left_out": known["left_out"],
        "notes": known["notes"],
    }
    write_audit(uri, rows_as(FoundRows, map(asdict, findings)))
    write_fingerprint(uri, facts)
    return Built(facts, findings, doubts(likes, scale, pl.DataFrame(described)["categories"], data))


def num_buckets_for(num_rows: int) -> int:
    """A power of two, so that it divides NUM_SLOTS: about BUCKET_ROWS rows a bucket, and enough buckets to count without one of them."""
    return min(NUM_SLOTS, max(MIN_BUCKETS, 1 << (max(1, num_rows // BUCKET_ROWS) - 1).bit_length()))


def warnings(facts: Fingerprint) -> list[str]:
    """What the user should know although the run goes on."""
    rates = {name: split["like_rate"] for name, split in facts["splits"].items()}
    moved = [name for name, rate in rates.items() if abs(rate - rates["train"]) > MAX_LIKE_RATE_MOVE]
    return [
        *(f"the like rate moves from {rates['train']:.3f} in train to {rates[name]:.3f} in {name}" for name in moved),
        *(f"quarantined: {count} rows, {reason}" for reason, count in facts["quarantined"].items()),
    ]


def num_refused(log: Census, items: Items) -> dict[str, int]:
    """Refused rows and items by reason."""
    found = {reason: one.num_rows for reason, one in log.refused.items()}
    for reason, one in reasons_of(items.bad).items():
        found[reason] = found.get(reason, 0) + one.num_rows
    return found
