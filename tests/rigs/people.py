"""Run something as somebody who is not root."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any

NOBODY = 65534


def as_nobody(work: Callable[[], Any]) -> Any:
    """Run in a child process, as user and group ``nobody`` when we are root; return or raise what it did."""
    out, into = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            said = (True, work())
        except BaseException as error:  # noqa: BLE001 - a forked pytest must not go on
            said = (False, _plain(error))
        os.write(into, pickle.dumps(said))
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        well, said = pickle.loads(pipe.read())  # noqa: S301 - from our own child
    os.waitpid(child, 0)
    if not well:
        raise said
    return said


def _plain(error: BaseException) -> BaseException:
    """Make an error with keyword arguments go through pickle."""
    return error if type(error).__module__ == "builtins" else PersonError(f"{type(error).__name__}: {error}")


class PersonError(Exception):
    """What a BlueGreenError said in the child."""
