"""What the contract suite asks of a rig: a router of one kind over two nodes, and the hands to break them."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bluegreen.core.colors import Color
from bluegreen.core.reading import NodeReading
from bluegreen.hosts import host_files
from bluegreen.routers.nodes import Node, NodesRouter, Version, Write
from demo.processes import wait_until

Hook = Callable[[], Any]


@dataclass
class Hooked:
    """A node with something that happens just before or after its first write."""

    node: Node
    before: Hook | None = None
    after: Hook | None = None

    @property
    def name(self) -> str:
        return self.node.name

    def read(self) -> NodeReading:
        return self.node.read()

    def write(self, write: Write, version: Version) -> NodeReading:
        before, self.before = self.before, None
        if before:
            before()
        reading = self.node.write(write, version)
        after, self.after = self.after, None
        if after:
            after()
        return reading


def hooked(router: NodesRouter, before: Mapping[int, Hook], after: Mapping[int, Hook]) -> NodesRouter:
    """Put hooks round the nodes of a router, by their number."""
    router.nodes = tuple(Hooked(n, before.get(i), after.get(i)) for i, n in enumerate(router.nodes))
    return router


class Rig(Protocol):
    """
    One router kind's real thing (or memory).

    ``can`` names what this kind can do beyond the state machine: ``traffic`` (there is an entry that answers), ``counts``
    (it counts by color),
    ``restart`` (a process that can be reloaded, restarted and killed), ``backends`` (servers that are known by name),
    ``readies`` (servers that are drained can be put back), ``hitless`` (a shift loses no request of kept-alive clients),
    ``health`` (a color whose servers are down is refused).
    ``warnings`` are the codes that ``check`` says of a good node of this kind.
    ``steps`` is how many steps a shift over both nodes has at which its writer can die; ``back_steps``, where it differs,
    is the same of a way back. ``servers`` is how many a color has (2), ``shares`` which it can make (all).
    """

    name: str
    can: frozenset[str]
    warnings: frozenset[str]
    steps: int

    def router(self, *, before: Mapping[int, Hook] = ..., after: Mapping[int, Hook] = ..., green: str = ...) -> Any:
        """Make a fresh router, as another process would."""
        ...

    def reset(self) -> None:
        """Everything up, all traffic on blue, no stamp."""
        ...

    def lose(self, number: int) -> None: ...

    def bring_back(self, number: int) -> None: ...

    def by_hand(self, number: int, share: int) -> None:
        """Give green a share past us."""
        ...

    def refuse_writes(self, number: int) -> None: ...

    def kill_writer(self, at: int, write: Callable[[Any], Any]) -> bool:
        """Let another writer die at its n-th step; tell whether it had so many."""
        ...

    def race(self, writes: list[Callable[[Any], Any]]) -> list[str]:
        """Let writers run at the same time; return the name of each one's error, or an empty word."""
        ...

    def drain(self, color: Color) -> None: ...

    def errors(self, color: Color, rate: float) -> None: ...

    def probe(self, number: int, count: int) -> Counter[str]:
        """Ask through one node's entry with fresh connections; answers by color."""
        ...


def _unknown_threads() -> set[int]:
    """Return the threads that Python does not know (any more)."""
    tasks = {int(task.name) for task in Path("/proc/self/task").iterdir()}
    return tasks - {each.native_id for each in threading.enumerate()}


_OTHERS = _unknown_threads()
"""Those that were there before any rig, such as the test runner's own."""


def in_child(work: Callable[[], Any]) -> int:
    """Run in a forked process and return its process id; it exits with 0, or with the bytes of the error's name."""
    # A thread that was joined may still be in OpenSSL's own clean-up: its lock would stay locked in the child for ever.
    # Who speaks TLS to clusters has such threads; others, of libraries that came later, never end.
    if "kubernetes" in sys.modules:
        with suppress(TimeoutError):
            wait_until(lambda: _unknown_threads() <= _OTHERS, 2, "ended threads to be gone")
    child = os.fork()
    if child:
        return child
    code = 0
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - whatever it is, a forked pytest must not go on
        code = ERRORS.index(type(error).__name__) + 1 if type(error).__name__ in ERRORS else 99
        if code == 99:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


ERRORS = ["TrafficConflict", "RouterRefused", "RouterUnreachable", "NotSettled", "UnsupportedSplit"]


def ended(child: int) -> str:
    """Wait for a child of ``in_child``: ``killed``, the error's name, or an empty word."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return "killed"
    code = os.WEXITSTATUS(status)
    assert code != 99, "the child failed by itself, see above"
    return ERRORS[code - 1] if code else ""


def killed_at(number: int, write: Callable[[], Any]) -> bool:
    """Let another process write and die at its n-th checkpoint; tell whether it had so many."""

    def work() -> None:
        host_files.checkpoint = dying_at(number)
        write()

    return ended(in_child(work)) == "killed"


def dying_at(number: int) -> Callable[[str], None]:
    """Make a checkpoint that kills its own process at the n-th call."""
    left = number

    def checkpoint(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint


def raced(router: Callable[[], Any], writes: list[Callable[[Any], Any]], *, read_first: bool = False) -> list[str]:
    """
    Let each writer be a process of its own, all at the same time; return the name of each one's error.

    :param read_first: each has logged in before, as logins differ by more than writes take
    """
    go, start = os.pipe()

    def work(write: Callable[[Any], Any]) -> None:
        os.close(start)
        own = router()
        if read_first:
            own.read()
        os.read(go, 1)  # returns when the parent closes its end
        write(own)

    children = [in_child(functools.partial(work, write)) for write in writes]
    os.close(start)
    os.close(go)
    return [ended(child) for child in children]
