"""The tables every room agrees on (DESIGN 3). Ids are strings; dense integers exist only beside the vocabulary of a model artefact.

An ingest artefact holds:
  interactions/bucket=NNN/part-0.parquet   INTERACTIONS, one bucket a hash of the user, sorted by (user_id, ts, row)
  items.parquet                            ITEMS
  users.parquet                            USERS
  counts.parquet                           COUNTS, how often and how well each item was rated in each bucket's train rows
  quarantine/*.parquet                     rows that were refused, with the reason
  audit.json, fingerprint.json             what the leak audit found; counts, like rates and time cuts
  truth.parquet                            planted world only: TRUTH
"""

from __future__ import annotations

import zlib

import pyarrow as pa

SPLITS = ("train", "valid", "test")
LATEST_MS = 4_102_444_800_000  # the year 2100: no row is later

INTERACTIONS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("ts", pa.int64(), nullable=False),  # milliseconds, UTC
        pa.field("rating", pa.float32()),
        pa.field("label", pa.int8(), nullable=False),  # 1 = like
        pa.field("split", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),  # unique over the data set, in input order; breaks ties of ts
    ]
)
ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("categories", pa.list_(pa.string())),  # null where nobody has written any down
    ]
)
COUNTS = pa.schema(  # train rows alone
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("bucket", pa.int16(), nullable=False),
        pa.field("num_rows", pa.int32(), nullable=False),
        pa.field("num_likes", pa.int32(), nullable=False),
    ]
)
USERS = pa.schema([pa.field("user_id", pa.string(), nullable=False)])
TRUTH = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("p_like", pa.float32(), nullable=False),  # before the label was drawn: its AUC is the Bayes AUC
        pa.field("logic", pa.int8(), nullable=False),  # the user's dominant logic
        pa.field("mixed", pa.bool_(), nullable=False),
        pa.field("reason", pa.list_(pa.string()), nullable=False),  # the facets that decided, strongest first
    ]
)
KEYWORDS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("keywords", pa.list_(pa.string()), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # engine | categories | none
    ]
)
TRACES = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # the train row the teacher was asked about
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("attempt", pa.int8(), nullable=False),
        pa.field("hinted", pa.bool_(), nullable=False),
        pa.field("verdict", pa.int8(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # the reasoning, without the verdict word
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
        pa.field("teacher", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),  # hash of the teacher's folder, or of what its server calls it
        pa.field("prompt", pa.string(), nullable=False),  # hash of what was asked
        pa.field("seed", pa.int64(), nullable=False),
    ]
)


def vectors(dim: int) -> pa.Schema:
    """(id, vector): one float32 row of `dim` numbers a user or item."""
    return pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("vector", pa.list_(pa.float32(), dim), nullable=False)])


def assignment(num_clusters: int) -> pa.Schema:
    """user -> cluster and gates; gates[k] weighs expert k, gates[K] the global adapter, and a row sums to 1."""
    return pa.schema(
        [
            pa.field("user_id", pa.string(), nullable=False),
            pa.field("cluster", pa.int16(), nullable=False),
            pa.field("gates", pa.list_(pa.float16(), num_clusters + 1), nullable=False),
        ]
    )


def scores() -> pa.Schema:
    """What `evaluate` judges: one row a scored interaction; `row` ties it back to INTERACTIONS."""
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("user_id", pa.string(), nullable=False),
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("label", pa.int8()),
            pa.field("score", pa.float32(), nullable=False),
            pa.field("p_like", pa.float32(), nullable=False),
            pa.field("route", pa.string(), nullable=False),  # expert | global | mixture
        ]
    )


EXPLANATIONS = pa.schema(  # beside the columns of scores()
    [
        *scores(),
        pa.field("title", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),  # the score's: Yes above 0
        pa.field("said", pa.string(), nullable=False),  # the verdict the model said by itself; empty for any other word
        pa.field("text", pa.string(), nullable=False),  # the reasoning, without the verdict word
        pa.field("finish_reason", pa.string(), nullable=False),  # stop | length
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("facts", pa.string(), nullable=False),  # what the prompt shows: claims.Facts as JSON
    ]
)
COUNTERFACTUALS = pa.schema(  # one row an interaction of an explained row's history and change
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("place", pa.int16(), nullable=False),  # in the history shown, 0 the oldest
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("liked", pa.bool_(), nullable=False),
        pa.field("cited", pa.bool_(), nullable=False),  # whether the explanation speaks of it
        pa.field("change", pa.string(), nullable=False),  # drop | flip
        pa.field("score", pa.float32(), nullable=False),
        pa.field("changed_score", pa.float32(), nullable=False),
    ]
)


def bucket_of(user_id: str, num_buckets: int) -> int:
    """The bucket of a user: a CRC, because Python's own hash changes between processes."""
    return zlib.crc32(user_id.encode()) % num_buckets
