"""The stage `ingest` of a refresh: a new day's rows join yesterday's buckets, and a bucket in which nothing changes is copied as it is.

Yesterday's test rows become valid, its valid rows train, and the day's are test: each row judges the model before it teaches it. The day's
rows are numbered as a further file of yesterday's log, so what comes out is what the whole log, cut at these times, would have given; but
quarantine/ holds the day's refused rows alone, and counts are of all days.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import pyarrow as pa

from thinkrec.artefacts.ingest import (
    INTERACTIONS,
    ITEMS,
    SPLITS,
    TEST,
    TRAIN,
    VALID,
    Fingerprint,
    bucket_files,
    copy_bucket,
    known_fingerprint,
    read_items,
    write_bucket,
)
from thinkrec.artefacts.tables import read_table
from thinkrec.config.data import ITEMS_APART, DataSection
from thinkrec.config.refresh import RefreshSection
from thinkrec.data.audit.log import Suspects
from thinkrec.data.blocks import BlockJudge, blocks
from thinkrec.data.buckets import GATHERED, NEVER, Finished, Gather, Tallies, Tally, finish
from thinkrec.data.filters import REPEATS, refuse_nothing_left
from thinkrec.data.ingest import Built, conclude, num_refused, open_source, tell
from thinkrec.data.readers.source import FILE_BITS, Batch, Source, collect_items
from thinkrec.data.refused import reasons_of
from thinkrec.data.spill import ROWS, Spill, spilled
from thinkrec.data.split import Begins, iso
from thinkrec.data.validate import Census, Items, refuse_log, validate_items
from thinkrec.distributed.tasks import Mapper, map_tasks
from thinkrec.errors import ConfigError, DataError
from thinkrec.events import Noted
from thinkrec.job import Job
from thinkrec.store.artefacts import fetch

BEFORE = "ingest-before"  # the input that is appended to
NEW = "new"  # what is left of GATHERED beside yesterday's rows
NEXT = {SPLITS[TRAIN]: SPLITS[TRAIN], SPLITS[VALID]: SPLITS[TRAIN], SPLITS[TEST]: SPLITS[VALID]}
LOOK_BACK = {  # settings by which a new row decides what becomes of old ones
    "data.label_rule": ("implicit", "user_median", "top_box"),
    "data.repeats": ("last",),
}


def run(job: Job) -> None:
    """Fill the draft as the stage `ingest` does; inputs: BEFORE. Figures: also how many buckets were copied."""
    source = open_day(job.config.data, job.config.refresh, job.config.run.seed)
    for note in source.notes:
        job.report(Noted(note))
    built, num_copied = append(source, job.inputs[BEFORE].uri, job.config.data, job.draft.shared(), map_tasks)
    job.draft.figures["num_buckets_copied"] = num_copied
    tell(job, built)


def open_day(data: DataSection, refresh: RefreshSection, seed: int) -> Source:
    """The day's log, by the reader of the run's own; raises ConfigError for settings under which old rows would change with new ones."""
    for key, refused in LOOK_BACK.items():
        if (value := getattr(data, key.rpartition(".")[2])) in refused:
            what = f'{key} = "{value}" judges old rows by new ones, so a day cannot be appended'
            raise ConfigError(what, key, "run the whole log again, or begin with another rule")
    if refresh.items_path and data.source not in ITEMS_APART:
        what = f"refresh.items_path is set, but data.source = {data.source!r} has its items beside the log"
        raise ConfigError(what, "refresh.items_path", "leave it out")
    where = {"path": refresh.path, "items_path": refresh.items_path}
    return open_source(data.model_copy(update=where | ({"source": "canonical"} if data.source == "world" else {})), seed)


def append(source: Source, before: str, data: DataSection, uri: str, mapper: Mapper) -> tuple[Built, int]:
    """Write below the address `uri` the artefact at `before` with the source's rows; also returns how many buckets were copied.

    Raises DataError for rows that are not later than all that is known, and for what makes any log unusable.
    """
    data = data.model_copy(update={"since": "", "before": ""})  # they cut the run's own log, of which the day is no part
    folder = fetch(before)
    with spilled(f"{uri}/spill", known_fingerprint(folder)["num_buckets"]) as spill:
        return _Appending(source, _merged(source, folder), before, data, uri, spill, mapper).done()


def _merged(source: Source, before: Path) -> Items:
    """Yesterday's items as they are, then those that the day brings."""
    day, known = validate_items(source.name, *collect_items(source)), read_items(before)
    new = pl.DataFrame(day.table).filter(~pl.col("item_id").is_in(known["item_id"].implode()))
    merged = pl.concat([known.select(ITEMS.names), new], how="diagonal")
    dated = ITEMS.append(pa.field("ts", pa.int64())) if "ts" in merged.columns else ITEMS
    return Items(merged.select(dated.names).to_arrow().cast(dated), day.bad)


