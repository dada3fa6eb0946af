"""Runs in TensorBoard and MLflow, for those who keep their figures there; a resumed run goes on in the same folder and MLflow run.

Both keep everything below the run folder, which must be local for them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from thinkrec.config.run import Config, dump
from thinkrec.errors import ConfigError
from thinkrec.events import Event, ExpertStep, StageDone
from thinkrec.watch.progress import Listener
from thinkrec.watch.ray_metrics import RayMetrics
from thinkrec.watch.run_state import RunState

RUN_ID = "mlflow_run_id"
STATUS = {"done": "FINISHED", "failed": "FAILED"}  # of a run that ended; of one that was ended it is KILLED


def listeners(config: Config) -> list[Listener]:
    """Who hears of the events of this run; raises ConfigError for a tracker that is not installed or a run folder that is not local."""
    found: list[Listener] = [RayMetrics()]
    for name, package, make in (("tensorboard", "tensorboardX", TensorBoard), ("mlflow", "mlflow", MLflow)):
        if not getattr(config.watch, name):
            continue
        if find_spec(package) is None:
            raise ConfigError(f"{package} is not installed", f"watch.{name}", f"pip install 'thinkrec[{name}]', or set it to false")
        if "://" in config.run.dir:
            raise ConfigError("this tracker writes beside the run, which is not on a local disk", f"watch.{name}", "set it to false")
        found.append(make(config))
    return found


def scalars(event: Event) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of what an event says in numbers: an expert's step, and the figures of a finished stage."""
    if isinstance(event, ExpertStep):
        yield f"experts/{event.expert}/loss", event.loss, event.step
        yield f"experts/{event.expert}/tokens_per_s", event.tokens_per_s, event.step
    elif isinstance(event, StageDone):
        for name, value in event.figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{event.stage}/{name}", float(value), 0


class TensorBoard:
    """A listener that writes event files; every try of a run adds one to the same folder, which TensorBoard shows as one run."""

    def __init__(self, config: Config) -> None:
        from tensorboardX import SummaryWriter

        # Its file names tell seconds; a second try within one would write over the first.
        self._writer = SummaryWriter(logdir=str(Path(config.run.dir) / "tensorboard"), filename_suffix=f".{time.time_ns()}")

    def hear(self, state: RunState, event: Event, at: float) -> None:
        for name, value, step in scalars(event):
            self._writer.add_scalar(name, value, step, walltime=at)

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """A listener that writes to one MLflow run, whose id stands in the run folder, so that the next try finds it again."""

    def __init__(self, config: Config) -> None:
        from mlflow import MlflowClient

        folder = Path(config.run.dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
        self._run_id = self._find_or_create(folder, config)
        self._status = "KILLED"  # unless the run says otherwise

    def hear(self, state: RunState, event: Event, at: float) -> None:
        for name, value, step in scalars(event):
            self._client.log_metric(self._run_id, name, value, timestamp=int(at * 1000), step=step)
        self._status = STATUS.get(state.state, "KILLED")

    def close(self) -> None:
        self._client.set_terminated(self._run_id, self._status)

    def _find_or_create(self, folder: Path, config: Config) -> str:
        file = folder / RUN_ID
        with suppress(FileNotFoundError):
            run_id = file.read_text(encoding="utf-8").strip()
            self._client.update_run(run_id, status="RUNNING")
            return run_id
        experiment = self._client.get_experiment_by_name("thinkrec")
        number = experiment.experiment_id if experiment else self._client.create_experiment("thinkrec", (folder / "mlflow").as_uri())
        run_id = str(self._client.create_run(number, run_name=folder.name, start_time=int(time.time() * 1000)).info.run_id)
        self._client.log_text(run_id, dump(config), "config.json")
        file.write_text(run_id + "\n", encoding="utf-8")
        return run_id
