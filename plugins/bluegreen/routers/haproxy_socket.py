"""
HAProxy's admin socket, asked on the loop: each watch asks each second, and must not wait for the threads of hundreds.

The same questions as ``haproxy_host``'s, which runs where HAProxy does and blocks.
"""

from __future__ import annotations

import asyncio
import socket

from bluegreen.routers import haproxy_host
from bluegreen.routers.haproxy_host import Config

_FULL = 0.02


async def stat(config: Config) -> str:
    """
    Return what ``haproxy_host.stat`` returns.

    :param config: socket, backends, timeout in seconds
    :raises OSError: it does not answer in time
    """
    said = await ask(config, haproxy_host.stat_command(config))
    return said if haproxy_host.has_all(config, said) else await ask(config, "show stat")


async def ask(config: Config, command: str) -> str:
    """
    Send one command and return the answer.

    :raises OSError: it does not answer in time
    """
    async with asyncio.timeout(config.get("timeout", 2.0)):
        reader, writer = await _opened(config["socket"])
        try:
            writer.write(command.encode() + b"\n")
            writer.write_eof()
            return (await reader.read()).decode("utf-8", "replace").strip()
        finally:
            writer.close()


async def _opened(where: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not where.startswith("/"):
        host, _, port = where.rpartition(":")
        return await asyncio.open_connection(host.strip("[]"), int(port))
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        await _connect(connection, where)
        return await asyncio.open_unix_connection(sock=connection)
    except BaseException:
        connection.close()
        raise


async def _connect(connection: socket.socket, where: str) -> None:
    """Wait while HAProxy's queue is full; asyncio would take that for a connection that is under way."""
    while True:
        try:
            connection.connect(where)
        except BlockingIOError:
            await asyncio.sleep(_FULL)
        else:
            return
