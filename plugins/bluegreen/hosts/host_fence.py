"""
The fence on the target: the highest claim that ever began to change a color or another part of a service, in a file under ``flock``.

A task that Airflow gave up may still run somewhere, and come back to a color that a newer release has by then. The
file outlives every process; the lock ends with the process that holds it, however that ends. Standard library of
Python 3.9 only (``host_files``): it stands wherever a deploy works, here and on far hosts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from bluegreen.hosts.host_files import Trouble

LONGEST_RECORD = 4096


@dataclass(frozen=True)
class Record:
    """
    Who holds a fence, or held it last.

    :param epoch: its claim's epoch
    :param release: its release, ``run@epoch``; empty where a retire came first
    :param since: absolute UTC time at which it entered
    :param process: process and host, for people
    :param done: the version that it brought up, empty until then
    :raises ValueError: a part is not what it must be, as somebody wrote over it
    """

    epoch: int
    release: str
    since: str
    process: str
    done: str = ""

    def __post_init__(self) -> None:
        if type(self.epoch) is not int:
            raise ValueError("its epoch is no whole number")
        odd = [name for name in ("release", "since", "process", "done") if not isinstance(getattr(self, name), str)]
        if odd:
            raise ValueError(f"its {', '.join(odd)} is no text")

    def __str__(self) -> str:
        return f"epoch {self.epoch} of {self.release or 'a retire'} ({self.process}, since {self.since})"


@dataclass(frozen=True)
class Held:
    """
    A fence that is ours until the ``with`` block ends.

    :param record: ours
    :param done: the version that this very release brought up before, empty otherwise
    :param before: what the last holder left, whoever it was; None for nobody yet
    """

    record: Record
    done: str
    before: Record | None
    _fence: HostFence
    _file: int

    def require(self) -> None:
        """
        Compare once more: a lock holds for its file only, and people may remove one that is in their way.

        :raises Trouble: ``fenced``: another claim is in the file by now, or the file is gone
        """
        found = self._fence.read()
        # The record alone tells: it has the process and the moment in it, so that a new file never holds the same.
        if found is None or replace(found, done="") != self.record:
            raise self._fence.overtaken(found, self.record.epoch)

    def finish(self, version: str) -> None:
        """Note that a version is up, so that a repeated task has nothing to do."""
        with contextlib.suppress(OSError):  # it is up all the same; a repeated task deploys it once more: no harm
            _write(self._file, replace(self.record, done=version))


class HostFence:
    """
    The fence of one part of a service.

    :param folder: of the fence files; made where it is missing; empty for beside the user's other state
    :param service: name in the catalog
    :param part: the color, or what else is changed by itself
    """

    def __init__(self, folder: str, service: str, part: str) -> None:
        self.folder = Path(folder).expanduser() if folder else default_folder()
        self.file = self.folder / f"{service}-{part}.fence"

    @contextlib.contextmanager
    def enter(self, epoch: int, release: str, wait: float) -> Iterator[Held]:
        """
        Hold the fence for a claim.

        :param epoch: the claim's epoch
        :param release: the claim's release; empty for a retire, which only has its epoch
        :param wait: seconds that an older deploy which still runs is waited for
        :raises Trouble: ``fenced``: a newer claim has the color, or an older one does not end; ``refused``: the file
            cannot be read or written
        """
        with self._opened() as file:
            self._lock(file, epoch, wait)
            try:
                before = self._record(file)
                self._refuse_newer(before, epoch, release)
                mine = _mine(epoch, release or _release_at(before, epoch))
                self._write(file, mine)
                again = before is not None and (before.epoch, before.release) == (epoch, release)
                yield Held(mine, before.done if before and again else "", before, self, file)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # not only closed: a copy in a forked child would keep the lock

    def read(self) -> Record | None:
        """
        Return who holds the fence or held it last, None for nobody yet; takes no lock.

        :raises Trouble: the file cannot be read
        """
        if not self.file.exists():
            return None
        with self._opened() as file:
            return self._record(file)

    def left(self) -> Record | None:
        """
        Return what the last holder left; None for nobody yet, and while somebody holds it.

        :raises Trouble: the file cannot be read
        """
        if not self.file.exists():
            return None
        with self._opened() as file:
            if not self._try_lock(file):
                return None
            try:
                return self._record(file)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def overtaken(self, holder: Record | None, epoch: int) -> Trouble:
        """Return the trouble of a claim that has lost the fence to another."""
        mend = f"start a new release (if the router's stamps were lost, remove {self.file})"
        return Trouble("fenced", f"fence has {holder or 'no record any more'}, found epoch {epoch}", mend)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # os.open's files are closed on exec: a program that the command leaves behind must not keep the lock
            file = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._broken(error) from error
        try:
            yield file
        finally:
            os.close(file)

    def _lock(self, file: int, epoch: int, wait: float) -> None:
        end, pause = time.monotonic() + wait, 0.02
        while not self._try_lock(file):
            holder = self._holder(file)
            if holder and holder.epoch > epoch:
                raise self.overtaken(holder, epoch)
            left = end - time.monotonic()
            if left <= 0:
                fact = f"fence held by {holder or 'a process that left no name'}, which did not end within {wait:g} s"
                raise Trouble("fenced", fact, "wait for it or end that process")
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.2)

    def _try_lock(self, file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._broken(error) from error
        return True

    def _refuse_newer(self, before: Record | None, epoch: int, release: str) -> None:
        if before is None:
            return
        other = before.epoch == epoch and before.release and release not in ("", before.release)
        if before.epoch > epoch or other:
            raise self.overtaken(before, epoch)

    def _holder(self, file: int) -> Record | None:
        with contextlib.suppress(Trouble):  # it may be writing this moment
            return self._record(file)
        return None

    def _record(self, file: int) -> Record | None:
        try:
            line = os.pread(file, LONGEST_RECORD, 0).partition(b"\n")[0]
            return Record(**json.loads(line)) if line else None
        except OSError as error:
            raise self._broken(error) from error
        except (ValueError, TypeError) as error:
            mend = "see that nothing is being deployed, then remove it"
            raise Trouble("refused", f"{self.file} is no fence file: {error}", mend) from error

    def _write(self, file: int, record: Record) -> None:
        try:
            _write(file, record)
        except OSError as error:
            raise self._broken(error) from error

    def _broken(self, error: OSError) -> Trouble:
        mend = "make the folder writable, or set deploy.fence in the service file"
        return Trouble("refused", f"fence {self.file}: {error.strerror}", mend)


def default_folder() -> Path:
    """Return where fences are without a word in the catalog: beside the user's other state."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "bluegreen"


def _mine(epoch: int, release: str) -> Record:
    since = datetime.now(timezone.utc).isoformat(timespec="milliseconds")  # noqa: UP017 - Python 3.9 has no UTC
    return Record(epoch, release, since, f"process {os.getpid()} on {socket.gethostname()}")


def _release_at(before: Record | None, epoch: int) -> str:
    return before.release if before and before.epoch == epoch else ""


def _write(file: int, record: Record) -> None:
    # In place, as a rename would leave the lock on the old file. Readers take the first line only, so that what a
    # longer record leaves behind it does no harm.
    os.pwrite(file, json.dumps(asdict(record)).encode() + b"\n", 0)
    os.fsync(file)
