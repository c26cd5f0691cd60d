"""What there is to know about a service in trouble, gathered at the same time: each part has its own time, none can fail."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from bluegreen.catalog.models import Service
from bluegreen.catalog.section import connections
from bluegreen.checks.looks import ENTRY_TIMEOUT, Look, look_at_targets, look_through_entry
from bluegreen.checks.names import NameAnswer, ask_names
from bluegreen.core.colors import Color
from bluegreen.core.errors import BlueGreenError
from bluegreen.core.masks import masked
from bluegreen.core.ports import Credentials, Finding, Secrets
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Stamp
from bluegreen.release.ports import Ports

SECONDS = {"router": 20.0, "check": 30.0, "names": 10.0, "logs": 40.0}
"""How long each part may take; targets and entry have the time-outs of their own requests and a little more."""
SLACK = 3.0
SECRET_WORDS = ("key", "pass", "secret", "token")


@dataclass(frozen=True)
class Facts:
    """
    Everything that was gathered; a part that could not be had is empty, and ``missing`` says why.

    :param service: the service
    :param now: aware UTC
    :param wanted: versions that colors should run, where a release knows it
    :param reading: the router
    :param findings: what the router's own check finds
    :param targets: an answer, or none, of each target of both colors
    :param entries: the same of each node's entry
    :param by_name: the same of the entry as users reach it
    :param names: what DNS servers say
    :param logs: by color, what the deployer's ``diagnose`` says beyond the targets' health
    :param missing: part -> why it is not there
    """

    service: Service
    now: datetime
    wanted: Mapping[Color, str] = field(default_factory=dict)
    reading: Reading | None = None
    findings: Sequence[Finding] = ()
    targets: Sequence[Look] = ()
    entries: Sequence[Look] = ()
    by_name: Look | None = None
    names: Sequence[NameAnswer] = ()
    logs: Mapping[Color, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The service's name."""
        return self.service.service

    @property
    def stamp(self) -> Stamp | None:
        """The router's stamp."""
        return self.reading.stamp if self.reading else None

    def version(self, color: Color) -> str | None:
        """Return the version that a color should run: the release's, else the stamp's."""
        return self.wanted.get(color) or (self.stamp.versions.get(color) if self.stamp else None)

    def of(self, color: Color) -> list[Look]:
        """Return the looks at a color's targets."""
        return [look for look in self.targets if look.color == color]


def gather(ports: Ports, secrets: Secrets, wanted: Mapping[Color, str] | None = None) -> Facts:
    """
    Ask everything at the same time; reads only, raises nothing.

    :param secrets: the entry's login, and what must not be shown
    :param wanted: versions that colors should run
    """
    service = ports.service
    hidden, login, unread = _secrets(service, secrets)
    look = service.health.timeout.total_seconds() + SLACK
    parts: dict[str, tuple[float, Callable[[], Any]]] = {
        "router": (SECONDS["router"], ports.router.read),
        "check": (SECONDS["check"], lambda: tuple(ports.router.check())),
        "targets": (look, lambda: look_at_targets(service, hidden)),
        "entry": (ENTRY_TIMEOUT.total_seconds() + SLACK, lambda: look_through_entry(service, login, hidden)),
        "names": (SECONDS["names"], lambda: ask_names(_hosts(service))),
    }
    logs = {f"logs of {color}": partial(ports.deployer.diagnose, color) for color in Color}
    parts |= {name: (SECONDS["logs"], work) for name, work in logs.items()}
    found, missing = beside(parts)
    entries = found.get("entry") or [None]
    return Facts(
        service,
        ports.now(),
        wanted or {},
        found.get("router"),
        found.get("check", ()),
        found.get("targets", ()),
        entries[:-1],
        entries[-1],
        found.get("names", ()),
        {color: _beyond_health(found.get(f"logs of {color}", ""), service, color, hidden) for color in Color},
        {part: masked(why, hidden) for part, why in (unread | missing).items()},
    )


def beside(parts: Mapping[str, tuple[float, Callable[[], Any]]]) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Do all at the same time, and wait for each only as long as it has.

    :param parts: name -> seconds and the question
    :returns: answers by name, and why the others have none
    """
    began, asked = time.monotonic(), {name: (seconds, _started(work)) for name, (seconds, work) in parts.items()}
    found, missing = {}, {}
    for name, (seconds, future) in asked.items():
        try:
            found[name] = future.result(max(0.0, began + seconds - time.monotonic()))
        except TimeoutError:
            missing[name] = f"no answer within {seconds:g} s"
        except BlueGreenError as error:
            missing[name] = str(error)
        except Exception as error:  # noqa: BLE001 - one part's nonsense must not hide the others
            missing[name] = f"unexpected {type(error).__name__}: {error}"
    return found, missing


def _started(work: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            future.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - one that ends a program ends this question only
            future.set_exception(RuntimeError(repr(error)))

    # A daemon, no pool: a question that hangs must not keep the command from ending.
    Thread(target=run, daemon=True).start()
    return future


def _secrets(service: Service, secrets: Secrets) -> tuple[list[str], Credentials | None, dict[str, str]]:
    """Return what must not be shown, the entry's login, and which connections cannot be had."""
    hidden, login, missing = [], None, {}
    for name in sorted(connections(service)):
        try:
            found = secrets(name)
        except BlueGreenError as error:
            missing[f"connection {name}"] = str(error)
            continue
        hidden += [found.password, b64encode(f"{found.login}:{found.password}".encode()).decode()]
        hidden += [str(value) for key, value in found.extra.items() if any(word in key for word in SECRET_WORDS)]
        login = found if name == service.entry.connection else login
    return [secret for secret in hidden if len(secret) > 3], login, missing


def _hosts(service: Service) -> list[str]:
    addresses = [service.entry.url, *(f"//{node.entry}" for node in service.router.nodes)]
    addresses += [target for color in Color for target in service.colors[color].targets]
    return [host for address in addresses if (host := urlsplit(address).hostname)]


def _beyond_health(text: str, service: Service, color: Color, hidden: Sequence[str]) -> str:
    """Return what a deployer's diagnose says beyond the targets' answers, which stand elsewhere with more."""
    targets = service.colors[color].targets
    lines = [line for line in text.splitlines() if not any(line.startswith(f"{target}: ") for target in targets)]
    return masked("\n".join(lines), hidden)
