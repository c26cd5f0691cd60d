"""
What runs long on a color is seen until it ends: real tunnels, event streams and downloads, on real HAProxy and nginx.

The old color is retired then, and only then.
"""

from __future__ import annotations

import http.client
import socket
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError
from bluegreen.release.drain import drain, in_flight, in_flight_by_color
from bluegreen.release.restore import restore
from bluegreen.release.retire import retire
from bluegreen.release.shift import settle, shift
from demo.processes import wait_until
from tests.rigs.session_rig import session_shop

pytestmark = [pytest.mark.haproxy, pytest.mark.nginx]
KINDS = ["haproxy", "haproxy-debian", "nginx", "nginx-debian"]
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
LONG = ["/tunnel", "/events", "/download"]


@pytest.fixture
def shop():
    with ExitStack() as stack:

        def start(kind):
            program, _, debian = kind.partition("-")
            if debian and not Path(f"/usr/sbin/{program}").exists():
                pytest.skip(f"there is no /usr/sbin/{program}: apt-get install {program}")
            stores = {"blue": "memory:", "green": "memory:"}
            return stack.enter_context(session_shop(kind, stores, release={"drain": "300ms"}))

        yield start


def opened(one, path):
    """A client whose request does not end; it has seen the first bytes of the answer."""
    client = socket.create_connection(("127.0.0.1", one.node.entry_port), timeout=5)
    upgrade = UPGRADE if path == "/tunnel" else ""
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: shop.test\r\n{upgrade}\r\n".encode())
    answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101" if upgrade else b"HTTP/1.1 200"), answer
    return client


def kept_alive(one):
    """A client that keeps its connection, without a request in it."""
    client = http.client.HTTPConnection("127.0.0.1", one.node.entry_port, timeout=5)
    assert color(client) == "blue"
    return client


def color(client):
    client.request("GET", "/health", headers={"Host": "shop.test"})
    answer = client.getresponse()
    answer.read()
    return answer.headers["X-Release-Color"]


def alive(client, path):
    if path == "/tunnel":
        client.sendall(b"are you there")
        return client.recv(64) == b"are you there"
    return bool(client.recv(64))


def counted(one, wanted, where=Color.BLUE):
    wait_until(lambda: in_flight(one.ports, where) == wanted, 5, f"{wanted} in flight on {where}")


@pytest.mark.parametrize("kind", KINDS)
def test_tunnels_streams_and_downloads_keep_the_old_color_until_they_end(shop, kind):
    one = shop(kind)
    clients = {path: opened(one, path) for path in LONG}
    with closing(kept_alive(one)):
        switched = shift(one.ports, one.plan, "switch", 100, one.plan.epoch)
        settle(one.ports, one.plan, switched.epoch)
        counted(one, 3)  # the client without a request is none of them
        assert [alive(client, path) for path, client in clients.items()] == [True] * 3
        drained = drain(one.ports, Color.BLUE)
        assert (drained.in_flight, drained.as_json()["colors"]["blue"]) == (3, 3)
        for left, path in ((3, "/download"), (2, "/tunnel"), (1, "/events")):
            with pytest.raises(DeployError, match=rf"{left} requests are still in flight on it"):
                retire(one.ports, "kept long enough", "tests")
            clients[path].close()
            counted(one, left - 1)
        assert retire(one.ports, "kept long enough", "tests").color is Color.BLUE


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_after_the_way_back_what_runs_on_the_new_color_is_seen_too(shop, kind):
    one = shop(kind)
    shift(one.ports, one.plan, "switch", 100, one.plan.epoch)
    client = opened(one, "/tunnel")
    restore(one.ports, "it was bad", "tests")
    counted(one, 1, Color.GREEN)
    assert alive(client, "/tunnel")
    client.close()
    counted(one, 0, Color.GREEN)


def test_a_client_without_a_request_goes_to_the_new_color_with_its_next_one(shop):
    one = shop("haproxy")
    with closing(kept_alive(one)) as client:
        shift(one.ports, one.plan, "switch", 100, one.plan.epoch)
        assert in_flight_by_color(one.ports) == {Color.BLUE: 0, Color.GREEN: 0}
        assert color(client) == "green"


def test_what_an_old_worker_of_haproxy_still_has_after_a_reload_by_hand_is_not_seen(shop):
    """As docs/sessions.md says: a shift needs no reload, and who reloads in a drain takes the count away."""
    one = shop("haproxy")
    with closing(opened(one, "/tunnel")) as client:
        counted(one, 1)
        one.node.reload()
        counted(one, 0)
        assert alive(client, "/tunnel")
