"""A TCP wire before any server, that can be cut, frozen and slowed: what a network does to its clients."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Self

from demo.processes import LOOPBACK, free_port


class Wire:
    """
    Carries bytes between an address of its own and a server's.

    :param behind: host and port of the server
    :param listening: a socket that clients come to; one on loopback by default
    """

    def __init__(self, behind: tuple[str, int], listening: socket.socket | None = None) -> None:
        self._behind = behind
        self._listening = listening or socket.create_server((LOOPBACK, free_port()))
        self.port = self._listening.getsockname()[1]
        self.delay = 0.0
        """Seconds that each piece of an answer is held back."""
        self.connections = 0
        self._cut = False
        self._open = threading.Event()
        self._open.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        # Closing alone would not wake the one that waits for clients.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def cut(self) -> None:
        """Break every connection, and each new one at once, until ``mend``."""
        self._cut = True
        self._open.set()
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for end in (end for pair in pairs for end in pair):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def freeze(self) -> None:
        """Carry nothing, but break nothing, until ``mend``."""
        self._open.clear()

    def mend(self) -> None:
        """Carry again, at once."""
        self._cut, self.delay = False, 0.0
        self._open.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        if self._cut:
            client.close()
            return
        try:
            server = socket.create_connection(self._behind)
        except OSError:
            client.close()
            return
        with self._lock:
            self._pairs.append((client, server))
        threading.Thread(target=self._carry, args=(client, server, False), daemon=True).start()
        self._carry(server, client, True)

    def _carry(self, source: socket.socket, target: socket.socket, slowed: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                if slowed and self.delay:
                    time.sleep(self.delay)
                self._open.wait()
                target.sendall(piece)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
