"""An existing haproxy.cfg or nginx.conf on this host, as ``bluegreen init --config`` sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bluegreen.core.colors import Color
from bluegreen.core.errors import ReleaseRefused
from bluegreen.routers.existing import Existing, text_of


@dataclass(frozen=True)
class NodeAnswer:
    """
    One node of the router.

    :param name: how reports call it
    :param fields: its other keys, in the order of the file
    """

    name: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """
    An existing configuration on this host.

    :param kind: of the router
    :param file: haproxy.cfg or nginx.conf
    :param said: what it says
    """

    kind: str
    file: Path
    said: Existing

    def targets(self, color: Color) -> Sequence[str]:
        """
        Return a color's servers.

        :raises ReleaseRefused: one of them has no address of its own
        """
        return self.said.targets(color, str(self.file))

    def with_config(self, node: NodeAnswer) -> NodeAnswer:
        """Return a node that the user named, with the file."""
        return NodeAnswer(node.name, {**node.fields, "config": str(self.file)})

    def node(self, service: str, entry: str) -> NodeAnswer:
        """
        Return this host as the only node, with files in the usual places.

        :raises ReleaseRefused: where it takes requests cannot be told
        """
        folder = self.file.parent / "bluegreen"
        fields = {"config": str(self.file), "entry": self.said.entry(entry, str(self.file))}
        if self.kind == "nginx":
            fields |= {"include": f"{folder}/{service}.conf", "status": f"http://127.0.0.1:9145/{service}"}
            fields |= {"log": f"/var/log/nginx/{service}-bluegreen.log"}
        else:
            fields |= {"socket": self.said.socket or "/run/haproxy/admin.sock", "map": f"{folder}/{service}.map"}
        return NodeAnswer("lb1", fields)


def kind_of(file: Path) -> str:
    """Return whose configuration a file is: nginx's has blocks in braces, HAProxy's has none."""
    return (
        "nginx"
        if re.search(r"^\s*(events|http|server|upstream\s+\S+)\s*\{", text_of(file), re.MULTILINE)
        else "haproxy"
    )


def existing(kind: str, file: Path, backends: str | None) -> Found:
    """
    Read an existing configuration.

    :param backends: blue's and green's name in it with a comma between, or None
    :raises ReleaseRefused: it cannot be told which of it is meant
    """
    from bluegreen.routers import haproxy_existing, nginx_existing  # noqa: PLC0415 - --help needs none of it

    names = [name.strip() for name in (backends or "").split(",")]
    if backends is not None and (len(names) != 2 or not all(names)):
        raise ReleaseRefused(f"found {backends!r}", part="--backends", next_step="write two names: BLUE,GREEN")
    named = dict(zip(Color, names, strict=True)) if backends else {}
    text = text_of(file)
    said = nginx_existing.read(str(file), named) if kind == "nginx" else haproxy_existing.read(text, str(file), named)
    return Found(kind, file.resolve(), said)
