"""What a run would trip over late, looked at before it starts: DeepSpeed files, engines and model folders."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from thinkrec.config.run import Config
from thinkrec.config.training import AUTO
from thinkrec.errors import ConfigError

if TYPE_CHECKING:  # a run that names no folder starts without it
    from thinkrec.evaluate.metrics.learned_text import Encoder, Regressor
    from thinkrec.model.check import BaseFolder, GeneratorFolder


def check_run(*configs: Config, absent: Collection[str] = ()) -> None:
    """Look at everything a run would trip over late: DeepSpeed files, and the folders of base, extractor, teachers and text metrics.

    Several runs are looked at together, so that each folder is opened once. A base that is `absent`, as plan allows, is not opened.
    """
    from thinkrec.train.deepspeed import engine

    for config in configs:
        if config.train.ds_config == AUTO:
            raise ConfigError("no DeepSpeed file is chosen yet", "train.ds_config", "name one of ds_configs/, zero1 say")
        if not config.train.workers_per_group:  # Ray Train takes 0 workers for "in this process"
            raise ConfigError("the size of an expert group is not chosen yet", "train.workers_per_group", "give 1 or more")
        for name in (config.train.ds_config, config.base.nano.ds_config):
            engine.read_config(name)
        _check_models(config)
    for folder in dict.fromkeys(folder for config in configs for folder in _folders(config, absent)):
        folder.check()


def _check_models(config: Config) -> None:
    """Raise for an engine that is not there, and for an extractor or a teacher that could neither be loaded, taught nor asked for."""
    from thinkrec.generate.engines.vllm import check_installed

    if config.engine.kind == "vllm" and (config.keywords.source == "engine" or config.traces.enabled):
        check_installed()
    is_served = config.engine.kind == "http"
    if config.keywords.source == "engine" and is_served and not config.engine.http.model:
        raise ConfigError("no model of the server is named for reading keywords", "engine.http.model", "name it, or set keywords.source")
    for teacher in config.traces.teachers if config.traces.enabled else ():
        if not is_served and not teacher.path:
            raise ConfigError(f"the teacher {teacher.name!r} has no folder", "traces.teachers", 'give its path, or engine.kind = "http"')
        if is_served and teacher.path == "nano":
            raise ConfigError(
                'a nano teacher is taught here, and engine.kind = "http" asks a server',
                "traces.teachers",
                "name one of the server's models as a teacher, or set traces.enabled = false",
            )
        if teacher.path == "nano" and config.base.source != "nano":
            raise ConfigError(
                'a nano teacher is grown from the nano base, and base.source = "folder"',
                "traces.teachers",
                "give the path of a teacher's folder (base.path will do if it can reason), or set traces.enabled = false",
            )


def _folders(config: Config, absent: Collection[str]) -> Iterator[BaseFolder | GeneratorFolder | Encoder | Regressor]:
    """Every model folder that the run file names, as what it is used for."""
    from thinkrec.evaluate.metrics.learned_text import Encoder, Regressor
    from thinkrec.model.check import BaseFolder, GeneratorFolder

    kind, date, measured = config.engine.kind, config.prompt.date, config.evaluate
    if config.base.source == "folder" and "base.path" not in absent:
        yield BaseFolder(config.base.path, config.adapter.target_modules, date)
    if config.keywords.source == "engine" and config.keywords.extractor != "nano" and kind != "http":
        yield GeneratorFolder(config.keywords.extractor, "keywords.extractor", "", kind)
    for teacher in config.traces.teachers if config.traces.enabled else ():
        if teacher.has_folder:
            yield GeneratorFolder(teacher.path, "traces.teachers", "" if config.engine.http.chat and kind == "http" else date, kind)
    if measured.bert_score_path:
        yield Encoder(measured.bert_score_path, measured.bert_score_layer)
    if measured.bleurt_path:
        yield Regressor(measured.bleurt_path)
