"""Faults by name, against real nginx nodes."""

from __future__ import annotations

import asyncio
import fcntl
import re
import signal
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bluegreen.core.colors import Color, Split
from bluegreen.core.env_secrets import EnvironmentSecrets
from bluegreen.core.errors import NotSettled, RouterRefused, RouterUnreachable, TrafficConflict
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.hosts import host_seen
from bluegreen.hosts.host_files import Trouble
from bluegreen.release.adopt import adopt
from bluegreen.release.drain import drain
from bluegreen.release.move import move
from bluegreen.release.wiring import ports_for
from bluegreen.routers import nginx_config, nginx_host, nginx_include
from bluegreen.routers.nginx import NginxRouter
from demo.load import Load, LoadProcess
from demo.processes import wait_until
from tests.rigs.nginx import service_of
from tests.rigs.people import PersonError, as_nobody
from tests.rigs.rig import raced
from tests.unit.routers.conftest import nginx_router_of

pytestmark = [pytest.mark.nginx, pytest.mark.haproxy]

BLUE, TENTH, GREEN = Split(100, 0), Split(90, 10), Split(0, 100)
LEASE = datetime(2026, 11, 23, 7, tzinfo=UTC)


@pytest.fixture
def rig(nginx_rig: Any) -> Any:
    return nginx_rig


def claim(router: Any) -> Any:
    return router.shift(BLUE, None, Stamp(1, "run@1", "plan", Phase.CLAIMED, Color.BLUE))


def canary(router: Any) -> Any:
    return router.shift(TENTH, (1, "run@1"), Stamp(2, "run@1", "canary", Phase.CANARY, Color.BLUE, lease=LEASE))


def switch(router: Any, epoch: int = 2) -> Any:
    return router.shift(GREEN, (epoch - 1, "run@1"), Stamp(epoch, "run@1", "switch", Phase.SWITCHED, lease=LEASE))


def restore(router: Any) -> Any:
    found = router.read().stamp
    return router.shift(BLUE, found.identity, Stamp(found.epoch + 1, found.release, "restore", Phase.RESTORED))


def stands(rig: Any, split: Split, epoch: int) -> None:
    reading = rig.router().read()
    assert [(n.split, n.epoch, n.settled) for n in reading.nodes] == [(split, epoch, True)] * 2, reading.nodes


def breaks(node: Any) -> Path:
    """Somebody adds a file to nginx.conf that nginx does not take."""
    other = Path(node.folder / "other.conf")
    other.write_text("server {\n    listen nowhere:x;\n}\n")
    node.config_path.write_text(node.render().replace("http {", f"http {{\n    include {other};"))
    return other


# nginx configuration broken by someone else


def test_nginx_configuration_broken_by_someone_else_is_refused_before_anything_is_touched(rig: Any) -> None:
    claim(rig.router())
    before = [node.include.read_bytes() for node in rig.nodes]
    other = breaks(rig.nodes[1])
    with pytest.raises(RouterRefused, match=r"shop: two: nginx configuration broken by someone else") as error:
        canary(rig.router())
    assert f"{other}:2: " in error.value.fact
    assert "`listen nowhere:x;`" in error.value.fact
    assert "nothing was touched; let who changed it mend it" in error.value.next_step
    assert [node.include.read_bytes() for node in rig.nodes] == before
    rig.nodes[1].write_config()
    stands(rig, BLUE, 1)


def test_nginx_configuration_broken_by_someone_else_in_the_middle_puts_the_old_file_back(rig: Any, at: Any) -> None:
    claim(rig.router())
    before = rig.nodes[0].include.read_bytes()
    at("renamed", lambda: breaks(rig.nodes[0]))
    member, fields = (
        rig.router().members[0],
        Stamp(2, "run@1", "canary", Phase.CLAIMED).as_fields() | {"split": "90/10"},
    )
    with pytest.raises(Trouble, match="nginx configuration broken by someone else"):
        nginx_host.swap(member.config, list(member.read().version), fields)
    assert rig.nodes[0].include.read_bytes() == before
    stands(rig, BLUE, 1)
    rig.nodes[0].write_config()


