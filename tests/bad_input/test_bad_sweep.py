"""Sweep files that cannot be used."""

from __future__ import annotations

import pytest
from spoil import Case, content, nothing

SOUND = 'title = "T"\nrecipe = "run.toml"\ndir = "run"\nreference = "a"\n'
SWEEP = ("sweep", "sweep.toml")


def written(lines: str, head: str = SOUND) -> object:
    return content("sweep.toml", (head + lines).encode())


CASES = {
    "no sweep file": Case(nothing, SWEEP, "the sweep file is not there"),
    "no recipe": Case(written("[trials.a]", SOUND.replace("run.toml", "gone.toml")), SWEEP, r"the run file is not there.*gone\.toml"),
    "not TOML": Case(written("[trials.a"), SWEEP, "this is not TOML"),
    "not UTF-8": Case(content("sweep.toml", b"title = '\xff'"), SWEEP, "this is not TOML"),
    "a run file": Case(nothing, ("sweep", "run.toml"), r"title: Field required.*run: unknown key"),
    "unknown key": Case(written("sets.run.seed = 1\n[trials.a]"), SWEEP, r"sets: unknown key; did you mean 'set'"),
    "unknown key of a trial": Case(written("[trials.a]\nvarian = 'global'"), SWEEP, r"trials\.a\.varian: .*'trials\.a\.variant'"),
    "a list of trials": Case(written("[[trials]]"), SWEEP, r"trials: Input should be a valid dictionary"),
    "a trial that is a number": Case(written("trials.a = 3"), SWEEP, r"trials\.a: .*\(given: 3\)"),
    "a wrong setting": Case(written("[trials.a]\nset.train.num_group = 2"), SWEEP, r"did you mean 'train\.num_groups'.*trials\.a"),
    "a wrong setting on the command line": Case(written("[trials.a]"), (*SWEEP, "--set", "run.sed=1"), r"did you mean 'run\.seed'"),
    "a run folder on the command line": Case(written("[trials.a]"), (*SWEEP, "--set", "run.dir=x"), r"run\.dir cannot be set here"),
    "a reference nobody is": Case(written("[trials.aa]"), SWEEP, r"reference: there is no trial 'a'; did you mean 'aa'"),
    "a lender nobody is": Case(written("[trials.a]\nmodel_of = 'z'"), SWEEP, r"model_of: there is no trial 'z'.*trials\.a"),
    "a trial named out of the folder": Case(written("[trials.a]\n[trials.'../../b']"), SWEEP, "cannot name a file"),
    "a file of the user that is not there": Case(
        written("[trials.a]\nset.data.path = 'nowhere'"), SWEEP, r"data\.path names something that is not there"
    ),
    "baselines of no run file": Case(nothing, ("baselines", "none.toml"), "the run file is not there"),
    "baselines of data that is not there": Case(
        nothing, ("baselines", "run.toml", "--set", "data.path=nowhere"), r"data\.path names something that is not there"
    ),
    "a plan of a wrong file": Case(written("[trials.b]"), (*SWEEP, "--plan"), "there is no trial 'a'"),
    "a sweep folder that is a file": Case(
        written("[trials.a]", SOUND.replace('"run"', '"given/ds.json"')), SWEEP, "cannot write in the run folder"
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_sweep_file_that_cannot_be_used_is_refused(refused, case):
    refused(case)
