"""One host of a deploy: its fence is ours as long as its connection, and it can say at any time what it has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bluegreen.catalog.models import Ssh
from bluegreen.core.masks import without
from bluegreen.core.ports import Credentials
from bluegreen.deployers import ssh_host
from bluegreen.deployers.child import LEFT_BEHIND, Lines, spellings, with_last_lines
from bluegreen.deployers.upload import Source
from bluegreen.hosts.host_child import GRACE
from bluegreen.hosts.host_files import Trouble

if TYPE_CHECKING:
    from bluegreen.hosts.ssh_session import Session

SLACK = 15.0
"""Seconds that an answer may take beyond what it is about."""
PUT_SECONDS = 120.0
"""How long one part of an upload may take on a slow line."""
BEAT = ssh_host.SILENCE / 4
"""Seconds between two signs of life to a host that waits for others."""

Hear = Callable[[Any], None]


@dataclass(frozen=True)
class Command:
    """
    A command to run on a host; no shell.

    :param argv: program and arguments
    :param env: what it is told beyond what the host's login has; never printed
    :param cwd: where it runs, empty for the login's home
    :param timeout: after it the command and its group are ended
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    cwd: str
    timeout: timedelta


Step = tuple[str, Command | Source]
"""How errors call it, and what is to be done."""


class FarHost:
    """
    One host.

    :param name: as the service file calls it
    :param ssh: where, and how it is logged in to
    :param credentials: who logs in
    :param tag: tells uploads of several colors to one host apart
    :param say: gets each line of output
    :param secrets: what no line and no error may show
    """

    def __init__(
        self,
        name: str,
        ssh: Ssh,
        credentials: Credentials,
        tag: str,
        say: Callable[[str], None],
        secrets: Sequence[str],
    ) -> None:
        self.name, self.state = name, "as before: nothing was begun"
        self.done = self.before = ""
        self._ssh, self._credentials = ssh, credentials
        self._tag, self._say, self._hide = tag, say, spellings(secrets)
        self._session: Session | None = None
        self._beat: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()

    async def open(self) -> None:
        """
        Log in and start the program.

        :raises Trouble: as ``ssh_session.start``; ``refused``: asyncssh is not installed
        """
        try:
            from bluegreen.hosts.ssh_login import Login  # noqa: PLC0415 - an extra; who only asks needs none of it
            from bluegreen.hosts.ssh_session import start  # noqa: PLC0415 - the same
        except ImportError:
            mend = "pip install 'airflow-blue-green[ssh]'"
            raise Trouble("refused", "asyncssh is not installed here", mend) from None
        self._session = await start(Login(self._ssh, self._credentials), ssh_host)
        await self._ask("attend")
        self._beat = asyncio.create_task(self._keep_alive())

    async def enter(self, fence: Mapping[str, Any], epoch: int, release: str, wait: float) -> None:
        """
        Hold the host's fence until ``leave`` or ``close``; ``done`` and ``before`` say what was left in it.

        :param fence: folder, service and part
        :param wait: seconds that an older deploy is waited for
        :raises Trouble: ``fenced`` or ``refused``, as ``host_fence.HostFence.enter``
        """
        claim = {**fence, "epoch": epoch, "release": release, "wait": wait}
        found = await self._ask("enter", claim, wait + SLACK)
        self.done, self.before = found["done"], found["before"]

    async def leave(self) -> None:
        """Free the fence."""
        await self._ask("leave")

    async def left(self, fence: Mapping[str, Any]) -> str | None:
        """Return what the last holder of a fence has done; None for nobody yet, and while somebody holds it."""
        found: str | None = await self._ask("left", fence)
        return found

    async def bring(self, version: str, steps: Sequence[Step]) -> None:
        """
        Do every step, one after the other.

        :raises Trouble: which step failed and why; the later ones are not begun
        """
        for label, work in steps:
            self.state = f"{label} was begun"
            try:
                await (self.run(work) if isinstance(work, Command) else self.upload(work))
            except Trouble as trouble:
                raise Trouble(trouble.kind, f"{label}: {trouble.fact}", trouble.mend) from trouble
        self.state = f"{version} is there, its targets were not asked yet"

    async def finish(self, version: str) -> None:
        """Note that a version is up, so that a repeated task has nothing to do."""
        self.state = f"{version} is up"
        await self._ask("finish", {"version": version})

    async def run(self, command: Command, do: str = "run") -> None:
        """
        Run a command and pass its output on while it runs.

        :param do: ``run`` under the fence, or ``look``
        :raises Trouble: ``ended`` with its last lines; ``refused``, ``fenced`` or ``unreachable``
        """
        lines, seconds = Lines(self._say, self._hide), command.timeout.total_seconds()

        def hear(told: Mapping[str, str]) -> None:
            lines.feed(told["out"].encode("latin-1"))

        words = {"argv": list(command.argv), "env": dict(command.env), "cwd": command.cwd, "timeout": seconds}
        try:
            whole = await self._ask(do, words, seconds + GRACE + SLACK, hear)
        except Trouble as trouble:
            lines.end()
            raise with_last_lines(trouble, command.argv[0], lines) from trouble
        lines.end()
        if not whole:
            self._say(LEFT_BEHIND)

    async def upload(self, source: Source) -> None:
        """
        Bring a file or folder there, whole or not at all.

        :raises Trouble: ``refused``, ``fenced`` or ``unreachable``
        """
        where = {"to": source.to, "tag": self._tag}
        await self._ask("stage", {**where, "folder": source.folder})
        for parts in source.batches():
            await self._ask("put", {**where, "parts": parts}, PUT_SECONDS)
        await self._ask("commit", {**where, "modes": source.folder_modes()}, PUT_SECONDS)
        self._say(f"uploaded {source.path} to {source.to}")

    async def close(self) -> None:
        """Free the fence and end the connection; a command that still runs ends with it."""
        if self._beat:
            self._beat.cancel()
        if self._session:
            with suppress(Trouble):
                await self._ask("leave", patience=GRACE)
            await self._session.close()

    async def _ask(
        self, do: str, words: Mapping[str, Any] | None = None, patience: float = SLACK, hear: Hear | None = None
    ) -> Any:
        async with self._busy:
            session = self._session
            if session is None or not session.alive:
                raise Trouble("unreachable", f"the connection to {self.name} is lost", "see that host")
            try:
                return await session.ask({"do": do, "with": dict(words or {})}, patience, hear or (lambda _: None))
            except Trouble as trouble:
                mend = trouble.mend
                if trouble.kind == "unreachable":
                    mend = "what ran there ends with the connection; see that host"
                raise Trouble(trouble.kind, without(trouble.fact, self._hide), mend) from None

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            if not self._busy.locked():
                with suppress(Trouble):  # the next step says so
                    await self._ask("hold")


async def each(
    hosts: Sequence[FarHost], work: Callable[[FarHost], Awaitable[None]], at_once: int
) -> dict[FarHost, Trouble]:
    """
    Do something on several hosts at the same time; one that fails keeps no other from its own end.

    :param at_once: how many at most
    :returns: the trouble of each host that failed
    """
    free = asyncio.Semaphore(at_once)

    async def one(host: FarHost) -> None:
        async with free:
            await work(host)

    ends = await asyncio.gather(*(one(host) for host in hosts), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException) and not isinstance(end, Trouble):
            raise end
    return {host: end for host, end in zip(hosts, ends, strict=True) if isinstance(end, Trouble)}
