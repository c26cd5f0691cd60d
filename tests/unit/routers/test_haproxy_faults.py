"""Faults by name, against real HAProxy nodes."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import NotSettled, RouterRefused, RouterUnreachable, TrafficConflict
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.routers import haproxy_check, haproxy_host
from demo.processes import wait_until
from tests.rigs.people import NOBODY, PersonError, as_nobody
from tests.unit.routers.conftest import far, router_of

pytestmark = pytest.mark.haproxy

BLUE, TENTH = Split(100, 0), Split(90, 10)
LEASE = datetime(2026, 11, 23, 7, tzinfo=UTC)


def claim(router: Any) -> Any:
    return router.shift(BLUE, None, Stamp(1, "run@1", "plan", Phase.CLAIMED, Color.BLUE))


def canary(router: Any) -> Any:
    return router.shift(TENTH, (1, "run@1"), Stamp(2, "run@1", "canary", Phase.CANARY, Color.BLUE, lease=LEASE))


def restore(router: Any) -> Any:
    found = router.read().stamp
    return router.shift(BLUE, found.identity, Stamp(found.epoch + 1, found.release, "restore", Phase.RESTORED))


def stands(rig: Any, split: Split, epoch: int) -> None:
    reading = rig.router().read()
    assert [(n.split, n.epoch, n.settled) for n in reading.nodes] == [(split, epoch, True)] * 2, reading.nodes


# Who may not


def test_socket_without_permission(rig: Any) -> None:
    claim(rig.router())
    with pytest.raises(
        PersonError, match=r"RouterRefused: shop: one, two: .*no permission on the admin socket .*sock"
    ) as error:
        as_nobody(lambda: canary(rig.router()))
    assert f"let user id {NOBODY} use it" in str(error.value)
    stands(rig, BLUE, 1)


def test_folder_that_the_writer_may_not_write(a_node: Any) -> None:
    node = a_node().start()
    router = router_of(node, socket=f"127.0.0.1:{node.admin_port}")
    claim(router)  # as root
    with pytest.raises(PersonError, match=r"RouterRefused: shop: odd: .*cannot be written: Permission denied") as error:
        as_nobody(lambda: canary(router))
    assert f"let user id {NOBODY} write in {node.map_path.parent}" in str(error.value)
    assert [(n.epoch, n.settled) for n in router.read().nodes] == [(1, True)]


def test_who_may_not_lock_still_reads(rig: Any, a_node: Any) -> None:
    node = a_node().start()
    router = router_of(node, socket=f"127.0.0.1:{node.admin_port}")
    assert as_nobody(lambda: router.read().says()) == "blue/green 100/0, no stamp"
    with pytest.raises(PersonError, match=r"RouterRefused: .*the lock .*map\.lock cannot be opened"):
        as_nobody(lambda: claim(router))


def _on_a_read_only_disk(node: Any, call: dict[str, Any]) -> dict[str, Any]:
    """Run the host program as over ssh, with the map's folder mounted read-only in a mount namespace of its own."""
    folder = node.map_path.parent
    mount = f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
    probe = subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False, timeout=20)
    if probe.returncode:
        pytest.skip(f"no mount namespace here, so no read-only disk: {probe.stderr.decode().strip()}")
    return far(call, "unshare", "--mount", "sh", "-c", mount + ' && exec "$@"', "sh")


def test_read_only_disk(rig: Any) -> None:
    claim(rig.router())
    member = rig.router().members[0]
    fields = Stamp(2, "run@1", "canary", Phase.CANARY, lease=LEASE).as_fields() | {"split": "90/10"}
    call = {"do": "swap", "with": {"config": member.config, "version": member.read().version, "fields": fields}}
    kind, fact, mend = _on_a_read_only_disk(rig.nodes[0], call)["trouble"]
    assert (kind, mend) == ("refused", f"mount the disk of {rig.nodes[0].map_path.parent} read-write")
    assert fact.endswith("cannot be written: Read-only file system")
    stands(rig, BLUE, 1)


