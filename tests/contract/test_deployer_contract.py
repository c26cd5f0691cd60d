"""What every deployer does, against a real target: one suite over the registry."""

from __future__ import annotations

import time
from typing import get_args

import pytest

from bluegreen.catalog import models
from bluegreen.checks.health import ask_color
from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.core.ports import Deployed, RunsRoles
from bluegreen.deployers.registry import DEPLOYERS
from tests.rigs.deploy_rigs import RIGS, missing

ONE, TWO, THREE = "run-one@1", "run-two@2", "run-three@3"


MARKS = {"kubernetes": [pytest.mark.kubernetes], "helm": [pytest.mark.kubernetes]}


@pytest.fixture(params=[pytest.param(kind, marks=MARKS.get(kind, ())) for kind in sorted(DEPLOYERS)])
def rig(request, tmp_path):
    if reason := missing(request.param):
        pytest.skip(reason)
    needs = request.node.get_closest_marker("needs")
    with RIGS[request.param](tmp_path) as rig:
        if needs and needs.args[0] not in rig.can:
            pytest.skip(f"{request.param} declares that it has no {needs.args[0]}")
        yield rig


def test_every_registered_type_has_a_rig():
    assert RIGS.keys() == DEPLOYERS.keys()


def test_every_type_of_the_catalog_is_registered():
    deploy = get_args(models.Deploy)[0]  # Annotated[one model or a union of them, …]
    kinds = get_args(deploy) or (deploy,)
    assert {name for kind in kinds for name in get_args(kind.model_fields["type"].annotation)} == DEPLOYERS.keys()


def test_deploy_returns_what_status_says(rig):
    found = rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    assert found == Deployed("2.0", 2, 2)
    assert rig.deployer().status(Color.GREEN) == found


def test_once_a_version_is_deployed_nothing_else_answers(rig):
    for epoch, version in enumerate(["1.0", "2.0"], start=1):
        rig.deployer().deploy(Color.GREEN, version, epoch, f"run@{epoch}")
        answers = [one for _ in range(100) for one in ask_color(rig.service, Color.GREEN)]
        assert [str(one) for one in answers if not one.ok or one.version != version] == []


def test_deploy_leaves_the_other_color_alone(rig):
    rig.deployer().deploy(Color.BLUE, "1.0", 1, ONE)
    rig.deployer().deploy(Color.GREEN, "2.0", 2, TWO)
    assert rig.deployer().status(Color.BLUE).version == "1.0"


def test_a_repeated_deploy_gives_the_same_and_changes_nothing(rig):
    first = rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    assert rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE) == first
    assert rig.deploys() == 1


def test_a_repeated_deploy_mends_what_is_gone(rig):
    rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    rig.deployer().retire(Color.GREEN, 1)
    assert rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE) == Deployed("2.0", 2, 2)


def test_the_next_release_deploys_also_the_same_version(rig):
    rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    rig.deployer().deploy(Color.GREEN, "2.0", 2, TWO)
    assert rig.deploys() == 2


def test_an_older_claim_is_refused_and_touches_nothing(rig):
    rig.deployer().deploy(Color.GREEN, "3.0", 3, THREE)
    with pytest.raises(DeployFenced, match=r"epoch 3 of run-three@3"):
        rig.deployer().deploy(Color.GREEN, "2.0", 2, TWO)
    assert rig.deploys() == 1
    assert rig.deployer().status(Color.GREEN).version == "3.0"


def test_an_older_claim_does_not_retire(rig):
    rig.deployer().deploy(Color.GREEN, "3.0", 3, THREE)
    with pytest.raises(DeployFenced):
        rig.deployer().retire(Color.GREEN, 2)
    assert rig.deployer().status(Color.GREEN).ready == 2


def test_a_fence_is_of_one_color(rig):
    rig.deployer().deploy(Color.GREEN, "3.0", 3, THREE)
    assert rig.deployer().deploy(Color.BLUE, "2.0", 2, TWO).version == "2.0"


def test_retire_stops_the_color_and_may_be_repeated(rig):
    rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    rig.deployer().retire(Color.GREEN, 1)
    rig.deployer().retire(Color.GREEN, 1)
    assert rig.deployer().status(Color.GREEN) == Deployed(None, 0, 2)


def test_a_version_that_does_not_come_up_names_every_target(rig):
    with pytest.raises(DeployError) as raised:
        rig.deployer().deploy(Color.GREEN, rig.bad, 1, ONE)
    assert all(target in str(raised.value) for target in rig.service.colors[Color.GREEN].targets)
    assert not isinstance(raised.value, DeployFenced)


