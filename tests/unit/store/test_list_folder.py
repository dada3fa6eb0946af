"""Listing a folder that others make and remove meanwhile."""

from __future__ import annotations

import errno

from pyarrow import fs

from thinkrec.store import address
from thinkrec.store.address import list_folder


class MadeMeanwhile:
    """A file system whose folder is made after Arrow failed to list it and before Arrow looks why."""

    def get_file_info(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        raise FileNotFoundError(errno.ENOENT, "Cannot list directory", selector.base_dir)


def test_a_folder_is_listed_and_none_is_empty(tmp_path):
    (tmp_path / "one.json").touch()
    assert [info.base_name for info in list_folder(str(tmp_path))] == ["one.json"]
    assert list_folder(str(tmp_path / "nothing")) == []


def test_a_folder_that_is_made_while_it_is_listed_was_empty(monkeypatch):
    monkeypatch.setattr(address, "open_root", lambda uri: (MadeMeanwhile(), uri))
    assert list_folder("anywhere") == []
