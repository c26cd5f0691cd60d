"""What is asked of Helm as a program, without a cluster: its environment, its time, and what it may not print."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta

import pytest

from bluegreen.clusters.access import Access
from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError, SecretMissing
from bluegreen.core.ports import Credentials
from bluegreen.deployers import helm_charts, helm_program
from bluegreen.deployers.helm_diff import difference, objects_in
from bluegreen.deployers.helm_program import Helm
from bluegreen.deployers.helm_values import parts
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
        return Helm(shell, Access("rig", extra), "eu", "shop-green", 60, "shop", "green", log.append, (SECRET,))

    return made


@pytest.mark.parametrize(
    ("pod", "extra", "found"),
    [
        (False, {}, "/of/mine"),
        (True, {}, os.devnull),  # we take the pod's account before KUBECONFIG, Helm after it
        (False, {"in_cluster": True}, os.devnull),
        (False, {"in_cluster": "false"}, "/of/mine"),  # from the environment: a text
        (False, {"disable_verify_ssl": "true"}, "/of/mine --kube-insecure-skip-tls-verify"),
        (False, {"disable_verify_ssl": False}, "/of/mine"),
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


@pytest.mark.parametrize(
    ("password", "shown", "stays"),
    [
        ("[1, hunter2, x]", '{1, "hunter2", "x"}', '{1, "***", "x"}'),
        ("pw: hunter2", '{"pw":"hunter2"}', '{"pw":"***"}'),
        ("00123456", "Value:42798", "Value:***"),  # as YAML reads it
        ('a\\hunter2: "x', '"a\\\\hunter2: \\"x"', '"***"'),
        ("plain words stay", "these plain words", "these plain words"),
        ("0x7", "7 pods", "7 pods"),
    ],
)
def test_a_password_that_a_chart_gives_without_quotes_is_hidden_in_helms_own_words(helm, password, shown, stays):
    one = replace(helm(f"cat >&2 <<'END'\nError: {shown}\nEND\nexit 1"), hide=(password, *parts([password])))
    with pytest.raises(DeployError) as raised:
        one.manifest()
    assert f"Error: {stays}" in str(raised.value)


def test_a_revision_that_failed_is_told_without_the_password_in_its_error(helm):
    told = [{"revision": 2, "status": "failed", "chart": "shop", "description": f"expected string, got {SECRET}"}]
    assert helm(f"echo '{json.dumps(told)}'").told() == ["helm revision 2: failed, shop: expected string, got ***"]


ODD = ['it\'s: a "secret" $HOME, #x', "pässwörd-lang", "{'a': \"b\"}", "tab\there: x", "word " * 30 + "end", "1234567"]


def env(value, *before):
    container = {"name": "app", "env": [*before, {"name": "DB", "value": value}], "ports": [{"containerPort": 8080}]}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"}, "spec": [container]}
    return json.dumps(body)


@pytest.mark.parametrize("password", ODD)
def test_a_password_outside_of_secrets_is_hidden_however_yaml_writes_it(password):
    told = "\n".join(difference(env("hunter2-of-before"), env(f"u:{password}@db"), [password]))
    assert "-    value: '*** (before)'" in told
    assert "+    value: u:***@db (after)" in told
    told += "\n".join(difference("", env(password), [password]))
    told += "\n".join(difference(env(password), env("new", {"name": "ANOTHER", "value": "1"}), [password]))
    assert not [word for word in ("secret", "lang", "'b'", '"b"', "here", "word", "1234567", "hunter2") if word in told]


def test_a_password_that_stays_the_same_is_no_change():
    told = list(difference(env("hunter2", {"name": "A", "value": "1"}), env("hunter2"), ["hunter2"]))
    assert [line.strip() for line in told if line[0] in "+-"][2:] == ["-  - name: A", "-    value: '1'"]


def helm_service(password):
    return make_deployer(read(HELM), lambda connection: Credentials(password=password))


@pytest.mark.parametrize("password", ["", " \n"])
def test_a_connection_without_a_password_is_refused_with_its_key(password):
    with pytest.raises(
        SecretMissing, match=r"connection shop_db, which deploy\.secrets\.database\.password names, has no"
    ):
        helm_service(password)._helm(Color.GREEN)


def test_why_a_version_is_not_up_is_told_without_passwords(monkeypatch):
    deployer = helm_service("hunter2")
    monkeypatch.setattr(deployer, "diagnose", lambda _: "nothing")
    told = str(deployer._not_up(Color.GREEN, "CreateContainerError: exec hunter2: not found", []))
    assert "exec ***: not found" in told
