"""TensorBoard and MLflow keep one run over all tries of a run, and are refused in words where they cannot."""

from __future__ import annotations

import pytest

from thinkrec.config.run import Config
from thinkrec.errors import ConfigError
from thinkrec.events import Event, ExpertStep, PackDone, RunStarted, StageAborted, StageDone
from thinkrec.watch.run_state import RunState
from thinkrec.watch.trackers import listeners, scalars


def one_try(config: Config, first_step: int, num_steps: int, fails: bool = False) -> None:
    """A try of a run that makes these steps of expert 3, as its listeners hear it."""
    state = RunState()
    heard = listeners(config)[1:]  # Ray's metrics have a test of their own

    def report(event: Event) -> None:
        state.see(event, 1000.0 + first_step)
        for listener in heard:
            listener.hear(state, event, 1000.0 + first_step)

    report(RunStarted("run", 1, ("experts",)))
    for step in range(first_step, first_step + num_steps):
        report(ExpertStep(0, 3, step, 4, 1.0 / step, 10.0 * step))
    if fails:
        report(StageAborted("experts", "e"))
    else:
        report(StageDone("experts", "k", {"num_experts": 1, "used": True, "name": "x"}))
    for listener in heard:
        listener.close()


def test_numbers_of_steps_and_figures_are_what_is_tracked():
    step = ExpertStep(group=1, expert=3, step=5, num_steps=9, loss=0.5, tokens_per_s=2.0)
    assert list(scalars(step)) == [("experts/3/loss", 0.5, 5), ("experts/3/tokens_per_s", 2.0, 5)]
    done = StageDone("global", "k", {"num_steps": 7, "used": True, "kind": "mf"})
    assert list(scalars(done)) == [("global/num_steps", 7.0, 0)]
    assert list(scalars(PackDone(1, (3,), 3.0))) == []


def test_tensorboard_shows_two_tries_as_one_run(make_config, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = make_config({"run": {"dir": str(tmp_path)}, "watch": {"tensorboard": True}})
    one_try(config, 1, 2, fails=True)
    one_try(config, 3, 2)
    found = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(one.step, one.value) for one in found.Scalars("experts/3/loss")] == [(step, pytest.approx(1 / step)) for step in (1, 2, 3, 4)]
    assert [one.value for one in found.Scalars("experts/num_experts")] == [1.0]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_mlflow_finds_its_run_again(make_config, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    config = make_config({"run": {"dir": str(tmp_path / "mine")}, "watch": {"mlflow": True}})
    one_try(config, 1, 2, fails=True)
    run_id = (tmp_path / "mine" / "mlflow_run_id").read_text().strip()
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mine' / 'mlflow.db'}")
    assert client.get_run(run_id).info.status == "FAILED"
    one_try(config, 3, 2)
    assert (tmp_path / "mine" / "mlflow_run_id").read_text().strip() == run_id
    [experiment] = [one for one in client.search_experiments() if one.name == "thinkrec"]
    assert [run.info.run_id for run in client.search_runs([experiment.experiment_id])] == [run_id]
    assert client.get_run(run_id).info.status == "FINISHED"
    history = sorted((one.step, one.value) for one in client.get_metric_history(run_id, "experts/3/loss"))
    assert history == [(step, pytest.approx(1 / step)) for step in (1, 2, 3, 4)]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_tracker_that_cannot_be_had_is_refused_before_the_run(make_config, monkeypatch, tmp_path, name):
    config = make_config({"run": {"dir": str(tmp_path)}, "watch": {name: True}})
    monkeypatch.setattr("thinkrec.watch.trackers.find_spec", lambda package: None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        listeners(config)
    assert f"thinkrec[{name}]" in caught.value.fix
    monkeypatch.setattr("thinkrec.watch.trackers.find_spec", lambda package: object())
    with pytest.raises(ConfigError, match="not on a local disk"):
        listeners(make_config({"run": {"dir": "s3://bucket/run"}, "watch": {name: True}}))
