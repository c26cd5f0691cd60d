"""The text of a new service file, with a comment at everything that somebody may want to change."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
import yaml

from bluegreen.catalog.schema import FIRST_LINE
from bluegreen.cli.found import Found, NodeAnswer
from bluegreen.core.colors import Color
from bluegreen.core.errors import ReleaseRefused


@dataclass(frozen=True)
class Kind:
    """
    What a kind of router wants to know of each node.

    :param spec: the keys of a node, in the order of ``--node``
    :param optional: how many of the last ones may be left out
    :param example: a node
    :param file: how its own configuration is called
    :param hint: comment at ``nodes``
    """

    spec: tuple[str, ...]
    optional: int
    example: str
    file: str
    hint: str

    @property
    def form(self) -> str:
        """How ``--node`` is written."""
        return "NAME=" + ",".join(self.spec[: len(self.spec) - self.optional]).upper()


KINDS = {
    "haproxy": Kind(
        ("socket", "map", "entry", "file"),
        1,
        "lb1=lb1:9999,/etc/haproxy/shop.map,lb1:80",
        "haproxy.cfg",
        "socket is a stats socket at level admin, a path on this host or host:port",
    ),
    "nginx": Kind(
        ("include", "status", "log", "entry"),
        0,
        "lb1=/etc/nginx/bluegreen/shop.conf,http://127.0.0.1:9145/shop,/var/log/nginx/shop-bluegreen.log,lb1:80",
        "nginx.conf",
        "include, status and log as on the node's own host",
    ),
}
_REMARKS = {
    "file": "the same file as seen from here",
    "entry": "where proof requests reach this node",
    "include": "what nginx.conf includes; all services of one nginx in one folder",
    "status": "answers what a worker runs by",
    "log": "the counters come from it",
    "config": "`check` and `lines` read it",
}


@dataclass(frozen=True)
class Answers:
    """
    What only the user knows.

    :param name: the service's
    :param router: kind of router
    :param entry: address that users reach the service by
    :param nodes: the router's
    :param blue: addresses of blue's servers
    :param green: addresses of green's servers
    :param backends: how the router's configuration calls each color's servers
    :param health: path of their health
    """

    name: str
    router: str
    entry: str
    nodes: Sequence[NodeAnswer]
    blue: Sequence[str]
    green: Sequence[str]
    backends: Mapping[Color, str]
    health: str

    @classmethod
    def asked(
        cls,
        name: str,
        router: str,
        entry: str,
        nodes: Sequence[str],
        blue: Sequence[str],
        green: Sequence[str],
        found: Found | None,
    ) -> Answers:
        """Take what the options said, then what the existing configuration says, and ask for the rest."""
        kind, said = KINDS[router], found.said if found else None
        entry = entry or _ask("--entry", "Address that users reach it by (URL)")
        named = [node_of(one, kind) for one in nodes]
        if found:
            named = [found.with_config(one) for one in named] or [found.node(name, entry)]
        return cls(
            name,
            router,
            entry=entry,
            nodes=named or [node_of(_ask("--node", f"First node ({kind.form})"), kind)],
            blue=blue or (found.targets(Color.BLUE) if found else [_ask("--blue", "First server of blue (URL)")]),
            green=green or (found.targets(Color.GREEN) if found else [_ask("--green", "First server of green (URL)")]),
            backends=said.backends if said else {color: f"{name}-{color}" for color in Color},
            health=(said.health if said else None) or "/health",
        )


def _ask(option: str, question: str) -> str:
    if not sys.stdin.isatty():
        raise ReleaseRefused("is missing", part=option, next_step="see bluegreen init --help")
    return str(typer.prompt(question, err=True)).strip()


def node_of(text: str, kind: Kind) -> NodeAnswer:
    """
    Read ``name=`` and the kind's keys, with commas between.

    :raises ReleaseRefused: it is something else
    """
    name, _, rest = text.partition("=")
    parts = [part.strip() for part in rest.split(",")]
    least = len(kind.spec) - kind.optional
    if not name or not least <= len(parts) <= len(kind.spec) or not all(parts):
        step = f"write {kind.form} like {kind.example}"
        raise ReleaseRefused(f"found {text!r}", part="--node", next_step=step)
    return NodeAnswer(name.strip(), dict(zip(kind.spec, parts, strict=False)))


def service_file(answers: Answers) -> str:
    """Return the whole text."""
    kind = KINDS[answers.router]
    return _TEMPLATE.format(
        first_line=FIRST_LINE,
        name=_yaml(answers.name),
        plain=answers.name,
        router=answers.router,
        entry=_yaml(answers.entry),
        hint=kind.hint,
        file=kind.file,
        nodes="\n".join(_node(node, kind) for node in answers.nodes),
        blue=_yaml(list(answers.blue)),
        green=_yaml(list(answers.green)),
        backends={color: _yaml(name) for color, name in answers.backends.items()},
        health=_yaml(answers.health),
    )


def write_new(path: Path, text: str) -> None:
    """
    Write a file.

    :raises ReleaseRefused: it is there
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        step = "init never overwrites: delete it, or name another: --out FILE"
        raise ReleaseRefused("is there already", part=str(path), next_step=step) from error


