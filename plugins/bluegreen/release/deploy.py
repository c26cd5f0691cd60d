"""Deploy: bring the version onto the idle color, and only while nothing uses it."""

from __future__ import annotations

from bluegreen.core.errors import DeployError, TrafficConflict
from bluegreen.core.ports import Counts, Deployed
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase
from bluegreen.release.drain import in_flight
from bluegreen.release.finished import still_ours
from bluegreen.release.plan import Plan
from bluegreen.release.ports import Ports


def deploy(ports: Ports, plan: Plan) -> Deployed:
    """
    Deploy to the idle color.

    :raises ReleaseFinished: the release was ended in the meantime
    :raises TrafficConflict: somebody else holds the service
    :raises DeployError: the color is still in use, or the version did not come up
    """
    reading = ports.router.read()
    _still_claimed(ports, plan, reading)
    _wait_until_unused(ports, plan, reading)
    deployed = ports.deployer.deploy(plan.idle, plan.version, plan.epoch, plan.release)
    ports.log(f"{plan.idle} runs {deployed.version}: {deployed.ready} of {deployed.total} targets are healthy")
    return deployed


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


def _wait_until_unused(ports: Ports, plan: Plan, reading: Reading) -> None:
    follow = reading.stamp.clients_follow_until if reading.stamp else None
    if follow and follow > ports.now():
        seconds = (follow - ports.now()).total_seconds()
        ports.log(f"clients may still use {plan.idle} for {seconds:.0f} s: waiting")
        ports.sleep(seconds)
    if not isinstance(ports.router, Counts):
        return
    left: int | None = None
    for _ in ports.deadline(plan.service.release.drain).tries(first_pause=0.2):
        left = in_flight(ports, plan.idle)
        if left == 0:
            return
    raise DeployError(
        f"{'an unknown number of' if left is None else left} requests are still in flight on it",
        service=ports.name,
        part=plan.idle,
        next_step="wait for them, or give release.drain more time",
    )
