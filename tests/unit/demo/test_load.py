"""The load generator must see every kind of failure, count each exactly once, and hide no stall."""

import asyncio
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

from demo.load import Load, LoadProcess, Record, Records, Series, Snapshot
from demo.processes import LOOPBACK, free_port

pytestmark = pytest.mark.timeout(60)


def answer(status=200, color="blue", version="1.0", body=b"ok", extra=""):
    color_line = f"X-Release-Color: {color}\r\n" if color else ""
    head = f"HTTP/1.1 {status} X\r\n{color_line}x-app-version: {version}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Misbehaving:
    """A server that does to the n-th request of a connection what `script(n, total)` says, and keeps its own books."""

    def __init__(self, script):
        self.script = script
        self.requests = []
        self.done = Counter()
        self.connections = 0
        self.port = free_port()

    async def serve(self, reader, writer):
        self.connections += 1
        number = 0
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                number += 1
                action = self.script(number, len(self.requests))
                self.done[action if isinstance(action, str) else "answer"] += 1
                if not await self.act(action, writer):
                    break
        writer.close()

    async def act(self, action, writer):
        if isinstance(action, bytes):
            writer.write(action)
            return True
        if action == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        elif action == "truncate":
            writer.write(answer(body=b"x" * 100)[:-50])
        elif action == "garbage":
            writer.write(b"not http at all\r\n\r\n")
        elif action == "until_close":
            writer.write(b"HTTP/1.0 200 OK\r\nX-Release-Color: blue\r\n\r\nthe end of this is the end")
        elif action == "answer_and_close":
            writer.write(answer())
            await writer.drain()
        elif action == "hang":
            await asyncio.sleep(5)
        elif action != "close":
            raise ValueError(action)
        return False


@asynccontextmanager
async def served(server):
    listening = await asyncio.start_server(server.serve, LOOPBACK, server.port)
    try:
        yield
    finally:
        listening.close()


def run(script, seconds=0.5, **options):
    """One short load against a script; returns what the load says, the load and what the server did."""
    server = Misbehaving(script)

    async def scenario():
        options.setdefault("connections", 3)
        load = Load([(LOOPBACK, server.port)], **options)
        async with served(server):
            return await load.run(seconds), load

    snapshot, load = asyncio.run(scenario())
    return snapshot, load, server


def test_what_went_well_is_counted_by_color_and_version():
    versions = [("blue", "1.0"), ("green", "2.0-RC1"), ("green", "2.1")]
    snapshot, load, server = run(
        lambda number, total: answer(color=versions[total % 3][0], version=versions[total % 3][1])
    )

    assert snapshot.failed == 0
    assert snapshot.requests == len(server.requests) == len(load.records) > 30
    assert snapshot.connections_opened == server.connections == 3
    thirds = [snapshot.of(*one).requests for one in versions]
    assert sum(thirds) == snapshot.requests
    assert max(thirds) - min(thirds) <= 1
    assert snapshot.share("green") == pytest.approx(2 / 3, abs=0.05)
    assert snapshot.of("green").requests == thirds[1] + thirds[2]
    assert snapshot.of("purple").requests == 0


def test_the_times_of_a_color_are_wall_clock_and_end_with_its_last_answer():
    before = time.time()
    snapshot, _, _ = run(lambda number, total: answer(color="blue" if total <= 10 else "green"), connections=1)
    blue, green = snapshot.of("blue"), snapshot.of("green")

    assert before <= blue.first_start <= blue.last_start < blue.last_end
    assert blue.last_end <= green.first_start + 0.001
    assert green.last_end <= snapshot.now <= time.time() + 0.001


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("close", "reset_fresh"),
        ("reset", "reset_fresh"),
        ("truncate", "truncated"),
        ("garbage", "truncated"),
        (answer(status=500), "status_5xx"),
        (answer(status=503, color=None), "proxy_made"),
        (answer(status=301, color=None), "proxy_made"),
    ],
)
def test_each_kind_of_failure_is_counted_once_and_nothing_is_retried(action, kind):
    snapshot, load, server = run(lambda number, total: action, rate=100)

    assert snapshot.requests == len(server.requests) > 20
    assert snapshot.failures == {kind: snapshot.requests}
    assert {record.failure for record in load.records} == {kind}
    status_5xx = isinstance(action, bytes) and action.startswith(b"HTTP/1.1 5")
    assert snapshot.status_5xx == (snapshot.requests if status_5xx else 0)


