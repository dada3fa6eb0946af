"""The key of each stage: a digest of its version, the settings and the user's files that it reads, and the keys of what it needs.

So a changed setting makes exactly the stages anew that depend on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from thinkrec.config.run import Config
from thinkrec.errors import ConfigError, MissingFileError
from thinkrec.pipeline import stages
from thinkrec.pipeline.stages import DS_FILE, NANO_DS_FILE, Stage, lookup
from thinkrec.store.address import exists
from thinkrec.store.artefacts import digest
from thinkrec.store.digests import fingerprint, is_same_folder

KEY_LENGTH = 16
MADE_HERE = (("keywords.extractor", "nano"), ("traces.teachers", "nano"), ("traces.teachers", "planted"))
# (key, value): what the run makes or is, not a path


def stage_keys(config: Config, taken: Mapping[str, str] | None = None, absent: Collection[str] = ()) -> dict[str, str]:
    """The artefact key of every stage of the run; raises MissingFileError for a named file that is not there.

    `taken`: keys of stages whose artefacts come from another run, so that what builds on them is keyed by those.
    `absent`: keys of the run file whose files need not be there, as where a run is planned: stages that need them have no key.
    """
    found: dict[str, str] = {}
    for stage in stages.select_stages(config):
        if not set(absent).isdisjoint(stage.files) or any(need not in found for need in stage.inputs(config)):
            continue
        own = stage_key(stage, config, [found[need] for need in stage.inputs(config)])
        found[stage.name] = (taken or {}).get(stage.name, own)
    return found


def stage_key(stage: Stage, config: Config, inputs: Sequence[str]) -> str:
    """The key of one stage, whose inputs have these keys; raises MissingFileError for a named file that is not there."""
    files = [_fingerprint(config, key) for key in stage.files]
    return digest([stage.name, stage.version, stage.settings(config), files, list(inputs)])[:KEY_LENGTH]


def _fingerprint(config: Config, key: str) -> str:
    """Of what a key names: a path, or the paths in a list of tables; empty for none and for a model that the run makes itself."""
    value = lookup(config.model_dump(), key)
    named = [str(entry["path"]) for entry in value] if isinstance(value, tuple | list) else [str(value)]
    return "".join(_fingerprint_of(key, path, config.run.dir) for path in named if path and (key, path) not in MADE_HERE)


def _fingerprint_of(key: str, named: str, run_dir: str) -> str:
    if key in (*DS_FILE, *NANO_DS_FILE):
        from thinkrec.train.deepspeed.engine import find_config

        return fingerprint(find_config(named))
    if not exists(named):
        raise MissingFileError(f"{key} names something that is not there", named, f"fix {key} in the run file, or give --set {key}=...")
    if is_same_folder(named, run_dir):
        raise ConfigError(f"the run would write among its own input, {key}", run_dir, "give run.dir a folder of its own, runs/mine say")
    return fingerprint(named, run_dir)
