"""What a proxy's existing configuration says of a service, and the same files with the service's lines in them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bluegreen.core.colors import Color
from bluegreen.core.errors import ReleaseRefused

PORTS = {"https": 443, "http": 80}
_ANY = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}


@dataclass(frozen=True)
class Listen:
    """
    Where a proxy takes requests for a color.

    :param scheme: http or https
    :param host: as the file says it: ``*``, ``10.0.0.5``, ``[::]``
    :param port: the port
    """

    scheme: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """Where this very host reaches it."""
        return f"{_ANY.get(self.host, self.host)}:{self.port}"


@dataclass(frozen=True)
class Existing:
    """
    What an existing configuration says of a service.

    :param backends: how it calls each color's servers
    :param servers: their addresses by color, as URLs
    :param odd: by color the server that has no such address, and where it stands
    :param listens: where it takes requests for the colors
    :param socket: HAProxy's admin socket, if there is one
    :param health: path that the proxy asks its servers for, if it does
    """

    backends: Mapping[Color, str]
    servers: Mapping[Color, Sequence[str]]
    listens: Sequence[Listen]
    odd: Mapping[Color, tuple[int, str]] = field(default_factory=dict)
    socket: str | None = None
    health: str | None = None

    def targets(self, color: Color, file: str) -> Sequence[str]:
        """
        Return a color's servers.

        :param file: for the error
        :raises ReleaseRefused: one of them has no address of its own
        """
        if color in self.odd:
            line, server = self.odd[color]
            step = f"name every server of {color} yourself: --{color} http://HOST:PORT, once each"
            fact = f"`{server}` does not say one host and port that it could be asked at"
            raise ReleaseRefused(fact, part=f"{file}:{line}", next_step=step)
        return self.servers[color]

    def entry(self, url: str, file: str) -> str:
        """
        Return where this host takes requests for an address of the service.

        :param url: the address that users reach it by
        :param file: for the error
        :raises ReleaseRefused: it listens nowhere for that scheme, or in several places that cannot be told apart
        """
        scheme, port = urlsplit(url).scheme, urlsplit(url).port
        fit = [one for one in self.listens if one.scheme == scheme]
        usual = [one for one in fit if one.port == (port or PORTS.get(scheme))]
        if scheme in PORTS and not usual and len({one.port for one in fit}) != 1:
            there = ", ".join(dict.fromkeys(f"{one.scheme} at {one.host}:{one.port}" for one in self.listens))
            fact = f"where requests for {url} come in cannot be told: what leads to the colors listens for {there or 'nothing'}"
            raise ReleaseRefused(fact, part=file, next_step="name the node yourself: --node, see bluegreen init --help")
        chosen = [one.address for one in usual or fit] or ["127.0.0.1:80"]  # a URL that is none is refused as such
        return next((one for one in chosen if one.startswith("127.")), chosen[0])


class Edit:
    """
    A text and what is to be changed in it; nothing else of it is touched.

    :param text: as it stands, or empty for a file that is to be made
    """

    def __init__(self, text: str) -> None:
        self.old = text
        self._lines = text.splitlines()
        self._instead: dict[int, Sequence[str]] = {}
        self._after: dict[int, list[str]] = {}

    def line(self, number: int) -> str:
        """Return a line; the first one is 1."""
        return self._lines[number - 1]

    def indent(self, number: int) -> str:
        """Return what a line begins with."""
        line = self.line(number)
        return line[: len(line) - len(line.lstrip())]

    def replace(self, number: int, lines: Iterable[str]) -> None:
        """Put lines in the place of one, indented as it is."""
        self._instead[number] = [self.indent(number) + line for line in lines]

    def add(self, number: int, lines: Iterable[str], indent: str = "") -> None:
        """Put lines below one; 0 is the top of the text."""
        self._after.setdefault(number, []).extend(indent + line if line else "" for line in lines)

    def once(self, number: int, line: str) -> None:
        """Put a line below one, as that is indented, unless this was done already."""
        line = (self.indent(number) or "    ") + line
        if line not in self._after.get(number, ()):
            self.add(number, [line])

    @property
    def new(self) -> str:
        """The text with everything done."""
        lines = list(self._after.get(0, ()))
        for number, line in enumerate(self._lines, start=1):
            lines += self._instead.get(number, [line])
            lines += self._after.get(number, ())
        return "".join(f"{line}\n" for line in lines)


def patch(edits: Mapping[Path, Edit]) -> str:
    """Return all changes as ``patch -d / -p0`` takes them; empty where there are none."""
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for path, edit in edits.items()
        if edit.new != edit.old
        for line in difflib.unified_diff(
            edit.old.splitlines(keepends=True),
            edit.new.splitlines(keepends=True),
            "/dev/null" if not edit.old else str(path).lstrip("/"),
            str(path).lstrip("/"),
        )
    )


def backends_of(known: Sequence[str], named: Mapping[Color, str], what: str, file: str) -> dict[Color, str]:
    """
    Return the backend of each color: what the user named, else the one with the color in its name.

    :param known: names in the file
    :param named: what the user said, by color
    :param what: how the file calls such a thing
    :raises ReleaseRefused: the file has no such backend, or which one is meant cannot be told
    """
    found = {color: [named[color]] if color in named else _like(color, known) for color in Color}
    said, step = f"it has {', '.join(known) or 'none'}", "name both: --backends BLUE,GREEN"
    for color, names in found.items():
        if len(names) != 1:
            raise ReleaseRefused(f"{len(names)} {what}s have {color} in their name: {said}", part=file, next_step=step)
        if names[0] not in known:
            raise ReleaseRefused(f"there is no {what} {names[0]}: {said}", part=file, next_step=step)
    return {color: names[0] for color, names in found.items()}


def _like(color: Color, known: Sequence[str]) -> list[str]:
    return [name for name in known if color in name.lower()]


def text_of(path: Path) -> str:
    """
    Return the text of a configuration, byte by byte as it stands: a comment may be in another encoding.

    :raises OSError: it cannot be read
    """
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def unclear(file: str, line: int, fact: str, service: str) -> ReleaseRefused:
    """Return the refusal of a change that cannot be made without guessing."""
    return ReleaseRefused(
        fact,
        part=f"{file}:{line}" if line else file,
        next_step=f"nothing was written; add by hand what `bluegreen lines {service}` prints",
    )
