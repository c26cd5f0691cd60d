"""With `deploy.ask: pods` a watch asks pods, as the deploy does: nobody but the cluster reaches the targets."""

import asyncio

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError
from bluegreen.core.ports import Deployed
from bluegreen.release.evidence import _Targets
from bluegreen.release.ports import Ports
from tests.rigs.deploy_targets import make_service
from tests.rigs.sources import closed_address

DEPLOY = {
    "type": "kubernetes",
    "cluster": {"namespace": "shop"},
    "deployments": {"blue": "shop-blue", "green": "shop-green"},
    "image": "shop:$VERSION",
}


class Pods:
    """Says how many pods of each color are ready."""

    def __init__(self, **ready):
        self.ready = ready

    def status(self, color):
        if color not in self.ready:
            raise DeployError("cannot list pods: 403", part=color, next_step="add the rule to its Role")
        return Deployed("1", self.ready[color], 3)


@pytest.fixture
def log():
    return []


def looked(log, deployer, ask):
    targets = {color: [closed_address()] for color in Color}
    service = make_service(targets, deploy=DEPLOY | {"ask": ask})
    one = _Targets(Ports(service=service, router=object(), deployer=deployer, prove=None, log=log.append))

    async def twice():
        await one.look(set(Color))
        try:
            return await one.look(set(Color))
        finally:
            await one.close()

    return {color: sight.serves for color, sight in asyncio.run(twice()).items()}


def test_pods_say_whether_a_color_serves(log):
    assert looked(log, Pods(blue=3, green=1), "pods") == {Color.BLUE: True, Color.GREEN: True}
    assert looked(log, Pods(blue=3, green=0), "pods") == {Color.BLUE: True, Color.GREEN: False}
    assert log == []


def test_targets_are_asked_otherwise(log):
    assert looked(log, Pods(blue=3, green=3), "targets") == {Color.BLUE: False, Color.GREEN: False}


def test_pods_that_nobody_tells_of_are_no_evidence_and_said_once(log):
    assert looked(log, Pods(blue=3), "pods") == {}
    assert len(log) == 1
    assert "nobody can tell of the pods: green: cannot list pods: 403" in log[0]