@dataclass(frozen=True)
class Known:
    """What a bucket has: the splits that its rows will have, its newest time and its highest row."""

    begins: Begins
    newest: int
    highest: int


@dataclass(frozen=True)
class _Appending:
    """The passes, in order; `mapper` runs each over its blocks or buckets."""

    source: Source
    items: Items
    before: str
    data: DataSection
    uri: str
    spill: Spill
    mapper: Mapper

    def done(self) -> tuple[Built, int]:
        buckets = range(self.spill.num_slots)
        found = list(self.mapper(Look(self.before), buckets))
        newest, highest = max(one.newest for one in found), max(one.highest for one in found)
        log, kept, first = self._gathered(buckets, newest, highest)
        begins = sum((one.begins for one in found), start=Begins(first_ts={SPLITS[TEST]: first}))
        item_ids = self.items.table["item_id"].combine_chunks()
        suspects = Suspects.of(pl.DataFrame(self.items.table), begins.first_ts)
        join, copied = Append(self.spill, self.before, self.uri, item_ids, suspects), list[bool]()
        before = known_fingerprint(fetch(self.before))
        quarantined, left_out = (
            {name: old.get(name, 0) + new.get(name, 0) for name in (*old, *new)}
            for old, new in ((before["quarantined"], num_refused(log, self.items)), (before["left_out"], kept.left_out))
        )

        def finished() -> Iterator[Finished]:
            for done, is_copy in self.mapper(join, buckets):
                copied.append(is_copy)
                yield done

        notes = list(dict.fromkeys([*before["notes"], *self.source.notes]))
        known: Fingerprint = {"quarantined": quarantined, "num_buckets": len(buckets), "left_out": left_out, "notes": notes}
        return conclude(self.uri, finished(), self.items, self.data, known), sum(copied)

    def _gathered(self, buckets: range, newest: int, highest: int) -> tuple[Census, Tallies, int]:
        """The day's rows in their buckets (NEW): what was counted on the way, what is left, and the first time."""
        judge = BlockJudge(self.uri, self.spill, self.items.table["item_id"].combine_chunks(), self.data)
        log, num_blocks = Census(), 0
        for census in self.mapper(judge, enumerate(blocks(renumbered(self.source.interactions, highest)))):
            log, num_blocks = log + census, num_blocks + 1
        refuse_log(self.source.name, log, self.items, reasons_of(self.items.bad), self.data)
        kept, span, gathered = Tallies(self.items.table.num_rows), (NEVER, -NEVER), dict[str, int]()
        for tally in self.mapper(Gather(self.spill, num_blocks, len(buckets), self.data, log.highest), buckets):
            span = min(span[0], tally.span[0]), max(span[1], tally.span[1])
            gathered = {rule: gathered.get(rule, 0) + number for rule, number in tally.left_out.items()}
        for tally in self.mapper(LeaveRepeats(self.spill, self.before, self.items.table["item_id"].combine_chunks(), self.data), buckets):
            kept.add(tally)
        kept.left_out = {
            rule: left for rule in {**gathered, **kept.left_out} if (left := gathered.get(rule, 0) + kept.left_out.get(rule, 0))
        }
        refuse_nothing_left(kept.num_rows, kept.left_out)
        if span[0] <= newest:
            what = f"the day's log begins at {iso(span[0])}, the run's ends at {iso(newest)}: they overlap"
            raise DataError(what, self.source.name, "give only the rows that are later than those that the run has")
        return log, kept, span[0]


