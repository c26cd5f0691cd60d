"""Where a host program runs. The caller gets the same answers and the same trouble from everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

Functions = Mapping[str, Callable[..., Any]]


class Place(Protocol):
    """A host that runs the functions of one program, such as ``routers.haproxy_host``."""

    @property
    def name(self) -> str:
        """How errors call it: ``this host``, or where it is."""
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
        """How errors call it."""
        return "this host"

    def call(self, do: str, **arguments: Any) -> Any:
        """Run one function of the program."""
        functions: Functions = self.program.FUNCTIONS
        return functions[do](**arguments)

    async def acall(self, do: str, **arguments: Any) -> Any:
        """Run one function of the program in a thread."""
        return await asyncio.to_thread(self.call, do, **arguments)
