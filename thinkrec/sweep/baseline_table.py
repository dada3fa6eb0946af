"""What a model must beat on a data set: the counted baselines, the prior and all three encoders, judged on the same test rows.

Only ingest, encode and the prior are made, so it takes minutes and no language model, and `thinkrec run` on the same file finds them
committed. Where a language model reads the keywords the prior is left out: it knows items by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack

from thinkrec.config.model import EncoderSection
from thinkrec.config.run import Config
from thinkrec.config.training import TrainSection
from thinkrec.evaluate.metrics.table import ENCODERS, TWO_NUMBER_BASELINE, Measured, difference_rows, measure, metric_rows, write_metrics
from thinkrec.evaluate.run_report.baselines import MEANING, encoder_scores, prior_scores
from thinkrec.evaluate.run_report.scored_rows import baseline_rows, beside
from thinkrec.job import Reporter
from thinkrec.pipeline.execute import run_stages
from thinkrec.pipeline.keys import stage_keys
from thinkrec.store.address import write_json
from thinkrec.store.artefacts import Artefact, Store, installed_versions, writable

# The base and the teachers need not be there.
KEPT = ("run", "data", "split", "prompt", "keywords", "engine", "prior", "faults", "evaluate", "ray", "watch")


class JudgedBaselines(Measured):
    """The figures of all baselines on the same test rows."""

    like_rate: float
    num_bootstrap: int
    seed: int


class Baselines(JudgedBaselines):
    """What baselines.json holds; data: figures of ingest; encoders: the settings and figures of each."""

    data: Mapping[str, object]
    encoders: Mapping[str, Mapping[str, object]]
    versions: Mapping[str, str]


def run(config: Config, report: Reporter, session: Callable[[Config], AbstractContextManager[None]] | None = None) -> Baselines:
    """Fit what is not committed yet, judge, and write baselines.json and .csv to the run's folder; returns what baselines.json holds.

    Metrics of every baseline with their intervals, and its paired difference to the two-number baseline. The run file's own [encoder] holds
    for the encoder it names, the defaults for the others. `session` is entered only if there is work.
    """
    configs = {source: _with_encoder(config, source) for source in ENCODERS}
    store = Store(config.run.dir)
    first = configs[ENCODERS[0]]
    wanted = [("encode", one) for one in configs.values()]
    if config.prior.is_counted and config.keywords.source != "engine":
        wanted.append(("prior", first))
    waiting = [one for stage, one in wanted if store.find(stage, stage_keys(one)[stage]) is None]
    with ExitStack() as stack:
        if waiting and session:
            stack.enter_context(session(waiting[0]))
        made = [run_stages(one, report, stage) for stage, one in wanted]
    ingest, encoded = made[0]["ingest"], {source: artefacts["encode"] for source, artefacts in zip(configs, made, strict=False)}
    prior = made[-1].get("prior")
    for artefact in (ingest, *encoded.values(), *([prior] if prior else [])):
        artefact.verify()
    found: Baselines = {
        **_judged(config, ingest, list(encoded.values()), prior),
        "data": dict(ingest.figures),
        "encoders": {
            source: {"settings": configs[source].encoder.model_dump(mode="json"), "figures": dict(encoded[source].figures)}
            for source in ENCODERS
        },
        "versions": installed_versions(),
    }
    with writable(store.root) as folder:
        write_json(str(folder / "baselines.json"), found)
        write_metrics(found["metrics"], folder / "baselines.csv")
    return found


def _judged(config: Config, ingest: Artefact, encoded: Sequence[Artefact], prior: Artefact | None) -> JudgedBaselines:
    table = baseline_rows(ingest.path(), config.prompt)
    if prior:
        table = beside(table, prior_scores(prior.path(), table["row"]), prior.uri)
    for encode in encoded:
        scores = encoder_scores(encode.path(), table["row"])
        assert scores is not None
        table = beside(table, scores, encode.uri)
    names = [name for name in MEANING if name in table.columns]
    measured = measure(table, names, config.evaluate.num_bootstrap, config.run.seed)
    return {
        "num_rows": table.height,
        "num_users": table["user_id"].n_unique(),
        "like_rate": float(table["label"].to_numpy().mean()),
        "metrics": [{**row, "meaning": MEANING[row["name"]]} for row in metric_rows(measured)],
        "differences": difference_rows(measured, [(name, TWO_NUMBER_BASELINE) for name in names if name != TWO_NUMBER_BASELINE]),
        "num_bootstrap": config.evaluate.num_bootstrap,
        "seed": config.run.seed,
    }


def _with_encoder(config: Config, source: str) -> Config:
    """What ingest, encode and the prior read of the run file, with this encoder."""
    own = config.encoder if config.encoder.source == source else EncoderSection.model_validate({"source": source})
    return Config(**{name: getattr(config, name) for name in KEPT}, encoder=own, train=TrainSection(use_gpu=config.train.use_gpu))
