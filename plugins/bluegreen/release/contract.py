"""
Contract: the destructive half of a service's migrations, when nothing could still need what it takes away.

It refuses unless the last release is finished and nobody can go back, the soak time is over, the old color serves nothing
older, no session of it is left, every backfill is done, and the linter agrees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bluegreen.catalog.durations import text
from bluegreen.catalog.migrations import COLOR
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed, ReleaseRefused, RouterUnreachable
from bluegreen.core.ports import Secrets
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.migrations import ports as migrating
from bluegreen.release.migrate import (
    ask_live,
    backfills_left,
    connect_to,
    execute,
    lint_these,
    pending_of,
    settings_of,
)
from bluegreen.release.ports import Ports
from bluegreen.release.replicated import databases

CONTRACT = migrating.Phase.CONTRACT
_SESSIONS = (
    "SELECT pid, application_name, coalesce(client_addr::text, 'local') FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE %s ORDER BY backend_start LIMIT 10"
)


@dataclass(frozen=True)
class Ready:
    """
    What a contract would execute, and that nothing speaks against it.

    :param live: the color that has all traffic
    :param version: what runs there
    :param checksums: of each migration's text by name, in order
    :param accepted: findings of the linter that somebody answers for
    """

    live: Color
    version: str
    checksums: Mapping[str, str]
    accepted: tuple[dict[str, Any], ...] = ()

    @property
    def pending(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(self.checksums)

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom."""
        return {
            "live": self.live,
            "version": self.version,
            "pending": list(self.pending),
            "checksums": dict(self.checksums),
            "accepted": list(self.accepted),
        }


def ready(ports: Ports, secrets: Secrets) -> Ready:
    """
    Look at everything that could still need what is to be taken away.

    :returns: with nothing pending where nothing is to be done
    :raises ReleaseRefused: something could; nothing was touched
    :raises RouterUnreachable: a node does not answer: nobody knows
    :raises MigrationRefused: the linter does not agree, or the compatible half is not executed
    """
    service = ports.service
    pending = pending_of(service, secrets, CONTRACT, ports.log)
    live, stamp = _at_rest(ports)
    version = stamp.versions.get(live, "")
    if not pending:
        return Ready(live, version, {})
    _soaked(ports, stamp)
    _nothing_older(ports, live.other, version)
    if left := [one.name for one in backfills_left(service, secrets)]:
        raise _refused(ports, f"backfills are not done: {', '.join(left)}", "a release does them; or mend their drift")
    ports.log("every backfill is done")
    _no_sessions(ports, secrets, live.other)
    accepted = lint_these(pending, service, secrets, CONTRACT, ports.log)
    checksums = {one.name: hashlib.sha256(one.sql.encode()).hexdigest() for one in pending}
    return Ready(live, version, checksums, tuple(one.as_json() for one in accepted))


def contract(ports: Ports, secrets: Secrets, run: str, approved: Mapping[str, str] | None = None) -> dict[str, Any]:
    """
    Look again, execute, and ask the live color its smoke tests.

    :param run: for the history
    :param approved: checksums by name, as somebody said yes to; None where nobody is asked
    :raises ReleaseRefused: see ``ready``; or something else is pending by now than somebody said yes to
    :raises CheckFailed: the live color does not pass its smoke tests, before or without what was taken away
    :raises MigrationFailed: a statement failed; the next call goes on from there
    """
    found = ready(ports, secrets)
    if approved is not None:
        _as_approved(ports, found.checksums, approved)
    if found.pending:
        _live_works(ports, found, secrets, "before anything is executed", "nothing was touched; mend it first")
    applied = execute(ports.service, secrets, CONTRACT, run, ports.log) if found.pending else []
    step = "there is no way back of it: give the live version what it needs, by a release or by hand"
    _live_works(ports, found, secrets, f"after {', '.join(applied) or 'nothing'} was executed", step)
    return found.as_json() | {"applied": applied}


