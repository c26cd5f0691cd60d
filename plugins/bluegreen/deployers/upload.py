"""What is uploaded, read part by part: never the whole of a file in memory."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluegreen.hosts.host_files import Trouble

CHUNK = 512 * 1024
"""Bytes of files that one call carries."""

Part = dict[str, Any]
"""See ``ssh_host.put``."""


@dataclass(frozen=True)
class Source:
    """
    A file or folder here, and where it goes.

    :param path: the file or folder
    :param to: its path there
    :param mode: of the file, or of the folder itself; None for what it is here
    """

    path: Path
    to: str
    mode: int | None

    @property
    def folder(self) -> bool:
        """Whether it is a folder."""
        return self.path.is_dir()

    def require(self) -> None:
        """
        Refuse what cannot be uploaded whole.

        :raises Trouble: it is not there, cannot be read, or holds something else than files, folders and links
        """
        mend = "make it on the Airflow workers, or mend deploy.upload in the service file"
        if not self.path.exists():
            raise Trouble("refused", f"there is no {self.path} to upload", mend)
        for _, path in self._walk():
            kind = path.stat().st_mode if path == self.path else path.lstat().st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind)):
                raise Trouble("refused", f"{path} is no file, folder or link", f"take it out of {self.path}")
            if not stat.S_ISLNK(kind) and not os.access(path, os.R_OK):
                raise Trouble("refused", f"{path} cannot be read by user id {os.geteuid()}", "let us read it")

    def batches(self) -> Iterator[list[Part]]:
        """Return its parts in their order, as many together as make a call."""
        batch: list[Part] = []
        size = 0
        for part in self._parts():
            batch.append(part)
            size += len(part.get("data", "")) + 200
            if size >= CHUNK:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def folder_modes(self) -> list[tuple[str, int]]:
        """Return the mode of each of its folders, outer ones first."""
        folders = [(name, path) for name, path in self._walk() if path.is_dir() and (not name or not path.is_symlink())]
        return [(name, self._mode(name, path)) for name, path in folders]

    def _walk(self) -> Iterator[tuple[str, Path]]:
        """Return each path with its name below the upload, outer ones first; links are not followed, but for the top."""
        yield "", self.path
        for folder, folders, files in os.walk(self.path):
            for name in sorted([*folders, *files]):
                path = Path(folder) / name
                yield path.relative_to(self.path).as_posix(), path

    def _parts(self) -> Iterator[Part]:
        for name, path in self._walk():
            if name and path.is_symlink():
                yield {"path": name, "link": str(path.readlink())}
            elif path.is_dir():
                yield {"path": name, "folder": True}
            else:
                yield from _file(name, path, self._mode(name, path))

    def _mode(self, name: str, path: Path) -> int:
        return self.mode if self.mode is not None and not name else stat.S_IMODE(path.stat().st_mode)


def _file(name: str, path: Path, mode: int) -> Iterator[Part]:
    with path.open("rb") as file:
        chunk = file.read(CHUNK)
        while True:
            following = file.read(CHUNK)
            data = base64.b64encode(chunk).decode()
            yield {"path": name, "data": data, "last": not following, "mode": mode}
            if not following:
                return
            chunk = following
