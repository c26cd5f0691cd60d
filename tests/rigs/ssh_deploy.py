"""Two hosts behind real sshd processes, with a target of each color on both, that report what was deployed to them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.ports import Credentials, Deployer
from bluegreen.deployers.registry import make_deployer
from demo.processes import LOOPBACK
from tests.rigs.deploy_targets import NOT_LISTENING, Processes, Site, make_service, reports
from tests.rigs.sshd import Sshd

T = TypeVar("T")

SCRIPT = 'echo "deploying $VERSION as $HOST"; echo x >> "$0/ran"; printf %s "$VERSION" > "$0/$COLOR.version"'


@dataclass
class FarHostsRig:
    """
    Hosts by their name in the service file, each with a folder of its own.

    :param secrets: connections beside the one of the login, by id
    """

    service: Service
    folder: Path
    sshds: Mapping[str, Sshd]
    sites: Mapping[Color, Mapping[str, Site]]
    connections: Mapping[str, str]
    processes: Mapping[str, Processes]
    can: frozenset[str] = frozenset({"roles"})
    bad: str = "bad"
    stuck: str = NOT_LISTENING

    @property
    def hosts(self) -> list[str]:
        """The hosts' names, in their order."""
        return list(self.sshds)

    def on(self, host: str, *names: str) -> Path:
        """A path on a host."""
        return self.folder.joinpath(host, *names)

    def fence(self, host: str, color: Color = Color.GREEN) -> Path:
        """A color's fence file on a host."""
        return self.on(host, "state", "bluegreen", f"shop-{color}.fence")

    def secrets(self, connection_id: str) -> Credentials:
        """The Secrets port."""
        if connection_id in self.connections:
            return Credentials("somebody", self.connections[connection_id])
        return next(iter(self.sshds.values())).secrets(connection_id)

    def deployer(self) -> Deployer:
        """Make a deployer as another worker would."""
        return make_deployer(self.service, self.secrets)

    def ran(self, host: str) -> int:
        """Tell how many times the command ran on a host."""
        with suppress(FileNotFoundError):
            return len(self.on(host, "ran").read_text().splitlines())
        return 0

    def runs(self, role: str) -> set[Color]:
        """Tell on which colors a role really runs; the same on each host."""
        return _same(found.runs(role) for found in self.processes.values())

    def moves(self) -> list[str]:
        """Return what was really done with roles, in its order; the same on each host."""
        return _same(found.moves() for found in self.processes.values())

    def stick(self, role: str, color: Color, *, sticks: bool = True) -> None:
        """Let a role not stop on a color any more, on any host."""
        for found in self.processes.values():
            found.stick(role, color, sticks=sticks)

    def deploys(self) -> int:
        """Tell how many times the command ran; the same on each host."""
        return _same(self.ran(host) for host in self.hosts)


def _same(found: Iterable[T]) -> T:
    first, *more = found
    assert all(one == first for one in more), [first, *more]
    return first


@contextmanager
def far_hosts_rig(
    folder: Path,
    count: int = 2,
    connections: Mapping[str, str] | None = None,
    *,
    apart: bool = False,
    **deploy: Any,
) -> Iterator[FarHostsRig]:
    """
    Make hosts, which carry both colors.

    :param apart: the first one is blue, the others are green
    :param deploy: replaces keys of the deploy section, in whose texts ``FOLDER`` is the rig's folder
    """
    with ExitStack() as stack:
        sshds = [Sshd(folder / f"sshd{number}") for number in range(count)]
        hosts = {f"{LOOPBACK}:{sshd.port}": sshd for sshd in sshds}
        for host, sshd in hosts.items():
            (folder / host).mkdir()
            sshd.environment += f" XDG_STATE_HOME={folder / host / 'state'}"
            stack.enter_context(sshd)
            if sshd is not sshds[0]:  # one connection logs in everywhere
                shutil.copy(sshds[0].folder / "authorized_keys", sshd.folder)
        known = folder / "known_hosts"
        known.write_text("".join(sshd.known_hosts.read_text() for sshd in sshds))
        blue, green = (list(hosts)[:1], list(hosts)[1:]) if apart else (list(hosts), list(hosts))
        sites = {
            color: {host: stack.enter_context(Site(reports(folder / host / f"{color}.version"))) for host in of}
            for color, of in ((Color.BLUE, blue), (Color.GREEN, green))
        }
        section = _section(folder, known, sites) | _filled(deploy, folder)
        service = make_service({c: [site.url for site in sites[c].values()] for c in Color}, section)
        processes = {host: stack.enter_context(Processes(folder / host)) for host in hosts}
        yield FarHostsRig(service, folder, hosts, sites, connections or {}, processes)


def _section(folder: Path, known: Path, sites: Mapping[Color, Mapping[str, Site]]) -> dict[str, Any]:
    def on_host(script: str) -> list[str]:
        return ["sh", "-c", script, f"{folder}/$HOST"]

    return {
        "type": "ssh",
        "connection": "far_hosts",
        "known_hosts": str(known),
        "hosts": {str(color): list(of) for color, of in sites.items()},
        "targets": {
            host: [of[host].url for of in sites.values() if host in of] for each in sites.values() for host in each
        },
        "commands": [on_host(SCRIPT)],
        "retire": on_host('rm -f "$0/$COLOR.version"'),
        "diagnose": on_host('echo "log of $COLOR on $HOST"'),
        "ready_within": "300ms",
        "roles": Processes(folder / "$HOST").section("400ms"),
    }


def _filled(found: Any, folder: Path) -> Any:
    if isinstance(found, Mapping):
        return {key: _filled(value, folder) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_filled(value, folder) for value in found]
    return found.replace("FOLDER", str(folder)) if isinstance(found, str) else found
