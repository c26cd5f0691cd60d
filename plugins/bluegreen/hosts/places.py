"""Where a host program runs. The caller gets the same answers and the same trouble from everywhere."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn, Protocol

from bluegreen.catalog.models import Ssh
from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Credentials, Secrets
from bluegreen.hosts.host_files import Trouble

Functions = Mapping[str, Callable[..., Any]]


class Place(Protocol):
    """A host that runs the functions of one program, such as ``routers.haproxy_host``."""

    @property
    def name(self) -> str:
        """How findings and errors call it."""
        ...

    def call(self, do: str, **arguments: Any) -> Any:
        """
        Run one function of the program and wait for it.

        :param arguments: JSON values
        :raises Trouble: it cannot be done, or the host cannot be reached
        """
        ...

    async def acall(self, do: str, **arguments: Any) -> Any:
        """Do the same without holding up the loop."""
        ...


@dataclass(frozen=True)
class Here:
    """
    This very host, in this very process.

    :param program: the module, with its ``FUNCTIONS``
    """

    program: ModuleType

    @property
    def name(self) -> str:
        """The host's own name."""
        return socket.gethostname()

    def call(self, do: str, **arguments: Any) -> Any:
        """Run one function of the program."""
        functions: Functions = self.program.FUNCTIONS
        return functions[do](**arguments)

    async def acall(self, do: str, **arguments: Any) -> Any:
        """Run one function of the program in a thread."""
        return await asyncio.to_thread(self.call, do, **arguments)


@dataclass(frozen=True)
class Nowhere:
    """
    A host that cannot even be tried; the others are not kept from anything.

    :param name: how errors call it
    :param trouble: why
    """

    name: str
    trouble: Trouble

    def call(self, do: str, **arguments: Any) -> NoReturn:
        """Say why not."""
        del do, arguments
        raise self.trouble

    async def acall(self, do: str, **arguments: Any) -> NoReturn:
        """Say why not."""
        self.call(do, **arguments)


def place_of(ssh: Ssh | None, program: ModuleType, secrets: Secrets | None = None, **options: float) -> Place:
    """
    Return where a program is to run; nothing is connected to before its first call.

    :param ssh: the far host, or None for this one
    :param secrets: asked now, in the caller's thread, for ``ssh.connection``
    :param options: of ``ssh_session.OverSsh``: ``patience`` in seconds
    """
    if ssh is None:
        return Here(program)
    try:
        from bluegreen.hosts.ssh_session import OverSsh  # noqa: PLC0415 - an extra; and slow to import

        credentials = secrets(ssh.connection) if secrets and ssh.connection else Credentials()
        return OverSsh(program, ssh, credentials, **options)
    except SecretMissing as missing:
        return Nowhere(ssh.host, Trouble("refused", f"no login for {ssh.host}: {missing.fact}", missing.next_step))
    except ImportError:
        mend = "pip install 'airflow-blue-green[ssh]'"
        return Nowhere(ssh.host, Trouble("refused", "asyncssh is not installed here", mend))
