"""
What happens on the host of one nginx node: the include file and nginx's run time, read and swapped under one lock.

Standard library of Python 3.9 only, and of ours no more than ``hosts.host_*``: it also runs on far hosts (``hosts.bundle``).

The service's include file holds ``split_clients``, which the configuration routes by, and the stamp as comments. It is
the truth. nginx has no run-time interface: a reload takes the file, and ``$<service>_status`` tells from inside which
write a worker runs by. A renewed lease is only in the file, so that it needs no reload.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import re
import time
from pathlib import Path
from typing import Any, NamedTuple, Optional
from urllib.parse import parse_qsl, urlsplit

from bluegreen.hosts import host_files, host_seen, host_stamp
from bluegreen.hosts.host_files import Trouble, locked, rename, write_beside
from bluegreen.routers import nginx_command, nginx_include
from bluegreen.routers.nginx_command import dump
from bluegreen.routers.nginx_include import INCLUDE, INITIAL, Config, Fields, loud, mark_in, parse, render, status_lines

FRESH_ANSWERS = 20
RELOAD_WITHIN = 10.0


class State(NamedTuple):
    """What file and run time say together; ``lost`` is why the file has no meaning."""

    split: str
    fields: Fields
    settled: bool
    detail: str
    text: Optional[str]  # noqa: UP045 - evaluated by NamedTuple on 3.9
    lost: Optional[Trouble]  # noqa: UP045
    pids: set[int]

    @property
    def version(self) -> list[Any]:
        """Return what a writer compares: split, epoch, release, step, phase."""
        return host_stamp.version(self.split, self.fields)


def read(config: Config) -> dict[str, Any]:
    """
    Read file, run time and servers.

    :param config: service, include, status, command, reload, backends (color -> name), servers (name -> URLs), health
        (path, status), cookie, log, timeout in seconds
    :returns: split, fields (with the stamped split), settled, detail, pools (backend -> server -> status)
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Trouble):  # who may not lock, or meets a long reload, still reads
            stack.enter_context(locked(_lock(config), fcntl.LOCK_SH, patience=0.5))
        state = _state(config)
    return _answer(config, state)


def swap(config: Config, version: list[Any], fields: Fields) -> dict[str, Any]:
    """
    Compare and set: the file, tested and reloaded, until no worker takes requests by the old one.

    :param version: what ``State.version`` must be
    :param fields: ``split`` and, unless the node is to have none, the stamp
    """
    with locked(_lock(config), fcntl.LOCK_EX, patience=config.get("lock_timeout", RELOAD_WITHIN)):
        before = _state(config)
        host_stamp.require_version(version, before.version)
        if before.lost and not host_stamp.way_back(fields):  # which mends a lost file, too
            raise before.lost
        wanted = host_stamp.with_later_lease(before.fields, fields)
        host_files.checkpoint("compared")
        if before.settled and loud(wanted) == loud(before.fields):
            mark = mark_in(before.text or "")
            rename(write_beside(_path(config), INCLUDE, render(config, wanted, mark)), _path(config), INCLUDE)
        else:
            _replace(config, before, wanted)
        state = _state(config)
    return _answer(config, state)


def count(config: Config) -> dict[str, dict[str, Any]]:
    """Count by backend: requests, errors and latency_ms of the log since the claim, in_flight, ready, total."""
    found = sights(config)
    inode, start = mark_in(host_files.load(_path(config), INCLUDE, INITIAL))
    counted = host_seen.count_lines(config["log"], inode, start, config["backends"].values())
    if counted is None:
        raise _no_log(config)
    return {backend: {**counts, **found[backend]} for backend, counts in counted.items()}


