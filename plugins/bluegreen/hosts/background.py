"""
One event loop in a thread of its own, for what must stay alive between calls: SSH connections.

One a process: a fork takes neither the thread nor the connections along.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")
_LAST_SECONDS = 1.0


class _Running:
    loop: asyncio.AbstractEventLoop | None = None
    lock = threading.RLock()  # a collection of garbage may come in while it is held, and let a session go
    sockets: ClassVar[weakref.WeakSet[socket.socket]] = weakref.WeakSet()
    of_the_parent: ClassVar[list[object]] = []

    @classmethod
    def start(cls) -> asyncio.AbstractEventLoop:
        with cls.lock:
            if cls.loop is None:
                cls.loop = asyncio.new_event_loop()
                threading.Thread(target=cls.loop.run_forever, name="bluegreen-ssh", daemon=True).start()
            return cls.loop

    @classmethod
    def forget(cls) -> None:
        """Leave everything to the parent, whose connections must end with it, not with its children."""
        cls.of_the_parent.append(cls.loop)  # nobody may clean up what hangs on it
        for one in list(cls.sockets):
            one.close()
        cls.loop, cls.lock = None, threading.RLock()
        cls.sockets.clear()

    @classmethod
    def stop(cls) -> None:
        if cls.loop:
            with suppress(Exception):  # the process ends either way
                asyncio.run_coroutine_threadsafe(_finish(), cls.loop).result(_LAST_SECONDS)


os.register_at_fork(after_in_child=_Running.forget)
atexit.register(_Running.stop)


async def _finish() -> None:
    """Let what is under way, such as a goodbye, come to its end."""
    own = asyncio.current_task()
    if others := [task for task in asyncio.all_tasks() if task is not own]:
        await asyncio.wait(others, timeout=_LAST_SECONDS / 2)


def submit(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start work on the loop."""
    return asyncio.run_coroutine_threadsafe(work, _Running.start())


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Do work on the loop and wait for it; who is interrupted while waiting takes the work back."""
    future = submit(work)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
    finally:
        del future  # its error holds this frame: neither would be freed, nor what the caller holds


def close_in_children(connection: socket.socket) -> None:
    """Keep children from holding a connection open that their parent has lost."""
    _Running.sockets.add(connection)
