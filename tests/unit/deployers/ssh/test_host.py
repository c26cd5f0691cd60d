"""The deployer's program as a far host runs it: from its text, in a Python of its own."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from bluegreen.deployers import ssh_host
from bluegreen.hosts import bundle
from bluegreen.hosts.host_fence import HostFence
from tests.unit.deployers.test_child import gone, pid_in

TAG = "shop-green"


class Program:
    """The program with its two ends."""

    def __init__(self, **changed):
        text = bundle.text(ssh_host)
        for name, value in changed.items():
            was = f"{name} = {getattr(ssh_host, name)}"
            assert was in text
            text = text.replace(was, f"{name} = {value}")
        command = [sys.executable, "-I", "-c", bundle.BOOT]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.send(text)
        assert self.process.stdout.readline().startswith(bundle.READY)

    def send(self, what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def ask(self, do, **words):
        self.send({"do": do, "with": words})
        while "told" in (answer := json.loads(self.process.stdout.readline())):
            pass
        return answer

    def do(self, do, **words):
        answer = self.ask(do, **words)
        assert "trouble" not in answer, answer
        return answer["done"]


@pytest.fixture
def start(tmp_path):
    started = []

    def start(enter=True, **changed):
        program = Program(**changed)
        started.append(program)
        program.do("attend")
        if enter:
            claim = {"epoch": 4, "release": "run@4", "wait": 0}
            program.do("enter", folder=str(tmp_path / "fences"), service="shop", part="green", **claim)
        return program

    yield start
    for program in started:
        program.process.kill()
        program.process.communicate()


def file(name, text, mode=0o644):
    return {"path": name, "data": base64.b64encode(text.encode()).decode(), "last": True, "mode": mode}


def upload(program, to, *parts, modes=()):
    program.do("stage", to=str(to), tag=TAG, folder="folder" in parts[0])
    program.do("put", to=str(to), tag=TAG, parts=parts)
    return program.do("commit", to=str(to), tag=TAG, modes=modes)


def test_nothing_is_done_without_the_fence(start, tmp_path):
    program = start(enter=False)
    run = {"argv": ["touch", str(tmp_path / "ran")], "env": {}, "cwd": "", "timeout": 5}
    place = {"to": str(tmp_path / "app"), "tag": TAG}
    calls = {
        "run": run,
        "stage": {**place, "folder": False},
        "put": {**place, "parts": [file("", "x")]},
        "commit": {**place, "modes": []},
        "finish": {"version": "2.0"},
        "hold": {},
    }
    for do, words in calls.items():
        assert program.ask(do, **words)["trouble"][0] == "fenced", do
    assert list(tmp_path.iterdir()) == []


def test_a_caller_that_says_nothing_more_is_taken_for_lost(start, tmp_path):
    program = start(SILENCE=1, GRACE=0.5)
    fence = HostFence(str(tmp_path / "fences"), "shop", "green")
    for _ in range(4):
        time.sleep(0.5)
        program.do("hold")
    with fence.enter(5, "next@5", 15):  # its end is still open: only its silence tells
        assert program.process.stdin.closed is False
    assert program.process.wait(5) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_that_is_killed_takes_its_command_along(start, tmp_path, number):
    program = start()
    script = f"sleep 60 & echo $! > {tmp_path}/child; wait"
    program.send({"do": "run", "with": {"argv": ["sh", "-c", script], "env": {}, "cwd": "", "timeout": 50}})
    child = pid_in(tmp_path / "child")
    time.sleep(0.3)  # the command's watcher stands by then
    program.process.send_signal(number)
    assert gone(child)


def test_a_file_keeps_its_mode_and_what_is_half_there_is_not_seen(start, tmp_path):
    program, to = start(), tmp_path / "srv" / "app"
    program.do("stage", to=str(to), tag=TAG, folder=False)
    program.do("put", to=str(to), tag=TAG, parts=[{**file("", "one "), "last": False}])
    assert not to.exists()
    program.do("put", to=str(to), tag=TAG, parts=[file("", "two", 0o750)])
    assert not to.exists()
    program.do("commit", to=str(to), tag=TAG, modes=[])
    assert to.read_text() == "one two"
    assert to.stat().st_mode & 0o7777 == 0o750
    assert [path.name for path in to.parent.iterdir()] == ["app"]


def test_what_a_killed_upload_left_is_no_part_of_the_next(start, tmp_path):
    program, to = start(), tmp_path / "app"
    upload(program, to, {"path": "", "folder": True}, file("old", "1"))
    program.do("stage", to=str(to), tag=TAG, folder=True)
    program.do("put", to=str(to), tag=TAG, parts=[{"path": "", "folder": True}, file("half", "1")])
    program.process.kill()
    program.process.communicate()
    assert [path.name for path in to.iterdir()] == ["old"]
    upload(start(), to, {"path": "", "folder": True}, {"path": "link", "link": "new"}, file("new", "1"))
    assert sorted(path.name for path in to.iterdir()) == ["link", "new"]
    assert (to / "link").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app", "fences"]


def test_the_modes_of_folders_come_last(start, tmp_path):
    to = tmp_path / "app"
    parts = [{"path": "", "folder": True}, {"path": "a", "folder": True}, file("a/b", "1")]
    upload(start(), to, *parts, modes=[["", 0o755], ["a", 0o500]])
    assert (to / "a").stat().st_mode & 0o7777 == 0o500
    (to / "a").chmod(0o700)


def test_a_folder_is_there_whole_at_every_moment(start, tmp_path):
    program, to, seen, over = start(), tmp_path / "app", set(), threading.Event()

    def put(number):
        upload(program, to, {"path": "", "folder": True}, file("one", str(number)), file("two", str(number)))

    def read(folder, name):
        descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
        with os.fdopen(descriptor) as opened:
            return opened.read()

    def watch():
        while not over.is_set():
            folder = os.open(to, os.O_RDONLY)  # never missing
            with suppress(FileNotFoundError):  # the old one is being removed, and we still look at it
                seen.add((read(folder, "one"), read(folder, "two")))
            os.close(folder)
        seen.add("to the end")

    put(0)
    thread = threading.Thread(target=watch)
    thread.start()
    for number in range(1, 60):
        put(number)
    over.set()
    thread.join()
    assert "to the end" in seen
    pairs = seen - {"to the end"}
    assert len(pairs) > 1
    assert all(one == two for one, two in pairs)


def test_without_an_exchange_a_folder_is_replaced_in_two_steps(start, tmp_path):
    program, to = start(_EXCHANGE=999), tmp_path / "app"  # no such flag: the system refuses it
    for number in range(2):
        upload(program, to, {"path": "", "folder": True}, file("one", str(number)))
    assert (to / "one").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app", "fences"]


@pytest.mark.parametrize(("found", "folder"), [("folder", False), ("file", True), ("link", True)])
def test_nothing_is_put_in_the_place_of_something_else(start, tmp_path, found, folder):
    to = tmp_path / "app"
    {"folder": to.mkdir, "file": to.touch, "link": lambda: to.symlink_to("/tmp")}[found]()  # noqa: S108 - never used
    trouble = start().ask("stage", to=str(to), tag=TAG, folder=folder)["trouble"]
    assert trouble[:2] == ["refused", f"{to} is a {found}, wanted a {'folder' if folder else 'file'}"]


def test_a_path_that_cannot_be_written_is_said(start, tmp_path):
    (tmp_path / "file").touch()
    trouble = start().ask("stage", to=str(tmp_path / "file" / "app"), tag=TAG, folder=False)["trouble"]
    assert trouble[0] == "refused"
    assert "cannot be uploaded" in trouble[1]