def _live_works(ports: Ports, found: Ready, secrets: Secrets, when: str, step: str) -> None:
    try:
        ask_live(ports.service, found.live, found.version, secrets, ports.log)
    except CheckFailed as error:
        raise CheckFailed(
            f"{found.live} does not pass its smoke tests {when}: {error.fact}",
            service=ports.name,
            part="contract",
            next_step=step,
        ) from error


def _at_rest(ports: Ports) -> tuple[Color, Stamp]:
    reading = ports.router.read()
    stamp, live = reading.stamp, reading.live
    if reading.unreachable:
        step = "nothing was touched; it needs every node"
        raise RouterUnreachable(reading.says(), service=ports.name, part="contract", next_step=step)
    if stamp is None or live is None or not reading.settled:
        raise _refused(ports, f"not in order: {reading.says()}", f"see bluegreen status {ports.name}")
    if stamp.phase is not Phase.SETTLED:
        fact = f"the last release, {stamp.release}, is {stamp.phase}: what serves may be the version from before"
        raise _refused(ports, fact, "finish a release first")
    if stamp.back_to is not None:
        raise _refused(
            ports,
            f"{stamp.back_to} is kept for a way back, and needs what would be taken away",
            f"start retire__{ports.name}, or wait until keep_old is over",
        )
    ports.log(f"{live} has all traffic, nobody can go back to {live.other}: {reading.says()}")
    return live, stamp


def _soaked(ports: Ports, stamp: Stamp) -> None:
    soak = settings_of(ports.service).contract.soak
    if stamp.at and ports.now() < stamp.at + soak:
        fact = f"the soak time ({text(soak)} since {stamp.at:%Y-%m-%d %H:%M:%S} UTC, {stamp.step}) is not over"
        raise _refused(ports, fact, f"start it again after {stamp.at + soak:%Y-%m-%d %H:%M:%S} UTC")
    ports.log(f"the soak time ({text(soak)}) is over")


def _nothing_older(ports: Ports, old: Color, version: str) -> None:
    """A retire that failed half-way has ended the way back all the same, while what it was to stop runs on."""
    found = ports.deployer.status(old)
    if found.health.serves and found.version != version:
        runs = found.version or "what tells no version"
        raise _refused(
            ports,
            f"{old} still runs {runs} ({found.ready} of {found.total} targets answer), not {version}",
            f"stop it: retire__{ports.name}",
        )
    ports.log(f"{old} runs nothing older than {version}")


def _as_approved(ports: Ports, pending: Mapping[str, str], approved: Mapping[str, str]) -> None:
    # A try before may have executed some of them: fewer are well, others are not.
    if other := [name for name, checksum in pending.items() if approved.get(name) != checksum]:
        raise _refused(ports, f"nobody said yes to {', '.join(other)} as it is now", "start it again, to be asked anew")


def _no_sessions(ports: Ports, secrets: Secrets, old: Color) -> None:
    settings = settings_of(ports.service)
    pattern = settings.contract.old_sessions
    if pattern is None:
        return
    from bluegreen.migrations.pg_errors import told  # noqa: PLC0415 - the driver is an extra

    for database in dict.fromkeys(databases(ports.service).values()):
        with told("sessions", "asked who is connected"), connect_to(ports.service, database, secrets)() as connection:
            rows = connection.execute(_SESSIONS, [pattern.replace(COLOR, old)]).fetchall()
        if rows:
            named = ", ".join(f"{name} (process {pid}, {address})" for pid, name, address in rows)
            raise _refused(ports, f"sessions of {old} are left: {named}", "stop what holds them")
    ports.log(f"no session of {old} is left: {pattern.replace(COLOR, old)}")


def _refused(ports: Ports, fact: str, step: str) -> ReleaseRefused:
    return ReleaseRefused(fact, service=ports.name, part="contract", next_step=f"nothing was touched; {step}")
