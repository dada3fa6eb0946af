"""What `thinkrec vllm` hands over: adapters that vLLM loads, whose are whose, and what was measured of them.

adapters/NAME/                    global, expert-K, mixture-NNN: PEFT folders
users/bucket=NNN/part-0.parquet   USERS, sorted by user
sample.parquet                    SAMPLE
vllm.yaml                         what `vllm serve --config` takes
handover.json                     Handover; written last
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import yaml

from thinkrec.artefacts.buckets import bucket_file
from thinkrec.artefacts.tables import write_table
from thinkrec.store.address import write_json

ADAPTERS_FOLDER, USERS_FOLDER, SAMPLE_FILE = "adapters", "users", "sample.parquet"
SERVER_FILE, HANDOVER_FILE = "vllm.yaml", "handover.json"
USERS = pa.schema([pa.field("user_id", pa.string(), nullable=False), pa.field("adapter", pa.string(), nullable=False)])
SAMPLE = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("adapter", pa.string(), nullable=False),
        pa.field("prompt", pa.list_(pa.int32()), nullable=False),  # token ids
        pa.field("exact", pa.float32(), nullable=False),  # the model's score by the user's own gates
        pa.field("score", pa.float32(), nullable=False),  # the same by this adapter alone: what vLLM has to say
        pa.field("p_like", pa.float32(), nullable=False),  # of `score`
    ]
)


@dataclass(frozen=True)
class Served:
    """An adapter: its rank, the gates it stands for by the names of plain adapters, and how many users it serves."""

    name: str
    rank: int
    gates: Mapping[str, float]
    num_users: int


@dataclass(frozen=True)
class Handover:
    """What handover.json says. Scores are the model's own: log-odds without the prior, of which a total takes model_weight times.

    others: the adapter of users that the tables do not name. num_steps: gates are multiples of 1 / num_steps. The largest errors are those
    of gates over all users, and of scores over SAMPLE. verdict_ids: the tokens of No and Yes.
    """

    base: str
    base_fingerprint: str
    template_version: int
    adapters: list[Served]
    others: str
    num_steps: int
    largest_gate_error: float
    largest_score_error: float
    largest_p_like_error: float
    num_sampled: int
    score: str
    verdict_ids: tuple[int, int]
    model_weight: float
    remarks: list[str]
    versions: dict[str, str]


def write_users(folder: Path, bucket: int, users: pa.Table) -> None:
    """Write USERS of one bucket."""
    write_table(bucket_file(folder / USERS_FOLDER, bucket), users.cast(USERS).sort_by("user_id"))


def write_sample(folder: Path, sample: pa.Table) -> None:
    """Write SAMPLE."""
    write_table(folder / SAMPLE_FILE, sample)


def write_server_file(folder: Path, arguments: Mapping[str, object]) -> None:
    """Write vllm.yaml: options by their long names."""
    (folder / SERVER_FILE).write_text(yaml.safe_dump(dict(arguments), sort_keys=False, width=1000), encoding="utf-8")


def write_handover_file(folder: Path, handover: Handover) -> None:
    """Write handover.json."""
    write_json(f"{folder}/{HANDOVER_FILE}", asdict(handover))
