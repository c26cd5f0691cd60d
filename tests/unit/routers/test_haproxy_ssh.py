"""HAProxy nodes behind real sshds: what only happens when the map is swapped on another host."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import RouterRefused, RouterUnreachable
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.hosts import bundle
from bluegreen.routers.haproxy import HAProxyRouter
from demo.processes import wait_until
from tests.rigs.far_hosts import text_with
from tests.rigs.haproxy import HAProxyRig
from tests.rigs.rig import in_child
from tests.rigs.sshd import missing_sshd

pytestmark = pytest.mark.haproxy

BLUE, TENTH = Split.whole_on(Color.BLUE), Split.giving(Color.GREEN, 10)
STEPS = ["compared", "written", "prepared", "renamed", "committed"]

# The first program that comes to a step waits there for as long as the file is there.
WAITING = """\
def waiting_checkpoint(name):
    import time
    if name == {step!r} and not os.path.exists({flag!r} + ".once"):
        open({flag!r} + ".once", "w").close()
        open({flag!r}, "w").close()
        while os.path.exists({flag!r}):
            time.sleep(0.01)
shared.checkpoint = waiting_checkpoint
"""


@pytest.fixture(scope="module")
def _rig() -> Iterator[HAProxyRig]:
    if reason := missing_sshd():
        print(reason, file=sys.stderr)  # noqa: T201 - nobody should miss that sshd is missing
        pytest.skip(reason)
    with HAProxyRig("haproxy-wheel-ssh", ssh=True) as rig:
        yield rig


@pytest.fixture
def rig(_rig: HAProxyRig) -> HAProxyRig:
    """Two good nodes on two hosts, set right before each test."""
    _rig.reset()
    return _rig


@pytest.fixture
def waiting(rig: HAProxyRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Let far programs that are started from now on wait at a step; returns the file that keeps them there."""

    def arrange(step: str) -> Path:
        flag = tmp_path / "waiting"
        monkeypatch.setattr(bundle, "text", text_with(WAITING.format(step=step, flag=str(flag))))
        return flag

    return arrange


def fresh(rig: HAProxyRig, **first_host: Any) -> HAProxyRouter:
    """A router with sessions of its own."""
    model = rig.model()
    nodes = list(model.nodes)
    nodes[0] = nodes[0].model_copy(update={"ssh": nodes[0].ssh.model_copy(update=first_host)})
    return HAProxyRouter("shop", model.model_copy(update={"nodes": tuple(nodes)}), secrets=rig.far.secrets)


def stamp(epoch: int, phase: Phase) -> Stamp:
    lease = datetime(2026, 11, 23, 7, 1, tzinfo=UTC) if phase.transitional else None
    return Stamp(epoch, "run@1", str(phase), phase, back_to=Color.BLUE, lease=lease)


def claim(router: HAProxyRouter) -> Any:
    return router.shift(BLUE, None, stamp(1, Phase.CLAIMED))


def canary(router: HAProxyRouter) -> Any:
    return router.shift(TENTH, (1, "run@1"), stamp(2, Phase.CANARY))


def splits(rig: HAProxyRig) -> list[tuple[Split | None, int, bool]]:
    return [(node.split, node.epoch, node.settled) for node in rig.router().read().nodes]


# Two of the steps: each time the undo waits 5 s for the lock that the lost program still holds.
@pytest.mark.parametrize("step", ["written", "renamed"])
def test_connection_lost_in_the_middle_of_a_swap_which_ends_whole(rig: HAProxyRig, waiting: Any, step: str) -> None:
    claim(rig.router())
    flag = waiting(step)
    with ThreadPoolExecutor(1) as pool:
        shift = pool.submit(canary, fresh(rig))
        wait_until(flag.exists, 10, f"the swap is {step}")
        rig.far.hosts[0].cut()
        error = shift.exception()
        assert isinstance(error, RouterUnreachable)
        assert "one: root@127.0.0.1" in str(error)
        assert "was lost in the middle of a call" in str(error)
        flag.unlink()
    # Nobody waits for the swap any more; it ends all the same, and the lock is free again.
    wait_until(lambda: splits(rig)[0] == (TENTH, 2, True), 10, "the swap has ended whole")
    assert splits(rig)[1] == (BLUE, 1, True)
    found = rig.router().read().stamp
    rig.router().shift(BLUE, found.identity, stamp(3, Phase.RESTORED))
    assert splits(rig) == [(BLUE, 3, True)] * 2


