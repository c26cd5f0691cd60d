"""How a cluster is logged in to, as the cncf-kubernetes provider has it; nothing is connected to."""

from __future__ import annotations

import base64
import json
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from bluegreen.clusters.access import Access, access_of
from bluegreen.clusters.objects import SERVICES, Cluster
from bluegreen.clusters.trouble import Asked, ClusterTrouble, told
from bluegreen.core.env_secrets import EnvironmentSecrets
from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Credentials

TOKEN = "a-token-that-nobody-must-see"  # noqa: S105 - of no cluster


def kubeconfig(server: str = "https://10.0.0.1:6443", **user: Any) -> dict[str, Any]:
    authority = base64.b64encode(b"no certificate").decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": authority}},
                     {"name": "d", "cluster": {"server": "https://10.0.0.2:6443"}}],
        "users": [{"name": "u", "user": user or {"token": TOKEN}}],
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}},
                     {"name": "two", "context": {"cluster": "d", "user": "u"}}],
    }  # fmt: skip


def secrets(**extra: Any):
    return lambda _: Credentials(extra=extra)


def plugin(line: str) -> dict[str, Any]:
    """A kubeconfig whose user logs in by a line of shell, which finds its answer in ``$ANSWER``."""
    status = {"token": TOKEN, "expirationTimestamp": "2020-01-01T00:00:00Z"}
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    env = [{"name": "ANSWER", "value": json.dumps(answer)}]
    run = {"apiVersion": answer["apiVersion"], "command": "sh", "args": ["-c", line], "env": env}
    return kubeconfig(exec=run)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.mark.parametrize("prefix", ["", "extra__kubernetes__"])
@pytest.mark.parametrize("written", [json.dumps, lambda whole: whole], ids=["text", "json"])
def test_a_kubeconfig_may_stand_in_the_connection(prefix: str, written: Any) -> None:
    access = access_of("prod", secrets(**{f"{prefix}kube_config": written(kubeconfig())}))
    made = access.client().configuration
    assert (made.host, made.api_key["BearerToken"], made.verify_ssl) == (
        "https://10.0.0.1:6443",
        f"Bearer {TOKEN}",
        True,
    )


def test_a_kubeconfig_may_be_a_file_and_have_another_context(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(json.dumps(kubeconfig()))
    extra = {"kube_config_path": str(tmp_path / "config"), "cluster_context": "two"}
    assert access_of("prod", secrets(**extra)).client().configuration.host == "https://10.0.0.2:6443"


@pytest.mark.parametrize("yes", [True, "true", "True", "1"])
def test_verification_and_keepalive_can_be_switched_off(yes: Any) -> None:
    plain = access_of("prod", secrets(kube_config=kubeconfig())).client().configuration
    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in plain.socket_options
    assert plain.retries is False
    extra = {"kube_config": kubeconfig(), "disable_verify_ssl": yes, "disable_tcp_keepalive": yes}
    made = access_of("prod", secrets(**extra)).client().configuration
    assert (made.verify_ssl, made.socket_options) == (False, None)


def test_without_a_connection_kubeconfig_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(json.dumps(kubeconfig()))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    assert access_of(None, None).client().configuration.host == "https://10.0.0.1:6443"


def test_connections_come_from_the_environment_as_from_airflow() -> None:
    value = json.dumps({"conn_type": "kubernetes", "extra": {"kube_config": json.dumps(kubeconfig())}})
    access = access_of("prod", EnvironmentSecrets({"AIRFLOW_CONN_PROD": value}))
    assert access.client().configuration.host == "https://10.0.0.1:6443"


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"kube_config": f"{{not: valid: {TOKEN}"}, "the login cannot be used: kube_config of connection prod"),
        ({"kube_config": "just words"}, "the login cannot be used: kube_config of connection prod"),
        ({"kube_config": kubeconfig(), "cluster_context": "three"}, "ConfigException"),
        ({"kube_config_path": "/nowhere/config"}, "ConfigException (/nowhere/config)"),
        ({"kube_config": kubeconfig() | {"users": TOKEN}}, "AttributeError"),
        ({"kube_config": kubeconfig(token=f"{TOKEN}\nx")}, "its token has a line break or an odd character in it"),
        ({"kube_config": kubeconfig(token=f"{TOKEN}ü")}, "its token has a line break or an odd character in it"),
        ({"kube_config": kubeconfig(server="10.0.0.1:6443")}, "its server is no address with http:// or https://"),
        ({"kube_config": plugin(f"echo {TOKEN} >&2; exit 1")}, "it gives no token, certificate or password"),
        ({"in_cluster": "false"}, "has none of in_cluster, kube_config_path and kube_config in its extra"),
        ({"in_cluster": "true"}, "the login cannot be used"),
        ({"in_cluster": True, "kube_config": kubeconfig()}, "has in_cluster and kube_config, and may have one only"),
        ({"kubeconfig_path": "/a/typo"}, "has none of in_cluster, kube_config_path and kube_config in its extra"),
        ({}, "has none of in_cluster, kube_config_path and kube_config"),
    ],
)
def test_a_login_that_cannot_be_used_says_so_without_its_secrets(extra: dict[str, Any], says: str, caplog: Any) -> None:
    cluster = Cluster(access_of("prod", secrets(**extra)), "eu")  # nothing is read before the first call
    with pytest.raises(ClusterTrouble) as caught:
        cluster.get(SERVICES, "shop")
    assert (caught.value.kind, says in caught.value.fact) == ("refused", True), caught.value.fact
    assert (
        TOKEN not in f"{caught.value.fact} {caught.value.mend} {caught.value!r} {caught.value.__cause__} {caplog.text}"
    )


