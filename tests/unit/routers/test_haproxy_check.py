"""``check`` finds each trap and names its mend: on the guide's own configuration, and one trap at a time."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bluegreen.routers import haproxy_host
from bluegreen.routers.haproxy_config import lines_to_add
from demo.haproxy import HAProxyNode
from tests.rigs.people import as_nobody
from tests.unit.routers.conftest import router_of

pytestmark = pytest.mark.haproxy

# guide-blue-green.es.txt, "Configuración de HAProxy": as it stands there, but for addresses, TLS and the log.
GUIDE = """
global
    maxconn 1000
    stats socket {socket} level admin
defaults
    mode http
    timeout connect 5000
    timeout client 50000
    timeout server 50000
# Frontend recibiendo tráfico
frontend http-in
    bind 127.0.0.1:{port}
    # Redirigir HTTP a HTTPS
    http-request redirect scheme https unless {{ ssl_fc }}
    # Usar backend blue o green basado en archivo map
    use_backend %[path,map({map},blue-backend)]
# Entorno blue (producción actual)
backend blue-backend
    balance roundrobin
    option httpchk GET /health
    http-check expect status 200
    server blue1 {blue[0]} check
    server blue2 {blue[1]} check
# Entorno green (nuevo despliegue)
backend green-backend
    balance roundrobin
    option httpchk GET /health
    http-check expect status 200
    server green1 {green[0]} check
    server green2 {green[1]} check