@pytest.mark.parametrize("step", STEPS)
def test_kill_9_of_the_local_writer_in_the_middle_of_a_swap_which_ends_whole(
    rig: HAProxyRig, waiting: Any, step: str
) -> None:
    claim(rig.router())
    flag = waiting(step)
    writer = in_child(lambda: canary(fresh(rig)))
    wait_until(flag.exists, 10, f"the swap is {step}")
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    flag.unlink()
    wait_until(lambda: splits(rig)[0] == (TENTH, 2, True), 10, "the swap has ended whole")
    assert splits(rig)[1] == (BLUE, 1, True)
    wait_until(lambda: len(rig.far.hosts[0].programs()) == 1, 10, "the writer's program ends")  # this process's own
    canary(rig.router())
    assert splits(rig) == [(TENTH, 2, True)] * 2


def test_host_gone_stops_a_forward_shift_and_a_restore_takes_the_others(rig: HAProxyRig) -> None:
    claim(rig.router())
    canary(rig.router())
    rig.far.hosts[0].freeze()
    try:
        router = fresh(rig)
        with pytest.raises(RouterUnreachable, match=r"one: .*did not let us in within 5 s.*nothing was moved"):
            router.shift(Split.whole_on(Color.GREEN), (2, "run@1"), stamp(3, Phase.SWITCHED))
        reading = router.shift(BLUE, (2, "run@1"), stamp(3, Phase.RESTORED))
    finally:
        rig.far.hosts[0].thaw()
    assert [node.node for node in reading.unreachable] == ["one"]
    wait_until(lambda: splits(rig) == [(TENTH, 2, True), (BLUE, 3, True)], 10, "the host is back")
    rig.router().catch_up()
    assert splits(rig) == [(BLUE, 3, True)] * 2


def test_ssh_host_key_changed_on_one_node_is_refused_before_the_other_is_moved(rig: HAProxyRig, tmp_path: Path) -> None:
    claim(rig.router())
    other = tmp_path / "known_hosts"
    key = " ".join(rig.far.hosts[0].make_key("other").with_suffix(".pub").read_text().split()[:2])
    other.write_text(f"[127.0.0.1]:{rig.far.hosts[0].port} {key}\n")
    with pytest.raises(RouterRefused, match=r"shop: one: .*has CHANGED.*somebody may be in between.*nothing was moved"):
        canary(fresh(rig, known_hosts=other))
    assert splits(rig) == [(BLUE, 1, True)] * 2


def test_flock_missing_on_the_host_does_not_keep_a_shift_from_its_lock(rig: HAProxyRig, tmp_path: Path) -> None:
    host, folder = rig.far.hosts[0], tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").symlink_to("/usr/bin/python3")
    before, host.environment = host.environment, f"SHLVL=2 PATH={folder}"
    try:
        host.stop()
        host.start()
        router = fresh(rig, python="python3")
        claim(router)
        canary(router)
    finally:
        host.stop()
        host.environment = before
        host.start()
    assert splits(rig) == [(TENTH, 2, True)] * 2
    assert all(Path(f"{node.map_path}.lock").exists() for node in rig.nodes)


def test_an_interrupted_counting_leaves_the_node_usable(rig: HAProxyRig) -> None:
    import asyncio

    router = fresh(rig)

    async def counted() -> Any:
        with suppress(TimeoutError):
            await asyncio.wait_for(router.counters(), 0.001)
        return await router.counters()

    assert asyncio.run(counted()).keys() == {"one", "two"}


# check


def by_code(router: HAProxyRouter) -> dict[str, Any]:
    return {finding.code: finding for finding in router.check() if finding.where.startswith("shop: one")}


def test_check_looks_at_the_files_where_they_are_and_names_the_host(rig: HAProxyRig) -> None:
    node = rig.nodes[0]
    assert by_code(fresh(rig)) == {}
    text = node.config_path.read_text()
    node.config_path.write_text(f"# a new first line\n{text}")
    node.map_path.write_text("nonsense\n")
    found = by_code(fresh(rig))
    node.config_path.write_text(text)
    assert found.keys() == {"configuration-not-loaded", "map-file"}
    assert {one.where for one in found.values()} == {
        f"shop: one, seen from root@127.0.0.1:{rig.far.hosts[0].port}",
    }
    assert "line 1, 'nonsense'" in found["map-file"].fact


def test_check_says_why_a_host_cannot_be_looked_at(rig: HAProxyRig) -> None:
    found = by_code(fresh(rig, python="python9"))
    assert found.keys() == {"socket-refused"}
    assert "there is no python9 on root@127.0.0.1" in found["socket-refused"].fact
    assert by_code(fresh(rig, port=1)).keys() == {"socket-unreachable"}
