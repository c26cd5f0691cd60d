"""What is asked of Helm as a program, without a cluster: its environment, its time, and what it may not print."""

from __future__ import annotations

import json
import os
from datetime import timedelta

import pytest

from bluegreen.clusters.access import Access
from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError
from bluegreen.core.ports import Credentials
from bluegreen.deployers import helm_charts, helm_program
from bluegreen.deployers.helm_diff import objects_in
from bluegreen.deployers.helm_program import Helm
from bluegreen.deployers.registry import make_deployer
from tests.unit.catalog.test_kube_deploys import HELM, read

SECRET = "hunter2-of-the-chart"  # noqa: S105 - what must be shown nowhere


@pytest.fixture
def log():
    return []


@pytest.fixture
def helm(log, monkeypatch, tmp_path):
    """A Helm that is a line of shell, outside of any pod."""
    monkeypatch.setattr(helm_program, "SERVICE_ACCOUNT", tmp_path / "none")

    def made(line, **extra):
        shell = ("/bin/sh", "-c", line, "helm")
        return Helm(shell, Access("rig", extra), "eu", "shop-green", 60, "shop", "green", log.append)

    return made


@pytest.mark.parametrize(
    ("pod", "extra", "found"),
    [
        (False, {}, "/of/mine"),
        (True, {}, os.devnull),  # we take the pod's account before KUBECONFIG, Helm after it
        (False, {"in_cluster": True}, os.devnull),
        (False, {"in_cluster": "false"}, "/of/mine"),  # from the environment: a text
        (False, {"kube_config_path": "/of/the/connection"}, "/of/mine --kubeconfig /of/the/connection"),
        (True, {"kube_config_path": "/of/the/connection"}, f"{os.devnull} --kubeconfig /of/the/connection"),
    ],
)
def test_helm_logs_in_as_we_do(helm, log, monkeypatch, tmp_path, pod, extra, found):
    if pod:
        (tmp_path / "token").touch()
        monkeypatch.setattr(helm_program, "SERVICE_ACCOUNT", tmp_path / "token")
    monkeypatch.setenv("KUBECONFIG", "/of/mine")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", f"http://me:{SECRET}@x")
    helm('shift 8; echo "$KUBECONFIG $* $AIRFLOW_CONN_SHOP"', **extra).rollback(3)
    assert [line.strip() for line in log] == [found]


def test_an_upgrade_has_twice_the_time_as_its_way_back_waits_as_long_again(helm, monkeypatch):
    asked = []
    monkeypatch.setattr(helm_program.host_child, "run", lambda argv, *rest: asked.append((argv[4:], rest[2])))
    one = helm("echo v4.0.0")
    one.upgrade(["chart"], [], {}, lambda: False)
    one.rollback(3)
    one.uninstall()
    assert [(words[0], words[words.index("--timeout") + 1], seconds) for words, seconds in asked] == [
        ("upgrade", "60s", 2 * 60 + 30), ("rollback", "60s", 60 + 30), ("uninstall", "60s", 60 + 30),
    ]  # fmt: skip


@pytest.mark.parametrize("printed", [SECRET, f'{{"manifest": {SECRET}', f'{{"info": "{SECRET}"}}', f'["{SECRET}"]'])
def test_a_helm_that_prints_no_json_is_refused_and_nothing_of_it_shown(helm, printed):
    with pytest.raises(DeployError, match="printed no JSON; nothing was touched; give a Helm 3 or 4") as raised:
        helm(f"cat <<'END'\n{printed}\nEND").would_be(["chart"], [], {})
    assert SECRET not in str(raised.value)


def test_what_helm_says_before_its_json_is_passed_over(helm):
    told = json.dumps({"manifest": "kind: X"})
    assert helm(f"echo WARNING: old; echo '{told}'").would_be(["chart"], [], {}) == "kind: X"


@pytest.mark.parametrize("bad", [f"a: [{SECRET}", f"  {SECRET}:\n x"])
def test_a_chart_that_renders_no_yaml_is_told_by_its_line_and_nothing_that_stands_there(bad):
    with pytest.raises(ValueError, match="the rendered chart is no YAML in line 2") as raised:
        objects_in(f"kind: X\n{bad}")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("told", "rests_after"),
    [
        (["pending-upgrade", "failed", "pending-rollback", "deployed"], 10),
        (["pending-upgrade", "failed"], 0),  # nobody goes back from there: its Helm is gone, or could not
    ],
)
def test_a_helm_of_the_same_claim_is_waited_for_until_it_is_at_rest(helm, monkeypatch, tmp_path, told, rests_after):
    monkeypatch.setattr(helm_charts, "ENDS_WITHIN", timedelta(seconds=rests_after))
    looks = tmp_path / "looks"
    lines = [json.dumps([{"revision": 1, "status": status, "chart": "shop", "description": ""}]) for status in told]
    (tmp_path / "told").write_text("\n".join(lines) + "\n")
    at_work = helm(f'echo >> {looks}; head -n "$(wc -l < {looks})" {tmp_path}/told | tail -n 1')
    deployer = make_deployer(read(f"{HELM}  ready_within: 60s\n"), lambda _: Credentials())
    deployer._settle(at_work, Color.GREEN, same=True)
    assert len(looks.read_text()) == len(told)
