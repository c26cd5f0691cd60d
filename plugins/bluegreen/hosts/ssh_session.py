"""
A place over SSH: one connection and one remote program, kept for many calls.

A call that may have been done is never repeated: when the connection is lost in the middle, the caller hears that the
host is unreachable and reads again.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

import asyncssh

from bluegreen.catalog.models import Ssh
from bluegreen.core.ports import Credentials
from bluegreen.hosts import background, bundle
from bluegreen.hosts.host_files import Trouble
from bluegreen.hosts.ssh_login import Login

START_SECONDS = 5.0
"""How long sudo and Python may take to start there."""

ANSWER_SECONDS = 10.0
"""How long a call may take unless the place says otherwise; a swap waits 5 s for another writer."""

MOST_BEFORE_READY = 200

Hear = Callable[[Any], None]


def _deaf(_: Any) -> None:
    """Nothing: most programs tell no more than their answer."""


class OverSsh:
    """
    Another host, over SSH; implements ``places.Place``.

    :param program: the module, with its ``FUNCTIONS``
    :param ssh: where, as the service file says
    :param credentials: who logs in
    :param patience: seconds that one call may take
    """

    def __init__(
        self, program: ModuleType, ssh: Ssh, credentials: Credentials | None = None, patience: float = ANSWER_SECONDS
    ) -> None:
        self.program, self.login, self.patience = program, Login(ssh, credentials or Credentials()), patience
        self._kept: dict[int, _Kept] = {}
        weakref.finalize(self, _let_go, self._kept)

    @property
    def name(self) -> str:
        """How errors call it."""
        return self.login.name

    def __repr__(self) -> str:
        return f"OverSsh({self.name})"

    def call(self, do: str, **arguments: Any) -> Any:
        """
        Run one function of the program there and wait for it.

        :raises Trouble: what the program says; or unreachable, or refused, when it cannot even be asked
        """
        return background.wait(self._answer(self._own(), do, arguments))

    async def acall(self, do: str, **arguments: Any) -> Any:
        """Do the same without holding up the loop."""
        return await asyncio.wrap_future(background.submit(self._answer(self._own(), do, arguments)))

    def _own(self) -> _Kept:
        """Return what this process keeps; a forked child begins anew and leaves its parent's session alone."""
        return self._kept.setdefault(os.getpid(), _Kept())  # in one step, as threads share a place

    async def _answer(self, kept: _Kept, do: str, arguments: dict[str, Any]) -> Any:
        try:
            async with asyncio.timeout(self.patience):
                await kept.lock.acquire()
        except TimeoutError:
            fact = f"{self.name} is busy with another call for more than {self.patience:g} s"
            raise Trouble("unreachable", fact, "nothing was asked; try again") from None
        try:
            if kept.session is None or not kept.session.alive:
                kept.session = None  # dead before anything was sent: no harm in a new one
                kept.session = await start(self.login, self.program)
            return await kept.session.ask({"do": do, "with": arguments}, self.patience)
        finally:
            kept.lock.release()


class _Kept:
    """What one process keeps of a place; used on the background loop only."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.session: Session | None = None


def _let_go(kept: dict[int, _Kept]) -> None:
    own = kept.get(os.getpid())
    if own and own.session:
        background.submit(own.session.close())


async def start(login: Login, program: ModuleType) -> Session:
    """
    Log in and start a program.

    :raises Trouble: it cannot be started; what is missing there is named
    """
    connection = await login.connect()
    session = None
    try:
        async with asyncio.timeout(START_SECONDS):
            process = await connection.create_process(command(login.ssh), encoding="utf-8", errors="replace")
            session = Session(login, connection, process)
            await session.begin(bundle.text(program))
            return session
    except TimeoutError:
        connection.abort()
        fact = f"{login.ssh.python} did not start on {login.name} within {START_SECONDS:g} s"
        raise Trouble("unreachable", fact, "see what holds that host up") from None
    except (OSError, asyncssh.Error) as error:
        connection.abort()
        raise _no_session(login, error) from None
    except BaseException:
        connection.abort()
        raise


def command(ssh: Ssh) -> str:
    """Return what the login's shell there is to run."""
    # -I: a json.py in the working directory must not be imported, least of all as root.
    words = [*(["sudo", "-n"] if ssh.sudo else []), ssh.python, "-I", "-c", bundle.BOOT]
    return shlex.join(words)


def _no_session(login: Login, error: Exception) -> Trouble:
    if isinstance(error, asyncssh.ChannelOpenError):
        fact = f"{login.name} opens no session after the login: {error.reason}"
        return Trouble("refused", fact, "see MaxSessions and PermitTTY/ForceCommand in its sshd_config")
    words = getattr(error, "reason", None) or str(error)
    return Trouble("unreachable", f"{login.name} was lost while the program was started: {words}", "try again")


