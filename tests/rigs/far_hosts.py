"""Hosts behind real sshds for any rig whose router runs host programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

from bluegreen.core.ports import Credentials
from bluegreen.hosts import bundle
from bluegreen.hosts.places import Place
from tests.rigs.rig import ended, in_child
from tests.rigs.sshd import Sshd

# Every program of one writer counts in one file: the n-th step of the whole write is where the program dies.
DYING = """\
def dying_checkpoint(name):
    import signal
    steps = os.open({steps!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(steps, b".")
    if os.fstat(steps).st_size == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(steps)
shared.checkpoint = dying_checkpoint
"""


class FarHosts:
    """
    One sshd a node.

    A rig uses it in four lines: ``start``, ``section`` in each node's model, ``share`` for each router that it makes,
    ``kill_program`` as its ``kill_writer``.
    """

    def __init__(self) -> None:
        self.hosts: list[Sshd] = []
        self._places: dict[tuple[int, str], Place] = {}

    def start(self, folder: Path, count: int) -> None:
        self._folder, self._stack = folder, ExitStack()
        self.hosts = [self._stack.enter_context(Sshd(folder / f"sshd-{number}")) for number in range(count)]

    def stop(self) -> None:
        self._places.clear()
        self._stack.close()

    def section(self, number: int) -> dict[str, Any]:
        """What a node of the service file says."""
        # Not what the login shell of root has first on its path, which may be a slow wrapper.
        return {"ssh": self.hosts[number].section(python="/usr/bin/python3", connection=f"far_{number}")}

    def secrets(self, connection_id: str) -> Credentials:
        """The Secrets port."""
        return self.hosts[int(connection_id.removeprefix("far_"))].credentials()

    def share(self, router: Any) -> None:
        """Let all routers that one process makes use one session a node: a login costs more than most tests."""
        for member in router.members:
            member.place = self._places.setdefault((os.getpid(), member.name), member.place)

    def kill_program(self, at: int, write: Callable[[], Any]) -> bool:
        """Let the far program of a writer of its own die at its n-th step; tell whether it had so many."""
        steps = self._folder / "steps"
        steps.unlink(missing_ok=True)

        def work() -> None:
            bundle.text = text_with(DYING.format(steps=str(steps), at=at))  # of this child only
            write()

        assert ended(in_child(work)) in ("", "RouterUnreachable")
        return steps.stat().st_size >= at


def text_with(code: str) -> Callable[[ModuleType], str]:
    """Return a ``bundle.text`` whose far programs run this before their first call."""
    honest = bundle.text
    return lambda program: honest(program).replace(bundle.SERVE, code + bundle.SERVE)
