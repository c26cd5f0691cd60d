"""Rollback on demand: stops a release under way, or goes back to the color before the last one while it is kept."""

from __future__ import annotations

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import NotProven, NotServing, ReleaseRefused
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.notify import Of, tell
from bluegreen.release.ports import Ports
from bluegreen.release.restore import Restored, restore, serves
from bluegreen.release.roles import roles_back


def rollback(ports: Ports, run: str, why: str, by: str) -> Restored:
    """
    Go back, whatever stands.

    Before a release's first shift this means "stop it, stay"; after one "back to the color that was live at its plan";
    after ``settled`` the same, while that color still runs that version.

    :param run: the DAG run that asks
    :raises ReleaseRefused: there is nothing to go back to
    :raises NotServing: the color to go back to has no healthy server
    :raises RolesAstray: the traffic is back, but a role is not
    """
    stamp = ports.router.read().stamp
    if stamp is None:
        raise _refused(ports, "the router bears no stamp", f"bluegreen adopt {ports.name}")
    # The restore keeps the release's name in the stamp: a try that Airflow repeats knows its own write by these words.
    ours = stamp.run == run or stamp.why.startswith(f"{by}: {run}: ")
    if stamp.phase.final and stamp.phase is not Phase.SETTLED and not ours:
        raise _refused(ports, f"{stamp.release} is {stamp.phase} already ({stamp.why})", "start a release instead")
    if stamp.phase is not Phase.SETTLED:
        found = restore(ports, f"{run}: {why}", by)
        if found.outcome != "finished":
            return _back(ports, found)
        stamp = found.reading.stamp or stamp  # it settled in between
    return _back_from_settled(ports, stamp, run, why, by)


def _back(ports: Ports, found: Restored) -> Restored:
    if not found.whole:
        raise NotProven(found.says, service=ports.name, part="rollback", next_step="look at once: bluegreen status")
    found.need_roles(ports.name)
    return found


def _back_from_settled(ports: Ports, stamp: Stamp, run: str, why: str, by: str) -> Restored:
    old = _kept(ports, stamp)
    epoch, said = stamp.epoch + 1, f"{by}: {why}"
    back = Stamp(epoch, f"{run}@{epoch}", "rollback", Phase.RESTORED, old, stamp.versions, at=ports.now(), why=said)
    reading = ports.send(Split.whole_on(old), stamp.identity, back, way_back=True)
    at = ports.now()
    # An alert that is still open is the undone release's.
    tell(
        ports, "rolled_back", reading, Phase.SETTLED, by, why, of=Of(run, stamp.release, stamp.versions.get(old.other))
    )
    proof = ports.prove(Split.whole_on(old))
    says = f"rolled back: {reading.says()}; {proof.says}: {proof.reason}"
    ports.log(says)
    if proof.proven is False:
        raise NotProven(proof.reason, service=ports.name, part="rollback", next_step="see bluegreen check")
    astray = roles_back(ports, reading)
    back_now = Restored("restored", reading, proof, f"{says}; {astray}" if astray else says, astray, at)
    back_now.need_roles(ports.name)
    return back_now


def _kept(ports: Ports, stamp: Stamp) -> Color:
    """Return the color to go back to, if it still runs what it ran."""
    old = stamp.back_to
    version = stamp.versions.get(old) if old else None
    if old is None or version is None:
        raise _refused(ports, f"no way back from {stamp.release}: {stamp.why}", "release the version you want instead")
    deployed = ports.deployer.status(old)
    if not deployed.health.serves:
        raise NotServing(
            f"has {deployed.ready} of {deployed.total} healthy targets",
            service=ports.name,
            part=old,
            next_step=f"start it again, or release {version} instead",
        )
    if not serves(ports, ports.router.read(), old):
        raise NotServing(
            "its targets answer, but the router gives none of them requests",
            service=ports.name,
            part=old,
            next_step="put its servers back: bluegreen status; nothing was moved",
        )
    if deployed.version != version:
        raise _refused(ports, f"{old} runs {deployed.version}, not {version} as before", f"release {version} instead")
    return old


def _refused(ports: Ports, fact: str, next_step: str) -> ReleaseRefused:
    return ReleaseRefused(fact, service=ports.name, part="rollback", next_step=next_step)
