"""`thinkrec vllm`: a finished run's adapters, and mixtures of them baked into adapters of their own, for `vllm serve --enable-lora`.

vLLM answers a request by one adapter, thinkrec by a mixture that is the user's own. So gates are rounded to a grid (routing/codebook.py),
each mixture that is left becomes one adapter, and what that costs is measured with the files that were written (rounding_cost.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from scipy.special import expit

from thinkrec.artefacts.handover import ADAPTERS_FOLDER, Handover, Served, write_handover_file, write_sample, write_server_file, write_users
from thinkrec.artefacts.scores import read_model_weight
from thinkrec.config.run import Config
from thinkrec.evaluate.run_report.publish import ADAPTER, adapter_folders
from thinkrec.model.mixture import mixed
from thinkrec.model.peft_files import read_adapter, write_adapter
from thinkrec.prompt.catalogue import ArtefactPaths, base_folder
from thinkrec.prompt.template import TEMPLATE_VERSION, verdict_ids
from thinkrec.prompt.tokenizer import load_tokenizer
from thinkrec.routing.codebook import Codebook, fit_codebook
from thinkrec.routing.gate_table import Routing
from thinkrec.serve.rounding_cost import NUM_USERS, largest_gap, sample_scores
from thinkrec.serve.vllm_limits import check_servable, remarks, server_arguments
from thinkrec.store.address import refuse_full
from thinkrec.store.artefacts import Artefact, installed_versions, writable
from thinkrec.store.digests import fingerprint

GLOBAL = "global"


def write_handover(
    config: Config, artefacts: Mapping[str, Artefact], address: str, max_mixtures: int, at: str = "", base_at: str = ""
) -> Handover:
    """Write what vLLM serves of a run, whose committed artefacts these are, to a folder or address that does not exist or is empty.

    at, base_at: where this folder and the base will lie on the machine that serves; without them where they are now. Raises ConfigError for
    what vLLM cannot serve, and for a folder in use.
    """
    check_servable(config, address, at)
    refuse_full(address)
    places, plain = ArtefactPaths({stage: artefact.uri for stage, artefact in artefacts.items()}), adapter_folders(artefacts)
    routing, base = Routing(places), base_folder(places)
    names = [*(f"expert-{expert}" for expert in range(routing.num_experts)), GLOBAL]  # in the order of gates
    buckets, num_most = range(routing.num_buckets), config.engine.vllm.max_lora_rank // config.adapter.rank
    codebook = fit_codebook((routing.of_bucket(bucket)[1] for bucket in buckets), max_mixtures, num_most)
    with writable(address) as folder:
        adapters = _write_adapters(folder / ADAPTERS_FOLDER, config, codebook, {name: plain[name] for name in names}, base)
        served = pl.concat([_write_users(folder, bucket, routing, codebook, list(adapters)) for bucket in buckets])
        moved = served.sort("error", "user_id", descending=[True, False]).unique("adapter", keep="first", maintain_order=True)
        asked = moved.head(NUM_USERS)
        sample = sample_scores(config, places, asked["user_id"].to_list(), [adapters[name] for name in asked["adapter"]])
        write_sample(folder, sample)
        handover = Handover(
            base=base_at or str(base),
            base_fingerprint=fingerprint(base),
            template_version=TEMPLATE_VERSION,
            adapters=_served(config.adapter.rank, codebook, names, list(adapters), served),
            others=GLOBAL,
            num_steps=codebook.num_steps,
            largest_gate_error=float(moved["error"][0]),
            largest_score_error=largest_gap(sample, lambda score: score),
            largest_p_like_error=largest_gap(sample, expit),
            num_sampled=sample.num_rows,
            score=config.train.loss.score,
            verdict_ids=verdict_ids(load_tokenizer(base)),
            model_weight=read_model_weight(places.path("score")),
            remarks=remarks(config),
            versions=installed_versions(),
        )
        write_server_file(folder, server_arguments(config, base, handover, at or str(Path(address).absolute())))
        write_handover_file(folder, handover)
    return handover


def _write_adapters(folder: Path, config: Config, codebook: Codebook, plain: Mapping[str, Path], base: Path) -> dict[str, Path]:
    """The PEFT folder of each adapter, in the order of the codebook's gates: the plain ones copied, the mixtures baked."""
    for name, source in plain.items():
        (folder / name).mkdir(parents=True)
        for file in ADAPTER:
            shutil.copyfile(source / file, folder / name / file)
    settings, written = config.adapter, list(plain)
    tensors = {at: read_adapter(folder / name) for at, name in enumerate(plain) if codebook.mixtures[:, at].any()}
    for number, gates in enumerate(codebook.mixtures / codebook.num_steps):
        own, name = np.flatnonzero(gates).tolist(), f"mixture-{number:03d}"
        rank = settings.rank * len(own)
        weights = (gates[own] * settings.alpha / settings.rank).tolist()
        baked = settings.model_copy(update={"rank": rank, "alpha": float(rank)})
        write_adapter(folder / name, mixed([tensors[at] for at in own], weights), baked, base)
        written.append(name)
    return {name: folder / name for name in written}


def _write_users(folder: Path, bucket: int, routing: Routing, codebook: Codebook, names: list[str]) -> pl.DataFrame:
    """Write who serves the users of a bucket.

    Returns of each adapter how many users it serves, whose gates moved most, and by how much: (adapter, num_users, user_id, error).
    """
    users, gates = routing.of_bucket(bucket)
    place = codebook.assign(gates)
    adapter = pl.Series("adapter", names).gather(place)
    write_users(folder, bucket, pa.table({"user_id": users.to_arrow(), "adapter": adapter.to_arrow()}))
    error = np.abs(codebook.gates[place] - gates).max(axis=1, initial=0)
    rows = pl.DataFrame({"adapter": adapter, "user_id": users, "error": error}).sort("error", "user_id", descending=[True, False])
    return rows.group_by("adapter").agg(num_users=pl.len(), user_id=pl.col("user_id").first(), error=pl.col("error").first())


def _served(rank: int, codebook: Codebook, plain: list[str], names: list[str], served: pl.DataFrame) -> list[Served]:
    """What each adapter is a mixture of, and how many users it serves."""
    num_users = dict(served.group_by("adapter").agg(pl.col("num_users").sum()).iter_rows())
    gates = [{plain[at]: own[at] for at in np.flatnonzero(own)} for own in codebook.gates.tolist()]
    return [Served(name, rank * len(own), own, num_users.get(name, 0)) for name, own in zip(names, gates, strict=True)]