@pytest.mark.parametrize("action", ["close", "reset"])
def test_a_broken_kept_alive_connection_is_told_from_a_fresh_one(action):
    # Rare enough that a connection is reset only after it has served.
    snapshot, _, server = run(lambda number, total: action if number == 4 else answer())

    assert server.done[action] > 0
    assert snapshot.failures == {"reset_reused": server.done[action]}
    assert snapshot.requests == len(server.requests)
    # each broken connection was opened again, and went on
    assert snapshot.connections_opened == server.connections
    assert snapshot.of("blue").requests == server.done["answer"]


def test_a_closed_port_is_a_failure_to_connect_and_is_not_hammered():
    port = free_port()
    snapshot = asyncio.run(Load([(LOOPBACK, port)], connections=2).run(0.5))

    assert snapshot.failures == {"connect": snapshot.requests}
    assert 2 <= snapshot.requests <= 40
    assert snapshot.connections_opened == 0


def test_an_answer_that_does_not_come_is_a_timeout_that_took_that_long():
    snapshot, load, server = run(
        lambda number, total: "hang" if total == 5 else answer(), rate=40, timeout_s=1, seconds=1.5
    )

    assert server.done["hang"] == 1
    assert snapshot.failures == {"timeout": 1}
    assert [record.latency_s >= 1 for record in load.records if record.failure] == [True]


