"""What is read for an upload, and what is refused before any host is reached."""

from __future__ import annotations

import base64
import os
import socket

import pytest

from bluegreen.deployers import upload
from bluegreen.deployers.upload import Source
from bluegreen.hosts.host_files import Trouble


def parts(source):
    return [part for batch in source.batches() for part in batch]


def content(found):
    return b"".join(base64.b64decode(part["data"]) for part in found)


@pytest.mark.parametrize("size", [0, 1, 10, 11, 30])
def test_a_file_comes_in_parts_and_the_last_one_says_so(tmp_path, monkeypatch, size):
    monkeypatch.setattr(upload, "CHUNK", 10)
    file = tmp_path / "app"
    file.write_bytes(os.urandom(size))
    found = parts(Source(file, "/srv/app", None))
    assert content(found) == file.read_bytes()
    assert [part["last"] for part in found] == [False] * (len(found) - 1) + [True]
    assert len(found) == max(1, -(-size // 10))


def test_a_folder_comes_outer_ones_first_with_links_as_links(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("x")
    (tmp_path / "a" / "link").symlink_to("b")
    (tmp_path / "a").chmod(0o750)
    source = Source(tmp_path / "a", "/srv/a", None)
    source.require()
    found = parts(source)
    assert [part["path"] for part in found] == ["", "b", "link", "b/file"]
    assert found[2] == {"path": "link", "link": "b"}
    assert source.folder_modes()[0] == ("", 0o750)
    assert [name for name, _ in source.folder_modes()] == ["", "b"]
    assert Source(tmp_path / "a", "/srv/a", 0o700).folder_modes()[0] == ("", 0o700)


def test_many_small_files_make_few_calls(tmp_path):
    for number in range(300):
        (tmp_path / str(number)).write_text("x")
    assert len(list(Source(tmp_path, "/srv/a", None).batches())) == 1


def test_a_mode_is_of_the_file(tmp_path):
    (tmp_path / "app").write_text("x")
    (tmp_path / "app").chmod(0o640)
    assert parts(Source(tmp_path / "app", "/a", None))[0]["mode"] == 0o640
    assert parts(Source(tmp_path / "app", "/a", 0o755))[0]["mode"] == 0o755


def test_what_cannot_be_uploaded_whole_is_refused(tmp_path):
    with pytest.raises(Trouble, match=r"there is no .*/none to upload"):
        Source(tmp_path / "none", "/a", None).require()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(Trouble, match=r"/s is no file, folder or link"):
            Source(tmp_path, "/a", None).require()