def test_a_missing_connection_is_told_at_the_first_call() -> None:
    def missing(connection_id: str) -> Credentials:
        raise SecretMissing("there is no such Airflow connection", part=connection_id, next_step="add it")

    with pytest.raises(ClusterTrouble, match="no login for prod: there is no such Airflow connection"):
        access_of("prod", missing).client()


def test_no_secret_is_shown_and_certificates_are_in_files_of_our_own() -> None:
    access = access_of("prod", secrets(kube_config=kubeconfig()))
    assert TOKEN not in repr(access)
    file = Path(access.client().configuration.ssl_ca_cert)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert TOKEN not in file.read_text()


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kubernetes", None)
    with pytest.raises(ClusterTrouble) as caught:
        Access("x").client()
    assert caught.value.mend == "pip install 'airflow-blue-green[kubernetes]'"


def test_a_tokens_last_line_break_is_no_part_of_it() -> None:
    made = access_of("prod", secrets(kube_config=kubeconfig(token=f"{TOKEN}\n"))).client().configuration
    assert made.api_key["BearerToken"] == f"Bearer {TOKEN}"


def test_a_file_that_has_texts_only_says_no_as_well_as_yes(tmp_path: Path) -> None:
    found = kubeconfig()
    found["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = False
    file = tmp_path / "secrets"
    file.write_text(json.dumps({"prod": {"extra": {"in_cluster": False, "kube_config": found}}}))
    file.chmod(0o600)
    made = access_of("prod", EnvironmentSecrets({"BLUEGREEN_SECRETS": str(file)})).client().configuration
    assert (made.host, made.verify_ssl) == ("https://10.0.0.1:6443", True)


def test_a_login_that_hangs_is_waited_for_as_long_as_an_answer_and_not_begun_twice(tmp_path: Path) -> None:
    line = f'echo >> {tmp_path}/begun; until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo "$ANSWER"'
    cluster = Cluster(access_of("prod", secrets(kube_config=plugin(line))), "eu", timeout=0.3)
    for _ in range(2):
        with pytest.raises(ClusterTrouble, match=r"the login did not answer within 0.3 s: kube_config of") as caught:
            cluster.get(SERVICES, "shop")
        assert caught.value.kind == "unreachable"
    (tmp_path / "go").touch()
    cluster.timeout = 20
    assert cluster._client.configuration.api_key["BearerToken"] == f"Bearer {TOKEN}"
    assert len((tmp_path / "begun").read_text()) == 1


def test_a_token_that_is_asked_for_anew_is_waited_for_no_longer(tmp_path: Path) -> None:
    line = f'[ -e {tmp_path}/was ] && sleep 5; touch {tmp_path}/was; echo "$ANSWER"'
    cluster = Cluster(access_of("prod", secrets(kube_config=plugin(line))), "eu", timeout=3)
    assert cluster._client
    with pytest.raises(ClusterTrouble, match="the login did not answer within 3 s"):
        cluster.get(SERVICES, "shop")


def test_what_cannot_be_sent_is_told_without_its_text() -> None:
    def broken() -> None:
        raise ValueError(f"Invalid header value b'Bearer {TOKEN}'")

    asked = Asked("get", "services", "", "", "eu", "connection prod")
    with pytest.raises(ClusterTrouble, match=f"cannot {asked.what}: ValueError in what was") as caught, told(asked):
        broken()
    assert (caught.value.kind, caught.value.__suppress_context__) == ("refused", True)
