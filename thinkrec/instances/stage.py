"""Stage "instances": what adapters learn from, tokenised bucket by bucket, so that no training worker reads the log or writes a prompt.

"instances-first" is the same with the first traces, for a training that begins while teachers write the rest (traces.start_share).
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from thinkrec.artefacts.ingest import TRAIN, read_num_buckets
from thinkrec.artefacts.instances import Form, InstanceFacts, write_instance_facts, write_instance_users, write_instances
from thinkrec.artefacts.prior import read_offsets
from thinkrec.artefacts.traces import TRACES_FILE, read_traces
from thinkrec.config.run import Config
from thinkrec.data.interactions import Interactions
from thinkrec.distributed.bucket_map import over_buckets
from thinkrec.instances.records import Trace, row_records, trace_records
from thinkrec.job import Job
from thinkrec.prompt.catalogue import ArtefactPaths, Catalogue

WRITTEN = pa.schema(  # what is told of a bucket
    [
        pa.field("bucket", pa.int64()),
        pa.field("rows", pa.list_(pa.int64())),  # of each record batch
        pa.field("traces", pa.list_(pa.int64())),
    ]
)


def run(job: Job) -> None:
    """Write the artefact; inputs ingest, encode, keywords, base, traces or traces-first, and prior if the run has it."""
    from ray.data import ActorPoolStrategy

    num_buckets = read_num_buckets(job.inputs["ingest"].path())
    actors = ActorPoolStrategy(min_size=1, max_size=num_buckets)
    places, out = ArtefactPaths(job.places()), job.draft.shared()
    written = over_buckets(BucketInstances, "the instances", range(num_buckets), actors, config=job.config, places=places, out=out)
    facts = facts_of(pl.concat(written))
    write_instance_facts(job.draft.shared(), facts)
    job.draft.figures |= {"num_rows": sum(map(sum, facts.rows)), "num_traces": sum(map(sum, facts.traces))}


def facts_of(written: pl.DataFrame) -> InstanceFacts:
    """What WRITTEN of all buckets says."""
    ordered = written.sort("bucket")
    return InstanceFacts(ordered["rows"].to_list(), ordered["traces"].to_list())


class BucketInstances:
    """What an actor does: the number of a bucket in; writes the records of that bucket at `out`, and tells WRITTEN."""

    def __init__(self, config: Config, places: ArtefactPaths, out: str) -> None:
        self.config, self.places, self.out = config, places, out
        forms: tuple[Form, ...] = ("plain",) if config.prompt.slots == "none" else ("plain", "soft")
        self.catalogues = {form: Catalogue.load(config, places, slots=form == "soft") for form in forms}
        self.traces = accepted(config, places)

    def __call__(self, bucket: int) -> pa.Table:
        data = Interactions.load(self.places.path("ingest"), buckets=[bucket])
        train, traces = np.flatnonzero(data.split == TRAIN), traces_of(data, self.traces)
        offsets = read_offsets(self.places.find("prior"), data.row, [bucket])
        told: dict[str, object] = {"bucket": bucket}
        write_instance_users(self.out, bucket, data.user_ids)
        for form, catalogue in self.catalogues.items():
            tables = catalogue.train_tables(data, self.config.prompt.targets_per_history)
            dim = 0 if tables.user_vectors is None else tables.user_vectors.shape[1]
            told["rows"] = write_instances(self.out, form, "rows", bucket, dim, row_records(tables, train, offsets))
            told["traces"] = write_instances(self.out, form, "traces", bucket, dim, trace_records(tables, traces, offsets))
        return pa.Table.from_pylist([told], schema=WRITTEN)


def accepted(config: Config, places: ArtefactPaths) -> pl.DataFrame:
    """(row, text) of the accepted traces, of which a run has a few hundred thousand at most."""
    stage = "traces" if "traces" in places.uris else "traces-first"
    if not config.traces.enabled or not (places.path(stage) / TRACES_FILE).is_file():
        return pl.DataFrame(schema={"row": pl.Int64, "text": pl.String})
    return read_traces(places.path(stage), ["row", "text"])


def traces_of(data: Interactions, traces: pl.DataFrame) -> list[Trace]:
    """The traces (row, text) of these interactions, in their order."""
    position_of = pl.DataFrame({"row": data.row, "position": np.arange(len(data.row))})
    found = traces.join(position_of, on="row", how="inner", validate="m:1", maintain_order="left").sort("position", maintain_order=True)
    return [Trace(position, text) for position, text in zip(found["position"], found["text"], strict=True)]
