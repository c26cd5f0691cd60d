"""Sessions: a release that would log its users out, on the way forward or on the way back, does not go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bluegreen.checks.sessions import Crossing, Path, cross, entries, targets
from bluegreen.core.errors import CheckFailed
from bluegreen.core.ports import Renews, Secrets
from bluegreen.release.finished import still_ours
from bluegreen.release.plan import Plan
from bluegreen.release.ports import Ports

WITHIN = timedelta(seconds=5)
"""For one direction while the traffic is at risk: the shift's lease is the watch's, too."""

_BEFORE = "nothing was moved"
_SHIFTED = "the traffic is put back"


@dataclass(frozen=True)
class Kept:
    """
    What became of the sessions.

    :param release: run and claim
    :param crossings: each session, and where it was used
    :param warnings: what was lost and may be, and what could not be tried
    """

    release: str
    crossings: tuple[Crossing, ...]
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom and reports; nothing of a session is in it."""
        lines = [crossing.line for crossing in self.crossings]
        return {"release": self.release, "sessions": lines, "warnings": list(self.warnings)}


def sessions_before(ports: Ports, plan: Plan, secrets: Secrets) -> Kept:
    """
    Try both ways before any traffic moves: forward past the router, and back through the entry.

    :param secrets: where logins come from
    :raises ReleaseFinished: the release is over
    :raises TrafficConflict: another one holds the service
    :raises CheckFailed: a session was lost that must not be, or none could be made
    :raises SecretMissing: a connection is not there
    """
    still_ours(ports, plan.run, plan.release, ports.router.read())
    service, old, new = plan.service, plan.live, plan.idle
    forward = Path(entries(service)[0], old, targets(service, new), new)
    back = Path(targets(service, new)[0], new, entries(service), old)
    return _judged(ports, plan, cross(service, secrets, (forward, back), sure=True), _BEFORE)


def sessions_shifted(ports: Ports, plan: Plan, share: int, secrets: Secrets) -> Kept:
    """
    Try both ways as users go them, through every node's entry, while both colors have traffic.

    After the full switch the entry leads to the new color only: the old one is then asked past the router. The lease is
    renewed first, so that the watch finds as much of it as without us.

    :param share: what the new color has, in per cent
    :raises ReleaseFinished: the release is over
    :raises TrafficConflict: another one holds the service
    :raises CheckFailed: a session was lost that must not be, or none could be made
    """
    _renewed(ports, plan)
    service, old, new = plan.service, plan.live, plan.idle
    nodes, rarer = entries(service), min(share, 100 - share) / 100
    if share == 100:
        paths = (Path(targets(service, old)[0], old, nodes, new), Path(nodes[0], new, targets(service, old), old))
    else:
        paths = (Path(nodes[0], old, nodes, new, rarer), Path(nodes[0], new, nodes, old, rarer))
    within = min(WITHIN, service.release.lease / 6)
    return _judged(ports, plan, cross(service, secrets, paths, within=within), _SHIFTED)


def _renewed(ports: Ports, plan: Plan) -> None:
    reading = ports.router.read()
    still_ours(ports, plan.run, plan.release, reading)
    stamp, router = reading.stamp, ports.router
    # Whose lease is out has nothing to renew: whoever looks first puts the traffic back.
    if (
        stamp
        and stamp.lease
        and not stamp.lease_out(ports.now())
        and isinstance(router, Renews)
        and router.limits.renew
    ):
        router.renew(stamp.identity, ports.now() + plan.service.release.lease)


def _judged(ports: Ports, plan: Plan, found: list[Crossing], stage: str) -> Kept:
    for crossing in found:
        ports.log(f"sessions: {crossing.line}")
    sessions = plan.service.sessions
    lost = [crossing.line for crossing in found if crossing.kept is False]
    untried = [crossing.line for crossing in found if crossing.kept is None]
    if lost and sessions and sessions.lost == "refuse":
        # Who goes back meets the same: it is said which of both it was.
        raise CheckFailed(
            "; ".join(lost),
            service=plan.service.service,
            part="sessions",
            next_step=f"{stage}; give both colors one session store and one secret, or say "
            "sessions: {lost: allow, reason: …}",
        )
    allowed = [f"{line}; allowed: {sessions.reason}" for line in lost if sessions]
    warnings = tuple(allowed + untried)
    for line in warnings:
        ports.log(f"warning: {line}")
    return Kept(plan.release, tuple(found), warnings)
