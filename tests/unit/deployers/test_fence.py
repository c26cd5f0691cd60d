"""The fence among real processes: who is refused, who waits, and what frees the lock."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

import bluegreen
from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.deployers.fence import Fence
from bluegreen.hosts.host_fence import default_folder

NOW = timedelta(0)
SOON = timedelta(seconds=5)
PLUGINS = str(Path(bluegreen.__file__).parents[1])

HOLDER = """
import sys, time
from datetime import timedelta
from pathlib import Path
from bluegreen.core.colors import Color
from bluegreen.deployers.fence import Fence
folder, epoch, release, seconds = sys.argv[1:]
with Fence(Path(folder), "shop", Color.GREEN).enter(int(epoch), release, timedelta(seconds=20)):
    print("in", time.monotonic(), flush=True)
    time.sleep(float(seconds))
    print("out", time.monotonic(), flush=True)
"""


@pytest.fixture
def fence(tmp_path):
    return Fence(tmp_path / "fences", "shop", Color.GREEN)


@pytest.fixture
def holder(fence):
    started = []

    def start(epoch, release, seconds=30.0):
        argv = [sys.executable, "-c", HOLDER, str(fence.folder), str(epoch), release, str(seconds)]
        env = {**os.environ, "PYTHONPATH": PLUGINS}
        started.append(subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def entered(process):
    assert process.stdout.readline().startswith("in")
    return process


def test_it_remembers_the_highest_claim(fence):
    assert fence.read() is None
    with fence.enter(3, "run@3", NOW) as held:
        assert held.done == ""
    record = fence.read()
    assert (record.epoch, record.release, record.done) == (3, "run@3", "")
    assert f"process {os.getpid()} on " in record.process


def test_a_lower_claim_is_refused_and_the_holder_named(fence):
    with fence.enter(3, "run@3", NOW):
        pass
    named = r"epoch 3 of run@3 \(process \d+ on .*, since 20.*found epoch 2"
    with pytest.raises(DeployFenced, match=named), fence.enter(2, "other@2", NOW):
        pytest.fail("a lower claim entered")
    assert fence.read().epoch == 3


def test_another_release_of_the_same_epoch_is_refused(fence):
    with fence.enter(3, "run@3", NOW):
        pass
    with pytest.raises(DeployFenced), fence.enter(3, "other@3", NOW):
        pass


def test_the_same_and_a_higher_claim_enter(fence):
    for epoch in (3, 3, 7):
        with fence.enter(epoch, f"run@{epoch}", NOW):
            pass
    assert fence.read().epoch == 7


def test_what_is_finished_is_known_to_the_same_claim_only(fence):
    with fence.enter(3, "run@3", NOW) as held:
        held.finish("2.0")
    with fence.enter(3, "run@3", NOW) as held:
        assert held.done == "2.0"
    with fence.enter(3, "run@3", NOW) as held:
        assert held.done == ""  # the one before began and did not finish
        held.finish("2.0")
    with fence.enter(4, "run@4", NOW) as held:
        assert held.done == ""


def test_what_the_last_holder_left_is_known_once_it_is_out(fence):
    assert fence.left() is None
    with fence.enter(3, "run@3", NOW) as held:
        assert held.before is None
        held.finish("blue")
        assert fence.left() is None  # it is still at it
    assert fence.left().done == "blue"
    with fence.enter(4, "run@4", NOW) as held:
        assert held.before.done == "blue"


def test_a_retire_keeps_the_release_and_forgets_what_was_up(fence):
    with fence.enter(3, "run@3", NOW) as held:
        held.finish("2.0")
    with fence.enter(3, wait=NOW):
        pass
    assert (fence.read().release, fence.read().done) == ("run@3", "")
    with fence.enter(4, wait=NOW):
        pass
    with fence.enter(4, "run@4", NOW):
        pass


def test_a_failure_inside_frees_the_lock_and_keeps_the_record(fence):
    with pytest.raises(KeyboardInterrupt), fence.enter(3, "run@3", NOW):
        raise KeyboardInterrupt
    with fence.enter(3, "run@3", NOW):
        pass


def test_an_older_deploy_that_runs_is_waited_for(fence, holder):
    older = entered(holder(3, "run@3", 0.4))
    with fence.enter(4, "run@4", SOON):
        assert float(older.stdout.readline().split()[1]) <= time.monotonic()
    assert fence.read().epoch == 4


def test_an_older_deploy_that_does_not_end_is_named(fence, holder):
    older = entered(holder(3, "run@3"))
    start = time.monotonic()
    with (
        pytest.raises(DeployFenced, match=rf"held by epoch 3 of run@3 \(process {older.pid} on .*did not end within"),
        fence.enter(4, "run@4", timedelta(seconds=0.3)),
    ):
        pass
    assert 0.3 <= time.monotonic() - start < 2


def test_a_newer_deploy_that_runs_is_not_waited_for(fence, holder):
    entered(holder(4, "run@4"))
    start = time.monotonic()
    with pytest.raises(DeployFenced, match=r"epoch 4 of run@4"), fence.enter(3, "run@3", timedelta(seconds=20)):
        pass
    assert time.monotonic() - start < 2


def test_kill_9_of_the_holder_frees_the_lock(fence, holder):
    older = entered(holder(3, "run@3"))
    older.send_signal(signal.SIGKILL)
    with fence.enter(4, "run@4", SOON):
        pass


def test_two_processes_never_hold_it_at_once(fence, holder):
    processes = [holder(3, "run@3", 0.1) for _ in range(4)]
    spans = []
    for process in processes:
        came, went = (float(line.split()[1]) for line in process.communicate(timeout=20)[0].splitlines())
        spans.append((came, went))
    spans.sort()
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(spans))


def test_threads_of_one_process_exclude_each_other(fence):
    inside, most = [], []

    def work():
        with fence.enter(3, "run@3", SOON):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


@pytest.mark.parametrize("inherit", [False, True])
def test_a_child_that_lives_on_does_not_hold_the_lock(fence, inherit):
    with fence.enter(3, "run@3", NOW) as held:
        os.set_inheritable(held._file, inherit)  # even one that was forked with it
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        with fence.enter(4, "run@4", NOW):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_record_that_grows_shorter_is_read_whole(fence):
    with fence.enter(3, "a-very-long-run-id-" * 20 + "@3", NOW):
        pass
    with fence.enter(4, "r@4", NOW):
        pass
    assert fence.read().release == "r@4"


RECORD = {"epoch": 3, "release": "r@3", "since": "now", "process": "p"}


@pytest.mark.parametrize(
    "text",
    ["no json\n", "[]\n"]
    + [json.dumps(one) + "\n" for one in ({"epoch": 3}, RECORD | {"epoch": "3"}, RECORD | {"release": None})],
)
def test_a_file_that_is_no_fence_stops_everything(fence, text):
    fence.folder.mkdir()
    fence.file.write_text(text)
    with pytest.raises(DeployError, match="is no fence file") as raised, fence.enter(3, "run@3", NOW):
        pass
    assert "remove it" in str(raised.value)
    assert fence.file.read_text() == text


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    fence = Fence(tmp_path / "file" / "fences", "shop", Color.BLUE)
    with pytest.raises(DeployError, match=r"file/fences/shop-blue\.fence: "), fence.enter(1, "run@1", NOW):
        pass


def test_by_default_it_is_beside_the_users_state(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert default_folder() == Path("/var/state/bluegreen")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_folder() == Path("/home/me/.local/state/bluegreen")