"""
GUIDE_MAP = "# Mapeo de backend predeterminado\n/ blue-backend\n"
GUIDE_BACKENDS = {"blue": "blue-backend", "green": "green-backend"}


def findings(router: Any) -> dict[str, Any]:
    found = router.check()
    by_code = {finding.code: finding for finding in found}
    assert len(by_code) == len(found), found
    assert all(one.where == f"shop: odd, seen from {socket.gethostname()}" for one in found)
    assert all(one.mend for one in found)
    return by_code


def guide_node(a_node: Any, rig: Any) -> HAProxyNode:
    node: HAProxyNode = a_node()
    node.config_text = GUIDE.format(
        socket=node.socket, port=node.entry_port, map=node.map_path, **rig.backends.addresses
    )
    node.map_path.write_text(GUIDE_MAP)
    return node.start()


def test_the_guides_own_configuration(a_node: Any, rig: Any) -> None:
    node = guide_node(a_node, rig)
    found = findings(router_of(node, backends=GUIDE_BACKENDS))
    assert found.keys() == {"exact-match-map", "redirect", "reload-not-hitless", "map-file"}
    exact = found["exact-match-map"]
    assert exact.level == "error"
    assert exact.fact.startswith(f"{node.config_path}:16: `use_backend %[path,map({node.map_path},blue-backend)]`")
    assert "only / itself would switch" in exact.fact
    assert f"set-var(txn.shop_green) str(green),map_str_int({node.map_path},0)" in exact.mend
    assert (
        "301 to https://shop.test/" in found["redirect"].fact or "302 to https://shop.test/" in found["redirect"].fact
    )
    assert "unless { ssl_fc } or { path / }" in found["redirect"].mend
    assert found["reload-not-hitless"].level == "warning"
    assert "add `option idle-close-on-response`" in found["reload-not-hitless"].mend
    assert "no line `green <share>`" in found["map-file"].fact


def test_the_guides_own_configuration_is_mended_by_what_check_says(a_node: Any, rig: Any) -> None:
    node = guide_node(a_node, rig)
    router = router_of(node, backends=GUIDE_BACKENDS)
    said = findings(router)
    text = node.config_text or ""
    routing = said["exact-match-map"].mend.removeprefix("write instead: ").replace(" | ", "\n    ")
    text = text.replace(f"use_backend %[path,map({node.map_path},blue-backend)]", routing)
    text = text.replace("http-request redirect scheme https unless { ssl_fc }", "")
    text = text.replace("defaults\n", "defaults\n    option idle-close-on-response\n")
    for color in ("blue", "green"):
        header = f"\n    http-response set-header X-Release-Color {color}\n"
        text = text.replace(f"backend {color}-backend\n", f"backend {color}-backend{header}")
    node.config_text = text
    node.map_path.write_text("green 0\n")
    node.reload()
    assert findings(router) == {}


def test_the_guide_names_an_unknown_backend_and_haproxy_says_nothing(a_node: Any, rig: Any) -> None:
    # The guide's script writes `/ green` for the backend green-backend, which HAProxy takes without a word.
    node = guide_node(a_node, rig)
    found = findings(router_of(node, backends={"blue": "blue-backend", "green": "green"}))
    assert found["unknown-backend"].fact == "HAProxy knows no backend green for green, only blue-backend, green-backend"


ODD = {
    "reload-not-hitless": ({"without": ["option idle-close-on-response"]}, {}, "lacks `option idle-close-on-response`"),
    "no-health-check": (
        {"without": ["default-server check inter 300ms fall 2 rise 1"]},
        {},
        "servers of shop-green without a health check count as ready while they are dead: green1, green2",
    ),
    "no-color-header": (
        {"without": ["http-response set-header X-Release-Color blue"]},
        {},
        "got 200 with X-Release-Color: None, wanted a color",
    ),
    "unknown-backend": (
        {},
        {"backends": {"blue": "shop-blue", "green": "shop-grün"}},
        "no backend shop-grün for green",
    ),
    "empty-pool": (
        {"extra_sections": "backend empty\n"},
        {"backends": {"blue": "shop-blue", "green": "empty"}},
        "backend empty has no server",
    ),
    "wrong-backend": (
        {},
        {"backends": {"blue": "shop-green", "green": "shop-blue"}},
        "green's share goes to shop-green, the service file says shop-blue",
    ),
    "routing-lines-missing": ({}, {"map": "/nowhere/other.map", "file": "MAP"}, "uses the map /nowhere/other.map"),
    "map-file": (
        {},
        {"file": "/nowhere/shop.map"},
        "no map file /nowhere/shop.map: the split would not survive a reload",
    ),
    "entry-does-not-answer": ({}, {"entry": "127.0.0.1:9"}, "GET / got no answer from the entry 127.0.0.1:9"),
}


@pytest.mark.parametrize("code", ODD)
def test_one_trap_at_a_time(a_node: Any, code: str) -> None:
    node_fields, router_fields, words = ODD[code]
    node = a_node(**node_fields).start()
    fields = {key: str(node.map_path) if value == "MAP" else value for key, value in router_fields.items()}
    found = [one for one in router_of(node, **fields).check() if one.code == code]
    assert found, router_of(node, **fields).check()
    assert any(words in one.fact for one in found), found
    assert all(one.mend for one in found)


ROUTING = {
    "rand(10)": (1, "rand(100)", "rand(10)", "routing-lines-missing", "is not drawn with rand(100)"),
    "no comparison": (2, " lt 0", " lt 1", "routing-lines-missing", "no use_backend compares"),
    "another default": (3, "shop-blue", "shop-green", "wrong-backend", "the rest goes to shop-green"),
    "default of the map": (0, ",0)", ",100)", "map-used-otherwise", "with 0 as its default"),
    "by host": (0, "str(green)", "req.hdr(host)", "map-used-otherwise", "does not look up `green`"),
    "path with map_str": (0, "str(green)", "path", "exact-match-map", "only / itself would switch"),
}


@pytest.mark.parametrize("how", ROUTING)
def test_routing_lines_that_do_something_else(a_node: Any, how: str) -> None:
    line, old, new, code, words = ROUTING[how]
    node = a_node()
    lines = node.routing_lines()
    if how == "path with map_str":
        lines[0] = lines[0].replace("map_str_int", "map_str")
    lines[line] = lines[line].replace(old, new)
    node.routing = lines
    node.start()
    found = router_of(node).check()
    assert code in [one.code for one in found], found
    assert words in " ".join(one.fact for one in found if one.code == code)


def test_run_time_that_differs_from_the_file(a_node: Any) -> None:
    node = a_node().start()
    node.command(f"set map {node.map_path} green 30")
    found = findings(router_of(node))
    assert found.keys() == {"run-time-differs"}
    assert "green 0, epoch none and green 30, epoch none" in found["run-time-differs"].fact


def test_socket_that_is_not_admin(a_node: Any) -> None:
    node = a_node()
    node.extra_global = [f"stats socket {node.socket}.low mode 666 level operator"]
    node.start()
    found = findings(router_of(node, socket=f"{node.socket}.low"))
    assert found.keys() == {"socket-not-admin"}
    assert "level operator" in found["socket-not-admin"].fact
    assert "`level admin`" in found["socket-not-admin"].mend


def test_what_this_user_may_not(a_node: Any) -> None:
    node = a_node().start()
    router = router_of(node, socket=f"127.0.0.1:{node.admin_port}")
    Path(f"{node.map_path}.lock").touch(mode=0o600)
    node.config_path.chmod(0o600)
    found = as_nobody(lambda: [(one.code, one.level) for one in router.check()])
    assert found == [("configuration-not-seen", "warning"), *[("map-file-not-writable", "error")] * 2]
    found = as_nobody(lambda: [(one.code, one.level) for one in router_of(node).check()])
    assert ("socket-refused", "error") in found


def test_node_that_is_down(a_node: Any) -> None:
    found = findings(router_of(a_node()))
    assert found.keys() == {"socket-unreachable", "entry-does-not-answer"}


def test_configuration_that_was_changed_after_it_was_loaded(a_node: Any) -> None:
    node = a_node().start()
    node.config_path.write_text("# a new first line\n" + node.config_path.read_text())
    assert findings(router_of(node)).keys() == {"configuration-not-loaded"}


def test_haproxy_that_is_too_old(a_node: Any, monkeypatch: Any) -> None:
    # No old HAProxy to be had here: only its one line is made up.
    honest = haproxy_host.ask

    def old(config: Any, command: str) -> str:
        return honest(config, command).replace("Version: 2.", "Version: 1.")

    node = a_node().start()
    monkeypatch.setitem(haproxy_host.FUNCTIONS, "ask", old)
    found = findings(router_of(node))
    assert found.keys() == {"version-too-old"}
    assert "wanted 2.6 or later" in found["version-too-old"].fact


def test_without_an_entry_no_request_is_sent(a_node: Any) -> None:
    assert router_of(a_node().start(), probing=False, entry="127.0.0.1:9").check() == []


@contextmanager
def tls_entry(workdir: Path, answer: bytes) -> Iterator[tuple[int, Path]]:
    """An https server that gives one answer, under a certificate for shop.test only."""
    import ssl

    key, certificate = workdir / "key.pem", workdir / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=shop.test -addext subjectAltName=DNS:shop.test"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(65536)
                secure.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], certificate
        thread.join(5)


def test_the_proof_request_of_an_https_entry_goes_to_the_node_under_its_name(a_node: Any, tmp_path: Path) -> None:
    from bluegreen.catalog import models
    from bluegreen.routers.haproxy import HAProxyRouter

    node = a_node().start()
    answer = b"HTTP/1.1 200 OK\r\nX-Release-Color: blue\r\nContent-Length: 0\r\n\r\n"
    with tls_entry(tmp_path, answer) as (port, authority):
        router = router_of(node, entry=f"127.0.0.1:{port}")
        entry = models.Entry(url="https://shop.test", ca_file=authority)
        assert HAProxyRouter("shop", router._router, entry).check() == []


def test_lines_to_add_make_a_good_node(a_node: Any, rig: Any) -> None:
    node = a_node()
    router = router_of(node)
    said = lines_to_add("shop", router._router)
    config, _, initial = said.rpartition("before the first start:\n")
    config = config.replace("frontend shop\n", f"frontend shop\n    bind 127.0.0.1:{node.entry_port}\n")
    config = config.replace(
        "defaults\n", "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n"
    )
    for color in ("blue", "green"):
        server = f"    server {color}1 {rig.backends.addresses[color][0]} check inter 300ms\n"
        config = config.replace(f"\nbackend shop-{color}\n", f"\nbackend shop-{color}\n{server}")
    node.map_path.write_text(initial)
    node.config_text = config + "\n"
    node.start()
    assert findings(router) == {}


def test_the_printed_lines_and_the_snippet_in_include_are_the_same(rig: Any) -> None:
    from bluegreen.catalog import models

    node = {
        "name": "lb1",
        "socket": "/run/haproxy/admin.sock",
        "map": "/etc/haproxy/maps/shop.map",
        "entry": "10.0.0.5:80",
    }
    model = models.HAProxyRouter.model_validate(
        {"type": "haproxy", "nodes": [node], "backends": {"blue": "shop-blue", "green": "shop-green"}}
    )
    snippet = Path(__file__).parents[3] / "include" / "haproxy" / "shop.cfg"
    assert snippet.read_text() == lines_to_add("shop", model)


def test_nodes_with_maps_of_their_own_get_lines_of_their_own(rig: Any) -> None:
    said = lines_to_add("shop", rig.model())
    assert all(str(node.map_path) in said for node in rig.nodes)