def test_the_way_back_on_a_read_only_disk_stops_the_harm_and_says_what_is_missing(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    member = rig.router().members[0]
    fields = Stamp(3, "run@1", "restore", Phase.RESTORED).as_fields() | {"split": "100/0"}
    call = {"do": "swap", "with": {"config": member.config, "version": member.read().version, "fields": fields}}
    kind, fact, _ = _on_a_read_only_disk(rig.nodes[0], call)["trouble"]
    assert kind == "unsettled"
    assert fact.startswith("in force until HAProxy is reloaded, but not durable")
    assert rig.probe(0, 30) == {"blue": 30}
    node = rig.router().read().nodes[0]
    assert (node.split, node.epoch, node.stamp.phase, node.settled) == (BLUE, 3, Phase.RESTORED, False)
    assert not node.changed_by_hand
    rig.router().catch_up()  # the disk is mended
    stands(rig, BLUE, 3)


def test_socket_that_is_not_at_level_admin(a_node: Any) -> None:
    node = a_node()
    low = f"{node.socket}.low"
    node.extra_global = [f"stats socket {low} mode 666 level operator"]
    node.start()
    node.command("set server shop-blue/blue1 state drain")
    with pytest.raises(RouterRefused, match=r"shop: odd: shop-blue/blue1 cannot be made ready.*denied.*level admin"):
        router_of(node, socket=low).make_ready(Color.BLUE)


# What the service file names wrongly


def test_unknown_map(a_node: Any) -> None:
    router = router_of(a_node().start(), map="/etc/haproxy/maps/other.map")
    with pytest.raises(
        RouterRefused, match=r"shop: odd: .*knows no map /etc/haproxy/maps/other.map; .*bluegreen check"
    ):
        claim(router)


def test_backend_without_a_server(a_node: Any) -> None:
    router = router_of(
        a_node(extra_sections="backend empty\n").start(), backends={"blue": "shop-blue", "green": "empty"}
    )
    with pytest.raises(RouterRefused, match="shop: odd: backend empty has no server; nothing was touched"):
        claim(router)


def test_unknown_backend_is_refused_under_the_lock_too(rig: Any) -> None:
    member = rig.router(green="shop-purple").members[0]
    fields = {**Stamp(1, "run@1", "plan", Phase.CLAIMED).as_fields(), "split": "100/0"}
    with pytest.raises(haproxy_host.Trouble, match="knows no backend shop-purple") as error:
        haproxy_host.swap(member.config, ["100/0"], fields)
    assert error.value.mend == "nothing was touched; haproxy.cfg's backends are shop-blue, shop-green"


def test_make_ready_of_an_unknown_backend(rig: Any) -> None:
    with pytest.raises(RouterRefused, match="shop: one: HAProxy knows no backend shop-purple"):
        rig.router(green="shop-purple").make_ready(Color.GREEN)


def test_tcp_socket_without_the_file_is_refused(a_node: Any) -> None:
    node = a_node().start()
    router = router_of(node, socket=f"127.0.0.1:{node.admin_port}", file="/nowhere/shop.map")
    reading = router.read()
    assert (reading.nodes[0].split, reading.nodes[0].settled) == (BLUE, False)
    assert "there is no map file /nowhere/shop.map" in reading.nodes[0].detail
    with pytest.raises(RouterRefused, match=r"shop: odd: .*as seen from here"):
        claim(router)


# A node that goes away


@pytest.mark.parametrize(("place", "epoch"), [("written", 1), ("prepared", 2), ("renamed", 2), ("committed", 2)])
def test_node_down_during_a_shift(rig: Any, at: Any, monkeypatch: Any, place: str, epoch: int) -> None:
    monkeypatch.setattr(haproxy_check, "SOCKET_TIMEOUT", 0.5)
    claim(rig.router())
    at(place, lambda: rig.lose(0))
    with pytest.raises(RouterUnreachable, match=r"shop: one: .*does not answer"):
        canary(rig.router())
    rig.bring_back(0)
    # The file decides what it comes back with: the split is the old one or the new one, and it says which.
    node = rig.router().read().nodes[0]
    assert (node.epoch, node.split, node.settled) == (epoch, TENTH if epoch == 2 else BLUE, True)
    assert restore(rig.router()).settled


def test_node_down_after_a_shift_comes_back_with_it(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    rig.lose(0)
    rig.lose(1)
    rig.bring_back(0)
    rig.bring_back(1)
    stands(rig, TENTH, 2)


@pytest.mark.parametrize("what", ["reload", "restart"])
@pytest.mark.parametrize("place", ["compared", "prepared", "renamed", "committed"])
def test_reload_or_restart_in_the_middle_of_a_write(rig: Any, at: Any, what: str, place: str) -> None:
    claim(rig.router())
    at(place, lambda: getattr(rig, what)(0))
    reading = canary(rig.router())
    assert reading.settled
    stands(rig, TENTH, 2)
    assert 0 < rig.probe(0, 300)["green"] < 80


def _goes_back(node: Any) -> None:
    """Let run time be what a worker has that read the map file just before the last write, and took over after it."""
    node.command(f"clear map {node.map_path}")
    for line in ("green 0", "stamp.epoch=1 0", "stamp.release=run@1 0", "stamp.step=plan 0", "stamp.phase=claimed 0"):
        node.command(f"add map {node.map_path} {line}")
    node.command(f"add map {node.map_path} stamp.split=100/0 0")


@pytest.mark.parametrize("heal", ["repeat", "renew", "restore"])
def test_a_worker_that_had_loaded_the_file_before_the_write_is_seen_and_healed(rig: Any, heal: str) -> None:
    claim(rig.router())
    canary(rig.router())
    _goes_back(rig.nodes[0])
    node = rig.router().read().nodes[0]
    assert (node.split, node.epoch, node.settled, node.changed_by_hand) == (TENTH, 2, False, False)
    assert node.detail == "file and run time differ: green 10, epoch 2 and green 0, epoch 1"
    healing = {"repeat": canary, "renew": lambda router: router.renew((2, "run@1"), LEASE), "restore": restore}
    healing[heal](rig.router())
    stands(rig, *((BLUE, 3) if heal == "restore" else (TENTH, 2)))


def test_a_final_write_that_a_reload_lost_is_caught_up(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    restore(rig.router())
    _goes_back(rig.nodes[0])
    rig.router().catch_up()
    stands(rig, BLUE, 3)


def test_a_frozen_node_does_not_hang_the_writer(rig: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(haproxy_check, "SOCKET_TIMEOUT", 0.3)
    claim(rig.router())
    worker = int(next(line for line in rig.nodes[1].command("show info").splitlines() if line.startswith("Pid:"))[5:])
    os.kill(worker, signal.SIGSTOP)
    try:
        start = time.monotonic()
        with pytest.raises(RouterUnreachable, match=r"shop: two: .*timed out"):
            canary(rig.router())
        assert time.monotonic() - start < 2
    finally:
        os.kill(worker, signal.SIGCONT)
    stands(rig, BLUE, 1)


# Somebody else


def test_another_write_between_our_read_and_ours(rig: Any) -> None:
    claim(rig.router())
    rival = Stamp(2, "hotfix@2", "plan", Phase.CLAIMED)
    late = rig.router(before={0: lambda: rig.router().shift(BLUE, (1, "run@1"), rival)})
    with pytest.raises(
        TrafficConflict, match=r"shop: one: expected 100/0, epoch 1 \(claimed\) of run@1, found .*hotfix@2"
    ):
        canary(late)
    stands(rig, BLUE, 2)


def test_a_hung_writer_is_named_and_does_not_stop_readers(rig: Any) -> None:
    claim(rig.router())
    lock = f"{rig.nodes[0].map_path}.lock"
    with Path(lock).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert rig.router().read().settled
        member = rig.router().members[0]
        with pytest.raises(haproxy_host.Trouble, match="another writer holds") as error:
            haproxy_host.swap({**member.config, "lock_timeout": 0.1}, member.read().version, {"split": "90/10"})
    assert (error.value.kind, error.value.mend) == ("unreachable", f"see which one: fuser {lock}")


def test_file_edited_by_hand(rig: Any) -> None:
    claim(rig.router())
    path = rig.nodes[0].map_path
    path.write_text("# tried by ops\n\n" + path.read_text().replace("green 0\n", "\tgreen \t 40\t\n"))
    reading = rig.router().read()
    assert (reading.nodes[0].split, reading.nodes[0].settled) == (Split(60, 40), False)
    assert "green 40, epoch 1 and green 0, epoch 1" in reading.nodes[0].detail
    rig.reload(0)
    reading = rig.router().read()
    assert [node.node for node in reading.foreign] == ["one"]
    with pytest.raises(TrafficConflict):
        canary(rig.router())
    restore(rig.router())
    stands(rig, BLUE, 2)
    assert "# tried by ops" in path.read_text()


def test_run_time_changed_by_hand_before_the_first_release_keeps_the_traffic_where_it_is(rig: Any) -> None:
    for number in (0, 1):
        rig.by_hand(number, 100)  # as a person did who never knew of the file
    reading = rig.router().read()
    assert (reading.live, reading.nodes[0].settled) == (Color.GREEN, False)
    rig.router().shift(reading.split, None, Stamp(1, "run@1", "plan", Phase.CLAIMED, Color.GREEN))
    stands(rig, Split(0, 100), 1)
    rig.reload(0)
    assert rig.probe(0, 20) == {"green": 20}


@pytest.mark.parametrize("reload_first", [False, True])
def test_configuration_management_overwrites_the_file_in_a_release(rig: Any, *, reload_first: bool) -> None:
    claim(rig.router())
    canary(rig.router())
    for node in rig.nodes:
        node.map_path.write_text("green 0\n")
    if reload_first:
        rig.reload(0)  # the other node's run time still knows the stamp
    reading = rig.router().read()
    assert (reading.stamp.epoch, reading.stamp.phase) == (2, Phase.CANARY)
    assert reading.foreign
    with pytest.raises(TrafficConflict):
        rig.router().shift(Split(0, 100), (2, "run@1"), Stamp(3, "run@1", "switch", Phase.SWITCHED, lease=LEASE))
    restore(rig.router())
    stands(rig, BLUE, 3)


GARBLED = {
    "no share": ("blue 100\n", "no line `green <share>`"),
    "share of 140": ("green 140\n", "it has `green 140`"),
    "share in words": ("green ten\n", "it has `green ten`"),
    "share below 0": ("green -1\n", "it has `green -1`"),
    "twice": ("green 0\ngreen 10\n", "line 2, 'green 10', is there twice"),
    "half a line": ("green 0\nstamp.epoch=1\n", "line 2, 'stamp.epoch=1', is no `key value`"),
    "indented comment": ("green 0\n  # not a comment for HAProxy\n", "line 2, '# not a comment"),
    "half a stamp": ("green 0\nstamp.epoch=1 0\n", "the map's stamp is garbled: split is 'not there'"),
    "odd epoch": ("green 0\nstamp.epoch=one 0\n", "the map's stamp is garbled: epoch is 'one'"),
    "binary": (b"\xff\xfe\x00green 0", "it is no text"),
    "empty": ("", "no line `green <share>`"),
    "missing": (None, "there is no map file"),
}


@pytest.mark.parametrize("how", GARBLED)
def test_garbled_map_file_is_said_and_stops_a_forward_shift(rig: Any, how: str) -> None:
    content, words = GARBLED[how]
    claim(rig.router())
    _garble(rig.nodes[1].map_path, content)
    node = rig.router().read().nodes[1]
    assert words in node.detail
    # Run time stands in: it has the same stamp, and says what is routed.
    assert (node.split, node.epoch, node.settled) == (BLUE, 1, False)
    with pytest.raises(RouterRefused, match="shop: two: ") as error:
        canary(rig.router())
    assert words in str(error.value)
    assert error.value.next_step
    assert rig.router().read().nodes[0].epoch == 1


@pytest.mark.parametrize("how", GARBLED)
def test_the_way_back_mends_a_garbled_file(rig: Any, how: str) -> None:
    claim(rig.router())
    canary(rig.router())
    for node in rig.nodes:
        _garble(node.map_path, GARBLED[how][0])
    restore(rig.router())
    stands(rig, BLUE, 3)
    rig.reload(0)
    stands(rig, BLUE, 3)


def _garble(path: Path, content: str | bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_a_stamp_that_only_its_reader_finds_wrong(rig: Any) -> None:
    claim(rig.router())
    path = rig.nodes[0].map_path
    path.write_text(path.read_text().replace("phase=claimed", "phase=promoted"))
    rig.reload(0)
    reading = rig.router().read()
    assert "'promoted' is not a valid Phase" in reading.nodes[0].error
    with pytest.raises(RouterRefused, match="garbled"):
        canary(rig.router())


# The file


def test_mode_and_owner_of_the_file_are_kept(rig: Any) -> None:
    path = rig.nodes[0].map_path
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    before = path.stat()
    claim(rig.router())
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino  # replaced as a whole


def test_a_linked_map_file_stays_a_link(rig: Any) -> None:
    path = rig.nodes[0].map_path
    target = path.with_name("target.map")
    shutil.move(path, target)
    path.symlink_to(target)
    try:
        claim(rig.router())
        assert path.is_symlink()
        assert "stamp.epoch=1 0" in target.read_text()
    finally:
        path.unlink()


def test_what_else_stands_in_the_map_stays(rig: Any) -> None:
    for node in rig.nodes:
        node.map_path.write_text("# mine\nother 7\ngreen 0\n")
        node.command(f"add map {node.map_path} other 7")
    claim(rig.router())
    stands(rig, BLUE, 1)
    assert {"# mine", "other 7"} <= set(rig.nodes[0].map_path.read_text().splitlines())


def test_a_word_with_a_line_break_cannot_become_a_line(rig: Any) -> None:
    claim_of = Stamp(1, "run\ngreen 100\n@1", "plan", Phase.CLAIMED)
    rig.router().shift(BLUE, None, claim_of)
    assert rig.router().read().stamp.release == claim_of.release
    stands(rig, BLUE, 1)


def test_a_not_settled_write_is_not_settled(rig: Any, at: Any, monkeypatch: Any) -> None:
    """HAProxy takes the lines and loses them again and again: the file is right, run time never is."""
    monkeypatch.setattr(haproxy_check, "SOCKET_TIMEOUT", 0.3)
    honest = haproxy_host.runtime
    seen: list[str] = []

    def forgetful(config: Any) -> dict[str, str]:
        return {"green": "0"} if seen else honest(config)

    monkeypatch.setattr(haproxy_host, "runtime", forgetful)
    at("renamed", lambda: seen.append("renamed"))
    with pytest.raises(NotSettled, match="the file holds the new split, but HAProxy does not run by it"):
        claim(rig.router())


def test_drained_by_weight_and_by_state(a_node: Callable[..., Any]) -> None:
    node = a_node().start()
    for command in ("blue1 weight 0", "blue2 state maint", "green1 state drain"):
        node.command(f"set server shop-{command.split()[0][:-1]}/{command}")
    router = router_of(node)
    assert router.read().nodes[0].health[Color.BLUE].ready == 0
    router.make_ready(Color.BLUE)
    wait_until(lambda: router.read().nodes[0].health[Color.BLUE].ready == 2, 3, "both blue servers up")
    assert router.read().nodes[0].health[Color.GREEN].ready == 1  # the other color is left alone
