"""
The fence on the target: the highest claim that ever began to change a color or a role, in a file under ``flock``.

A task that Airflow gave up may still run somewhere, and come back to a color that a newer release has by then. The
file outlives every process; the lock ends with the process that holds it, however that ends. It holds for all
processes that see the same folder: workers on several hosts need a shared one (``deploy.fence`` in the catalog).
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

from bluegreen.catalog.models import Service
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.core.stamp import now_utc

WAIT = timedelta(seconds=60)
"""How long an older deploy is waited for; a task that Airflow gave up was seen running for 58 s."""
LONGEST_RECORD = 4096


@dataclass(frozen=True)
class Record:
    """
    Who holds a fence, or held it last.

    :param epoch: its claim's epoch
    :param release: its release, ``run@epoch``; empty where a retire came first
    :param since: absolute UTC time at which it entered
    :param process: process and host, for people
    :param done: the version that it brought up, or the color that it brought a role to; empty until then
    """

    epoch: int
    release: str
    since: str
    process: str
    done: str = ""

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
    _file: int

    def finish(self, version: str) -> None:
        """Note that a version is up, or a role on its color, so that a repeated task has nothing to do."""
        with suppress(OSError):  # it is up all the same; a repeated task deploys it once more, which does no harm
            _write(self._file, replace(self.record, done=version))


@dataclass(frozen=True)
class Fence:
    """
    One color's fence, or one role's over both colors.

    :param folder: of the fence files; made where it is missing
    :param service: name in the catalog
    :param part: the color or the role
    """

    folder: Path
    service: str
    part: str

    @property
    def file(self) -> Path:
        """The fence file."""
        return self.folder / f"{self.service}-{self.part}.fence"

    @contextmanager
    def enter(self, epoch: int, release: str = "", wait: timedelta = WAIT) -> Iterator[Held]:
        """
        Hold the fence for a claim.

        :param epoch: the claim's epoch
        :param release: the claim's release; empty for a retire, which only has its epoch
        :param wait: how long an older deploy that still runs is waited for
        :raises DeployFenced: a newer claim has the color, or an older one does not end
        :raises DeployError: the file cannot be read or written
        """
        with self._opened() as file:
            self._lock(file, epoch, wait)
            try:
                before = self._record(file)
                self._refuse_newer(before, epoch, release)
                mine = _mine(epoch, release or _release_at(before, epoch))
                self._write(file, mine)
                again = before is not None and (before.epoch, before.release) == (epoch, release)
                yield Held(mine, before.done if before and again else "", before, file)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # not only closed: a copy in a forked child would keep the lock

    def read(self) -> Record | None:
        """
        Return who holds the fence or held it last, None for nobody yet; takes no lock.

        :raises DeployError: the file cannot be read
        """
        if not self.file.exists():
            return None
        with self._opened() as file:
            return self._record(file)

    def left(self) -> Record | None:
        """
        Return what the last holder left; None for nobody yet, and while somebody holds it.

        :raises DeployError: the file cannot be read
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

    @contextmanager
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

    def _lock(self, file: int, epoch: int, wait: timedelta) -> None:
        for _ in Deadline(wait).tries(first_pause=0.02, longest_pause=0.2):
            if self._try_lock(file):
                return
            self._refuse_newer_holder(self._holder(file), epoch)
        raise self._fenced(
            f"held by {self._holder(file) or 'a process that left no name'}, which did not end within {wait.total_seconds():g} s",
            "wait for it or end that process; nothing was touched",
        )

    def _try_lock(self, file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._broken(error) from error
        return True

    def _refuse_newer_holder(self, holder: Record | None, epoch: int) -> None:
        if holder and holder.epoch > epoch:
            raise self._newer(holder, epoch)

    def _refuse_newer(self, before: Record | None, epoch: int, release: str) -> None:
        self._refuse_newer_holder(before, epoch)
        if before and before.epoch == epoch and before.release and release not in ("", before.release):
            raise self._newer(before, epoch)

    def _newer(self, holder: Record, epoch: int) -> DeployFenced:
        return self._fenced(
            f"has {holder}, found epoch {epoch}",
            f"nothing was touched; start a new release (if the router's stamps were lost, remove {self.file})",
        )

    def _holder(self, file: int) -> Record | None:
        with suppress(DeployError):  # it may be writing this moment
            return self._record(file)
        return None

    def _record(self, file: int) -> Record | None:
        try:
            line = os.pread(file, LONGEST_RECORD, 0).partition(b"\n")[0]
            return Record(**json.loads(line)) if line else None
        except OSError as error:
            raise self._broken(error) from error
        except (ValueError, TypeError) as error:
            raise DeployError(
                f"{self.file} is no fence file: {error}",
                service=self.service,
                part=self.part,
                next_step="see that nothing is being deployed, then remove it",
            ) from error

    def _write(self, file: int, record: Record) -> None:
        try:
            _write(file, record)
        except OSError as error:
            raise self._broken(error) from error

    def _fenced(self, fact: str, next_step: str) -> DeployFenced:
        return DeployFenced(f"fence {fact}", service=self.service, part=self.part, next_step=next_step)

    def _broken(self, error: OSError) -> DeployError:
        return DeployError(
            f"fence {self.file}: {error.strerror}",
            service=self.service,
            part=self.part,
            next_step="make the folder writable, or set deploy.fence in the service file",
        )


def patience(service: Service) -> timedelta:
    """Return how long an older deploy is waited for: one that was superseded lives, and may take all its time."""
    if service.release.concurrent != "supersede":
        return WAIT
    return max(WAIT, service.deploy.timeout + service.deploy.ready_within)


def default_folder() -> Path:
    """Return where fences are without a word in the catalog: beside the user's other state."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "bluegreen"


def _mine(epoch: int, release: str) -> Record:
    process = f"process {os.getpid()} on {socket.gethostname()}"
    return Record(epoch, release, now_utc().isoformat(timespec="milliseconds"), process)


def _release_at(before: Record | None, epoch: int) -> str:
    return before.release if before and before.epoch == epoch else ""


def _write(file: int, record: Record) -> None:
    # In place, as a rename would leave the lock on the old file. Readers take the first line only, so that what a
    # longer record leaves behind it does no harm.
    os.pwrite(file, json.dumps(asdict(record)).encode() + b"\n", 0)
    os.fsync(file)