def _node(node: NodeAnswer, kind: Kind) -> str:
    lines = [f"name: {_yaml(node.name)}"]
    for key in [*(key for key in kind.spec if key != "entry"), "config", "entry"]:
        remark = f" # {_REMARKS[key]}" if key in _REMARKS else ""
        if key in node.fields:
            lines.append(f"{key}: {_yaml(node.fields[key])}{remark}")
        elif key == "config":
            lines.append(f"# config: /etc/{kind.file.split('.')[0]}/{kind.file}{remark}")
        else:
            lines.append(f"# {key}: …{remark}, where it is mounted elsewhere")
    return "    - " + "\n      ".join(lines)


def _yaml(value: str | list[str]) -> str:
    """Write a value the way YAML reads it back."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()


NEXT = """\
{path} is written. Next:
  bluegreen lines {name}    what to add to the router's own configuration
  bluegreen check {name}    whether it routes as it should
  bluegreen adopt {name}    before the first release"""

_TEMPLATE = """\
{first_line}
# Durations have a unit (500ms, 30s, 5m), shares are whole per cent, paths are as seen from the Airflow hosts.
# Secrets never stand here: name the id of an Airflow connection instead.
# What is wrong with this file says: bluegreen check --catalog

service: {name} # its DAG is release__{plain}; the file is called {plain}.yaml
description: ""
owner: release-engineering
tags: []

# The address that users reach the service by, through the router.
entry:
  url: {entry}
  color_header: X-Release-Color # the response header that says which color answered
  path: / # what proof requests ask for: cheap, no login
  # ca_file: /path/to/ca.pem # your own certificate authority, for https
  # connection: {plain}_entry # login of proof and smoke requests

# What decides the split. What to add to its configuration says: bluegreen lines {plain}
router:
  type: {router}
  nodes: # written in this order; {hint}
{nodes}
  backends: # as {file} calls them
    blue: {backends[blue]}
    green: {backends[green]}

# The servers of each color, reached directly.
colors:
  blue:
    targets: {blue}
  green:
    targets: {green}

health:
  path: {health}
  status: 200
  version: version # JMESPath of the version in the JSON answer; null when it says none

# Brings VERSION onto COLOR. SERVICE, EPOCH, RELEASE and TARGETS are in the environment, too; there is no shell.
deploy:
  type: command
  command: [/opt/{plain}/deploy.sh]
  # diagnose: [/opt/{plain}/diagnose.sh] # prints what a person wants to see first
  # retire: [/opt/{plain}/retire.sh] # stops what runs on COLOR
  timeout: 10m
  ready_within: 2m # from the command's end to healthy targets

# Requests to the idle color before it gets traffic.
prewarm:
  paths: [/]
  requests: 100 # a path
  concurrency: 10

# One request to every target of the idle color, and what its answer must be.
smoke:
  - path: {health}
    status: 200
    max_latency: 1s

release:
  canary: # growing shares; [] for none
    - share: 10
      watch: 5m
  watch: 5m # after the full switch
  rules: # what every watch holds
    - type: threshold
      metric: error_rate # per cent of the new color's requests
      max: 5
  lease: 60s # how long traffic may stay at risk without a living owner
  drain: 30s # how long finish waits for requests in flight on the old color
"""