def sights(config: Config) -> dict[str, dict[str, Any]]:
    """
    Look by backend, without counting: in_flight (None where it cannot be seen), ready, total.

    Connections that today's workers keep to a color without a share are idle: they never sent it a request.
    """
    running = runtime(config)
    if not os.access(config["log"], os.R_OK):
        raise _no_log(config)
    pools, workers, found = _pools(config), _workers(int(running["pid"])), {}
    for share, (_, backend) in zip(running["split"].split("/"), sorted(config["backends"].items())):  # noqa: B905 - 3.9
        busy = [pid for pid, current in (workers or {}).items() if share != "0" or not current]
        found[backend] = {
            "in_flight": host_seen.connections(busy, config["servers"][backend]) if workers else None,
            "ready": sum(status == host_seen.UP for status in pools[backend].values()),
            "total": len(pools[backend]),
        }
    return found


def _no_log(config: Config) -> Trouble:
    mend = "name nginx's log as `log` of the node, and let this user read it"
    return Trouble("refused", f"the log {config['log']} cannot be read", mend)


def unwritable(config: Config) -> list[tuple[str, str]]:
    """Say, with the mend, what keeps this user from a write."""
    return host_files.unwritable(_path(config), _lock(config))


def runtime(config: Config) -> Fields:
    """Words that the answering worker runs by, with its ``pid``."""
    url, end = urlsplit(config["status"]), config.get("timeout", 1.0)
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=end)
    try:
        connection.request("GET", url.path or "/", headers={"Host": url.netloc, "Connection": "close"})
        answer = connection.getresponse()
        status, said = answer.status, answer.read(65536).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        mend = "see whether nginx runs, and whether it has the status lines that `bluegreen lines` prints"
        raise Trouble("unreachable", f"{config['status']} does not answer: {words}", mend) from error
    finally:
        connection.close()
    found = dict(parse_qsl(said))
    if status != 200 or not found.get("pid", "").isdigit() or not re.fullmatch(r"\d+/\d+", found.get("split", "")):
        fact = f"{config['status']} answers {status} {said[:80]!r}, wanted the split of {config['service']}"
        raise Trouble("refused", fact, status_lines(config))
    return found


def _path(config: Config) -> Path:
    return Path(config["include"]).resolve()


def _lock(config: Config) -> Path:
    # A reload and a test are of the whole nginx: one lock for all services with includes in this folder.
    return _path(config).parent / "nginx"


def _state(config: Config) -> State:
    answers = [runtime(config) for _ in range(5)]
    routed = max(answers, key=lambda one: int(one.get("epoch", 0)))
    text = file = lost = None
    try:
        text = host_files.load(_path(config), INCLUDE, INITIAL)
        file = parse(config, text)
    except Trouble as trouble:
        lost = trouble
    split, fields = _judge(file, routed)
    settled = file is not None and all(_in_force(file, one) for one in answers)
    pids = {int(one["pid"]) for one in answers}
    return State(split, fields, settled, "" if settled else _differ(file, routed, lost), text, lost, pids)


def _in_force(file: Fields, answer: Fields) -> bool:
    routed = {key: word for key, word in answer.items() if key != "pid"}
    wanted = {key: word for key, word in file.items() if key != "routed"}
    return file["routed"] == routed["split"] and loud({"split": file["routed"], **wanted}) == loud(routed)


def _judge(file: Fields | None, routed: Fields) -> tuple[str, Fields]:
    """
    Split and stamp that count: the file's, unless it is lost or somebody put an older one in its place.

    A share that somebody set in the file by hand shows as one that the stamp does not name.
    """
    newer = {key: word for key, word in routed.items() if key != "pid"} if "epoch" in routed else {}
    if file is None or int(newer.get("epoch", 0)) > int(file.get("epoch", 0)):
        return routed["split"], newer
    return file["routed"], {key: word for key, word in file.items() if key != "routed"}


def _differ(file: Fields | None, routed: Fields, lost: Trouble | None) -> str:
    if lost or file is None:
        return f"{lost.fact} ({lost.mend}); nginx runs by {routed['split']} until it is reloaded" if lost else ""
    sides = (file["routed"], file.get("epoch", "none"), routed["split"], routed.get("epoch", "none"))
    return "file and run time differ: {}, epoch {} and {}, epoch {}".format(*sides)


