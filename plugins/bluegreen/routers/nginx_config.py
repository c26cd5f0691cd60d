"""The lines that a service needs in nginx.conf, and how an existing configuration is read."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.routers import nginx_include

HITLESS = (1, 27, 4)
"""The first nginx that knows ``keepalive_min_timeout``."""
KEEPALIVE_MIN = 5
"""Seconds that an old worker keeps an idle client after a reload, as the lines recommend."""
STATUS_TIMEOUT = 1.0


def host_config(service: models.Service, router: models.NginxRouter, node: models.NginxNode) -> nginx_include.Config:
    """Return what ``nginx_host`` wants to know of a node."""
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
        parts = re.split(r"^# configuration file (.+):\n", dump, flags=re.MULTILINE)
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
    import crossplane  # type: ignore[import-untyped]  # noqa: PLC0415 - only this kind of router needs it

    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        parsed = crossplane.parse(file.name, single=True, check_ctx=False, check_args=False)
    return list(parsed["config"][0]["parsed"])


_TEMPLATE = """\
# {service}: add these lines to nginx.conf on {nodes}, then reload nginx once.
# without it old workers stay as long as their slowest client
worker_shutdown_timeout 30s;

http {{
    # nginx 1.27.4 or later; without it each reload resets kept-alive clients that are idle
    keepalive_min_timeout {keepalive}s;

{upstreams}
    include {include};

    # the service's own server: its listen, server_name and TLS lines stay as they are
    server {{
        location / {{
            proxy_pass http://${name}_pool;
            # access_log and add_header take the place of those of server and http: repeat yours here
            add_header {header} ${name}_color always;
            proxy_hide_header {header};
            access_log {log} bluegreen_{name} if=$upstream_status;
        }}
    }}

{server}
}}

{split} {include} before the first start (where green is live: `* {green};` and split=0%2F100):
{initial}"""

_SPLIT = "# The include file"


def lines_to_add(service: models.Service, router: models.NginxRouter) -> str:
    """Return the exact lines to add to an existing nginx.conf, and the initial include file; a text for each set of paths."""
    alike: dict[tuple[Any, ...], list[models.NginxNode]] = {}
    for node in router.nodes:
        alike.setdefault((node.include, node.status, node.log), []).append(node)
    return "\n".join(_lines(service, router, nodes) for nodes in alike.values())


def _lines(service: models.Service, router: models.NginxRouter, nodes: Sequence[models.NginxNode]) -> str:
    config = host_config(service, router, nodes[0])
    upstreams = [
        f"    upstream {backend} {{\n" + "".join(f"        server {at};\n" for at in addresses_of(urls)) + "    }\n"
        for backend, urls in config["servers"].items()
    ]
    return _TEMPLATE.format(
        service=service.service,
        nodes=", ".join(node.name for node in nodes),
        keepalive=KEEPALIVE_MIN,
        upstreams="".join(upstreams),
        include=config["include"],
        name=service.service.replace("-", "_"),
        header=service.entry.color_header,
        log=config["log"],
        server="\n".join(f"    {line}" for line in status_server(service.service, nodes[0].status)),
        split=_SPLIT,
        green=router.backends[Color.GREEN],
        initial=nginx_include.render(config, {"split": "100/0"}),
    )


def status_server(service: str, url: str) -> list[str]:
    """Return the server that says what a worker runs by."""
    address = urlsplit(url)
    return [
        f"# for {url}: one such server for all services",
        "server {",
        f"    listen {address.netloc};",
        f"    location = {address.path or '/'} {{",
        "        access_log off;",
        f"        return 200 ${service.replace('-', '_')}_status;",
        "    }",
        "}",
    ]


def addresses_of(urls: Sequence[str]) -> list[str]:
    """Return servers as an upstream names them, always with their port."""
    return [address_of(urlsplit(url).netloc, 443 if url.startswith("https") else 80) for url in urls]


def address_of(text: str, port: int = 80) -> str:
    """Return host and port of a server as an upstream, or a URL, may name it."""
    return text if re.search(r":\d+$", text) or text.startswith("unix:") else f"{text}:{port}"


def too_old(version: str) -> bool:
    """Tell whether what ``nginx -v`` says is older than ``HITLESS``."""
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", version)
    return found is not None and tuple(map(int, found.groups())) < HITLESS


def seconds(text: str) -> float:
    """Return a time of nginx's in seconds: ``5s``, ``500ms``, ``1m30s``, ``5``."""
    units = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(int(count) * units[unit] for count, unit in re.findall(r"(\d+)(ms|s|m|h|d|)", text))
