"""
The deployer's program on a far host: every step of a deploy under that host's own fence.

Standard library of Python 3.9 only, and of ours no more than ``hosts.host_*`` (``hosts.bundle``). The program lives as
long as its connection; when that ends, whatever it is at ends with it, and the fence is free.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import os
import select
import shutil
import stat
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bluegreen.hosts import host_child, host_fence
from bluegreen.hosts.host_child import GRACE
from bluegreen.hosts.host_fence import Held, HostFence
from bluegreen.hosts.host_files import CALLER, Trouble, checkpoint, refusing, rename, tell

SILENCE = 60
"""Seconds without a call after which the caller is taken for lost: a connection cut in the middle says nothing."""
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2)
_HERE = -100  # AT_FDCWD
_TICK = 1000  # milliseconds

_HELD: list[Held] = []
_FENCES = contextlib.ExitStack()
_GONE = threading.Event()
_PATIENCE = [float("inf")]


def attend() -> str:
    """
    End this program soon after its caller is gone, whatever it is at then; return who runs it where, for people.

    Called once, before all else.
    """
    _expect_call_within(SILENCE)
    threading.Thread(target=_await_end_of_caller, daemon=True).start()
    return f"user id {os.geteuid()} on {os.uname().nodename}"


def _expect_call_within(seconds: float) -> None:
    _PATIENCE[0] = time.monotonic() + seconds


def _await_end_of_caller() -> None:
    poll = select.poll()
    poll.register(CALLER[0].fileno(), getattr(select, "POLLRDHUP", 0) | select.POLLHUP)  # calls are not ours to read
    while not poll.poll(_TICK) and time.monotonic() < _PATIENCE[0]:
        pass
    _GONE.set()  # the command that runs is ended, in its own time
    time.sleep(GRACE + 2)
    os._exit(1)  # the command's own watcher ends its group


def enter(folder: str, service: str, part: str, epoch: int, release: str, wait: float) -> dict[str, str]:
    """
    Hold this host's fence until the connection ends or ``leave``.

    :param wait: seconds that an older deploy is waited for
    :returns: ``done``: the version that this very release has brought up here; ``before``: what the last holder has
    """
    _expect_call_within(wait + SILENCE)
    _HELD.append(_FENCES.enter_context(HostFence(folder, service, part).enter(epoch, release, wait)))
    held = _held()
    return {"done": held.done, "before": held.before.done if held.before else ""}


def left(folder: str, service: str, part: str) -> str | None:
    """Return what the last holder of a fence has done; None for nobody yet, and while somebody holds it."""
    record = HostFence(folder, service, part).left()
    return record.done if record else None


def hold() -> str:
    """Compare the fence, and say that the caller is still there."""
    _held()
    return "held"


def _held() -> Held:
    _expect_call_within(SILENCE)
    if not _HELD:
        raise Trouble("fenced", "fence is not held by this connection", "start the step again")
    _HELD[0].require()
    return _HELD[0]


def leave() -> None:
    """Free the fence before the connection ends."""
    _HELD.clear()
    _FENCES.close()


def finish(version: str) -> None:
    """Note that a version is up on this host."""
    _held().finish(version)


def run(argv: Sequence[str], env: Mapping[str, str], cwd: str, timeout: float) -> bool:
    """Run one command of a deploy; its output is told while it runs. See ``host_child.run``."""
    _held()
    return _run(argv, env, cwd, timeout)


def look(argv: Sequence[str], env: Mapping[str, str], cwd: str, timeout: float) -> bool:
    """Run a command that changes nothing, without the fence."""
    return _run(argv, env, cwd, timeout)


def _run(argv: Sequence[str], env: Mapping[str, str], cwd: str, timeout: float) -> bool:
    _expect_call_within(timeout + SILENCE)  # its end is its own timeout; an output that nobody takes ends here
    try:
        return host_child.run(
            argv, {**os.environ, **env}, cwd and str(Path(cwd).expanduser()), timeout, _tell, _GONE.is_set
        )
    finally:
        _expect_call_within(SILENCE)


def _tell(chunk: bytes) -> None:
    # Bytes as they are: where a letter or a line is cut by a chunk, the caller puts them together again.
    tell({"out": chunk.decode("latin-1")})


def stage(to: str, tag: str, folder: bool) -> None:
    """
    Make room beside a path for what is to stand there.

    :param tag: tells uploads of several colors apart
    :param folder: whether it will be a folder
    """
    _held()
    target, staged = _paths(to, tag)
    with refusing(f"{target} cannot be uploaded", target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink() or (target.exists() and target.is_dir() != folder):
            found = "a link" if target.is_symlink() else "a folder" if target.is_dir() else "a file"
            wanted = "folder" if folder else "file"
            raise Trouble(
                "refused", f"{target} is {found}, wanted a {wanted}", f"remove {target}, or mend deploy.upload"
            )
        _remove(staged)


def put(to: str, tag: str, parts: Iterable[Mapping[str, Any]]) -> None:
    """
    Write parts of an upload, in their order, where nobody looks yet.

    :param parts: ``{"path": below the upload, "mode": …}`` and ``folder``, ``link`` or ``data`` (base64) with ``last``
    """
    _held()
    target, staged = _paths(to, tag)
    with refusing(f"{target} cannot be uploaded", target.parent):
        for part in parts:
            _put(staged / part["path"] if part["path"] else staged, part)


def _put(path: Path, part: Mapping[str, Any]) -> None:
    if "folder" in part:
        path.mkdir()
    elif "link" in part:
        path.symlink_to(part["link"])
    else:
        with path.open("ab") as file:
            file.write(base64.b64decode(part["data"]))
            file.flush()
            if part["last"]:
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), part["mode"])


def commit(to: str, tag: str, modes: Sequence[tuple[str, int]]) -> None:
    """
    Put a staged upload in its place: whole or not at all.

    :param modes: of its folders, which had to be writable until now
    """
    _held()
    target, staged = _paths(to, tag)
    with refusing(f"{target} cannot be uploaded", target.parent):
        for path, mode in reversed(modes):
            (staged / path if path else staged).chmod(mode)
        checkpoint("staged")
        if target.is_dir():
            _exchange(staged, target)
            _remove(staged)  # what was there before
        else:
            rename(staged, target, "upload")


def _exchange(staged: Path, target: Path) -> None:
    """Swap two folders: in one step where the file system can, else with a moment in between."""
    libc = ctypes.CDLL(None, use_errno=True)
    swap = getattr(libc, "renameat2", None)
    if swap and swap(_HERE, os.fsencode(staged), _HERE, os.fsencode(target), _EXCHANGE) == 0:
        return
    old = staged.with_name(staged.name + ".old")
    _remove(old)
    target.rename(old)
    try:
        staged.rename(target)
    except OSError:
        old.rename(target)
        raise
    old.rename(staged)


def _paths(to: str, tag: str) -> tuple[Path, Path]:
    target = Path(to).expanduser()
    return target, target.with_name(f".{target.name}.{tag}.new")


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()


PARTS = (host_fence, host_child)
"""What else of ours goes with it; see ``hosts.bundle``."""

FUNCTIONS = {
    "attend": attend,
    "enter": enter,
    "hold": hold,
    "left": left,
    "finish": finish,
    "leave": leave,
    "run": run,
    "look": look,
    "stage": stage,
    "put": put,
    "commit": commit,
}
"""What may be called from outside; see ``host_files.answer``."""
