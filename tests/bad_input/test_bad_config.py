"""Run files and words of the command that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from spoil import INGEST, Case, content, nothing, text, until


def added(lines: str) -> object:
    return text("run.toml", lambda whole: whole + lines)


def a_folder(folder: Path) -> None:
    (folder / "run.toml").unlink()
    (folder / "run.toml").mkdir()


def a_loop(folder: Path) -> None:
    (folder / "run.toml").unlink()
    (folder / "run.toml").symlink_to("run.toml")


def a_log_that_is_a_folder(folder: Path) -> None:
    (folder / "run/run.jsonl").mkdir(parents=True)


CASES = {
    "no run file": Case(nothing, ("run", "none.toml"), "run file is not there"),
    "a run file that is a folder": Case(a_folder, INGEST, "run file is not there"),
    "a run file that links to itself": Case(a_loop, INGEST, "run file is not there"),
    "an unknown recipe": Case(nothing, ("run", "world_nanoo", "--dry-run"), "run file is not there.*ray_jobs/recipes"),
    "not TOML": Case(added("[run\n"), INGEST, "this is not TOML"),
    "not UTF-8": Case(content("run.toml", b"[run]\ndir = '\xff\xfe'\n"), INGEST, "this is not TOML"),
    "a key twice": Case(text("run.toml", '[run]\ndir = "run"\ndir = "other"\n'), INGEST, r"this is not TOML.*line 3"),
    "a table twice": Case(added("[run]\nseed = 1\n"), INGEST, "this is not TOML"),
    "nested without end": Case(added("[train]\nds_config = " + "[" * 9000 + "]" * 9000), INGEST, "this is not TOML"),
    "unknown key": Case(added("[train]\nnum_group = 2\n"), INGEST, r"did you mean 'train\.num_groups'"),
    "unknown table": Case(added("[trian]\n"), INGEST, "did you mean 'train'"),
    "a value for a table": Case(text("run.toml", "train = 3\n"), INGEST, "train: Input should be a valid"),
    "a list of tables": Case(added("[[train]]\n"), INGEST, "train: Input should be a valid"),
    "a number as text": Case(added('[train]\nnum_groups = "many"\n'), INGEST, r"train\.num_groups: .*'many'"),
    "a count of zero": Case(added("[train]\nnum_groups = 0\n"), INGEST, r"train\.num_groups: .*greater than or equal to 1"),
    "a share above one": Case(nothing, until("ingest", "train.trace_share=20"), r"train\.trace_share: .*less than or equal to 1"),
    "a number that is none": Case(nothing, until("ingest", "train.experts.lr=nan"), r"train\.experts\.lr: .*finite"),
    "an infinite number": Case(nothing, until("ingest", "train.experts.lr=inf"), r"train\.experts\.lr: .*finite"),
    "a number too large": Case(nothing, until("ingest", f"adapter.rank={10**30}"), r"adapter\.rank: .*less than"),
    "more buckets than numbers for them": Case(nothing, until("ingest", "data.num_buckets=40000"), r"data\.num_buckets: .*less than"),
    "an encoder nobody knows": Case(nothing, until("ingest", "encoder.source=magic"), r"encoder\.source: .*'magic'"),
    "override of bad form": Case(nothing, until("ingest", "run.seed"), r"not of the form a\.b=value"),
    "override of bad type": Case(nothing, until("ingest", "train.experts.lr=fast"), r"train\.experts\.lr: Input should be a valid number"),
    "override below a value": Case(nothing, until("ingest", "run.dir.name=x"), "'dir' in 'run.dir.name' is a value, not a table"),
    "unknown stage": Case(nothing, until("everything"), "there is no stage 'everything'"),
    "a stage that climbs": Case(nothing, until("../ingest"), r"there is no stage '\.\./ingest'"),
    "unknown stage of a dry run": Case(nothing, (*until("everything"), "--dry-run"), "there is no stage 'everything'"),
    "a rate that rises": Case(nothing, until("ingest", "train.experts.min_lr=1"), r"train\.experts: min_lr"),
    "a batch that does not divide": Case(nothing, until("ingest", "train.num_workers=5"), "batch_size 64 does not divide by 5"),
    "traces for an epoch that never comes": Case(nothing, until("ingest", "traces.start_share=0.5"), "leaves traces to the second epoch"),
    "a seed below zero": Case(nothing, until("ingest", "run.seed=-1"), r"run\.seed: Input should be greater than or equal to 0"),
    "data without a path": Case(nothing, until("ingest", "data.path="), r"data\.path is empty"),
    "rows without a path of items": Case(nothing, until("ingest", "data.source=csv"), r"data\.items_path is empty"),
    "a path of items nobody reads": Case(nothing, until("ingest", "data.items_path=given"), "does not read it"),
    "a rule of likes nobody knows": Case(nothing, until("ingest", "data.label_rule=stars"), r"data\.label_rule: .*'stars'"),
    "drawn items in a history": Case(nothing, until("ingest", "data.label_rule=implicit"), r"set prompt\.history_dislikes = false"),
    "a window of no date": Case(nothing, until("ingest", "data.since=someday"), "'someday' is not an ISO date"),
    "vectors without a path": Case(nothing, until("ingest", "encoder.users_path="), r"encoder\.users_path"),
    "a teacher that cannot be grown": Case(
        nothing, until("ingest", "base.source=folder", "base.path=given/base"), r"is grown from the nano base.*traces\.teachers"
    ),
    "a date that is none": Case(nothing, until("ingest", "split.valid_from=someday"), "'someday' is not an ISO date"),
    "a date before all dates": Case(nothing, until("ingest", "split.valid_from=0001-01-01T00:00:00+14:00"), "not between 1970 and 2100"),
    "a date far in the future": Case(nothing, until("ingest", "split.test_from=9999-12-31"), "not between 1970 and 2100"),
    "cuts out of order": Case(nothing, until("ingest", "split.valid_quantile=0.9", "split.test_quantile=0.1"), "order the cuts"),
    "a run folder without a name": Case(nothing, until("ingest", "run.dir="), r"run\.dir: String should have at least 1 character"),
    "a run folder with NUL in it": Case(nothing, until("ingest", r'run.dir="a\u0000b"'), r"run\.dir: .*NUL"),
    "a run folder that is a file": Case(nothing, until("ingest", "run.dir=given/ds.json"), "cannot write in the run folder"),
    "a run folder below a file": Case(nothing, until("ingest", "run.dir=given/ds.json/run"), "cannot write in the run folder"),
    "a run folder nobody may make": Case(nothing, until("ingest", "run.dir=/proc/nobody/run"), "cannot write in the run folder"),
    "a run log that is a folder": Case(a_log_that_is_a_folder, INGEST, "cannot write in the run folder"),
    "an address nobody knows": Case(nothing, until("ingest", "run.dir=nosuch://bucket/run"), "address cannot be opened"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_run_file_that_cannot_be_used_is_refused(refused, case):
    refused(case)
