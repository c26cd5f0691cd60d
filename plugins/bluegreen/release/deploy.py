"""Deploy: bring the version onto the idle color, and only while nothing uses it."""

from __future__ import annotations

from bluegreen.catalog.durations import text
from bluegreen.core.colors import Color
from bluegreen.core.errors import NotServing, TrafficConflict
from bluegreen.core.ports import Deployed
from bluegreen.core.reading import Health, Reading
from bluegreen.core.stamp import Phase
from bluegreen.release.drain import wait_until_unused
from bluegreen.release.finished import still_ours
from bluegreen.release.plan import Plan
from bluegreen.release.ports import Ports


def deploy(ports: Ports, plan: Plan) -> Deployed:
    """
    Deploy to the idle color.

    :raises ReleaseFinished: the release was ended in the meantime
    :raises TrafficConflict: somebody else holds the service
    :raises DeployError: the color is still in use, or the version did not come up
    :raises NotServing: the router takes none of the color's servers for healthy
    """
    reading = ports.router.read()
    _still_claimed(ports, plan, reading)
    wait_until_unused(ports, plan.idle, reading)
    deployed = ports.deployer.deploy(plan.idle, plan.version, plan.epoch, plan.release)
    ports.log(f"{plan.idle} runs {deployed.version}: {deployed.ready} of {deployed.total} targets are healthy")
    wait_for_router(ports, plan.idle)
    return deployed


def wait_for_router(ports: Ports, color: Color) -> None:
    """
    Wait until the router, too, has the color's servers up: its own checks come later than ours.

    With fewer than all it goes on, as the switch counts them; with none there is nothing to give traffic to.

    :raises NotServing: it has none
    """
    within, seen = ports.service.deploy.ready_within, Health(0, 0)
    for attempt in ports.deadline(within).tries():
        found = ports.router.read().worst_health(color)
        if found is None or found.ready >= found.total:
            return
        seen = found
        if attempt == 1:
            ports.log(f"the router has {seen.ready} of {seen.total} servers of {color} up: waiting for its checks")
    if not seen.serves:
        raise NotServing(
            f"the router has none of {seen.total} servers up within {text(within)}, though they answer directly",
            service=ports.name,
            part=color,
            next_step="see what its own health check asks, and from where; no traffic was moved",
        )
    ports.log(f"the router has {seen.ready} of {seen.total} servers of {color} up after {text(within)}")


def _still_claimed(ports: Ports, plan: Plan, reading: Reading) -> None:
    still_ours(ports, plan.run, plan.release, reading)
    if reading.stamp and reading.stamp.phase is Phase.CLAIMED and reading.live is plan.live:
        return
    raise TrafficConflict(
        f"{plan.idle} is not idle any more: {reading.says()}",
        service=ports.name,
        part="deploy",
        next_step="nothing was deployed; see bluegreen status",
    )
