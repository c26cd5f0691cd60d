"""
A command and all its children: streamed, bounded, and ended with us however we end.

Standard library of Python 3.9 only (``host_files``): commands run here and on far hosts.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bluegreen.hosts.host_files import Trouble

GRACE = 3.0
"""Seconds between asking a group to end and killing it."""
LINGER = 0.5
"""Seconds that output is read on after the command has ended, while somebody still holds it."""
_CHUNK = 64 * 1024
_TICK = 0.05

# A dead man's pipe: ``read`` fails when we are gone without a word, also by kill -9. The shell is not in the group.
_WATCH = 'read -r word || kill -s KILL -- "-$1"'


def run(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    timeout: float,
    feed: Callable[[bytes], None],
    gone: Callable[[], bool] = lambda: False,
) -> bool:
    """
    Run a command to its end; no shell.

    A program that it leaves behind goes on, in its own time; its output is not ours, and is cut.

    :param argv: program and arguments
    :param env: its whole environment; never printed
    :param cwd: where it runs, empty for here
    :param timeout: seconds after which the command and its group are ended
    :param feed: gets its output as it comes
    :param gone: asked all the time, and ends the command when nobody waits for it any more
    :returns: whether its output ended with it
    :raises Trouble: ``refused``: it cannot be started; ``ended``: it does not end in time, or with another code than 0
    """
    with _process(argv, env, cwd) as process:
        whole = _follow(process, timeout, feed, gone)
    if process.returncode != 0:
        raise Trouble("ended", _ending(process.returncode), "see the command's output in the log")
    return whole


@contextlib.contextmanager
def _process(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> Iterator[subprocess.Popen[bytes]]:
    process = _start(argv, env, cwd)
    try:
        with _watched(process.pid):
            try:
                yield process
            finally:  # also a cancelled task's way out, and still watched: nothing of a deploy may outlive us
                _end_group(process)
    finally:
        _end_group(process)  # the watcher itself could not be started
        if process.stdout:
            process.stdout.close()


def _start(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> subprocess.Popen[bytes]:
    if cwd and not Path(cwd).is_dir():
        raise Trouble("refused", f"cwd {cwd} is no folder", "mend deploy.cwd in the service file")
    try:
        return subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd or None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise Trouble("refused", "command not found", "mend deploy in the service file, or PATH") from error
    except OSError as error:
        raise Trouble("refused", f"cannot be started: {error.strerror}", "mend deploy in the service file") from error


def _follow(
    process: subprocess.Popen[bytes], timeout: float, feed: Callable[[bytes], None], gone: Callable[[], bool]
) -> bool:
    if process.stdout is None:  # never: it is a pipe
        return True
    end = time.monotonic() + timeout
    whole = _stream(process, process.stdout.fileno(), feed, lambda: time.monotonic() < end and not gone())
    while process.poll() is None:  # its output has ended, or its time
        if gone():
            raise Trouble("ended", "was ended, as nobody waits for it any more", "start the step again")
        if time.monotonic() >= end:
            fact = f"did not end within {timeout:g} s and was killed"
            raise Trouble("ended", fact, "see the command's output in the log, or raise its timeout")
        time.sleep(_TICK)
    return whole


def _stream(
    process: subprocess.Popen[bytes], pipe: int, feed: Callable[[bytes], None], goes_on: Callable[[], bool]
) -> bool:
    """Pass output on until it ends, the process does, or it is to go on no more; tell whether the output ended."""
    last = float("inf")
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while goes_on() and time.monotonic() < last:
            if last == float("inf") and process.poll() is not None:
                last = time.monotonic() + LINGER  # a pipeline's last part may end a little later
            if selector.select(_TICK):
                chunk = os.read(pipe, _CHUNK)
                if not chunk:
                    return True
                feed(chunk)
    return process.poll() is None


@contextlib.contextmanager
def _watched(group: int) -> Iterator[None]:
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", _WATCH, "sh", str(group)],
        env={},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # somebody ended the watcher
            watcher.communicate(b"over\n")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a command that has not ended by itself, and its children; what one that has leaves behind is let be."""
    if process.returncode is not None:
        return
    try:
        _signal_group(process.pid, signal.SIGTERM)
        _await_end(process.pid, GRACE)
    finally:
        # Before the leader is reaped, so that the group's number is still its own.
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _await_end(pid: int, span: float) -> None:
    end = time.monotonic() + span
    while time.monotonic() < end and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(_TICK)


def _ending(code: int) -> str:
    return f"ended with code {code}" if code > 0 else f"was ended by signal {signal.Signals(-code).name}"