def test_a_late_answer_to_a_given_up_request_is_not_counted_for_another():
    server = Misbehaving(lambda number, total: answer())

    async def slow(reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                server.requests.append(await reader.readuntil(b"\r\n\r\n"))
                await asyncio.sleep(0.4)
                writer.write(answer())
        writer.close()

    server.serve = slow

    async def scenario():
        async with served(server):
            return await Load([(LOOPBACK, server.port)], connections=2, timeout_s=0.2).run(1)

    snapshot = asyncio.run(scenario())
    assert snapshot.failures == {"timeout": snapshot.requests}
    assert snapshot.requests == len(server.requests)


@pytest.mark.parametrize(
    "action",
    [
        answer(extra="Connection: close\r\n"),
        b"HTTP/1.1 200 OK\r\nX-Release-Color: blue\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
        b"HTTP/1.1 204 No Content\r\nX-Release-Color: blue\r\n\r\n",
        "until_close",
    ],
)
def test_every_way_to_end_an_answer_is_a_success(action):
    snapshot, _, server = run(lambda number, total: action, rate=60, seconds=0.7, connections=6)

    assert snapshot.failures == {}
    assert snapshot.of("blue").requests == snapshot.requests == len(server.requests) > 20


@pytest.mark.parametrize("goodbye", [answer(extra="Connection: Close\r\n"), answer().replace(b"HTTP/1.1", b"HTTP/1.0")])
def test_a_connection_that_was_said_goodbye_to_is_not_used_again(goodbye):
    # This server says goodbye and would go on to answer all the same.
    snapshot, _, server = run(lambda number, total: goodbye)

    assert snapshot.requests == server.connections > 20
    assert snapshot.failed == snapshot.idle_closed == 0


def test_the_last_start_is_the_latest_even_when_answers_overtake_each_other():
    series = Series("blue", "1.0")
    for start, end in ((2.0, 2.5), (3.0, 3.1), (1.0, 4.0)):
        series.count(start, end, "", 200)
    assert (series.first_start, series.first_end, series.last_start, series.last_end) == (2.0, 2.5, 3.0, 4.0)


def test_connections_that_the_server_closes_while_they_rest_are_counted_apart():
    # Each connection rests for half a second between two requests: time enough to notice its end.
    snapshot, _, server = run(lambda number, total: "answer_and_close", rate=20, seconds=1, connections=10)

    assert snapshot.failed == 0
    assert snapshot.of("blue").requests == snapshot.requests == server.connections
    assert snapshot.idle_closed > 5
    assert snapshot.connections_opened == server.connections


def test_paths_methods_and_headers_go_over_the_wire():
    _, _, server = run(
        lambda number, total: answer(),
        host_header="shop.test",
        paths=[("GET", "/a"), ("POST", "/checkout")],
        headers={"X-Sticky": "7"},
        connections=1,
    )

    first, second = sorted(server.requests[:2])
    assert first == b"GET /a HTTP/1.1\r\nHost: shop.test\r\nX-Sticky: 7\r\n\r\n"
    assert second.startswith(b"POST /checkout HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n")
    assert sorted(server.requests[2:4]) == [first, second]


def test_whoever_gets_each_second_request_gets_every_path():
    _, _, server = run(lambda number, total: answer(), paths=[("GET", "/a"), ("GET", "/b")], connections=1, rate=100)
    assert len(set(server.requests[:60:2])) == 2


def test_a_stall_shows_in_every_request_that_it_delayed():
    def stall(number, total):
        if total == 10:
            time.sleep(0.5)  # the whole server, and with it this test's loop: as a frozen machine would
        return answer()

    snapshot, load, _ = run(stall, rate=100, seconds=1.5, connections=1)
    delayed = [record for record in load.records if record.latency_s > 0.1]

    # 50 requests were due during the stall; a load that waits with its clock stopped would show one.
    assert len(delayed) >= 30
    assert snapshot.p99_ms > 300


def test_what_was_due_and_never_sent_is_told():
    async def too_slow(reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(0.2)
                writer.write(answer())
        writer.close()

    server = Misbehaving(None)
    server.serve = too_slow

    async def scenario():
        async with served(server):
            return await Load([(LOOPBACK, server.port)], connections=1, rate=100).run(1)

    snapshot = asyncio.run(scenario())
    elapsed = snapshot.now - snapshot.started
    assert snapshot.requests <= elapsed / 0.2 + 1
    # the last request's 0.2 s belong to the run, but nothing is due any more
    assert 100 * (elapsed - 0.4) <= snapshot.requests + snapshot.overdue <= 100 * elapsed + 1


def test_the_rate_is_kept():
    snapshot, _, _ = run(lambda number, total: answer(), rate=200, seconds=1)
    assert snapshot.requests + snapshot.overdue == pytest.approx(200 * (snapshot.now - snapshot.started), rel=0.1)
    assert snapshot.overdue < 0.2 * snapshot.requests


def test_records_give_exact_percentiles_of_windows():
    records = Records()
    for number in range(1000):
        records.add(100 + number / 100, number / 1000, 200, 1, "timeout" if number == 999 else "")

    assert records.p99_ms() == pytest.approx(989, abs=0.01)
    assert records.p99_ms([(100, 101)]) == pytest.approx(98, abs=0.01)
    assert records.percentile_ms(100, [(100, 100.5), (109.005, 200)]) == pytest.approx(999, abs=0.01)
    assert records.p99_ms([(1, 2)]) is None


def test_records_are_bounded_and_keep_the_newest(tmp_path):
    records = Records(capacity=100)
    for number in range(250):
        records.add(float(number), 0.5, 200, 0, "connect")

    assert records.total == 250
    assert len(records) == 100
    assert sorted(record.start for record in records) == [float(number) for number in range(150, 250)]
    assert next(iter(records)) == Record(200.0, 0.5, 200, 0, "connect")


def test_two_million_records_stay_small():
    records = Records()
    for number in range(200_000):
        records.add(float(number), 0.5, 200, 0, "")
    assert len(records._bytes) == 200_000 * 17


def test_a_load_says_what_it_cannot_do():
    with pytest.raises(ValueError, match="target"):
        Load([])
    with pytest.raises(ValueError, match="how long"):
        asyncio.run(Load([("127.0.0.1", 1)]).run())
    with pytest.raises(RuntimeError, match="not started"):
        Load([("127.0.0.1", 1)]).snapshot()


@contextmanager
def in_a_thread(server):
    """The server in a thread of its own, for loads that run in another process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def begin():
        return await asyncio.start_server(server.serve, LOOPBACK, server.port)

    async def end(listening):
        listening.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    listening = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(end(listening), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_a_load_in_its_own_process_tells_the_same_story(tmp_path):
    script = Misbehaving(lambda number, total: "close" if number == 20 else answer(color="green", version="2.0"))
    with in_a_thread(script) as server:
        load = LoadProcess(Load([(LOOPBACK, server.port)], connections=4, rate=300), tmp_path).start()
        try:
            running = load.wait_for_next()
            later = load.wait_for_next()
            final = load.stop()
        finally:
            load.kill()

    assert running.running
    assert not final.running
    assert running.requests < later.requests <= final.requests == len(server.requests)
    assert final.failures == {"reset_reused": server.done["close"]}
    assert final.of("green", "2.0").requests == server.done["answer"]
    records = load.records()
    assert len(records) == final.requests
    assert Counter(record.failure for record in records)["reset_reused"] == server.done["close"]
    assert load.p99_ms([(final.started, final.now)]) == records.p99_ms()
    assert final.p50_ms == pytest.approx(records.percentile_ms(50), rel=0.05)
    assert Snapshot.from_json(final.to_json()) == final


def test_a_load_process_that_was_killed_gives_no_final_result(tmp_path):
    load = LoadProcess(Load([(LOOPBACK, free_port())], connections=1), tmp_path).start()
    load.kill()
    with pytest.raises(RuntimeError, match="orderly"):
        load.stop()
