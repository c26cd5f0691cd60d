"""
Roles: workers, cron jobs and other parts that run on one color only follow the traffic, and never go before it.

A new version's worker eats the production queue for good, whereas traffic that was moved can be moved back. So roles
move last: forward once the full switch is written and proven, back once the traffic is whole again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from bluegreen.core.colors import Color
from bluegreen.core.errors import BlueGreenError, TrafficConflict
from bluegreen.core.ports import Renews, RunsRoles
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Stamp
from bluegreen.release.ports import Ports


def move_roles(ports: Ports, color: Color, stamp: Stamp) -> None:
    """
    Let every role run on a color that the traffic is whole on; the lease of its write is kept meanwhile.

    :param stamp: of the write that gave the color the traffic
    :raises DeployError: a role did not stop or start, or a newer write has moved it
    """
    if isinstance(ports.deployer, RunsRoles):
        with _leased(ports, stamp):
            ports.deployer.run_roles(color, stamp.epoch, stamp.release, stamp.versions)


def roles_back(ports: Ports, reading: Reading) -> str:
    """Let every role follow traffic that went back; raises nothing, as the traffic stays there: returns what is astray."""
    color = reading.split.whole if reading.split else None
    if color is None or reading.stamp is None:
        return ""
    try:
        move_roles(ports, color, reading.stamp)
    except Exception as error:  # noqa: BLE001 - whatever a deployer does, the word of the restore counts
        ports.log(f"the traffic is on {color}, its roles are not: {error}")
        return f"roles are astray: {error}"
    return ""


def roles_astray(ports: Ports, reading: Reading) -> list[str]:
    """
    Return the roles that were left half-way, or on another color than the one that has the traffic.

    :raises DeployError: the deployer cannot tell
    """
    if reading.live is None or not isinstance(ports.deployer, RunsRoles):
        return []
    return [role for role, color in ports.deployer.roles().items() if color is not reading.live]


@contextmanager
def _leased(ports: Ports, stamp: Stamp) -> Iterator[None]:
    """Keep a lease while roles move, which may take longer; their commands have time limits of their own."""
    router, lease, over = ports.router, ports.service.release.lease, Event()
    if stamp.lease is None or not isinstance(router, Renews) or not router.limits.renew:
        yield
        return

    def renew() -> None:
        while not over.wait(lease.total_seconds() / 4):
            try:
                router.renew(stamp.identity, ports.now() + lease)
            except TrafficConflict:
                return
            except BlueGreenError as error:
                ports.log(f"the lease was not renewed: {error}")

    thread = Thread(target=renew, name="bluegreen-roles-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
