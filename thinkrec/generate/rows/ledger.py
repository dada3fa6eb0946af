"""The ledger: answers that were paid for, in shards committed one by one, found again by the content of the rows they answer.

A row's key is the digest of all its columns. A ledger belongs to one recipe: the model, its decoding and whatever else decides an answer
beside the row. So a stage that runs again, after a kill or over a grown catalogue, asks only about rows whose keys no shard holds.

Rows are dealt into parts by their keys before anything is looked up, so memory holds one part at a time however many rows there are.
A shard is named after the first and the last key in it and the digest of them all:
  asked/LO-HI-DIGEST.parquet         rows that wait for an answer
  answers/LO-HI-DIGEST.HASH.parquet  their answers, under the hash of the file: two workers of one shard, one thought dead, do not meet
  answers/LO-HI-DIGEST.json          the manifest, written last: it names the file, and without it the answers do not exist
  notes/LO-HI-DIGEST.json            what was in hand when an engine died, see guard.py
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from thinkrec.errors import ArtefactError, StageFailed
from thinkrec.store.address import list_folder, open_root, read_json, write_bytes, write_json
from thinkrec.store.artefacts import digest

KEY = pa.field("key", pa.string(), nullable=False)
KEY_LENGTH = 32  # hexadecimal digits
PART_ROWS = 2**15  # rows of one part, on average
MAX_PARTS = 512  # as many files are open while rows are dealt
SPAN = 2**16  # parts and shards are compared by the first four digits of their keys


@dataclass(frozen=True)
class Ledger:
    """Answers of one recipe at an address; `schema` is that of the answers, whose column `id` names the row they answer."""

    uri: str
    schema: pa.Schema

    @contextmanager
    def deal(self, batches: Iterable[pa.RecordBatch], num_rows: int) -> Iterator[list[Part]]:
        """The rows as parts, each a range of keys; they lie in a temporary folder until the block ends."""
        num_parts = min(max(1, -(-num_rows // PART_ROWS)), MAX_PARTS)
        with tempfile.TemporaryDirectory(prefix="thinkrec-") as folder:
            parts = [Part(Path(folder) / f"{at}.arrow", _bound(at, num_parts), _bound(at + 1, num_parts)) for at in range(num_parts)]
            with ExitStack() as stack:
                writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
                for batch in batches:
                    keyed = pa.table(batch).append_column(KEY, pa.array([key_of(row) for row in batch.to_pylist()], pa.string()))
                    place = np.array([int(key[:4], 16) * num_parts // SPAN for key in keyed["key"].to_pylist()], np.int64)
                    for at in np.unique(place).tolist():
                        if at not in writers:
                            writers[at] = stack.enter_context(pa.ipc.new_stream(str(parts[at].file), keyed.schema))
                        writers[at].write_table(keyed.filter(pa.array(place == at)))
            yield [part for part in parts if part.file.is_file()]

    def missing(self, parts: Iterable[Part], shard_rows: int) -> Iterator[pa.Table]:
        """The rows without an answer, in tables of `shard_rows` rows (the last one may be shorter), sorted by key."""
        shards, waiting = self.shards(), None
        for part in parts:
            rows = part.rows()
            known = self._answers(part, shards, rows["key"], ["key"])["key"]
            rows = rows.filter(pc.invert(pc.is_in(rows["key"], known.combine_chunks())))
            waiting = rows if waiting is None else pa.concat_tables([waiting, rows])
            while waiting.num_rows >= shard_rows:
                yield waiting.slice(0, shard_rows)
                waiting = waiting.slice(shard_rows)
        if waiting is not None and waiting.num_rows:
            yield waiting

    def ask(self, rows: pa.Table) -> str:
        """Put rows of `missing` where a worker finds them; returns the name of the shard they will be."""
        name = name_of(rows)
        if not _is_file(self._waiting(name)):  # the name says what is in it
            write_bytes(self._waiting(name), _parquet(rows))
        return name

    def asked(self, name: str) -> pa.Table:
        """The rows that wait under this name."""
        system, path = open_root(self._waiting(name))
        return pq.read_table(path, filesystem=system)

    def commit(self, name: str, rows: pa.Table, answers: pa.Table, facts: Mapping[str, float]) -> None:
        """Commit the answers to all `rows`; raises StageFailed unless each has one, none is foreign and none is there twice."""
        check_complete(rows, answers, name)
        keys = dict(zip(rows["id"].to_pylist(), rows["key"].to_pylist(), strict=True))
        keyed = answers.append_column(KEY, pa.array([keys[identity] for identity in answers["id"].to_pylist()], pa.string()))
        content = _parquet(keyed)
        sha256 = hashlib.sha256(content).hexdigest()
        file = f"{name}.{sha256[:16]}.parquet"
        write_bytes(f"{self.uri}/answers/{file}", content)
        write_json(f"{self.uri}/answers/{name}.json", {"file": file, "num_rows": rows.num_rows, "sha256": sha256, **facts})
        for done in (self._waiting(name), self.note(name)):
            system, path = open_root(done)
            with suppress(FileNotFoundError):  # another worker of this shard may have been faster
                system.delete_file(path)

    def note(self, name: str) -> str:
        """Where the guard of this shard writes what it has in hand."""
        return f"{self.uri}/notes/{name}.json"

    def is_noted(self, name: str) -> bool:
        """Whether there is such a note."""
        return _is_file(self.note(name))

    def has(self, name: str) -> bool:
        """Whether this shard is committed."""
        return _is_file(f"{self.uri}/answers/{name}.json")

    def sweep(self) -> None:
        """Remove what waits for nobody any more, once every row has its answer."""
        for folder in ("asked", "notes"):
            system, path = open_root(f"{self.uri}/{folder}")
            system.delete_dir_contents(path, missing_dir_ok=True)

    def shards(self) -> list[str]:
        """The names of all committed shards."""
        found = list_folder(f"{self.uri}/answers")
        return sorted(info.base_name.removesuffix(".json") for info in found if info.base_name.endswith(".json"))

    def answers(self, parts: Iterable[Part]) -> Iterator[pa.Table]:
        """The answers to each part's rows, by id; raises StageFailed when a row has none, ArtefactError when a shard was damaged."""
        shards = self.shards()
        for part in parts:
            rows = part.rows()
            found = self._answers(part, shards, rows["key"], [*self.schema.names, "key"])
            yield check_complete(rows, found, self.uri).drop_columns(["key"])

    def _answers(self, part: Part, shards: Iterable[str], wanted: pa.ChunkedArray, columns: list[str]) -> pa.Table:
        """What the shards that overlap a part hold about these keys; each key's answers come from one shard, whoever else answered it."""
        schema = pa.schema([*self.schema, KEY])
        tables = [pa.schema([schema.field(name) for name in columns]).empty_table()]
        for name in shards:
            low, high = (int(bound, 16) for bound in name.split("-")[:2])
            if low < part.end and high >= part.begin:
                table = self._read(name, columns)
                table = table.filter(pc.is_in(table["key"], wanted.combine_chunks()))
                taken = pa.chunked_array([key for known in tables for key in known["key"].chunks], pa.string())
                tables.append(table.filter(pc.invert(pc.is_in(table["key"], taken.combine_chunks()))))
        return pa.concat_tables(tables)

    def _read(self, name: str, columns: list[str]) -> pa.Table:
        """Some columns of a shard. Its hash is checked when the answers are taken; keys alone may be read from a part of the file."""
        manifest = read_json(f"{self.uri}/answers/{name}.json") or {}
        place = f"{self.uri}/answers/{manifest['file']}"
        system, path = open_root(place)
        fix = "delete it and its .json, and run the same command again"
        try:
            if columns == ["key"]:
                return pq.read_table(path, filesystem=system, columns=columns)
            with system.open_input_file(path) as file:
                content = file.read()
        except (OSError, pa.ArrowInvalid) as error:
            raise ArtefactError(f"a committed shard cannot be read: {error}", place, fix) from None
        if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
            raise ArtefactError("a committed shard has changed", place, fix)
        return pq.read_table(pa.BufferReader(content), columns=columns)

    def _waiting(self, name: str) -> str:
        return f"{self.uri}/asked/{name}.parquet"


