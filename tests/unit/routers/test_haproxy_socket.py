"""Admin sockets that many ask at once, or that hang: nobody waits for somebody else's."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bluegreen.routers import haproxy_host, haproxy_socket
from bluegreen.routers.haproxy import HAProxyRouter
from tests.unit.routers.conftest import router_of

ASKS: dict[str, Callable[[Any], str]] = {
    "blocking": lambda config: haproxy_host.ask(config, "show info"),
    "on the loop": lambda config: asyncio.run(haproxy_socket.ask(config, "show info")),
}


class FullSocket:
    """A unix socket whose queue is full until ``serve``: the kernel refuses more with "try again"."""

    def __init__(self, path: Path) -> None:
        self.config = {"socket": str(path), "timeout": 2.0}
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(0)
        self.waiting: list[socket.socket] = []
        with suppress(BlockingIOError):
            while True:
                self.waiting.append(socket.socket(socket.AF_UNIX))
                self.waiting[-1].setblocking(False)
                self.waiting[-1].connect(str(path))

    def serve(self) -> None:
        """Let those that wait go, and answer the next."""
        for one in self.waiting:
            one.close()
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection, suppress(OSError):
                    if connection.recv(100):
                        connection.sendall(b"Version: 9\n")

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        for one in (self.listener, *self.waiting):
            one.close()


@pytest.fixture
def full(tmp_path: Path) -> Iterator[FullSocket]:
    found = FullSocket(tmp_path / "full.sock")
    yield found
    found.close()


@pytest.mark.parametrize("how", ASKS)
def test_a_full_queue_is_waited_for(full: FullSocket, how: str) -> None:
    late = threading.Timer(0.3, full.serve)
    late.start()
    assert ASKS[how](full.config) == "Version: 9"
    full.close()
    late.join()


@pytest.mark.parametrize("how", ASKS)
def test_a_full_queue_is_not_waited_for_longer_than_the_timeout(full: FullSocket, how: str) -> None:
    begun = time.monotonic()
    with pytest.raises((haproxy_host.Trouble, TimeoutError)):
        ASKS[how](full.config | {"timeout": 0.2})
    assert time.monotonic() - begun < 1


@pytest.mark.haproxy
@pytest.mark.parametrize("tcp", [False, True])
def test_both_ways_of_asking_tell_the_same(a_node: Callable[..., Any], tcp: bool) -> None:
    node = a_node().start()
    config = router_of(node, **({"socket": f"127.0.0.1:{node.admin_port}"} if tcp else {})).members[0].config
    assert asyncio.run(haproxy_socket.ask(config, "show version")) == haproxy_host.ask(config, "show version")
    names = haproxy_host.pools(asyncio.run(haproxy_socket.stat(config | {"backends": ["none"]}))).keys()
    assert names == {"shop-blue", "shop-green"}  # all of them where one is not known


@pytest.mark.haproxy
def test_a_hundred_watches_of_a_haproxy_that_hangs_hold_up_no_other(
    a_node: Callable[..., Any], full: FullSocket
) -> None:
    well, hangs = router_of(a_node().start()), [_hung(full) for _ in range(100)]

    async def seconds() -> float:
        others = [asyncio.create_task(router.counters()) for router in hangs]
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        assert (await well.counters()).keys() == {"odd"}
        took = time.monotonic() - begun
        assert await asyncio.gather(*others) == [{}] * 100
        return took

    assert asyncio.run(seconds()) < 0.5


def _hung(full: FullSocket) -> HAProxyRouter:
    class Node:
        name, map_path, entry, socket = "hung", Path("/x.map"), "127.0.0.1:1", full.config["socket"]

    return router_of(Node())  # type: ignore[arg-type] - no more of a node is looked at