def renumbered(batches: Iterable[Batch], highest: int) -> Iterator[Batch]:
    """The rows of a stream as those of the files after the one of row `highest`."""
    offset = ((highest >> FILE_BITS) + 1) << FILE_BITS
    for batch in batches:
        at = batch.rows.schema.get_field_index("row")
        numbers = pl.Series(batch.rows["row"]) + offset
        yield replace(batch, rows=batch.rows.set_column(at, "row", numbers.to_arrow()))


def rows_of(folder: Path, bucket: int, item_ids: pl.Series) -> pl.DataFrame:
    """The rows of a bucket (spill.ROWS), in their order, as the next day has them: with the split that follows theirs."""
    empty = pl.DataFrame(INTERACTIONS.empty_table())
    rows = pl.concat([empty, *(read_table(file) for file in bucket_files(folder, [bucket]))])
    item = rows["item_id"].cast(pl.Enum(item_ids)).to_physical().cast(pl.Int32)
    return moved_on(rows.with_columns(item=item)).select(ROWS.names)


def moved_on(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the split that follows theirs."""
    return rows.with_columns(split=pl.col("split").replace_strict(NEXT, return_dtype=pl.String))


@dataclass(frozen=True)
class Look:
    """What a bucket of the artefact at `before` has."""

    before: str

    def __call__(self, bucket: int) -> Known:
        columns, folder = ["ts", "split", "row"], fetch(self.before)
        parts = (read_table(file, columns) for file in bucket_files(folder, [bucket]))
        rows = moved_on(pl.concat([pl.DataFrame(INTERACTIONS.empty_table()).select(columns), *parts]))
        newest, highest = (max(rows[name].to_list(), default=-1) for name in ("ts", "row"))
        return Known(Begins.of(rows), newest, highest)


@dataclass(frozen=True)
class LeaveRepeats:
    """The step after Gather: the day's rows without those of a user and item that met before, where data.repeats = "first"."""

    spill: Spill
    before: str
    item_ids: pa.Array = field(repr=False)
    settings: DataSection

    def __call__(self, bucket: int) -> Tally:
        kept = rows = self.spill.read_bucket(GATHERED, bucket)
        if self.settings.repeats == "first":
            old = rows_of(fetch(self.before), bucket, pl.Series(self.item_ids, dtype=pl.String))
            kept = rows.join(old, on=["user_id", "item"], how="anti", maintain_order="left")
        self.spill.write_bucket(NEW, bucket, kept)
        return Tally.of(kept, {REPEATS: len(rows) - len(kept)})


@dataclass(frozen=True)
class Append:
    """The last pass: a bucket's INTERACTIONS below `uri` and what they add, and whether its file is yesterday's."""

    spill: Spill
    before: str
    uri: str
    item_ids: pa.Array = field(repr=False)
    suspects: Suspects = field(repr=False)

    def __call__(self, bucket: int) -> tuple[Finished, bool]:
        folder, item_ids = fetch(self.before), pl.Series(self.item_ids, dtype=pl.String)
        old, new = rows_of(folder, bucket, item_ids), self.spill.read_bucket(NEW, bucket)
        rows = pl.concat([old, new.with_columns(split=pl.lit(SPLITS[TEST]))]).sort("user_id", "ts", "row")
        named, done = finish(rows, bucket, self.item_ids, self.suspects)
        is_copy = len(old) > 0 and not len(new) and was_all_train(folder, bucket)
        if is_copy:
            copy_bucket(folder, self.uri, bucket)
        elif len(named):
            write_bucket(self.uri, bucket, named.to_arrow().cast(INTERACTIONS))
        return done, is_copy


def was_all_train(folder: Path, bucket: int) -> bool:
    """Whether a bucket has rows of no other split, so that none of them gets another."""
    return all(bool((read_table(file, ["split"])["split"] == SPLITS[TRAIN]).all()) for file in bucket_files(folder, [bucket]))
