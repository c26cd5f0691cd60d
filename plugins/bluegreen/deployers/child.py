"""A command of a deploy that runs here, and what every deploy says of a command: masked lines, the last ones quoted."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from bluegreen.core.masks import without
from bluegreen.deployers.fence import deploy_error
from bluegreen.hosts import host_child
from bluegreen.hosts.host_files import Trouble

TAIL = 15
"""Lines that an error quotes."""
LONGEST_LINE = 4096
"""Characters of a line that are passed on."""
LEFT_BEHIND = "a program that the command left behind still has its output, which ends now: redirect it"
_BUFFER = 1024 * 1024


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
        cwd, seconds = str(self.cwd or ""), self.timeout.total_seconds()
        try:
            whole = host_child.run(self.argv, self.env, cwd, seconds, lines.feed)
        except Trouble as trouble:
            lines.end()
            raise deploy_error(with_last_lines(trouble, self.argv[0], lines), self.service, self.part) from trouble
        lines.end()
        if not whole:
            self.say(LEFT_BEHIND)


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
        text = without(line.decode(errors="replace").rstrip(), self._hide)  # before the cut, or half of one could stay
        if text:
            text = text[:LONGEST_LINE]
            self._tail.append(text)
            self._say(text)


def with_last_lines(trouble: Trouble, program: str, lines: Lines) -> Trouble:
    """Return why a command failed, with its name; of one that was started, with its last lines."""
    said = lines.quoted() if trouble.kind == "ended" else ""
    return Trouble(trouble.kind, f"{program}: {trouble.fact}{said}", trouble.mend)


def spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return each secret as a command's output may show it: whole, line by line, in a URL, in JSON; the longest first."""
    whole = [secret.strip() for secret in secrets if secret.strip()]
    found = {part for secret in whole for part in _spelled(secret) if part.strip()}
    return tuple(sorted(found, key=len, reverse=True))


def _spelled(secret: str) -> tuple[str, ...]:
    in_json = (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    return (secret, quote(secret, safe=""), *secret.split("\n"), *in_json)
