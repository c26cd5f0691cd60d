"""
The fence of deploys that run here; see ``hosts.host_fence``, which is the same on far hosts.

It holds for all processes that see the same folder: workers on several hosts need a shared one (``deploy.fence``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bluegreen.catalog.models import Service
from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.hosts.host_fence import Held, HostFence, Record
from bluegreen.hosts.host_files import Trouble

WAIT = timedelta(seconds=60)
"""How long an older deploy is waited for; a task that Airflow gave up was seen running for 58 s."""


def deploy_error(trouble: Trouble, service: str, part: str) -> DeployError:
    """Return a host program's trouble as the error of a deploy, which a newer claim may have stopped."""
    kind, mend = DeployError, trouble.mend
    if trouble.kind == "fenced":
        kind, mend = DeployFenced, f"nothing was touched; {mend}"
    return kind(trouble.fact, service=service, part=part, next_step=mend)


@dataclass(frozen=True)
class Fence:
    """
    The fence of one part of a service.

    :param folder: of the fence files; made where it is missing; None for beside the user's other state
    :param service: name in the catalog
    :param part: the color, or what else is changed by itself
    """

    folder: Path | None
    service: str
    part: str

    @property
    def file(self) -> Path:
        """The fence file."""
        return self._fence.file

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
        with self._errors(), self._fence.enter(epoch, release, wait.total_seconds()) as held:
            yield held

    def read(self) -> Record | None:
        """
        Return who holds the fence or held it last, None for nobody yet; takes no lock.

        :raises DeployError: the file cannot be read
        """
        with self._errors():
            return self._fence.read()

    def left(self) -> Record | None:
        """
        Return what the last holder left; None for nobody yet, and while somebody holds it.

        :raises DeployError: the file cannot be read
        """
        with self._errors():
            return self._fence.left()

    @property
    def _fence(self) -> HostFence:
        return HostFence(str(self.folder or ""), self.service, self.part)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Trouble as trouble:
            raise deploy_error(trouble, self.service, self.part) from trouble


def patience(service: Service) -> timedelta:
    """Return how long an older deploy is waited for: one that was superseded lives, and may take all its time."""
    if service.release.concurrent != "supersede":
        return WAIT
    return max(WAIT, service.deploy.timeout + service.deploy.ready_within)
