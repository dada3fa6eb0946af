"""A small planted set of artefacts, every input of the stage "evaluate". Not a test itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from thinkrec.artefacts.adapters import ExpertSpan, write_timeline
from thinkrec.artefacts.buckets import split_by_bucket
from thinkrec.artefacts.clusters import (
    AssignmentFacts,
    assignment_table,
    sample_columns,
    write_assignment,
    write_assignment_facts,
    write_sample,
)
from thinkrec.artefacts.ingest import INTERACTIONS, bucket_of
from thinkrec.artefacts.prior import OFFSETS, write_offsets
from thinkrec.artefacts.scores import write_model_weight, write_scores
from thinkrec.artefacts.vectors import EncoderFacts, vector_table, write_facts, write_item_vectors, write_user_vectors
from thinkrec.config.run import parse
from thinkrec.data.buckets import count
from thinkrec.data.spill import with_bucket
from thinkrec.evaluate.run_report import stage as judge
from thinkrec.job import Job
from thinkrec.routing.router import Router, RouterSettings
from thinkrec.store.artefacts import Artefact, Store

EVIL = "<script>alert(1)</script>"
NUM_USERS, NUM_ITEMS, PER_USER = 40, 30, 30
EXPERTS = ("0", "1", "10")
MODEL_WEIGHT = 0.5


def planted_world() -> pl.DataFrame:
    """Interactions whose like-probability is known; the last user is new in test."""
    rng = np.random.default_rng(3)
    num_rows = NUM_USERS * PER_USER
    user = np.repeat(np.arange(NUM_USERS), PER_USER)
    item = np.concatenate([rng.permutation(NUM_ITEMS)[:PER_USER] for _ in range(NUM_USERS)])
    logit = rng.normal(size=NUM_USERS)[user] + rng.normal(size=NUM_ITEMS)[item] + rng.normal(size=num_rows)
    p_true = 1 / (1 + np.exp(-logit))
    place = np.tile(np.arange(PER_USER), NUM_USERS)
    test = (place >= 20) | (user == NUM_USERS - 1)
    return pl.DataFrame(
        {
            "user_id": [f"u{n:03d}" for n in user],
            "item_id": [f"i{n:03d}" for n in item],
            "ts": place.astype(np.int64) * 1000,
            "label": (rng.random(num_rows) < p_true).astype(np.int8),
            "split": np.where(test, "test", "train"),
            "row": rng.permutation(num_rows),
            "p_true": p_true.astype(np.float32),
        }
    ).with_columns(rating=pl.lit(None, pl.Float32))


def run_stage(inputs: dict[str, Artefact], root: Path) -> Artefact:
    config = parse({"evaluate": {"num_bootstrap": 20}, "run": {"dir": "runs/test"}})
    store = Store(str(root))
    with store.create("evaluate", "key1", inputs, {}) as draft:
        judge.run(Job(config, inputs, draft, store, "key1", lambda event: None))
    return store.find("evaluate", "key1")


def report_of(judged: Artefact) -> dict[str, Any]:
    return json.loads(judged.path("report.json").read_text())


def artefacts(world: pl.DataFrame, root: Path) -> dict[str, Artefact]:
    """Every input of the stage, small but complete."""
    store, made = Store(str(root)), {}
    writers = {"ingest": _ingest, "encode": _encode, "cluster": _cluster, "keywords": _keywords, "traces": _traces}
    writers |= {"extractor": _log, "base": _log, "teacher": _log, "global": _log, "projector": _log, "experts": _experts, "score": _score}
    writers |= {"references": _references, "prior": _prior}
    for stage, write in writers.items():
        with store.create(stage, "key0", {}, {}) as draft:
            draft.figures.update(write(world, draft.local()) or {})
        made[stage] = store.find(stage, "key0")
    return made


def _ingest(world: pl.DataFrame, folder: Path) -> None:
    for bucket in range(2):
        target = folder / "interactions" / f"bucket={bucket:03d}"
        target.mkdir(parents=True)
        mine = world.filter(pl.Series([bucket_of(user, 2) for user in world["user_id"]]) == bucket)
        mine.select(INTERACTIONS.names).sort("user_id", "ts", "row").write_parquet(target / "part-0.parquet")
    items = world.select(pl.col("item_id").unique().sort())
    categories = pl.when(pl.int_range(pl.len()) % 3 > 0).then(pl.concat_list(pl.lit("c") + (pl.int_range(pl.len()) % 5).cast(pl.String)))
    items.with_columns(title=pl.lit(EVIL), text=pl.lit(None, pl.String), categories=categories).write_parquet(folder / "items.parquet")
    reason = pl.concat_list(pl.lit("space"), pl.lit("crew"))
    truth = world.select("row", p_like="p_true", p_linear=pl.col("p_true").round(1), reason=reason)
    truth = truth.with_columns(trace=pl.lit("space is liked, crew is disliked."))
    truth.with_columns(rule=pl.col("reason").list.head(1)).write_parquet(folder / "truth.parquet")
    pq.write_table(count(with_bucket(world, 2)), folder / "counts.parquet")
    leak = {"check": "tie_across_a_cut", "severity": "stop", "meaning": "Rows at the time of a cut.", "fix": EVIL, "num_rows": 3}
    leak |= {"examples": [{"item_id": EVIL}]}
    (folder / "audit.json").write_text(json.dumps({"findings": [leak, leak | {"check": "doubled_row", "num_rows": 0}]}))
    split = {
        "num_rows": 800,
        "num_users": 39,
        "num_items": 30,
        "like_rate": 0.5,
        "user_like_rate_deciles": [0.125] * 9,
        "from": "1970-01-01T00:00:00",
        "to": None,
    }
    totals = {"num_rows": world.height, "num_users": world["user_id"].n_unique(), "num_buckets": 2}
    (folder / "fingerprint.json").write_text(json.dumps(totals | {"splits": {"train": split, "test": split}}))


def _encode(world: pl.DataFrame, folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, column in (("users", "user_id"), ("items", "item_id")):
        ids = world.filter(pl.col("split") == "train")[column].unique().sort()
        table = vector_table(ids.to_list(), rng.normal(size=(len(ids), 5)).astype(np.float32))
        if name == "users":
            write_user_vectors(folder, table, num_buckets=2)
        else:
            write_item_vectors(folder, table)
    test = world.filter(pl.col("split") == "test").sort("row")
    test.select("row", score=pl.col("p_true") + pl.Series(rng.normal(size=test.height))).write_parquet(folder / "scores.parquet")
    write_facts(folder, EncoderFacts("sasrec", has_bias=True, dim=5, num_users=1, num_items=1, num_buckets=2, mean=0.1))


def _prior(world: pl.DataFrame, folder: Path) -> None:
    parts = {name: _offsets(world) for name in OFFSETS.names if name != "row"}
    write_offsets(folder, 0, pa.table({"row": world["row"].to_numpy(), **parts}))


def _offsets(world: pl.DataFrame) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=world.height).astype(np.float32)


def _cluster(world: pl.DataFrame, folder: Path) -> dict[str, Any]:
    users = world["user_id"].unique().sort().to_list()
    cluster = (np.arange(len(users)) % 3 - 1).astype(np.int16)
    table = assignment_table(pa.array(users), cluster, np.eye(3)[cluster])
    for bucket, rows in enumerate(split_by_bucket(table, "user_id", 2)):
        write_assignment(folder, bucket, rows)
    write_assignment_facts(folder, AssignmentFacts(num_clusters=2, num_buckets=2))
    sample = pa.table([table["user_id"], table["cluster"], pa.array(np.eye(len(users), 5).tolist())], schema=sample_columns(5))
    write_sample(folder, sample.filter(pc.field("cluster") >= 0))
    scale = np.append(np.ones(4), np.inf).astype(np.float32)
    Router(np.eye(2, 5, dtype=np.float32), np.zeros(5, np.float32), scale, RouterSettings(entropy_share=0.9), "key0").save(folder)
    return {"num_users_with_vector": int((cluster >= 0).sum()), "cohens_d": [[0.0, 0.39], [0.39, 0.0]], "cohens_d_max": 0.39}


def _keywords(world: pl.DataFrame, folder: Path) -> None:
    items = world["item_id"].unique().sort()
    words = [["space", "crew", EVIL] if n % 2 else ["love", "city"] for n in range(len(items))]
    pl.DataFrame({"item_id": items, "keywords": words, "source": "engine"}).write_parquet(folder / "keywords.parquet")


def _traces(world: pl.DataFrame, folder: Path) -> dict[str, Any]:
    rows = world.filter(pl.col("split") == "train").head(60)
    rows.select(
        "row",
        "user_id",
        attempt=(pl.int_range(pl.len()) % 3 + 1).cast(pl.Int8),
        hinted=pl.lit(False),
        verdict="label",
        text=pl.lit("because"),
        finish_reason=pl.lit("stop"),
        num_tokens=pl.lit(12, pl.Int32),
        teacher=pl.lit("nano"),
        seed=pl.lit(0, pl.Int64),
    ).write_parquet(folder / "traces.parquet")
    told = {"num_asked": 90, "num_attempts": 108, "num_accepted": 60, "claim_rate": 0.875, "num_tokens": 1301}
    told |= {"num_hinted": 0, "taste_rate": 0.625, "refused": {"wrong verdict": 41, EVIL: 7}}
    other = told | {"num_asked": 13, "num_accepted": 0, "num_hinted": 2, "refused": {}}
    return told | {"teachers": {"nano": told, EVIL: other}}


def _log(world: pl.DataFrame, folder: Path, phase: str = "train") -> dict[str, int]:
    lines = [
        json.dumps({"phase": phase, "step": n, "loss": 1 / (n + 1), "rec": 0.5, "think": 0.2, "peak_bytes": 2**20 + n}) for n in range(450)
    ]
    lines.insert(300, lines[250])  # a resumed run says a step again
    lines.insert(301, '{"phase": "tra')  # and a killed one tears a line
    (folder / "log.jsonl").write_text("\n".join(lines))
    return {"num_rows": 812, "num_traces": 57, "num_steps": 450}


def _experts(world: pl.DataFrame, folder: Path) -> None:
    for expert in EXPERTS:
        (folder / "experts" / expert).mkdir(parents=True)
        _log(world, folder / "experts" / expert, expert)
    spans = [
        ExpertSpan(name, k % 2, 3.0 * (k // 2), 3.0 * (k // 2) + 2.5, num_steps=83, num_rows=401 + k, num_traces=29, pack=[k])
        for k, name in enumerate(EXPERTS)
    ]
    write_timeline(folder, spans)


def _score(world: pl.DataFrame, folder: Path) -> None:
    rng = np.random.default_rng(9)
    test = world.filter(pl.col("split") == "test")
    prior = _offsets(world)[(world["split"] == "test").to_numpy()]
    write_model_weight(folder, MODEL_WEIGHT)
    for name, noise in (("global", 2.0), ("experts", 1.0), ("fusion", 0.5)):
        score = np.log(test["p_true"] / (1 - test["p_true"])).to_numpy() + noise * rng.normal(size=test.height)
        columns = {"score": score.astype(np.float32), "prior": prior, "model": ((score - prior) / MODEL_WEIGHT).astype(np.float32)}
        columns |= {"p_like": (1 / (1 + np.exp(-score))).astype(np.float32)}
        route = pl.Series("route", rng.choice(["expert", "mixture", "global"], test.height))
        table = test.select("row", "user_id", "item_id", "label").with_columns(route, **{k: pl.Series(k, v) for k, v in columns.items()})
        write_scores(folder, name, 0, table.sample(fraction=1.0, shuffle=True, seed=1).to_arrow())
    test.head(6).select(
        "row",
        "user_id",
        "item_id",
        "label",
        title=pl.lit(EVIL),
        score=pl.lit(1.0),
        prior=pl.lit(0.25),
        model=pl.lit(0.75),
        p_like=pl.Series([0.8, 0.91, 0.3, 0.62, 0.71, 0.05], dtype=pl.Float32),
        verdict=pl.lit("Yes"),
        said=pl.Series(["Yes", "Yes", "No", EVIL, "Yes", "Yes"]),
        finish_reason=pl.Series(["stop", "stop", "stop", "length", "stop", "stop"]),
        text=pl.lit(f"You liked {EVIL}"),
        route=pl.lit("mixture"),
        prompt=pl.lit(f"history {EVIL}"),
        facts=pl.lit(json.dumps({"history": [[["space"], True]], "keywords": [], "shown": "space"})),
    ).write_parquet(folder / "explanations.parquet")


def _references(world: pl.DataFrame, folder: Path) -> None:
    told = (
        world.filter(pl.col("split") == "test").head(4).select("row", "user_id", text=pl.lit("because you liked it"), num_tokens=pl.lit(4))
    )
    told.write_parquet(folder / "references.parquet")
