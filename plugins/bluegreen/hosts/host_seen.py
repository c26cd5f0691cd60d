"""
What a host sees of a service: its servers' health, a proxy's processes and connections, lines of a log.

Standard library of Python 3.9 only, and nothing of ours (``host_files``).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

UP = "UP"
_ESTABLISHED = ("01", "02")  # and those that are being opened
_TAIL = 65536
_CHUNK = 1 << 20

Counts = dict[str, list[int]]
_read_so_far: dict[str, tuple[tuple[Any, ...], int, Counts]] = {}


def healths(urls: Iterable[str], path: str, status: int, timeout: float) -> dict[str, str]:
    """
    Ask servers at the same time whether they are well.

    :param status: HTTP status of a server that is
    :param timeout: seconds
    :returns: URL -> ``UP``, or what it said instead
    """
    urls = list(urls)
    with ThreadPoolExecutor(max_workers=min(16, len(urls)) or 1) as pool:
        return dict(zip(urls, pool.map(lambda url: _health(url, path, status, timeout), urls)))  # noqa: B905 - 3.9


def _health(url: str, path: str, status: int, timeout: float) -> str:
    parts = urlsplit(url)
    tls = ssl._create_unverified_context() if parts.scheme == "https" else None  # noqa: S323, SLF001 - as nginx does
    port = parts.port or (443 if tls else 80)
    name = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(name, port, timeout=timeout, context=tls)
        if tls
        else http.client.HTTPConnection(name, port, timeout=timeout)
    )
    try:
        connection.request("GET", parts.path + path, headers={"Host": parts.netloc, "Connection": "close"})
        found = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"DOWN: {getattr(error, 'strerror', None) or error or type(error).__name__}"
    finally:
        connection.close()
    return UP if found == status else f"DOWN: {found}"


def siblings(pid: int, title: str, leaving: str) -> dict[int, bool] | None:
    """
    Return the children of a process's parent -> whether they take new work.

    :param title: how the titles of such processes begin
    :param leaving: word in the title of one that only finishes what it has
    :returns: None where they cannot be seen, or ``pid`` is no such process
    """
    try:
        if not _title(pid).startswith(title):
            return None
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        children = [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except (OSError, ValueError, IndexError):
        return None
    titles = {child: _title(child) for child in children}
    return {child: leaving not in said for child, said in titles.items() if said.startswith(title)}


def _title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return ""


def connections(pids: Iterable[int], urls: Iterable[str]) -> int | None:
    """Count open connections of processes to servers; None where they cannot be seen."""
    pids = list(pids)
    try:
        servers = {address for url in urls for address in _addresses(url)}
        owned = {inode for pid in pids for inode in _sockets(pid)}
        rows = {row for pid in pids[:1] for row in _tcp(pid)}
    except (OSError, ValueError):
        return None
    return sum(remote in servers and inode in owned for remote, inode in rows)


def _addresses(url: str) -> set[tuple[str, int]]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {(str(found[4][0]), port) for found in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)}


def _sockets(pid: int) -> set[str]:
    found = set()
    try:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed just now
                found.add(str(path.readlink()))
    except (FileNotFoundError, ProcessLookupError):
        return set()  # a process that has just ended has none
    return found


def _tcp(pid: int) -> Iterable[tuple[tuple[str, int], str]]:
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            words = line.split()
            if words[3] in _ESTABLISHED:
                address, _, port = words[2].partition(":")
                yield (_readable(address, family), int(port, 16)), f"socket:[{words[9]}]"


def _readable(address: str, family: int) -> str:
    raw = b"".join(bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
    return socket.inet_ntop(family, raw)


def log_end(path: str) -> tuple[int, int]:
    """Return a log's inode and size; zeros where it is not there."""
    try:
        found = Path(path).stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_size


def count_lines(path: str, inode: int, start: int, names: Iterable[str]) -> dict[str, dict[str, Any]] | None:
    """
    Count a log's lines ``<name> <status> <seconds>`` from a place on; from its begin where it is another file now.

    What this process has counted already is not read again.

    :returns: name -> requests, errors (status 5xx), latency_ms (of the latest lines, None without any); None without log
    """
    names = tuple(names)
    try:
        with open(path, "rb") as log:  # noqa: PTH123 - one descriptor for stat and read
            found = os.fstat(log.fileno())
            begin = start if found.st_ino == inode and found.st_size >= start else 0
            key, nothing = (found.st_ino, begin, names), {name: [0, 0] for name in names}
            known, place, counts = _read_so_far.get(path, (key, begin, nothing))
            if known != key or place > found.st_size:  # since another write, or truncated
                place, counts = begin, nothing
            log.seek(place)
            place, counts = _counted(log, place, counts)
            _read_so_far[path] = key, place, counts
            log.seek(max(begin, place - _TAIL))
            latest = log.read(place - log.tell())
    except OSError:
        return None
    return {
        name: {"requests": counts[name][0], "errors": counts[name][1], "latency_ms": _mean(latest, name)}
        for name in names
    }


def _counted(log: Any, place: int, counts: Counts) -> tuple[int, Counts]:
    counts = {name: list(found) for name, found in counts.items()}
    while chunk := log.read(_CHUNK):
        whole = b"\n" + chunk[: chunk.rfind(b"\n") + 1]  # a line that is being written is counted when it is whole
        if len(whole) == 1:
            break
        for name, found in counts.items():
            found[0] += whole.count(f"\n{name} ".encode())
            found[1] += whole.count(f"\n{name} 5".encode())
        place += len(whole) - 1
        log.seek(place)
    return place, counts


def _mean(lines: bytes, name: str) -> float | None:
    rows = [line.split() for line in lines.splitlines() if line.startswith(f"{name} ".encode())]
    seconds = [float(row[2]) for row in rows if len(row) == 3]
    return round(1000 * sum(seconds) / len(seconds), 3) if seconds else None