@dataclass(frozen=True)
class Part:
    """Rows whose keys begin with digits in [begin, end), in a file of this machine."""

    file: Path
    begin: int
    end: int

    def rows(self) -> pa.Table:
        """The rows, sorted by key; raises StageFailed when two are the same question."""
        with pa.ipc.open_stream(str(self.file)) as reader:
            rows = reader.read_all().sort_by("key")
        if pc.count_distinct(rows["key"]).as_py() != rows.num_rows:
            raise StageFailed("the same row is asked about twice", "ledger", "this is a fault of the stage that asks")
        return rows


def key_of(row: Mapping[str, object]) -> str:
    """The digest of everything in a row."""
    return digest(row)[:KEY_LENGTH]


def name_of(rows: pa.Table) -> str:
    """The name of a shard of these rows, which are sorted by key."""
    keys = rows["key"].to_pylist()
    return f"{keys[0][:4]}-{keys[-1][:4]}-{digest(keys)[:16]}"


def check_complete(asked: pa.Table, answers: pa.Table, where: str) -> pa.Table:
    """The answers by id; raises StageFailed unless they are about exactly the rows asked, and no answer (id, attempt) is there twice."""
    wanted, found = set(asked["id"].to_pylist()), set(answers["id"].to_pylist())
    if wanted != found or len(wanted) != asked.num_rows:
        missing, foreign = len(wanted - found), len(found - wanted)
        raise StageFailed(
            f"{missing} of {asked.num_rows} rows have no answer, {foreign} answers no row", where, "run the same command again"
        )
    names = [name for name in ("id", "attempt") if name in answers.column_names]
    if answers.group_by(names).aggregate([]).num_rows != answers.num_rows:
        raise StageFailed("an answer was written twice", where, "run the same command again")
    return answers.sort_by([(name, "ascending") for name in names])


def _is_file(uri: str) -> bool:
    system, path = open_root(uri)
    return bool(system.get_file_info(path).type == fs.FileType.File)


def _bound(part: int, num_parts: int) -> int:
    """The first key prefix of a part."""
    return -(-part * SPAN // num_parts)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
