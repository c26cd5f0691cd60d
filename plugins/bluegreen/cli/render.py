"""What a router says, as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from bluegreen.core.colors import Color
from bluegreen.core.reading import NodeReading, Reading
from bluegreen.core.stamp import NONE, Phase, Stamp
from bluegreen.release.status import Status

WIDTH = 80
Row = Sequence[str]


def table(rows: Sequence[Row], indent: str = "") -> str:
    """Align columns; the last one is cut where the line would not fit."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(cut(line.rstrip()) for line in lines)


def cut(text: str, width: int = WIDTH) -> str:
    """Shorten to a width."""
    return text if len(text) <= width else text[: width - 1] + "…"


def paragraph(text: str, first: str = "", rest: str = "") -> str:
    """Break a text into lines."""
    return "\n".join(wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False))


def faults(status: Status) -> list[str]:
    """Everything that is not as it should be, one line each."""
    reading, stamp = status.reading, status.reading.stamp
    if not reading.reachable:
        return [f"{node.node} unreachable: {node.error}" for node in reading.nodes]
    found = [f"{node.node} unreachable: {node.error}" for node in reading.unreachable]
    found += [_lags(node, reading) for node in reading.lagging if node not in reading.foreign]
    found += [_by_hand(node) for node in reading.foreign]
    if stamp is None:
        found.append(
            f"no stamp, the traffic is nobody's: bluegreen adopt {reading.service} --version VERSION --reason WHY"
        )
    elif stamp.phase is Phase.HELD:
        found.append(f"held: {stamp.why}; lease {lease(status)}")
    elif stamp.phase.transitional:
        found.append(f"a release is under way: {stamp.phase}, lease {lease(status)}")
    elif stamp.phase is Phase.STRANDED:
        found.append("stranded: the way back does not serve; a person must look")
    found += [f"role {role} was not brought to {reading.live}, where the traffic is" for role in status.astray]
    if reading.live and (health := reading.health(reading.live)) and not health.serves:
        found.append(f"{reading.live} has all traffic, and no server that is up")
    return found


def _lags(node: NodeReading, reading: Reading) -> str:
    stamp = reading.stamp
    if stamp and stamp.same_write(node.stamp):
        return f"{node.node} has not put epoch {node.epoch} in force" + (f": {node.detail}" if node.detail else "")
    return f"{node.node} lags at epoch {node.epoch}" + (f", the others are at {stamp.epoch}" if stamp else "")


def _by_hand(node: NodeReading) -> str:
    told = f", its stamp says {node.stamped_split}" if node.stamp else " and has no stamp"
    return f"{node.node} was changed by hand: routes blue/green {node.split}{told}"


def lease(status: Status) -> str:
    """Return ``42 s left``, ``out since 7 s`` or ``-``."""
    left = status.lease_left
    if left is None:
        return NONE
    return f"{left:.0f} s left" if left >= 0 else f"out since {-left:.0f} s"


def overview(answers: Sequence[tuple[str, Status | Exception]]) -> str:
    """Return one line a service."""
    head = ("SERVICE", "LIVE", "BLUE/GREEN", "PHASE", "LEASE", "NOTE")
    return table([head, *(_line(cut(name, 30), answer) for name, answer in answers)])


def _line(name: str, answer: Status | Exception) -> Row:
    if isinstance(answer, Exception):
        return name, NONE, NONE, NONE, NONE, " ".join(str(answer).split())
    reading, stamp = answer.reading, answer.reading.stamp
    notes = "; ".join(faults(answer)) or "ok"
    return name, _live(reading), str(reading.split or NONE), str(stamp.phase if stamp else NONE), lease(answer), notes


def _live(reading: Reading) -> str:
    return str(reading.live) if reading.live else "split" if reading.reachable else NONE


def sheet(status: Status) -> str:
    """Return everything about one service."""
    parts = [headline(status.reading), _facts(status), _colors(status), _nodes(status.reading)]
    wrong = "\n".join(paragraph(fault, "! ", "  ") for fault in faults(status))
    return "\n\n".join(part for part in (*parts, wrong) if part)


def headline(reading: Reading) -> str:
    """Return where the traffic is, in one line."""
    if not reading.reachable:
        return f"{reading.service}: no node answers"
    where = f"all traffic on {reading.live}" if reading.live else f"traffic is split, blue/green {reading.split}"
    return f"{reading.service}: {where}"


def _facts(status: Status) -> str:
    stamp = status.reading.stamp
    if stamp is None:
        return ""
    words = [
        ("phase", f"{stamp.phase} (epoch {stamp.epoch}, step {stamp.step})"),
        ("release", stamp.release),
        ("way back", _way_back(status, stamp)),
        ("lease", lease(status)),
        ("since", f"{stamp.at:%Y-%m-%d %H:%M:%S} UTC" if stamp.at else NONE),
        ("why", stamp.why or NONE),
    ]
    return "\n".join(paragraph(f"{name:<9} {said}", "  ", " " * 12) for name, said in words)


def _way_back(status: Status, stamp: Stamp) -> str:
    if stamp.back_to is None or stamp.phase.way_back:
        return NONE
    version = stamp.versions.get(stamp.back_to)
    kept = f", kept until {status.kept_until:%Y-%m-%d %H:%M:%S} UTC" if status.kept_until else ""
    return f"to {stamp.back_to}" + (f" ({version})" if version else "") + kept


def _colors(status: Status) -> str:
    reading, stamp = status.reading, status.reading.stamp
    rows: list[Row] = [("COLOR", "SHARE", "UP", "HEALTHY", "REPORTS", "STAMPED")]
    for color in Color:
        deployed, health = status.deployed[color], reading.health(color)
        rows.append(
            (
                str(color),
                f"{reading.split.share(color)} %" if reading.split else NONE,
                f"{health.ready}/{health.total}" if health else NONE,
                f"{deployed.ready}/{deployed.total}",
                cut(deployed.version or NONE, 22),
                stamp.versions.get(color, NONE) if stamp else NONE,
            )
        )
    return table(rows, "  ")


def _nodes(reading: Reading) -> str:
    rows: list[Row] = [
        ("NODE", "BLUE/GREEN", "EPOCH", "PHASE", "STATE"),
        *(_node(node, reading) for node in reading.nodes),
    ]
    return table(rows, "  ")


def _node(node: NodeReading, reading: Reading) -> Row:
    if not node.reachable:
        return node.node, NONE, NONE, NONE, "unreachable"
    state = "changed by hand" if node in reading.foreign else "lags" if node in reading.lagging else "ok"
    phase = str(node.stamp.phase) if node.stamp else NONE
    return node.node, str(node.split), str(node.epoch or NONE), phase, state