def test_a_release_that_failed_may_try_again(rig):
    with pytest.raises(DeployError):
        rig.deployer().deploy(Color.GREEN, rig.bad, 1, ONE)
    assert rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE) == Deployed("2.0", 2, 2)


def test_diagnose_tells_of_every_target(rig):
    rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    text = rig.deployer().diagnose(Color.GREEN)
    assert all(target in text for target in rig.service.colors[Color.GREEN].targets)


VERSIONS = {Color.BLUE: "1.0", Color.GREEN: "2.0"}
ROLES = ("worker", "cron")


def give(rig, color, epoch, release=ONE):
    rig.deployer().run_roles(color, epoch, release, VERSIONS)


def where(rig):
    return [rig.runs(role) for role in ROLES]


@pytest.mark.needs("roles")
def test_neither_deploy_nor_retire_moves_a_role(rig):
    assert isinstance(rig.deployer(), RunsRoles)
    rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    rig.deployer().retire(Color.GREEN, 1)
    assert (where(rig), rig.deployer().roles()) == ([set(), set()], {})


@pytest.mark.needs("roles")
def test_a_deploy_leaves_where_its_roles_are(rig):
    give(rig, Color.BLUE, 1)
    rig.deployer().deploy(Color.GREEN, "2.0", 2, TWO)
    # A move that takes longer than this was left half-way; a deploy is none.
    time.sleep(max(role.timeout for role in rig.service.deploy.roles.values()).total_seconds())
    assert rig.deployer().roles() == dict.fromkeys(ROLES, Color.BLUE)
    assert where(rig) == [{Color.BLUE}, {Color.BLUE}]


@pytest.mark.needs("roles")
def test_every_role_stops_on_the_other_color_before_it_starts_on_its_own(rig):
    give(rig, Color.BLUE, 1)
    give(rig, Color.GREEN, 2, TWO)
    assert where(rig) == [{Color.GREEN}, {Color.GREEN}]
    assert rig.deployer().roles() == dict.fromkeys(ROLES, Color.GREEN)
    last = [move for move in rig.moves()[-4:] if " worker " in move]
    assert last == ["stop worker on blue 1.0", "start worker on green 2.0"]


@pytest.mark.needs("roles")
def test_roles_that_are_right_already_are_left_as_they_are(rig):
    give(rig, Color.GREEN, 2, TWO)
    done = rig.moves()
    give(rig, Color.GREEN, 2, TWO)
    give(rig, Color.GREEN, 3, THREE)
    assert rig.moves() == done


@pytest.mark.needs("roles")
def test_an_older_write_moves_no_role_whatever_its_color(rig):
    give(rig, Color.BLUE, 1)
    give(rig, Color.BLUE, 3, THREE)  # a restore that had nothing to move
    with pytest.raises(DeployFenced, match="epoch 3 of run-three@3"):
        give(rig, Color.GREEN, 2, TWO)
    assert where(rig) == [{Color.BLUE}, {Color.BLUE}]


@pytest.mark.needs("roles")
def test_a_role_that_does_not_stop_is_named_and_not_started_and_keeps_no_other_role_back(rig):
    give(rig, Color.BLUE, 1)
    rig.stick("worker", Color.BLUE)
    with pytest.raises(
        DeployError,
        match=rf"(?s)worker on blue: .*{rig.stuck}.*may still run on blue, so it was not started on green",
    ):
        give(rig, Color.GREEN, 2, TWO)
    assert where(rig) == [{Color.BLUE}, {Color.GREEN}]
    assert rig.deployer().roles() == {"worker": None, "cron": Color.GREEN}


@pytest.mark.needs("roles")
def test_what_was_left_half_way_is_completed_by_the_same_write_and_taken_back_by_a_newer_one(rig):
    give(rig, Color.BLUE, 1)
    rig.stick("worker", Color.BLUE)
    with pytest.raises(DeployError):
        give(rig, Color.GREEN, 2, TWO)
    rig.stick("worker", Color.BLUE, sticks=False)
    give(rig, Color.GREEN, 2, TWO)
    assert where(rig) == [{Color.GREEN}, {Color.GREEN}]
    give(rig, Color.BLUE, 3, TWO)
    assert where(rig) == [{Color.BLUE}, {Color.BLUE}]
