"""A command and all its children: streamed, bounded, and ended with us however we end."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import DeployError

GRACE = timedelta(seconds=3)
"""Between asking a group to end and killing it."""
LINGER = timedelta(seconds=0.5)
"""How long output is read on after the command has ended, while somebody still holds it."""
TAIL = 15
"""Lines that an error quotes."""
LONGEST_LINE = 4096
"""Characters of a line that are passed on."""
_BUFFER = 1024 * 1024
_CHUNK = 64 * 1024
_TICK = 0.05

# A dead man's pipe: ``read`` fails when we are gone without a word, also by kill -9. The shell is not in the group.
_WATCH = 'read -r word || kill -s KILL -- "-$1"'


@dataclass(frozen=True)
class Child:
    """
    A command to run; no shell.

    :param argv: program and arguments
    :param env: its whole environment; never printed
    :param cwd: where it runs, None for here
    :param timeout: after it the command and its group are ended
    :param say: gets each line of its output as it comes
    :param hide: what lines must not show
    :param service: name in the catalog, for errors
    :param part: what the command is about, for errors
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path | None
    timeout: timedelta
    say: Callable[[str], None]
    hide: tuple[str, ...] = field(repr=False)
    service: str
    part: str

    def run(self) -> None:
        """
        Run it to its end.

        A program that it leaves behind goes on, in its own time; its output is not ours, and is cut.

        :raises DeployError: it cannot be started, does not end in time, or ends with another code than 0
        """
        lines = Lines(self.say, self.hide)
        with self._process() as process:
            self._follow(process, lines)
        if process.returncode != 0:
            raise self._error(f"{_ending(process.returncode)}{lines.quoted()}", "see the command's output in the log")

    @contextmanager
    def _process(self) -> Iterator[subprocess.Popen[bytes]]:
        process = self._start()
        try:
            with _watched(process.pid):
                try:
                    yield process
                finally:  # also a cancelled task's way out, and still watched: nothing of a deploy may outlive us
                    _end_group(process)
        finally:
            _end_group(process)  # the watcher itself could not be started
            if process.stdout:
                process.stdout.close()

    def _start(self) -> subprocess.Popen[bytes]:
        if self.cwd and not self.cwd.is_dir():
            raise self._error(f"cwd {self.cwd} is no folder", "mend deploy.cwd in the service file")
        try:
            return subprocess.Popen(
                self.argv,
                env=self.env,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise self._error("command not found", "mend deploy in the service file, or PATH") from error
        except OSError as error:
            raise self._error(f"cannot be started: {error.strerror}", "mend deploy in the service file") from error

    def _follow(self, process: subprocess.Popen[bytes], lines: Lines) -> None:
        if process.stdout is None:  # never: it is a pipe
            return
        deadline = Deadline(self.timeout)
        if not _stream(process, process.stdout.fileno(), lines, deadline):
            self.say("a program that the command left behind still has its output, which ends now: redirect it")
        lines.end()
        try:
            process.wait(deadline.left)
        except subprocess.TimeoutExpired as error:
            fact = f"did not end within {self.timeout.total_seconds():g} s and was killed{lines.quoted()}"
            raise self._error(fact, "see the command's output in the log, or raise its timeout") from error

    def _error(self, fact: str, next_step: str) -> DeployError:
        return DeployError(f"{self.argv[0]}: {fact}", service=self.service, part=self.part, next_step=next_step)


class Lines:
    """
    Bytes in, masked lines out.

    :param say: gets each line
    :param hide: what they must not show
    """

    def __init__(self, say: Callable[[str], None], hide: Iterable[str]) -> None:
        self._say, self._hide = say, spellings(hide)
        self._rest = b""
        self._tail: deque[str] = deque(maxlen=TAIL)

    def feed(self, chunk: bytes) -> None:
        """Take what came and pass whole lines on."""
        *whole, rest = (self._rest + chunk).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest[:_BUFFER]  # of an endless line the beginning counts
        for line in whole:
            self._pass(line)

    def end(self) -> None:
        """Pass on a last line without an end."""
        self._pass(self._rest)
        self._rest = b""

    def quoted(self) -> str:
        """Return the last lines as an error quotes them."""
        return "; its last lines:\n  " + "\n  ".join(self._tail) if self._tail else "; no output"

    def _pass(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        for secret in self._hide:  # before the cut, or half of one could stay
            text = text.replace(secret, "***")
        if text:
            text = text[:LONGEST_LINE]
            self._tail.append(text)
            self._say(text)


def spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return each secret as a command's output may show it: whole, line by line, in a URL; the longest first."""
    whole = [secret.strip() for secret in secrets if secret.strip()]
    found = {part for secret in whole for part in (secret, quote(secret, safe=""), *secret.split("\n")) if part.strip()}
    return tuple(sorted(found, key=len, reverse=True))


def _stream(process: subprocess.Popen[bytes], pipe: int, lines: Lines, deadline: Deadline) -> bool:
    """Pass output on until it ends, the process does, or the time is over; tell whether the output ended."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        end = deadline
        while end.left > 0:
            if end is deadline and process.poll() is not None:
                end = Deadline(LINGER)  # a pipeline's last part may end a little later
            if selector.select(min(_TICK, end.left)):
                chunk = os.read(pipe, _CHUNK)
                if not chunk:
                    return True
                lines.feed(chunk)
    return process.poll() is None


@contextmanager
def _watched(group: int) -> Iterator[None]:
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", _WATCH, "sh", str(group)],
        env={},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with suppress(OSError):  # somebody ended the watcher
            watcher.communicate(b"over\n")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a command that has not ended by itself, and its children; what one that has leaves behind is let be."""
    if process.returncode is not None:
        return
    try:
        _signal_group(process.pid, signal.SIGTERM)
        _await_end(process.pid, GRACE)
    finally:
        # Before the leader is reaped, so that the group's number is still its own.
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _await_end(pid: int, span: timedelta) -> None:
    deadline = Deadline(span)
    while deadline.left > 0 and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(_TICK)


def _ending(code: int) -> str:
    return f"ended with code {code}" if code > 0 else f"was ended by signal {signal.Signals(-code).name}"
