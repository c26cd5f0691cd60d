"""Deploy to the idle color alone, for DAGs and people that move the traffic later, or test it first."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import BlueGreenError, ReleaseRefused, RouterError
from bluegreen.core.ports import Deployed
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.deploy import wait_for_router
from bluegreen.release.drain import wait_until_unused
from bluegreen.release.move import ours
from bluegreen.release.ports import Ports


def deploy_idle(ports: Ports, version: str, *, run: str, by: str) -> tuple[Color, Deployed]:
    """
    Bring a version onto the idle color; no traffic is moved, and nothing that ran there is a way back any more.

    The service is claimed meanwhile, so that no release and no other deploy has the color; whatever comes of it, the
    claim ends.

    :param version: to deploy
    :param run: who deploys; a repeated task of it goes on with its own claim
    :param by: the task, and who
    :raises ReleaseRefused: the service is not in a state to be deployed to
    :raises TrafficConflict: another release is under way
    :raises DeployError: the color is still in use, or the version did not come up
    :raises NotServing: the router takes none of the color's servers for healthy
    """
    reading = ports.router.read()
    claim, live = _claimed(ports, reading, version, run, by)
    try:
        wait_until_unused(ports, live.other, reading)
        found = ports.deployer.deploy(live.other, version, claim.epoch, claim.release)
        ports.log(f"{live.other} runs {found.version}: {found.ready} of {found.total} targets are healthy")
        wait_for_router(ports, live.other)
    except Exception as error:
        fact = error.fact if isinstance(error, BlueGreenError) else f"unexpected {type(error).__name__}"
        with suppress(RouterError):  # taken over meanwhile, or away: what went wrong before is what counts
            _end(ports, claim, live, {}, f"{by}: {version} is not on {live.other}: {fact.splitlines()[0]}")
        raise
    _end(ports, claim, live, {live.other: version}, f"{by}: {version} is on {live.other}, without traffic")
    return live.other, found


def _claimed(ports: Ports, reading: Reading, version: str, run: str, by: str) -> tuple[Stamp, Color]:
    stamp = ours(ports, reading, run)
    if stamp.phase.transitional or reading.live is None:
        raise ReleaseRefused(
            f"the traffic is not whole on one color: {reading.says()}",
            service=ports.name,
            part="deploy",
            next_step="nothing was touched; move it first, all of it",
        )
    live, epoch = reading.live, stamp.epoch + 1
    if stamp.phase is Phase.CLAIMED and stamp.step == by:
        return stamp, live
    claim = Stamp(
        epoch=epoch,
        release=f"{run}@{epoch}",
        step=by,
        phase=Phase.CLAIMED,
        back_to=live,
        versions={color: found for color, found in stamp.versions.items() if color is live},
        clients_follow_until=stamp.clients_follow_until,
        at=ports.now(),
        why=f"{by} deploys {version} to {live.other}",
    )
    ports.router.shift(Split.whole_on(live), stamp.identity, claim)
    ports.log(f"claimed at epoch {epoch}: {live} stays live, {version} goes to {live.other}")
    return claim, live


def _end(ports: Ports, claim: Stamp, live: Color, more: Mapping[Color, str], why: str) -> None:
    """Let the claim end; nobody goes back to what is there."""
    mark = replace(
        claim,
        epoch=claim.epoch + 1,
        phase=Phase.SETTLED,
        back_to=None,
        versions={**claim.versions, **more},
        at=ports.now(),
        why=why,
    )
    ports.router.shift(Split.whole_on(live), claim.identity, mark)
