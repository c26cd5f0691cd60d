"""
What every program on a host shares: trouble as a value, one lock, files that are written whole or not at all.

Standard library of Python 3.9 only, and nothing of ours: a far host has nothing but its Python (``bundle``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

CALLER: list[TextIO] = []
"""A far program's two ends to its caller: calls come from the first, answers go to the second."""


class Trouble(Exception):
    """
    Why it cannot be done.

    :param kind: unreachable, refused, conflict or unsettled
    :param fact: what was found
    :param mend: what to do
    """

    def __init__(self, kind: str, fact: str, mend: str) -> None:
        self.kind, self.fact, self.mend = kind, fact, mend
        super().__init__(fact)


def checkpoint(name: str) -> None:
    """Mark the border between two steps of a write; tests put a kill or a reload here."""


def answer(functions: Mapping[str, Callable[..., Any]], call: Mapping[str, Any]) -> dict[str, Any]:
    """
    Do one call and say trouble as a value.

    :param call: ``{"do": "read", "with": {"config": …}}``
    """
    try:
        return {"done": functions[call["do"]](**call["with"])}
    except Trouble as trouble:
        return {"trouble": [trouble.kind, trouble.fact, trouble.mend]}
    except Exception as error:  # noqa: BLE001 - a far caller must hear of it, whatever it is
        return {"trouble": ["refused", f"unexpected {type(error).__name__}: {error}", "see the host's log"]}


def tell(words: Mapping[str, Any]) -> None:
    """Tell a far caller something before the answer, such as a command's output while it runs."""
    CALLER[1].write(json.dumps({"told": words}) + "\n")
    CALLER[1].flush()


@contextlib.contextmanager
def locked(path: Path, kind: int, patience: float) -> Iterator[None]:
    """
    Hold the lock beside a file.

    :param kind: ``fcntl.LOCK_SH`` or ``LOCK_EX``
    :param patience: seconds that another holder is waited for
    """
    path, end = Path(f"{path}.lock"), time.monotonic() + patience
    with refusing(f"the lock {path} cannot be opened", path.parent):
        # flock needs no more than reading, so that several users can share the lock.
        lock = os.open(path, os.O_RDONLY | (0 if path.exists() else os.O_CREAT), 0o644)
    try:
        while not _try_lock(lock, kind, path):
            if time.monotonic() > end:
                raise Trouble("unreachable", f"another writer holds {path}", f"see which one: fuser {path}")
            time.sleep(0.005)
        yield
    finally:
        os.close(lock)


def _try_lock(lock: int, kind: int, path: Path) -> bool:
    with refusing(f"{path} cannot be locked", path.parent):
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def load(path: Path, what: str, initial: str) -> str:
    """
    Return a file's text.

    :param what: how people call it: ``the map file``
    :param initial: what to do when there is none
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise Trouble("refused", f"there is no {what} {path}", initial) from error
    except UnicodeDecodeError as error:
        raise Trouble("refused", f"the {what} {path} is garbled: it is no text", initial) from error
    except OSError as error:
        mend = f"let user id {os.geteuid()} read it"
        raise Trouble("refused", f"the {what} {path} cannot be read: {error.strerror}", mend) from error


def text_of(path: str) -> str | None:
    """Return the text of a file that somebody else writes, as far as it is one; None where we cannot read it."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def write_beside(path: Path, what: str, text: str) -> Path:
    """Write a new file beside the old one, with its owner and mode, and return where; ``rename`` puts it in place."""
    temporary = Path(f"{path}.new")
    with refusing(f"the {what} {path} cannot be written", path.parent):
        temporary.unlink(missing_ok=True)  # of a writer that was killed
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            _keep_owner(path, file.fileno())
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    return temporary


def rename(temporary: Path, path: Path, what: str) -> None:
    """Put a new file in the old one's place, durably."""
    with refusing(f"the {what} {path} cannot be replaced", path.parent):
        temporary.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _keep_owner(path: Path, target: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        old = path.stat()
        for user in (-1, old.st_uid):  # who is not root can at most keep the group
            with contextlib.suppress(PermissionError):
                os.fchown(target, user, old.st_gid)
        os.fchmod(target, old.st_mode & 0o7777)


def unwritable(path: Path, locked_as: Path | None = None) -> list[tuple[str, str]]:
    """
    Say, with the mend, what keeps this user from locking and replacing a file that is there.

    :param locked_as: what ``locked`` gets, where it is not the file itself
    """
    lock, user, found = Path(f"{locked_as or path}.lock"), os.geteuid(), []
    if path.exists() and not os.access(path.parent, os.W_OK | os.X_OK):
        fact = f"user id {user} cannot write in {path.parent}: no shift could be made durable"
        found.append((fact, "let it, or run where it may"))
    if path.exists() and lock.exists() and not os.access(lock, os.R_OK):
        found.append((f"user id {user} cannot read {lock}: it could not lock {path}", f"chmod a+r {lock}"))
    return found


@contextlib.contextmanager
def refusing(fact: str, folder: Path) -> Iterator[None]:
    """Say in words what the operating system refuses."""
    mends = {
        errno.EACCES: f"let user id {os.geteuid()} write in {folder}",
        errno.EROFS: f"mount the disk of {folder} read-write",
        errno.ENOSPC: f"make room on the disk of {folder}",
        errno.ENOENT: f"make {folder}, or give the file's path as seen from here as `file`",
        errno.EBUSY: f"mount the folder {folder}, not the single file",
        errno.ENOLCK: f"{folder} is on a file system without flock: move it to a local disk",
    }
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise Trouble("refused", f"{fact}: {error.strerror}", mends.get(error.errno or 0, mends[13])) from error
