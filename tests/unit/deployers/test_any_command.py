"""The command deployer: what its commands are told, when it is content, and what it says when it is not."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import CatalogError, DeployError, DeployFenced, SecretMissing
from bluegreen.core.ports import Deployed, Deployer
from bluegreen.deployers.any_command import CommandDeployer
from bluegreen.deployers.fence import Fence
from bluegreen.deployers.registry import make_deployer
from tests.rigs.deploy_targets import Reply, Site, keys, make_service
from tests.unit.deployers.test_child import gone

RELEASE = "run@4"


@pytest.fixture
def sites():
    """Two green targets that report ``sites[n].version``; None is not healthy."""
    with ExitStack() as stack:
        found = []
        for _ in range(2):
            site = stack.enter_context(Site(lambda _: Reply()))
            site.version = "2.0"
            site.reply = lambda _, site=site: (
                Reply(body=f'{{"version": "{site.version}"}}') if site.version else Reply(503, body="starting")
            )
            found.append(site)
        yield found


@pytest.fixture
def lines():
    return []


@pytest.fixture
def deployer(sites, tmp_path, lines):
    def make(script="true", secrets=None, health=None, wait=0.3, connections=None, **deploy):
        targets = {Color.BLUE: ["http://127.0.0.1:9"], Color.GREEN: [site.url for site in sites]}
        deploy = {
            "command": script if isinstance(script, list) else ["sh", "-c", script],
            "cwd": str(tmp_path),
            "ready_within": "300ms",
            "fence": str(tmp_path / "fences"),
            "secrets": secrets or {},
        } | deploy
        service = make_service(targets, deploy, health={"timeout": "300ms"} | (health or {}))
        return CommandDeployer(service, keys(**(connections or {})), lines.append, timedelta(seconds=wait))

    return make


def deploy(deployer, version="2.0", epoch=4, release=RELEASE):
    return deployer.deploy(Color.GREEN, version, epoch, release)


def test_the_command_is_told_what_and_where(deployer, sites, lines):
    script = (
        'echo "$SERVICE $COLOR $VERSION $EPOCH $RELEASE"; for t in $TARGETS; do echo $t; done; echo $PASSWORD | wc -c'
    )
    found = deploy(deployer(script, secrets={"PASSWORD": "registry"}, connections={"registry": "s3cret"}))
    assert found == Deployed("2.0", 2, 2)
    assert lines == ["shop green 2.0 4 run@4", *(site.url for site in sites), "7"]


def test_the_command_gets_our_environment_without_airflows(deployer, lines, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/etc/kube")
    for name in ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW_CONN_REGISTRY", "AIRFLOW_VAR_X"):
        monkeypatch.setenv(name, "postgres://airflow:pw@db")
    deploy(deployer("env | grep -c pw@db; echo $KUBECONFIG"))
    assert lines == ["0", "/etc/kube"]


def test_without_a_log_lines_go_to_the_logger(deployer, sites, tmp_path, caplog):
    service = deployer('echo "100 % done"')._service
    with caplog.at_level(logging.INFO, "bluegreen"):
        make_deployer(service, keys()).deploy(Color.GREEN, "2.0", 4, RELEASE)
    assert [record.getMessage() for record in caplog.records] == ["100 % done"]


def test_it_waits_until_every_target_is_healthy(deployer, sites, tmp_path):
    start = time.monotonic()
    sites[1].reply = lambda _: Reply(body='{"version": "2.0"}') if time.monotonic() > start + 0.4 else Reply(503)
    assert deploy(deployer(ready_within="5s")) == Deployed("2.0", 2, 2)


def test_targets_that_do_not_come_up_are_named_with_a_diagnosis(deployer, sites, lines):
    sites[0].version, sites[1].version = None, "1.0"
    with pytest.raises(DeployError) as raised:
        deploy(deployer(diagnose=["sh", "-c", 'echo "$COLOR: out of memory"; exit 1']))
    text = str(raised.value)
    assert f"{sites[0].url}: HTTP 503: starting" in text
    assert f"{sites[1].url}: healthy, version 1.0" in text
    assert "green: out of memory" in text
    assert "not healthy at 2.0 within 0.3 s" in text
    assert any("diagnosis" in line for line in lines)


def test_a_version_that_is_not_reported_is_not_believed(deployer, sites):
    for site in sites:
        site.reply = lambda _: Reply(body="healthy")
    with pytest.raises(DeployError, match="healthy, no JSON in healthy"):
        deploy(deployer())
    assert deploy(deployer(health={"version": None})) == Deployed(None, 2, 2)


def test_a_command_that_fails_is_not_followed_by_a_wait(deployer, sites):
    with pytest.raises(DeployError, match="ended with code 3"):
        deploy(deployer("exit 3", ready_within="20s"))
    assert not sites[0].asked


def test_a_repeated_task_has_nothing_to_do(deployer, tmp_path, lines):
    for _ in range(2):
        assert deploy(deployer("echo x >> ran")) == Deployed("2.0", 2, 2)
    assert (tmp_path / "ran").read_text() == "x\n"
    assert lines[-1].startswith("shop: green: 2.0 is up already")


def test_a_repeated_task_runs_what_was_not_finished(deployer, tmp_path):
    with pytest.raises(DeployError):
        deploy(deployer("echo x >> ran; exit 1"))
    deploy(deployer("echo x >> ran"))
    assert (tmp_path / "ran").read_text() == "x\nx\n"


def test_a_repeated_task_runs_again_where_a_target_is_gone(deployer, sites, tmp_path):
    deploy(deployer("echo x >> ran"))
    sites[0].version = None
    with pytest.raises(DeployError):
        deploy(deployer("echo x >> ran"))
    assert (tmp_path / "ran").read_text() == "x\nx\n"


def test_another_version_of_the_same_release_is_deployed(deployer, sites, tmp_path):
    deploy(deployer("echo x >> ran"))
    for site in sites:
        site.version = "3.0"
    assert deploy(deployer("echo x >> ran"), "3.0").version == "3.0"
    assert (tmp_path / "ran").read_text() == "x\nx\n"


def test_a_fenced_command_never_starts(deployer, tmp_path):
    deploy(deployer(), epoch=5, release="newer@5")
    with pytest.raises(DeployFenced, match=r"newer@5"):
        deploy(deployer("touch ran"))
    assert not (tmp_path / "ran").exists()


def test_a_deploy_waits_for_an_older_one(deployer, tmp_path):
    older = Fence(tmp_path / "fences", "shop", Color.GREEN).enter(3, "older@3")
    with older, pytest.raises(DeployFenced, match=r"held by epoch 3 of older@3"):
        deploy(deployer("touch ran"))
    assert not (tmp_path / "ran").exists()
    assert deploy(deployer()) == Deployed("2.0", 2, 2)


def test_a_daemon_that_the_command_leaves_does_not_hold_the_fence(deployer, tmp_path):
    deploy(deployer("setsid sleep 60 >/dev/null 2>&1 & echo $! > pid"))
    try:
        assert deploy(deployer(wait=0), epoch=5, release="next@5") == Deployed("2.0", 2, 2)
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_cancelled_deploy_frees_the_fence(deployer, lines):
    def stop(_):
        raise KeyboardInterrupt

    broken = deployer("echo begun; sleep 60")
    broken._log = stop
    with pytest.raises(KeyboardInterrupt):
        deploy(broken)
    assert deploy(deployer(wait=0)) == Deployed("2.0", 2, 2)


def test_secrets_are_never_shown(deployer, sites, lines):
    sites[0].version = None
    script = 'echo "login $PASSWORD"'
    plan = {"diagnose": ["sh", "-c", 'echo "again $PASSWORD"']}
    failing = deployer(script, secrets={"PASSWORD": "registry"}, connections={"registry": "s3cret"}, **plan)
    with pytest.raises(DeployError) as raised:
        deploy(failing)
    assert "login ***" in lines
    assert "again ***" in str(raised.value)
    assert "s3cret" not in "".join(lines) + repr(raised.value) + str(raised.value) + failing.diagnose(Color.GREEN)


def test_a_missing_secret_stops_before_anything(deployer, tmp_path):
    with pytest.raises(SecretMissing):
        deploy(deployer("touch ran", secrets={"PASSWORD": "registry"}))
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "fences").exists()


def test_a_service_cannot_rename_what_the_command_is_told(deployer, lines):
    deploy(deployer("echo $COLOR", secrets={"COLOR": "registry"}, connections={"registry": "red"}))
    assert lines == ["green"]


def test_retire_runs_its_command_under_the_fence(deployer, tmp_path):
    retiring = deployer(retire=["sh", "-c", 'echo "$COLOR $EPOCH" > retired'])
    retiring.retire(Color.GREEN, 4)
    assert (tmp_path / "retired").read_text() == "green 4\n"
    assert Fence(tmp_path / "fences", "shop", Color.GREEN).read().epoch == 4
    with pytest.raises(DeployFenced):
        retiring.retire(Color.GREEN, 3)


def test_retire_without_a_command_says_so(deployer, lines):
    deployer().retire(Color.GREEN, 4)
    assert "no retire command" in lines[0]


def test_diagnose_never_fails(deployer, sites, monkeypatch):
    sites[1].version = None
    assert deployer().diagnose(Color.GREEN).splitlines() == [
        f"{sites[0].url}: healthy, version 2.0",
        f"{sites[1].url}: HTTP 503: starting",
    ]
    assert "diagnose: no-such-tool: command not found" in deployer(diagnose=["no-such-tool"]).diagnose(Color.GREEN)
    monkeypatch.setattr("bluegreen.deployers.health_wait.DIAGNOSE_TIMEOUT", timedelta(seconds=0.2))
    text = deployer(diagnose=["sh", "-c", "echo begun; sleep 60"]).diagnose(Color.GREEN)
    assert "begun" in text
    assert "did not end within 0.2 s" in text
    missing = deployer(diagnose=["true"], secrets={"PASSWORD": "registry"}).diagnose(Color.GREEN)
    assert "diagnose: no connection registry" in missing


def test_a_long_diagnosis_is_cut(deployer):
    assert len(deployer(diagnose=["seq", "1", "5000"]).diagnose(Color.GREEN).splitlines()) == 200


def test_the_fence_may_be_in_the_users_home(deployer, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    deploy(deployer(fence="~/mine"))
    assert Path(tmp_path / "mine" / "shop-green.fence").exists()


def test_the_registry_makes_it_and_names_what_it_knows(deployer):
    service = deployer()._service
    made: Deployer = make_deployer(service, keys())
    assert isinstance(made, CommandDeployer)
    odd = service.model_copy(update={"deploy": service.deploy.model_copy(update={"type": "carrier-pigeon"})})
    with pytest.raises(CatalogError, match=r"carrier-pigeon.*use one of command"):
        make_deployer(odd, keys())


VERSIONS = {Color.BLUE: "1.0", Color.GREEN: "2.0"}


def role(start="true", stop="true", **more):
    return {"worker": {"start": ["sh", "-c", start], "stop": ["sh", "-c", stop]} | more}


def test_a_roles_commands_are_told_what_and_where(deployer, sites, lines):
    said = 'echo "$SERVICE $ROLE $COLOR $VERSION $EPOCH $RELEASE $TARGETS"; echo $PASSWORD'
    made = deployer(
        roles=role(f"echo start; {said}", f"echo stop; {said}"), secrets={"PASSWORD": "x"}, connections={"x": "s3cret"}
    )
    made.run_roles(Color.GREEN, 4, RELEASE, VERSIONS)
    urls = " ".join(site.url for site in sites)
    assert lines == [
        "stop", "shop worker blue 1.0 4 run@4 http://127.0.0.1:9", "***", "shop: worker: stop on blue: done",
        "start", f"shop worker green 2.0 4 run@4 {urls}", "***", "shop: worker: start on green: done",
    ]  # fmt: skip


def test_a_service_without_roles_has_nothing_to_move(deployer, tmp_path):
    deployer().run_roles(Color.GREEN, 4, RELEASE, VERSIONS)
    assert deployer().roles() == {}
    assert not (tmp_path / "fences").exists()


def test_a_role_that_does_not_stop_is_killed_with_its_children_and_named(deployer, tmp_path):
    made = deployer(roles=role("echo x > started", "sleep 60 & echo $! > child; wait", timeout="300ms"))
    with pytest.raises(DeployError) as raised:
        made.run_roles(Color.GREEN, 4, RELEASE, VERSIONS)
    assert str(raised.value).startswith(
        "shop: worker on blue: deploy.roles.worker.stop: sh: did not end within 0.3 s and was killed"
    )
    assert str(raised.value).endswith(
        "; it may still run on blue, so it was not started on green: end it there by hand"
    )
    assert not (tmp_path / "started").exists()
    assert gone(int((tmp_path / "child").read_text()))


def test_a_role_that_does_not_start_is_named(deployer):
    made = deployer(roles=role("echo no module worker; exit 3"))
    with pytest.raises(
        DeployError, match=r"(?s)worker on green: .*code 3.*no module worker.*start it on green by hand"
    ):
        made.run_roles(Color.GREEN, 4, RELEASE, VERSIONS)
    assert made.roles() == {"worker": None}


def test_a_role_that_somebody_moves_at_this_moment_is_not_waited_for_long_and_not_called_astray(deployer, tmp_path):
    made = deployer(roles=role())
    with Fence(tmp_path / "fences", "shop", "worker").enter(3, "run@3", timedelta(seconds=1)):
        assert made.roles() == {}
        with pytest.raises(DeployFenced, match="held by epoch 3 of run@3"):
            made.run_roles(Color.GREEN, 4, RELEASE, VERSIONS)


def test_several_roles_that_fail_are_all_named(deployer):
    made = deployer(roles={name: role("exit 1")["worker"] for name in ("worker", "cron")})
    with pytest.raises(DeployError, match=r"(?s)worker on green.* \| shop: cron on green"):
        made.run_roles(Color.GREEN, 4, RELEASE, VERSIONS)