def _answer(config: Config, state: State) -> dict[str, Any]:
    return {
        "split": state.split,
        "fields": state.fields,
        "settled": state.settled,
        "detail": state.detail,
        "pools": _pools(config),
    }


def _replace(config: Config, before: State, wanted: Fields) -> None:
    way_back, path = host_stamp.way_back(wanted), _path(config)
    text = render(config, wanted, _mark(config, before, wanted))
    temporary = write_beside(path, INCLUDE, text)
    host_files.checkpoint("written")
    rename(temporary, path, INCLUDE)
    host_files.checkpoint("renamed")
    try:
        nginx_command.require(config, [*config["command"], "-t"])
        host_files.checkpoint("tested")
        old = before.pids.union(*map(_current_workers, before.pids))
        nginx_command.require(config, config.get("reload") or [*config["command"], "-s", "reload"])
    except Trouble as trouble:
        if way_back:  # whoever mends and reloads nginx puts it in force
            fact = f"the file holds the way back, but nginx does not run by it: {trouble.fact}"
            raise Trouble("unsettled", fact, trouble.mend) from trouble
        if before.text is not None:
            rename(write_beside(path, INCLUDE, before.text), path, INCLUDE)
        raise
    host_files.checkpoint("reloaded")
    _settle(config, old, parse(config, text))


def _settle(config: Config, old: set[int], wanted: Fields) -> None:
    """
    Wait until no old worker takes new connections and fresh answers show the new write.

    A worker that shuts down takes none, however long it finishes what it has.
    """
    end, said = time.monotonic() + RELOAD_WITHIN, ""
    while True:
        try:
            said = _unsettled(config, old, wanted)
        except Trouble as trouble:
            said = trouble.fact
        if not said:
            return
        if time.monotonic() > end:
            fact = f"the file holds the new split, but nginx does not run by it after {RELOAD_WITHIN:g} s: {said}"
            raise Trouble("unsettled", fact, "see nginx's error log; reload it, then read again")
        time.sleep(0.01)


def _unsettled(config: Config, old: set[int], wanted: Fields) -> str:
    first = runtime(config)
    current = _current_workers(int(first["pid"]))
    if current and current & old:
        return f"old workers take requests: {', '.join(map(str, sorted(current & old)))}"
    # Who cannot see nginx's processes asks more often: old workers answered for 100 ms beside new ones.
    for _ in range(FRESH_ANSWERS if current else 10 * FRESH_ANSWERS):
        answer = runtime(config)
        if not _in_force(wanted, answer) or int(answer["pid"]) in old:
            return f"a worker answers with epoch {answer.get('epoch', 'none')}, {answer['split']}"
    return ""


def _workers(pid: int) -> dict[int, bool] | None:
    return host_seen.siblings(pid, "nginx: worker process", "shutting down")


def _current_workers(pid: int) -> set[int]:
    return {worker for worker, current in (_workers(pid) or {}).items() if current}


def _pools(config: Config) -> dict[str, dict[str, str]]:
    health, timeout = config["health"], config.get("timeout", 1.0)
    urls = [url for servers in config["servers"].values() for url in servers]
    found = host_seen.healths(urls, health["path"], health["status"], timeout)
    return {backend: {url: found[url] for url in servers} for backend, servers in config["servers"].items()}


def _mark(config: Config, before: State, wanted: Fields) -> tuple[int, int]:
    """Return where the counts begin: with the claim, so that a whole release counts in one go and a log of days is not read."""
    kept = mark_in(before.text or "")
    return host_seen.log_end(config["log"]) if wanted.get("phase") == "claimed" or kept == (0, 0) else kept


FUNCTIONS = {"read": read, "swap": swap, "dump": dump, "count": count, "sights": sights, "unwritable": unwritable}
"""What may be called from outside; see ``host_files.answer``."""
PARTS = (host_seen, nginx_include, nginx_command)
"""What else of ours a far host needs; see ``hosts.bundle``."""