class Session:
    """
    One remote program that answers calls, one at a time.

    :param login: for errors
    :param connection: its own; ends with it
    :param process: the program's input and output
    """

    def __init__(
        self, login: Login, connection: asyncssh.SSHClientConnection, process: asyncssh.SSHClientProcess[str]
    ) -> None:
        self._login, self._connection, self._process = login, connection, process
        self._dropped = False
        self._said: deque[str] = deque(maxlen=20)
        # Read all the time: a program that nobody listens to stands still.
        self._listening = asyncio.create_task(self._listen())

    @property
    def alive(self) -> bool:
        """Whether a call may be sent."""
        ended = self._process.stdout.at_eof() or self._process.is_closing()
        return not (self._dropped or ended or self._connection.is_closed())

    async def begin(self, text: str) -> None:
        """
        Send the program and wait for its first word.

        :raises Trouble: refused, as something is missing there
        """
        with suppress(BrokenPipeError):  # it has ended already: what it said is read below, and tells why
            self._process.stdin.write(json.dumps(text) + "\n")
        before: list[str] = []
        while line := await self._line():
            if line.startswith(bundle.READY):
                self._require_version(line.removeprefix(bundle.READY).strip())
                return
            before = [*before, line.strip()][-MOST_BEFORE_READY:]
        await self._end()
        raise self._not_started(before)

    async def ask(self, call: dict[str, Any], patience: float, hear: Hear = _deaf) -> Any:
        """
        Send one call and return what it gave.

        :param hear: gets what the program tells before its answer
        :raises Trouble: the program's own; unreachable when no answer came, though the call may have been done
        """
        try:
            async with asyncio.timeout(patience):
                self._process.stdin.write(json.dumps(call) + "\n")
                while "told" in (answer := json.loads(await self._whole_line())):
                    hear(answer["told"])
        except BaseException as error:
            self.abort()  # whatever comes later would be taken for the next call's answer
            if isinstance(error, TimeoutError):
                raise self._lost(f"no answer within {patience:g} s") from None
            if isinstance(error, OSError | asyncssh.Error | ValueError):
                raise self._lost(getattr(error, "reason", None) or str(error)) from None
            raise
        if "trouble" in answer:
            raise Trouble(*answer["trouble"])
        return answer["done"]

    async def close(self) -> None:
        """Say goodbye, which ends the program's input and so the program."""
        self._dropped = True
        self._connection.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._dropped = True
        self._connection.abort()

    async def _line(self) -> str:
        """Return a whole line, or less at the end; one read gives no more than the channel's window."""
        parts: list[str] = []
        while not parts or not parts[-1].endswith("\n"):
            part = await self._process.stdout.readline()
            if not part:
                break
            parts.append(part)
        return "".join(parts)

    async def _whole_line(self) -> str:
        line = await self._line()
        if not line.endswith("\n"):
            raise self._lost(await self._end())
        return line

    async def _listen(self) -> None:
        with suppress(OSError, asyncssh.Error):  # it ends with the connection, however that ends
            async for line in self._process.stderr:
                self._said.append(line.strip())

    async def _end(self) -> str:
        """Wait for the program's end and say how it was."""
        await self._process.wait_closed()
        await self._listening
        signal = self._process.exit_signal
        return f"the program there was ended by SIG{signal[0]}" if signal else "the program there ended"

    def _lost(self, words: str) -> Trouble:
        fact = f"{self._login.name} was lost in the middle of a call: {words}"
        return Trouble("unreachable", fact, "whether it was done is not known; read again")

    def _require_version(self, version: str) -> None:
        if tuple(int(part) for part in version.split(".")) < bundle.OLDEST:
            oldest = ".".join(map(str, bundle.OLDEST))
            fact = f"{self._login.ssh.python} on {self._login.name} is Python {version}, wanted {oldest} or later"
            raise Trouble("refused", fact, "install a newer one there and name it as ssh.python")

    def _not_started(self, before: list[str]) -> Trouble:
        login, python = self._login, self._login.ssh.python
        sudo = [line for line in self._said if line.startswith("sudo:")]
        words = " | ".join([line for line in [*before, *self._said] if line][-3:])[:300] or "nothing"
        missing = self._process.exit_status == 127 or "not found" in words
        if login.ssh.sudo and sudo and not missing:
            path = python if python.startswith("/") else f"/usr/bin/{python}"
            fact = f"sudo on {login.name} does not just start {python}; it said: {' | '.join(sudo)[:300]}"
            return Trouble("refused", fact, f"add to sudoers there: {login.user} ALL=(root) NOPASSWD: {path}")
        if missing:
            tool = "sudo" if login.ssh.sudo and not sudo else python
            mend = "install it" if tool == "sudo" else "install Python 3.9 or later, or name it as ssh.python"
            return Trouble("refused", f"there is no {tool} on {login.name}; its shell said: {words}", mend)
        fact = f"{python} did not start on {login.name} (exit code {self._process.exit_status}); it said: {words}"
        mend = "give Python 3.9 or later as ssh.python; see the login's shell, and what it runs at a login"
        return Trouble("refused", fact, mend)
