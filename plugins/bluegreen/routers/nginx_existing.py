"""An existing nginx.conf: what it says of a service, and the same files with the service's lines in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from bluegreen.catalog import models
from bluegreen.core.colors import Color, Split
from bluegreen.hosts.host_files import Trouble
from bluegreen.routers import nginx_command, nginx_config, nginx_include
from bluegreen.routers.existing import Edit, Existing, Listen, backends_of, text_of, unclear
from bluegreen.routers.nginx_config import Configuration, Directive


def read(file: str, named: Mapping[Color, str]) -> Existing:
    """
    Return what the file, with all that it includes, says of the colors.

    :param named: upstreams that the user named, by color
    :raises ReleaseRefused: which upstreams are meant cannot be told
    """
    found = _configuration(file)
    upstreams = {name: one for name, one in found.upstreams.items() if _around(one, "http")}
    backends = backends_of(list(upstreams), named, "upstream", file)
    servers = {id(one): one for place in _passes(found, backends) if (one := _around(place, "server"))}
    odd = {color: one for color, name in backends.items() for one in upstreams[name].own("server") if _odd(one)}
    return Existing(
        backends=backends,
        servers={color: _servers(upstreams[name]) for color, name in backends.items()},
        odd={color: (one.line, _written(one)) for color, one in odd.items()},
        listens=[listen for server in servers.values() for listen in _listens(server)],
    )


def _listens(server: Directive) -> Iterator[Listen]:
    """Yield where a server takes plain requests; sockets, QUIC and PROXY protocol are not for us."""
    told = server.own("listen")
    for args in [one.args for one in told] if told else [("80",)]:
        found = re.fullmatch(r"(\d+)|(\[[^]]+\]|[^:\[]+)(?::(\d+))?", args[0])
        if found and not {"quic", "proxy_protocol"} & set(args):
            port = int(found[1] or found[3] or 80)
            yield Listen("https" if "ssl" in args else "http", found[2] or "", port)


def _odd(server: Directive) -> bool:
    return server.args[0].startswith("unix:") or "$" in server.args[0]


def edits(service: models.Service, router: models.NginxRouter, node: models.NginxNode, live: Color) -> dict[Path, Edit]:
    """
    Return nginx's files with the lines that a service needs and does not have, and its first include file.

    :param live: the color that has the traffic now, and keeps it
    :raises ReleaseRefused: where a line belongs cannot be told without guessing
    """
    file = str(node.config)
    found, config = _configuration(file), nginx_config.host_config(service, router, node)
    texts = {name: Edit(text_of(Path(name))) for name in found.files}
    if not found.root.own("http"):
        raise unclear(file, 0, "there is no http { }", service.service)
    _top(found, texts[file])
    _http(found, texts[file], service, config, hitless=_hitless(config))
    passes = list(_passes(found, router.backends))
    pool = f"${service.service.replace('-', '_')}_pool"
    if not passes and not any(pool in one.args[0] for one in found.all("proxy_pass")):
        raise unclear(file, 0, f"no proxy_pass goes to {' or '.join(router.backends.values())}", service.service)
    for place in passes:
        _location(place, texts[place.file], service, config["log"])
    first = Edit("")
    first.add(0, nginx_include.render(config, {"split": str(Split.whole_on(live))}).splitlines())
    return {Path(name): edit for name, edit in texts.items()} | {node.include: first}


def _configuration(file: str) -> Configuration:
    """Read the files themselves: nginx cannot be asked for a configuration that it does not take."""
    import crossplane  # type: ignore[import-untyped]  # noqa: PLC0415 - only this kind of router needs it

    names = [one["file"] for one in crossplane.parse(file, check_ctx=False, check_args=False)["config"]]
    there = [name for name in dict.fromkeys(names) if Path(name).exists()]
    return Configuration.of("".join(f"# configuration file {name}:\n{text_of(Path(name))}\n" for name in there))


def _servers(upstream: Directive) -> list[str]:
    return [f"http://{nginx_config.address_of(one.args[0])}" for one in upstream.own("server") if not _odd(one)]


def _passes(found: Configuration, backends: Mapping[Color, str]) -> Iterator[Directive]:
    """Yield every proxy_pass that goes to a color, also by a variable that a map fills."""
    names = set(backends.values())
    variables = {
        one.args[1] for one in found.all("map") if any(names & set(row.args) or row.name in names for row in one.block)
    }
    for one in found.all("proxy_pass"):
        if _around(one, "http") and one.args[0].partition("://")[2].split("/")[0] in names | variables:
            yield one


def _around(place: Directive, name: str) -> Directive | None:
    block = place.parent
    while block and block.name != name:
        block = block.parent
    return block


def _written(one: Directive) -> str:
    """Return a directive as it may stand in a file again."""
    return (
        " ".join([one.name, *(f'"{arg}"' if re.search(r"[\s;{}]", arg) or not arg else arg for arg in one.args)]) + ";"
    )


def _top(found: Configuration, edit: Edit) -> None:
    if not found.root.own("worker_shutdown_timeout"):
        edit.add(0, ["worker_shutdown_timeout 30s;"])
    if not found.root.own("events"):
        edit.add(0, ["events { }"])


def _hitless(config: nginx_include.Config) -> bool:
    """Tell whether nginx knows keepalive_min_timeout; one that cannot be asked is taken for a new one."""
    with suppress(Trouble):
        return not nginx_config.too_old(nginx_command.dump(config)["version"])
    return True


def _http(
    found: Configuration, edit: Edit, service: models.Service, config: nginx_include.Config, *, hitless: bool
) -> None:
    """Put what all of nginx needs at the head of http { }."""
    http, include, name = found.root.own("http")[0], str(config["include"]), service.service.replace("-", "_")
    keep = hitless and not http.own("keepalive_min_timeout")
    lines = [f"keepalive_min_timeout {nginx_config.KEEPALIVE_MIN}s;"] if keep else []
    if include not in found.files and not _includes(found, include):
        lines.append(f"include {include};")
    if not any(f"${name}_status" in one.says() for one in found.all("return")):
        lines += nginx_config.status_server(service.service, str(config["status"]))
    head = http.line if edit.line(http.line).rstrip().endswith("{") else http.line + 1
    if not edit.line(head).rstrip().endswith("{"):
        raise unclear(http.file, http.line, "http { } begins in a way that cannot be added to", service.service)
    edit.add(head, lines, edit.indent(http.line) + "    ")


def _includes(found: Configuration, path: str) -> bool:
    """Tell whether nginx will read a file as soon as it is there."""
    texts = [re.sub(r"#.*", "", text_of(Path(name))) for name in found.files]
    patterns = [pattern for text in texts for pattern in re.findall(r"\binclude\s+[\"']?([^;\s\"']+)", text)]
    return any(fnmatch(path, str(Path(found.root.file).parent / pattern)) for pattern in patterns)


def _location(place: Directive, edit: Edit, service: models.Service, log: str) -> None:
    """Let a proxy_pass go by the draw, and keep the headers and logs that its place has now."""
    name, header = service.service.replace("-", "_"), service.entry.color_header
    scheme, _, rest = place.args[0].partition("://")
    whole = edit.line(place.line).strip()
    if "/" in rest or not re.fullmatch(r"proxy_pass\s[^;]*;\s*(#.*)?", whole):
        fact = f"`{whole}`: only a proxy_pass of one line, with no path after the upstream, can be changed"
        raise unclear(place.file, place.line, fact, service.service)
    block = place.parent or place
    kept = [
        _written(one)
        for directive in ("add_header", "access_log")
        if not block.own(directive)
        for one in block.inherited(directive)
    ]
    if any("\ufffd" in line for line in kept):
        raise unclear(place.file, place.line, "a header or log around it is not written in UTF-8", service.service)
    edit.replace(
        place.line,
        [
            f"proxy_pass {scheme}://${name}_pool;",
            *kept,
            f"add_header {header} ${name}_color always;",
            f"proxy_hide_header {header};",
            f"access_log {log} bluegreen_{name} if=$upstream_status;",
        ],
    )
