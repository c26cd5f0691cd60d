"""Real commands: their output, their end, and everything that must end with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

import bluegreen
from bluegreen.core.errors import DeployError
from bluegreen.deployers import child as module
from bluegreen.deployers.child import Child, Lines, spellings
from bluegreen.hosts import host_child

PLUGINS = str(Path(bluegreen.__file__).parents[1])


@pytest.fixture
def lines():
    return []


@pytest.fixture
def child(lines, tmp_path):
    def make(*argv, say=lines.append, timeout=20.0, hide=(), env=None, cwd=tmp_path):
        env = {"PATH": os.environ["PATH"], **(env or {})}
        return Child(argv, env, cwd, timedelta(seconds=timeout), say, hide, "shop", "green")

    return make


def sh(make, script, **more):
    return make("sh", "-c", script, **more)


def alive(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def gone(pid: int, within: float = 5) -> bool:
    end = time.monotonic() + within
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def pid_in(file: Path, within: float = 5) -> int:
    end = time.monotonic() + within
    while time.monotonic() < end:
        with suppress(FileNotFoundError, ValueError):
            return int(file.read_text())
        time.sleep(0.01)
    raise AssertionError(f"{file} never came")


def test_output_comes_line_by_line_and_in_order(child, lines):
    sh(child, "echo one; echo two >&2; printf three").run()
    assert lines == ["one", "two", "three"]


def test_output_comes_while_the_command_runs(child):
    came = []
    sh(child, "echo one; sleep 0.4; echo two", say=lambda line: came.append((line, time.monotonic()))).run()
    assert came[1][1] - came[0][1] > 0.3


def test_there_is_no_shell(child, lines):
    child("echo", "$HOME; id").run()
    assert lines == ["$HOME; id"]


def test_an_exit_code_is_told_with_the_last_lines(child):
    with pytest.raises(DeployError, match="shop: green: sh: ended with code 3; its last lines:") as raised:
        sh(child, "for n in $(seq 1 40); do echo line $n; done; exit 3").run()
    assert "line 40" in str(raised.value)
    assert "line 26" in str(raised.value)
    assert "line 25\n" not in str(raised.value)


def test_a_signal_is_told_by_name(child):
    with pytest.raises(DeployError, match="was ended by signal SIGKILL; no output"):
        sh(child, "kill -9 $$").run()


def test_a_command_that_is_not_there(child):
    with pytest.raises(DeployError, match="no-such-command: command not found"):
        child("no-such-command").run()


def test_a_folder_that_is_not_there(child, tmp_path):
    with pytest.raises(DeployError, match=r"cwd .*/none is no folder"):
        child("true", cwd=tmp_path / "none").run()


def test_a_file_that_cannot_be_run(child, tmp_path):
    (tmp_path / "deploy.sh").write_text("echo hello")
    with pytest.raises(DeployError, match="cannot be started: Permission denied"):
        child("./deploy.sh").run()
    (tmp_path / "deploy.sh").chmod(0o755)
    with pytest.raises(DeployError, match="cannot be started: Exec format error"):
        child("./deploy.sh").run()


def test_a_timeout_ends_the_whole_group(child, tmp_path):
    start = time.monotonic()
    with pytest.raises(DeployError, match=r"did not end within 0.3 s and was killed; its last lines:\n  begun"):
        sh(child, "echo begun; sleep 60 & echo $! > grandchild; wait", timeout=0.3).run()
    assert time.monotonic() - start < 3
    assert gone(pid_in(tmp_path / "grandchild"))


def test_who_does_not_listen_is_killed(child, tmp_path, monkeypatch):
    monkeypatch.setattr(host_child, "GRACE", 0.2)
    with pytest.raises(DeployError, match="did not end within"):
        sh(child, "trap '' TERM; echo $$ > pid; while :; do sleep 1; done", timeout=0.3).run()
    assert gone(pid_in(tmp_path / "pid"))


def test_a_command_may_clean_up_at_its_timeout(child, tmp_path):
    with pytest.raises(DeployError):
        sh(child, "trap 'echo clean > clean; exit 0' TERM; sleep 60 & wait", timeout=0.3).run()
    assert (tmp_path / "clean").exists()


class Cancelled(BaseException):
    """As Airflow's task timeout: no ``except Exception`` sees it."""


def test_a_cancelled_task_takes_the_group_along(child, tmp_path):
    def cancel(*_):
        raise Cancelled

    before = signal.signal(signal.SIGALRM, cancel)
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    try:
        with pytest.raises(Cancelled):
            sh(child, "sleep 60 & echo $! > grandchild; wait").run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert gone(pid_in(tmp_path / "grandchild"))


