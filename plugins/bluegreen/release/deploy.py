"""Deploy: bring the version onto the idle color, and only while nothing uses it."""

from __future__ import annotations

from bluegreen.core.errors import TrafficConflict
from bluegreen.core.ports import Deployed
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase
from bluegreen.release.drain import wait_until_unused
from bluegreen.release.finished import not_finished
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
    wait_until_unused(ports, plan.idle, reading)
    deployed = ports.deployer.deploy(plan.idle, plan.version, plan.epoch, plan.release)
    ports.log(f"{plan.idle} runs {deployed.version}: {deployed.ready} of {deployed.total} targets are healthy")
    return deployed


def _still_claimed(ports: Ports, plan: Plan, reading: Reading) -> None:
    stamp = reading.stamp
    if stamp and stamp.release == plan.release and stamp.phase is Phase.CLAIMED and reading.live is plan.live:
        return
    not_finished(ports, plan.run, reading)
    raise TrafficConflict(
        f"{plan.release} does not hold the service: {reading.says()}",
        service=ports.name,
        part="deploy",
        next_step="nothing was deployed; see bluegreen status",
    )
