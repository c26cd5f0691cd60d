"""
What happens on the host of one HAProxy node: the map file and HAProxy's run time, read and swapped under one lock.

Standard library of Python 3.9 only, and of ours no more than ``hosts.host_*``: it also runs on far hosts (``hosts.bundle``).

The service's map holds ``green <share>``, which the configuration routes by, and the stamp. HAProxy refuses to start
on a map of numbers with a word as a value, so that a stamp's word stands in the key: ``stamp.epoch=5 0``. The file is
the truth and is written first; then HAProxy takes the same lines in one transaction. So run time has a copy of the
stamp, which stands in where the file was lost or overwritten by somebody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple, Optional
from urllib.parse import quote, unquote

from bluegreen.hosts import host_files, host_stamp
from bluegreen.hosts.host_files import Trouble, locked, rename, write_beside

Config = dict[str, Any]
Entries = dict[str, str]

STAMP = "stamp."
MAP_FILE = "map file"
HEADER = "# The split of one service and its stamp, written by Airflow Blue-Green: green <share in per cent>"
ADMIN = "give the stats socket `level admin` in haproxy.cfg and reload"
INITIAL = "write one line, `green 0` (or `green 100` where green is live)"
MEND_STAMP = f"mend it; when no release is under way, take the {STAMP}… lines out"
_PLAIN = "@:/+~,!()[]"  # what else of ASCII may stand in a key as it is


class State(NamedTuple):
    """What file and run time say together; ``kept`` is what else stands in the file, ``lost`` why it has no meaning."""

    split: str
    fields: Entries
    settled: bool
    detail: str
    comments: list[str]
    kept: Entries
    lost: Optional[Trouble]  # noqa: UP045 - evaluated by NamedTuple on 3.9

    @property
    def version(self) -> list[Any]:
        """Return what a writer compares: split, epoch, release, step, phase."""
        return host_stamp.version(self.split, self.fields)


def read(config: Config) -> dict[str, Any]:
    """
    Read file and run time.

    :param config: socket, map (as HAProxy names it), file (as seen from here), backends, timeout in seconds
    :returns: split, fields (with the stamped split), settled, detail, pools (backend -> server -> status)
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Trouble):  # who may not lock, or meets a hung writer, still reads
            stack.enter_context(locked(map_file(config), fcntl.LOCK_SH, patience=0.5))
        return _answer(config, _state(config))


def swap(config: Config, version: list[Any], fields: Entries) -> dict[str, Any]:
    """
    Compare and set: file first, then run time, read back.

    :param version: what ``State.version`` must be
    :param fields: ``split`` and, unless the node is to have none, the stamp
    """
    with locked(map_file(config), fcntl.LOCK_EX, patience=config.get("lock_timeout", 5.0)):
        before = _state(config)
        host_stamp.require_version(version, before.version)
        way_back = host_stamp.way_back(fields)
        if not way_back:  # which mends a lost file, too
            _require_sound(config, before)
        entries = {**_entries(host_stamp.with_later_lease(before.fields, fields)), **before.kept}
        host_files.checkpoint("compared")
        _write(config, entries, before.comments, durable_or_nothing=not way_back)
        return _answer(config, _state(config))


def make_ready(config: Config, backend: str) -> list[str]:
    """Put servers that somebody drained or took out back, and return their names; `disabled` in haproxy.cfg stays."""
    done, said = [], ask(config, f"show servers state {backend}")
    if "#" not in said:
        raise Trouble("refused", f"HAProxy knows no backend {backend}", "name it as haproxy.cfg does")
    for row in _rows(said.partition("#")[2], " "):
        admin, weight, configured = (int(row[name]) for name in ("srv_admin_state", "srv_uweight", "srv_iweight"))
        commands = ["state ready"] if admin & _AWAY and not admin & _DISABLED else []
        commands += ["weight 100%"] if configured and not weight else []  # a weight of 0 drains as well
        for command in commands:
            said = ask(config, f"set server {backend}/{row['srv_name']} {command}")
            if said:
                fact = f"{backend}/{row['srv_name']} cannot be made ready: HAProxy said {said[:120]!r}"
                raise Trouble("refused", fact, ADMIN)
        done += [row["srv_name"]] if commands else []
    return done