def test_a_log_that_fails_takes_the_group_along(child, tmp_path):
    def say(_):
        raise Cancelled

    with pytest.raises(Cancelled):
        sh(child, "sleep 60 & echo $! > grandchild; echo now; wait", say=say).run()
    assert gone(pid_in(tmp_path / "grandchild"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker_takes_the_group_along(tmp_path, number):
    script = (
        "from datetime import timedelta; from pathlib import Path; from bluegreen.deployers.child import Child\n"
        "argv = ('sh', '-c', 'sleep 60 & echo $! > grandchild; echo $$ > pid; wait')\n"
        f"Child(argv, {{'PATH': '/usr/bin:/bin'}}, Path({str(tmp_path)!r}), timedelta(seconds=50), print, (), 's', 'g').run()"
    )
    worker = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": PLUGINS})
    pids = [pid_in(tmp_path / "grandchild"), pid_in(tmp_path / "pid")]
    time.sleep(0.1)
    worker.send_signal(number)
    worker.wait()
    assert all(gone(pid) for pid in pids)


def test_a_program_that_is_left_behind_lives_on(child, lines, tmp_path):
    start = time.monotonic()
    sh(child, "setsid sleep 60 >/dev/null 2>&1 & echo $! > one; nohup sleep 60 >/dev/null 2>&1 & echo $! > two").run()
    took, pids = time.monotonic() - start, [pid_in(tmp_path / "one"), pid_in(tmp_path / "two")]
    try:
        assert all(alive(pid) for pid in pids)
        assert took < 5
        assert lines == []
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_a_program_that_keeps_the_output_does_not_hold_us(child, lines, tmp_path):
    start = time.monotonic()
    sh(child, "sleep 60 & echo $! > one; echo started").run()
    assert time.monotonic() - start < 5
    os.kill(pid_in(tmp_path / "one"), signal.SIGKILL)
    assert lines[0] == "started"
    assert "left behind still has its output" in lines[1]


def test_the_last_part_of_a_pipeline_may_end_later(child, lines):
    sh(child, "(sleep 0.2; echo late) & echo early").run()
    assert lines == ["early", "late"]


def test_a_command_that_closes_its_output_is_waited_for(child, tmp_path):
    sh(child, "exec >/dev/null 2>&1; sleep 0.3; touch done").run()
    assert (tmp_path / "done").exists()


def test_a_flood_is_passed_on_whole(child, lines):
    sh(child, "seq 1 50000").run()
    assert lines == [str(n) for n in range(1, 50001)]


def test_secrets_are_masked_in_lines_and_errors(child, lines):
    secret = "p@ss w/rd"  # noqa: S105
    script = 'echo "login $WORD"; echo "http://u:$QUOTED@db"; exit 1'
    command = sh(child, script, env={"WORD": secret, "QUOTED": quote(secret, safe="")}, hide=(secret,))
    with pytest.raises(DeployError) as raised:
        command.run()
    assert lines == ["login ***", "http://u:***@db"]
    shown = repr(raised.value) + str(raised.value) + repr(command)
    assert secret not in shown
    assert "%40ss" not in shown


def test_a_secret_of_many_lines_is_masked_line_by_line():
    lines: list[str] = []
    stream = Lines(lines.append, ("-----BEGIN-----\nabcdef\n-----END-----\n",))
    stream.feed(b"key -----BEGIN-----\nabcdef\n-----END-----\n")
    assert lines == ["key ***", "***", "***"]


def test_a_secret_in_two_chunks_or_at_the_cut_is_masked():
    lines: list[str] = []
    stream = Lines(lines.append, ("s3cret",))
    stream.feed(b"a s3c")
    stream.feed(b"ret b\n" + b"x" * (module.LONGEST_LINE - 3) + b"s3cret\n")
    assert lines[0] == "a *** b"
    assert len(lines[1]) == module.LONGEST_LINE
    assert "s3c" not in lines[1]


def test_an_endless_line_does_not_fill_the_memory():
    lines: list[str] = []
    stream = Lines(lines.append, ())
    for _ in range(100):
        stream.feed(b"x" * 65536)
    stream.end()
    assert len(stream._rest) == 0
    assert len(lines[0]) == module.LONGEST_LINE


def test_progress_bars_and_strange_bytes_are_lines_too():
    lines: list[str] = []
    stream = Lines(lines.append, ())
    stream.feed(b"10 %\r20 %\r\n\n\xff\xfe caf\xc3")
    stream.feed(b"\xa9")
    stream.end()
    assert lines == ["10 %", "20 %", "\ufffd\ufffd café"]


def test_an_empty_secret_masks_nothing():
    assert spellings(("", "\n", "a\n\nbc\n")) == ("a%0A%0Abc", "a\\n\\nbc", "a\n\nbc", "bc", "a")


def test_a_secret_is_masked_as_json_spells_it_too():
    assert {'say \\"ü\\"', 'say \\"\\u00fc\\"'} <= set(spellings(['say "ü"']))


def test_it_runs_in_a_thread(child, lines):
    thread = threading.Thread(target=sh(child, "echo hello").run)
    thread.start()
    thread.join()
    assert lines == ["hello"]


def test_nothing_of_it_stays_in_the_process_table(child):
    for _ in range(3):
        sh(child, "true").run()
    with suppress(ChildProcessError):  # there is no child at all
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)
