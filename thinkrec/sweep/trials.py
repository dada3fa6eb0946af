"""From the sweep file to trials, each a whole checked run file; every mistake names its trial and its key."""

from __future__ import annotations

import copy
import difflib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thinkrec.config.run import Config
from thinkrec.config.toml import flat, put, read, split_override, validate
from thinkrec.errors import ConfigError
from thinkrec.plan import resolve
from thinkrec.store.address import check_name
from thinkrec.sweep.settings import ComparedVariant, SweepFile, TrialSection

LENT = ("base", "instances-first", "global-first", "global")  # stages whose artefacts a trial takes over by model_of
SHAPES = ("base", "adapter")  # settings that lender and taker must agree on: the weights are made to them
OF_ALL = ("ray", "train.use_gpu")  # settings of the one cluster that serves all trials
FIX = "thinkrec/sweep/settings.py lists the keys of a sweep file, ray_jobs/sweeps/ has some"


@dataclass(frozen=True)
class Trial:
    """One run of the sweep. `base` is its name without the seed."""

    name: str
    base: str
    config: Config
    variant: ComparedVariant
    reference: str  # the reference trial of the same seed
    model_of: str  # "" or the lender of the same seed


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read. `shared` is the run file of all trials before any of them changes it."""

    settings: SweepFile
    shared: Config
    trials: tuple[Trial, ...]


def load(path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep file; `overrides` as `a.b=value` go into every trial. Raises ConfigError or MissingFileError."""
    settings = validate(SweepFile, read(path, "sweep file", "ray_jobs/sweeps"), str(path), FIX)
    tree = read(Path(path).parent / settings.recipe)
    changes = flat(settings.set) | dict(map(split_override, overrides))
    _refuse(changes, ("run.dir",), f"{path}: set", "`dir` of the sweep file says where the trials are kept")
    for key, value in ({"run.dir": settings.dir} | changes).items():
        put(tree, key, value, f"{path}: set")
    shared = resolve.parse(tree, f"{path}: {settings.recipe} with set")
    trials = [
        trial
        for name, section in settings.trials.items()
        for suffix, values in _combinations(section, f"{path}: trials.{name}")
        for trial in _seeded(f"{name}{suffix}", flat(section.set) | values, section, settings, tree, f"{path}: trials.{name}")
    ]
    _check(trials, settings, str(path))
    return Sweep(settings, shared, tuple(trials))


def _combinations(section: TrialSection, where: str) -> Iterator[tuple[str, dict[str, object]]]:
    """(what a trial's name ends in, its values) for each combination of the grid; one empty pair without a grid."""
    grid: dict[str, list[object]] = {}
    for key, values in flat(section.grid).items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"grid.{key} is {values!r}, not a list of values", where, "write for example grid.cluster.num_clusters = [1, 2]"
            )
        grid[key] = values
    for combination in itertools.product(*grid.values()):
        yield "".join(f"_{value}" for value in combination), dict(zip(grid, combination, strict=True))


def _seeded(
    base: str, changes: Mapping[str, object], section: TrialSection, settings: SweepFile, tree: Mapping[str, object], where: str
) -> Iterator[Trial]:
    """The trial, once a seed."""
    check_name(base)
    _refuse(changes, ("run.dir", *OF_ALL), where, "what holds for all trials belongs in the sweep file's own `dir` and `set`")
    if settings.seeds:
        _refuse(changes, ("run.seed",), where, "`seeds` names the seeds of every trial")
    for seed in settings.seeds or (None,):
        own, ending = copy.deepcopy(dict(tree)), "" if seed is None else f"_seed{seed}"
        for key, value in (dict(changes) | ({} if seed is None else {"run.seed": seed})).items():
            put(own, key, value, where)
        yield Trial(
            f"{base}{ending}",
            base,
            resolve.parse(own, where),
            section.variant or settings.variant,
            f"{settings.reference}{ending}",
            section.model_of and f"{section.model_of}{ending}",
        )


def _refuse(changes: Mapping[str, object], closed: Sequence[str], where: str, fix: str) -> None:
    for key in changes:
        if any(f"{key}.".startswith(f"{other}.") for other in closed):
            raise ConfigError(f"{key} cannot be set here", where, fix)


def _check(trials: Sequence[Trial], settings: SweepFile, path: str) -> None:
    """What only all trials together can show."""
    by_name = {trial.name: trial for trial in trials}
    if len(by_name) < len(trials):
        twice = next(trial.name for trial in trials if sum(trial.name == other.name for other in trials) > 1)
        raise ConfigError(f"two trials are called {twice!r}", path, "a grid names its trials after its values: rename one")
    bases = {trial.base for trial in trials}
    _known(settings.reference, bases, "reference", path)
    for trial in trials:
        where, config = f"{path}: trials.{trial.base}", trial.config
        if trial.variant in ("fusion", "experts") and config.cluster.num_clusters == 1:
            raise ConfigError(f"variant {trial.variant!r} needs experts, and cluster.num_clusters is 1", where, 'use variant = "served"')
        if trial.variant == "direct" and config.prompt.answer == "first":
            raise ConfigError("variant 'direct' needs a model that thinks first", where, 'set prompt.answer = "after"')
        if trial.model_of:
            _known(trial.model_of, by_name, "model_of", where)
            _check_lender(by_name[trial.model_of], trial, where)


def _check_lender(lender: Trial, trial: Trial, where: str) -> None:
    if lender.model_of:
        raise ConfigError(f"model_of names {lender.name!r}, which takes its own model from {lender.model_of!r}", where, "name that one")
    for section in SHAPES:
        if getattr(lender.config, section) != getattr(trial.config, section):
            raise ConfigError(f"[{section}] differs from that of {lender.name!r}, whose model it takes", where, "set both alike")


def _known(name: str, names: Collection[str], key: str, where: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"trials: {', '.join(names)}"
        raise ConfigError(f"{key}: there is no trial {name!r}; {hint}", where, "a grid names its trials after its values: experts_2")