_AWAY = 0x01 | 0x08  # forced into maintenance, forced to drain
_DISABLED = 0x04


def ask(config: Config, command: str) -> str:
    """Send one command to the admin socket and return the answer."""
    where, end = config["socket"], time.monotonic() + config.get("timeout", 2.0)
    try:
        with _connected(where, end) as connection:
            connection.settimeout(max(0.001, end - time.monotonic()))
            connection.sendall(command.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
                connection.settimeout(max(0.001, end - time.monotonic()))
            return answer.decode("utf-8", "replace").strip()
    except PermissionError as error:
        mend = f"let user id {os.geteuid()} use it: `stats socket {where} user … mode 600 level admin`"
        raise Trouble("refused", f"no permission on the admin socket {where}", mend) from error
    except OSError as error:
        words = error.strerror or str(error)
        mend = "see whether HAProxy runs, and what its `stats socket` lines say"
        raise Trouble("unreachable", f"the admin socket {where} does not answer: {words}", mend) from error


def _connected(where: str, end: float) -> socket.socket:
    timeout = end - time.monotonic()
    if not where.startswith("/"):
        host, _, port = where.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    while True:
        try:
            connection.connect(where)
        except BlockingIOError:  # many ask at once: HAProxy takes ten, and lets as many wait
            if time.monotonic() < end:
                time.sleep(0.02)
                continue
            connection.close()
            raise
        except OSError:
            connection.close()
            raise
        return connection


def stat(config: Config) -> str:
    """
    Return ``show stat`` of this service's backends; of everything where HAProxy does not find them all by their names.

    A HAProxy with hundreds of backends says a megabyte, and stands still while it does.
    """
    said = ask(config, stat_command(config))
    return said if has_all(config, said) else ask(config, "show stat")


def stat_command(config: Config) -> str:
    """Ask for this service's backends and their servers."""
    return ";".join(f"show stat {name} 6 -1" for name in config["backends"])


def has_all(config: Config, said: str) -> bool:
    """Tell whether an answer to ``stat_command`` tells of every backend: of two proxies HAProxy takes the first of a name."""
    return all(f"\n{name}," in said for name in config["backends"])


def table(stat: str) -> list[dict[str, str]]:
    """Rows of ``show stat`` by column name."""
    return _rows(stat.lstrip("# "), ",")


def _rows(text: str, separator: str) -> list[dict[str, str]]:
    lines = [line.split(separator) for line in text.strip().splitlines() if line and not line.startswith("# ")]
    return [dict(zip(lines[0], line)) for line in lines[1:]]  # noqa: B905 - no strict before 3.10


def pools(stat: str) -> dict[str, dict[str, str]]:
    """Backend -> server -> status."""
    rows = [row for row in table(stat) if row["svname"] != "FRONTEND"]
    found: dict[str, dict[str, str]] = {row["pxname"]: {} for row in rows}
    for row in rows:
        if row["svname"] != "BACKEND":
            found[row["pxname"]][row["svname"]] = server_status(row)
    return found


def server_status(row: dict[str, str]) -> str:
    """Return a server's status; one whose weight was set to 0 says UP, and gets nothing."""
    return "DRAIN (weight 0)" if row["weight"] == "0" and row["status"].startswith("UP") else row["status"]


def load(path: Path) -> str:
    """Return the map file's text."""
    return host_files.load(path, MAP_FILE, INITIAL)


def parse(text: str, path: Path) -> Entries:
    """Entries of a map file, as HAProxy would load them."""
    entries: Entries = {}
    for number, line in enumerate(text.splitlines(), start=1):
        key, _, value = " ".join(line.split()).partition(" ")
        if not key or line.startswith("#"):
            continue
        if not value or key in entries or key == "#":  # HAProxy takes an indented # for a key
            what = "is there twice" if key in entries else "is no `key value`"
            raise Trouble(
                "refused", f"the {MAP_FILE} {path} is garbled: line {number}, {line.strip()!r}, {what}", INITIAL
            )
        entries[key] = value
    if not re.fullmatch(r"\d{1,2}|100", entries.get("green", "")):
        found = f"`green {entries['green']}`" if "green" in entries else "no line `green <share>`"
        raise Trouble(
            "refused", f"the {MAP_FILE} {path} is garbled: it has {found}, wanted a share of 0 to 100", INITIAL
        )
    stamp_of(entries)
    return entries


def stamp_of(entries: Entries) -> Entries:
    """Words of the stamp; none where there is none."""
    words = [key[len(STAMP) :].partition("=") for key in entries if key.startswith(STAMP)]
    fields = {name: unquote(value) for name, _, value in words}
    host_stamp.require_words(fields, "the map's stamp", MEND_STAMP)
    return fields


def runtime(config: Config) -> Entries:
    """Entries that HAProxy routes by at this moment."""
    said = ask(config, f"show map {_word(config['map'])}")
    if said.startswith("Unknown map"):
        mend = "name it as haproxy.cfg does, or add the lines that `bluegreen check` prints"
        raise Trouble("refused", f"HAProxy knows no map {config['map']}", mend)
    if said and not said.startswith("0x"):
        raise Trouble("refused", f"HAProxy said {said.splitlines()[0][:120]!r} when asked for its map", ADMIN)
    rows = [line.split(None, 2) for line in said.splitlines()]
    return {row[1]: row[2].strip() for row in rows if len(row) == 3}


def map_file(config: Config) -> Path:
    """Return where the map file is as seen from here."""
    return Path(config.get("file") or config["map"]).resolve()


def _state(config: Config) -> State:
    routed, file, comments, lost = runtime(config), None, [], None
    try:
        text = load(map_file(config))
        comments = [line for line in text.splitlines() if line.startswith("#")]
        file = parse(text, map_file(config))
    except Trouble as trouble:
        lost = trouble
    green, fields = _judge(file, routed)
    kept = {key: value for key, value in (file or {}).items() if key != "green" and not key.startswith(STAMP)}
    return State(f"{100 - green}/{green}", fields, file == routed, _differ(file, routed, lost), comments, kept, lost)


def _judge(file: Entries | None, routed: Entries) -> tuple[int, Entries]:
    """
    Green's share and the stamp that count: the stamp of the higher epoch, the file's at equal ones.

    A run time behind the file is a write or a reload that did not end: the file counts. So does a share that somebody
    set in the file by hand, which shows as one that the stamp does not name. Else it is what HAProxy routes by.
    """
    share, newer = _share(routed), _quiet_stamp(routed)
    own = _quiet_stamp(file or {})
    ahead = int(newer.get("epoch", 0)) - int(own.get("epoch", 0))
    fields = newer if ahead > 0 else own
    if file is None or not fields:
        return share, fields
    by_hand = not own or file["green"] != own["split"].partition("/")[2]
    return (int(file["green"]) if by_hand or ahead < 0 else share), fields


def _quiet_stamp(entries: Entries) -> Entries:
    with contextlib.suppress(Trouble):
        return stamp_of(entries)
    return {}


def _share(routed: Entries) -> int:
    """Return what HAProxy makes of the value: nothing and words are 0, more than 100 is all."""
    found = re.fullmatch(r"\d+", routed.get("green", "0"))
    return min(100, int(found[0])) if found else 0


def _differ(file: Entries | None, routed: Entries, lost: Trouble | None) -> str:
    if lost:
        return f"{lost.fact} ({lost.mend}); HAProxy gives green {_share(routed)} % until it is reloaded"
    if file is None or file == routed:
        return ""
    sides = [(entries.get("green"), _quiet_stamp(entries).get("epoch", "none")) for entries in (file, routed)]
    return "file and run time differ: green {}, epoch {} and green {}, epoch {}".format(*sides[0], *sides[1])


def _answer(config: Config, state: State) -> dict[str, Any]:
    known = pools(stat(config))
    return {
        "split": state.split,
        "fields": state.fields,
        "settled": state.settled,
        "detail": state.detail,
        "pools": {name: known[name] for name in config["backends"] if name in known},
    }


def _require_sound(config: Config, before: State) -> None:
    if before.lost:
        raise before.lost
    known = pools(stat(config))
    for name in config["backends"]:
        if not known.get(name):
            fact = f"backend {name} has no server" if name in known else f"HAProxy knows no backend {name}"
            there = ", ".join(sorted(known)) or "none"
            raise Trouble("refused", fact, f"nothing was touched; haproxy.cfg's backends are {there}")


def _entries(fields: Entries) -> Entries:
    stamp = {f"{STAMP}{name}={quote(word, _PLAIN)}": "0" for name, word in fields.items()} if "epoch" in fields else {}
    return {"green": fields["split"].partition("/")[2], **stamp}


def _word(path: str) -> str:
    return re.sub(r"([\\ ;])", r"\\\1", path)


def _write(config: Config, entries: Entries, comments: list[str], *, durable_or_nothing: bool) -> None:
    lost = temporary = None
    try:
        temporary = write_beside(map_file(config), MAP_FILE, _text(comments or [HEADER], entries))
    except Trouble as trouble:
        if durable_or_nothing:
            raise
        lost = trouble  # the way back at least stops the harm
    host_files.checkpoint("written")
    commit = _prepare(config, entries)
    host_files.checkpoint("prepared")
    if temporary:
        rename(temporary, map_file(config), MAP_FILE)
    host_files.checkpoint("renamed")
    _commit(config, entries, commit)
    host_files.checkpoint("committed")
    if lost:
        raise Trouble("unsettled", f"in force until HAProxy is reloaded, but not durable: {lost.fact}", lost.mend)


def _text(comments: list[str], entries: Entries) -> str:
    return "".join(f"{line}\n" for line in [*comments, *(f"{key} {value}" for key, value in entries.items())])


def _prepare(config: Config, entries: Entries) -> str:
    """Give HAProxy the new lines, which it does not use yet, and return the command that puts them in force."""
    name = _word(config["map"])
    said = ask(config, f"prepare map {name}")
    found = re.search(r"New version created: (\d+)", said)
    if not found:
        raise Trouble("refused", f"HAProxy takes no new version of its map: {said[:200]!r}", ADMIN)
    lines = "".join(f"{key} {value}\n" for key, value in entries.items())
    said = ask(config, f"add map @{found[1]} {name} <<\n{lines}")
    if said:
        ask(config, f"clear map @{found[1]} {name}")
        raise Trouble(
            "refused", f"HAProxy does not take the map's lines: {said[:200]!r}", "see how haproxy.cfg uses it"
        )
    return f"commit map @{found[1]} {name}"


def _commit(config: Config, entries: Entries, commit: str) -> None:
    """Put the new lines in force; again when HAProxy was reloaded or restarted in the meantime."""
    end, trouble = time.monotonic() + config.get("timeout", 2.0), None
    while True:
        try:
            ask(config, commit)
            if runtime(config) == entries:
                return
            commit = _prepare(config, entries)
        except Trouble as error:
            trouble = error
        if time.monotonic() > end:
            fact = f"the file holds the new split, but HAProxy does not run by it: {trouble or 'somebody else writes'}"
            raise Trouble(trouble.kind if trouble else "unsettled", fact, "it will once it is started; read again")
        time.sleep(0.02)


def sound(config: Config) -> None:
    """Refuse a map file that HAProxy could not load."""
    parse(load(map_file(config)), map_file(config))


def unwritable(config: Config) -> list[tuple[str, str]]:
    """Return what this user may not, of what a swap needs: fact and mend."""
    return host_files.unwritable(map_file(config))


FUNCTIONS = {
    "read": read,
    "swap": swap,
    "make_ready": make_ready,
    "ask": ask,
    "stat": stat,
    "sound": sound,
    "unwritable": unwritable,
    "text": host_files.text_of,
}
"""What may be called from outside; see ``host_files.answer``."""