def test_nginx_configuration_broken_by_someone_else_keeps_the_way_back_in_the_file(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    for node in rig.nodes:
        breaks(node)
    with pytest.raises(NotSettled, match=r"the file holds the way back, but .*broken by someone else"):
        restore(rig.router())
    reading = rig.router().read()
    assert [(n.split, n.epoch, n.settled) for n in reading.nodes] == [(BLUE, 3, False)] * 2
    assert reading.nodes[0].detail == "file and run time differ: 100/0, epoch 3 and 90/10, epoch 2"
    for node in rig.nodes:
        node.write_config()  # somebody mends it
    rig.router().catch_up()
    stands(rig, BLUE, 3)
    assert rig.probe(0, 30) == {"blue": 30}


# What is not in the configuration


def test_include_not_included(nginx_node: Any) -> None:
    node = nginx_node().start()
    router = nginx_router_of(node, fields={"include": node.include.parent / "other.conf"})
    (node.include.parent / "other.conf").write_text(node.initial())
    with pytest.raises(RouterRefused, match=r"shop: odd: nginx.conf does not include .*other.conf") as error:
        claim(router)
    assert f"write `include {node.include.parent}/other.conf;` in http {{ }}" in error.value.next_step
    assert (node.include.parent / "other.conf").read_text() == node.initial()


def test_status_location_missing(nginx_node: Any) -> None:
    node = nginx_node().start()
    url = f"http://127.0.0.1:{node.status_port}/other"
    with pytest.raises(RouterRefused, match=r"shop: odd: .*/other answers 404 .*wanted the split of shop") as error:
        claim(nginx_router_of(node, fields={"status": url}))
    assert "`location = /other { return 200 $shop_status; }`" in error.value.fact
    assert node.include.read_text() == node.initial()


def test_nginx_not_running(nginx_node: Any) -> None:
    node = nginx_node()
    node.write_config()
    with pytest.raises(RouterUnreachable, match=r"shop: odd: .*Connection refused; see whether nginx runs"):
        claim(nginx_router_of(node))


def test_garbled_file_stops_the_way_forward_and_not_the_way_back(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    rig.nodes[0].include.write_text("# oops\n")
    node = rig.router().read().nodes[0]
    assert (node.split, node.epoch, node.settled) == (TENTH, 2, False)
    assert "is garbled: it has no split_clients" in node.detail
    with pytest.raises(RouterRefused, match="garbled"):
        switch(rig.router(), 3)
    restore(rig.router())
    stands(rig, BLUE, 3)


def test_no_permission_is_said_with_who_and_where(rig: Any) -> None:
    claim(rig.router())
    with pytest.raises(PersonError, match=r"RouterRefused: shop: one: ") as error:
        as_nobody(lambda: canary(rig.router()))
    assert "ermission" in str(error.value)
    member, folder = rig.router().members[0], rig.nodes[0].include.parent
    fields = Stamp(2, "run@1", "canary", Phase.CANARY, lease=LEASE).as_fields() | {"split": "90/10"}
    with pytest.raises(PersonError, match=r"Trouble: the include file .* cannot be written: Permission denied"):
        as_nobody(lambda: member.place.call("swap", config=member.config, version=member.read().version, fields=fields))
    assert not (folder / "shop.conf.new").exists()
    stands(rig, BLUE, 1)


# Reloads


@pytest.mark.parametrize(
    ("reload", "error", "words"),
    [
        (("true",), NotSettled, "nginx does not run by it after 0.3 s: old workers take requests"),
        (("false",), RouterRefused, "nginx said ''"),
        (("/nowhere/systemctl",), RouterRefused, "cannot be run: No such file"),
    ],
)
def test_a_reload_that_does_nothing_is_undone(
    nginx_node: Any, monkeypatch: Any, reload: tuple[str, ...], error: type[Exception], words: str
) -> None:
    monkeypatch.setattr(nginx_host, "RELOAD_WITHIN", 0.3)
    node = nginx_node().start()
    claim(nginx_router_of(node))
    with pytest.raises(error, match=re.escape(words)):
        canary(nginx_router_of(node, fields={"reload": reload}))
    reading = nginx_router_of(node).read()
    assert (reading.split, reading.nodes[0].epoch, reading.settled) == (BLUE, 1, True)


def test_a_write_whose_writer_died_before_the_reload_is_caught_up(rig: Any) -> None:
    claim(rig.router())
    for node in rig.nodes:
        stamp = Stamp(2, "run@1", "restore", Phase.RESTORED).as_fields() | {"split": "100/0"}
        node.include.write_text(nginx_include.render(rig.router().members[0].config, stamp))
    reading = rig.router().read()
    assert [(n.epoch, n.settled, n.changed_by_hand) for n in reading.nodes] == [(2, False, False)] * 2
    rig.router().catch_up()
    stands(rig, BLUE, 2)


def test_a_renewal_is_durable_and_costs_no_reload(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    workers = [node.current_workers() for node in rig.nodes]
    marks = [nginx_include.mark_in(node.include.read_text()) for node in rig.nodes]
    for seconds in (30, 60):
        rig.router().renew((2, "run@1"), LEASE + timedelta(seconds=seconds))
    assert [node.current_workers() for node in rig.nodes] == workers
    assert [nginx_include.mark_in(node.include.read_text()) for node in rig.nodes] == marks
    stands(rig, TENTH, 2)
    rig.crash(0)
    assert {n.stamp.lease for n in rig.router().read().nodes} == {LEASE + timedelta(seconds=60)}
    stands(rig, TENTH, 2)


class Download:
    """A client that reads slowly: the color's servers, and nginx between, are busy with it."""

    def __init__(self, server: socket.socket, entry: int) -> None:
        self.client = socket.create_connection(("127.0.0.1", entry))
        self.client.sendall(b"GET /big HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        self.server, _ = server.accept()
        self.server.recv(65536)
        self.server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin")

    def end(self) -> bytes:
        self.server.sendall(b"x" * 95)
        said = b""
        while not said.endswith(b"x" * 95):
            said += self.client.recv(65536)
        for one in (self.client, self.server):
            one.close()
        return said


@pytest.fixture
def download(nginx_node: Any) -> Any:
    """A node whose blue is one server of the test's own, and a download of it under way."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        node = nginx_node()
        blue = [f"127.0.0.1:{server.getsockname()[1]}"]
        node.backends = {**node.backends, "blue": blue}
        node.start()
        yield node, Download(server, node.entry_port)


def in_flight(node: Any) -> dict[Color, int | None]:
    counted = asyncio.run(nginx_router_of(node).counters())["odd"]
    return {color: counted[color].in_flight for color in Color}


def healthy(monkeypatch: Any) -> None:
    """The test's own server answers no health check beside its download."""
    monkeypatch.setattr(host_seen, "healths", lambda urls, *_: dict.fromkeys(urls, host_seen.UP))


def test_an_old_worker_held_by_a_long_download(download: Any, monkeypatch: Any) -> None:
    healthy(monkeypatch)
    node, one = download
    assert in_flight(node) == {Color.BLUE: 1, Color.GREEN: 0}
    claim(nginx_router_of(node))
    switch(nginx_router_of(node))  # settled: the old worker takes nothing new
    assert nginx_router_of(node).read().settled
    assert sum("shutting down" in title for title in node.worker_titles().values()) == 1
    assert in_flight(node) == {Color.BLUE: 1, Color.GREEN: 0}
    assert one.end().endswith(b"x" * 95)
    wait_until(lambda: in_flight(node)[Color.BLUE] == 0, 10, "the old worker ends")
    wait_until(lambda: len(node.worker_titles()) == node.workers, 10, "no worker is left over")


def test_without_worker_shutdown_timeout_old_workers_pile_up_behind_their_clients(
    nginx_node: Any, monkeypatch: Any
) -> None:
    healthy(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        node = nginx_node(without=["worker_shutdown_timeout 30s;"], extra_main=["worker_shutdown_timeout 1s;"])
        node.backends = {**node.backends, "blue": [f"127.0.0.1:{server.getsockname()[1]}"]}
        node.start()
        node.extra_main = []
        node.reload()
        held = []
        for _ in range(3):
            held.append(Download(server, node.entry_port))
            node.reload()

        def leaving() -> int:
            return sum("shutting down" in title for title in node.worker_titles().values())

        wait_until(lambda: leaving() == 3, 10, "three old workers that wait for their clients")
        assert in_flight(node)[Color.BLUE] == 3
        assert [one.end()[-1:] for one in held] == [b"x"] * 3


def test_processes_that_cannot_be_seen_settle_by_answers_and_have_unknown_in_flight(rig: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(host_seen, "siblings", lambda *_: None)
    claim(rig.router())
    canary(rig.router())
    stands(rig, TENTH, 2)
    counted = asyncio.run(rig.router().counters())["one"]
    assert {counted[color].in_flight for color in Color} == {None}


def test_after_a_shift_no_fresh_connection_is_answered_by_the_old_color(rig: Any) -> None:
    claim(rig.router())
    for epoch in range(2, 8):
        to, color = (GREEN, "green") if epoch % 2 == 0 else (BLUE, "blue")
        rig.router().shift(to, (epoch - 1, "run@1"), Stamp(epoch, "run@1", f"s{epoch}", Phase.SWITCHED, lease=LEASE))
        assert rig.probe(1, 100) == {color: 100}  # at once: node two was written last


def test_kept_alive_clients_follow_within_keepalive_min_timeout(rig: Any) -> None:
    claim(rig.router())
    targets = [("127.0.0.1", node.entry_port) for node in rig.nodes]
    # Each of 40 connections is idle for 0.8 s between its requests.
    load = LoadProcess(Load(targets, host_header="shop.test", connections=40, rate=50), rig.workdir, "follow").start()
    wait_until(lambda: load.snapshot().of("blue").requests > 40, 10, "every connection has been used")
    switch(rig.router())
    shifted = time.time()
    time.sleep(nginx_config.KEEPALIVE_MIN + 2)
    final = load.stop()
    assert final.failures == {}
    assert final.of("green").requests > 0
    assert (final.of("blue").last_end or 0) - shifted <= nginx_config.KEEPALIVE_MIN + 1


# The release's own use cases, as of any router


def test_a_move_is_claimed_proven_settled_and_drained(rig: Any) -> None:
    service = service_of(rig.nodes, rig.backends.addresses)
    ports = ports_for(service, lambda name: pytest.fail(f"no {name} is needed"))
    adopt(ports, by="test", why="first", version="1.0.0")
    shifted = move(ports, "idle", run="manual__1", by="switch")
    assert shifted.proof.says == "proven"
    reading = ports.router.read()
    assert (reading.live, reading.stamp and reading.stamp.phase, reading.settled) == ("green", Phase.SETTLED, True)
    assert [rig.probe(number, 30) for number in (0, 1)] == [{"green": 30}] * 2
    assert drain(ports, Color.BLUE).in_flight == 0


# Servers and clients


def test_a_server_that_hangs_is_down_and_holds_nobody_up(rig: Any) -> None:
    process = rig.backends._processes["green"]
    process.signal(signal.SIGSTOP)
    try:
        health = rig.router().read().nodes[0].health
        assert {color: (health[color].ready, health[color].total) for color in Color} == {
            "blue": (2, 2),
            "green": (0, 2),
        }
        with pytest.raises(
            RouterRefused, match="none of 2 servers of backend shop-green is up, wanted 100 % for green"
        ):
            rig.router().shift(GREEN, None, Stamp(1, "run@1", "plan", Phase.CLAIMED))
    finally:
        process.signal(signal.SIGCONT)


def test_a_client_with_a_cookie_keeps_its_color_while_greens_share_grows(nginx_node: Any) -> None:
    node = nginx_node().start()
    router = {"sticky": {"cookie": "sid"}}

    def colors(cookies: list[str]) -> list[str]:
        return [_ask(node.entry_port, f"Cookie: sid={cookie}\r\n" if cookie else "") for cookie in cookies]

    clients, before = [f"c{number}" for number in range(60)], set()
    for epoch, share in enumerate((0, 10, 50, 90, 100), start=1):
        split, expected = Split.giving(Color.GREEN, share), (epoch - 1, "run@1") if epoch > 1 else None
        step = Stamp(epoch, "run@1", f"s{share}", Phase.CANARY, lease=LEASE)
        nginx_router_of(node, router=router).shift(split, expected, step)
        first, again = colors(clients), colors(clients)
        assert first == again
        green = {client for client, color in zip(clients, first, strict=True) if color == "green"}
        assert before <= green
        before = green
        if share == 50:
            assert 10 <= len(green) <= 50
            assert set(colors([""] * 40)) == {"blue", "green"}  # without the cookie each request is drawn by itself
            proof = ports_for(service_of([node], node.backends, router=router), EnvironmentSecrets()).prove(split)
            assert proof.says == "proven", proof.reason
    assert before == set(clients)


def _ask(port: int, headers: str) -> str:
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: shop.test\r\n{headers}Connection: close\r\n\r\n".encode())
        said = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    found = re.search(r"^x-release-color: (\w+)", said, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


# Somebody else


def test_two_services_on_one_nginx_do_not_mix(nginx_node: Any) -> None:
    node = nginx_node()
    other = node.include.parent / "pay.conf"
    pay = {"service": "pay", "include": str(other), "backends": {"blue": "shop-blue", "green": "shop-green"}}
    other.parent.mkdir(parents=True)
    other.write_text(nginx_include.render(pay, {"split": "100/0"}))
    own = f"include {node.include};\n    include {other};"
    status = "location = /pay {\n return 200 $pay_status;\n }\n location = /shop {"
    node.config_text = node.render().replace(f"include {node.include};", own).replace("location = /shop {", status)
    node.start()

    def router(name: str) -> NginxRouter:
        fields = {"include": node.include.parent / f"{name}.conf", "status": node.status.replace("/shop", f"/{name}")}
        service = service_of([node], node.backends, service=name)
        one = service.router.nodes[0].model_copy(update=fields)
        return NginxRouter(service, service.router.model_copy(update={"nodes": (one,)}))

    def moves(name: str) -> Callable[[Any], Any]:
        def move(_: Any) -> None:
            for epoch in range(1, 6):
                expected = (epoch - 1, "run@1") if epoch > 1 else None
                router(name).shift(TENTH, expected, Stamp(epoch, "run@1", f"s{epoch}", Phase.CLAIMED))

        return move

    assert raced(lambda: None, [moves("shop"), moves("pay")]) == ["", ""]
    for name in ("shop", "pay"):
        found = router(name).read()
        assert (found.split, found.stamp and found.stamp.epoch, found.settled) == (TENTH, 5, True)


def test_services_of_one_nginx_wait_for_each_other(rig: Any, at: Any) -> None:
    member = rig.router().members[0]
    pay = {
        **member.config,
        "service": "pay",
        "include": str(rig.nodes[0].include.parent / "pay.conf"),
        "lock_timeout": 0.1,
    }
    said = []

    def other() -> None:
        with pytest.raises(Trouble, match="another writer holds") as error:
            nginx_host.swap(pay, ["100/0"], {"split": "90/10"})
        said.append(error.value.kind)

    at("renamed", other)  # a test or a reload of the other one would be of this half-way state, too
    claim(rig.router())
    assert said == ["unreachable"]


def test_another_write_between_our_read_and_ours(rig: Any) -> None:
    claim(rig.router())
    rival = Stamp(2, "hotfix@2", "plan", Phase.CLAIMED)
    late = rig.router(before={0: lambda: rig.router().shift(BLUE, (1, "run@1"), rival)})
    with pytest.raises(TrafficConflict, match=r"shop: one: expected 100/0, epoch 1 .* of run@1, found .*hotfix@2"):
        canary(late)
    stands(rig, BLUE, 2)


def test_a_hung_writer_is_named_and_does_not_stop_readers(rig: Any) -> None:
    claim(rig.router())
    lock = rig.nodes[0].include.parent / "nginx.lock"
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert rig.router().read().settled
        member = rig.router().members[0]
        with pytest.raises(Trouble, match="another writer holds") as error:
            nginx_host.swap({**member.config, "lock_timeout": 0.1}, member.read().version, {"split": "90/10"})
    assert (error.value.kind, error.value.mend) == ("unreachable", f"see which one: fuser {lock}")


@pytest.mark.parametrize("place", ["written", "renamed", "reloaded"])
def test_node_down_during_a_shift_comes_back_with_the_old_split_or_the_new(
    rig: Any, at: Any, monkeypatch: Any, place: str
) -> None:
    monkeypatch.setattr(nginx_host, "RELOAD_WITHIN", 0.3)
    claim(rig.router())
    at(place, lambda: rig.lose(0))
    with pytest.raises((NotSettled, RouterRefused)):
        canary(rig.router())
    rig.bring_back(0)
    node = rig.router().read().nodes[0]
    assert (node.epoch, node.split) in ((1, BLUE), (2, TENTH))
    assert node.settled
    assert restore(rig.router()).settled


def test_every_wait_is_bounded(nginx_node: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node = nginx_node()
        config = nginx_router_of(node).members[0].config
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/shop"
        with pytest.raises(Trouble, match="timed out") as error:
            nginx_host.runtime({**config, "status": url, "timeout": 0.1})
    assert error.value.kind == "unreachable"
