"""Lists and packages on s3://, against a real server that speaks S3 over HTTP on this machine: those of a local folder."""

from __future__ import annotations

import contextlib

import numpy as np
from pyarrow import fs
from s3 import s3_server

from thinkrec.artefacts.recommendations import scan_lists
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.judged import judge
from thinkrec.recommend.lists import Lists
from thinkrec.recommend.request import Request
from thinkrec.serve.assemble import write_package
from thinkrec.serve.opened import open_package
from thinkrec.store.address import list_folder, read_json


def test_lists_and_a_package_in_a_bucket_are_those_of_a_folder(whole_run, in_process, tmp_path, monkeypatch):
    """Made in two goes, judged, and served by a machine that has only the address."""
    section = whole_run.settings.recommend.model_copy(update={"num_candidates": 8})
    config = whole_run.settings.model_copy(update={"recommend": section})

    def make(out: str, **options) -> Lists:
        lists = Lists.plan(config, whole_run.artefacts, Request(top=3, until_test=True, **options), out)
        lists.make(lambda event: None, lambda config: contextlib.nullcontext())
        return lists

    with s3_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(tmp_path))  # where packages are cached
        fs.S3FileSystem(endpoint_override=environment["AWS_ENDPOINT_URL"], allow_bucket_creation=True).create_dir("bucket")
        make("s3://bucket/lists", bucket=1)
        there, here = make("s3://bucket/lists"), make(str(tmp_path / "lists"))
        assert in_process == [1, 0, 0, 1]
        for found, expected in zip(scan_lists(there.out, range(2)), scan_lists(here.out, range(2)), strict=True):
            assert found.equals(expected)
        assert judge(there) == judge(here)
        assert read_json("s3://bucket/lists/ranking.json") == read_json(str(tmp_path / "lists/ranking.json"))
        assert not [file.path for file in list_folder("s3://bucket/lists/bucket=000") if file.path.endswith(".tmp")]
        package = write_package(whole_run.settings, whole_run.artefacts, "s3://bucket/package")
        ranker, opened = open_package("s3://bucket/package")
        assert opened.key == package.key
        served = ranker.rank(of_users(ranker.items, ["nobody"]), [np.arange(3)]).score[0]
        assert np.isfinite(served).all()
