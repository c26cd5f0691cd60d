"""
The other side of the switch bench: the guide's own configurations and scripts, from `benchmarks/guide/`.

The files are the guide's, to the letter. What is changed before they run is a `Mend`: each is listed in the result,
and one that does not match any more is an error.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.observed import Move
from benchmarks.ours import COLOR_HEADER, PROOF_PATH
from bluegreen.catalog.models import Entry
from bluegreen.checks.proof import prove
from bluegreen.core.colors import Color, Split
from bluegreen.core.evidence import Proof
from demo.processes import LOOPBACK

GUIDE = Path(__file__).resolve().parent / "guide"
PROVEN_WITHIN_S = 10.0
PAUSE_S = 0.05
NOT_ASKED = "paths other than / do not move, so there is no proof to ask for and no last answer; see moved_share"


class Mend(NamedTuple):
    """A change to one of the guide's files."""

    why: str
    pattern: str
    new: str = ""


class Guide:
    """
    The guide's two files on two nodes, one after the other; a subclass for each router of the guide.

    :param name: of the row
    :param nodes: the two nodes, with the configuration mended
    :param script: the script's file name
    :param mends: of the configuration and of the script
    :param mended: all paths follow the map, so that there is a proof to ask for
    """

    def __init__(
        self,
        name: str,
        nodes: Sequence[Any],
        script: str,
        mends: tuple[Sequence[Mend], Sequence[Mend]],
        *,
        mended: bool,
    ) -> None:
        self.name, self.nodes, self.script, self.mended = name, nodes, script, mended
        self._of_config, self._of_script = mends

    @property
    def mends(self) -> tuple[str, ...]:
        """What was changed, in words."""
        return tuple(dict.fromkeys(mend.why for mend in [*self._of_config, *self._of_script]))

    @property
    def targets(self) -> list[tuple[str, int]]:
        """Where the load goes."""
        return [(LOOPBACK, node.entry_port) for node in self.nodes]

    def map_of(self, node: Any) -> Path:
        """Return a node's map file."""
        raise NotImplementedError

    def live(self) -> str:
        """Return the color that the first node's map names."""
        raise NotImplementedError

    def environment(self, node: Any) -> Mapping[str, str]:
        """Return what the mended script reads."""
        raise NotImplementedError

    def initial(self) -> str:
        """Return the map file before the first switch."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the nodes on the guide's configuration and map."""
        for node in self.nodes:
            self.map_of(node).parent.mkdir(parents=True, exist_ok=True)
            self.map_of(node).write_text(self.initial())
            text = mended((GUIDE / self.script).read_text(), self._of_script)
            (self.map_of(node).parent / self.script).write_text(text)
            node.start()

    def stop(self) -> None:
        """Stop the nodes."""
        for node in self.nodes:
            node.stop()

    def move(self) -> Move:
        """Run the script on each node; for a mended one, ask through the entry until all answers are the new color's."""
        old = self.live()
        begin, clock = time.time(), time.monotonic()
        for node in self.nodes:
            self._run(node)
        new = self.live()
        if not self.mended:
            return Move(begin, begin, old, new, None, NOT_ASKED, asked=False)
        return Move(begin, begin, old, new, *self._proven(Color(new), clock))

    def _proven(self, new: Color, clock: float) -> tuple[float | None, str]:
        entry = Entry(url="http://shop.test/", path=PROOF_PATH, color_header=COLOR_HEADER)
        nodes = {node.name: node.entry for node in self.nodes}
        return until_proven(lambda: prove(entry, nodes, Split.whole_on(new)), clock)

    def _run(self, node: Any) -> None:
        script = self.map_of(node).parent / self.script
        done = subprocess.run(
            ["bash", script],
            env=os.environ | self.environment(node),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the guide's script ended with {done.returncode}: {done.stdout}{done.stderr}")


def until_proven(ask: Callable[[], Proof], clock: float, pause_s: float = PAUSE_S) -> tuple[float | None, str]:
    """
    Ask for a proof until one holds, for those who do not prove anything themselves.

    :param ask: one proof
    :param clock: when the move began, as ``time.monotonic`` has it
    :param pause_s: seconds between two proofs
    :returns: seconds until the first that held, or None and why none did
    """
    while True:
        proof = ask()
        seconds = time.monotonic() - clock
        if proof.proven:
            return seconds, ""
        if seconds > PROVEN_WITHIN_S:
            return None, proof.reason
        time.sleep(pause_s)


def mended(text: str, mends: Sequence[Mend], words: Mapping[str, str] | None = None) -> str:
    """
    Return one of the guide's texts with its mends.

    :param words: what stands here for a place that the mends leave open
    :raises ValueError: a mend does not match
    """
    for mend in mends:
        text, times = re.subn(mend.pattern, lambda _, new=mend.new: new, text, flags=re.MULTILINE)
        if not times:
            raise ValueError(f"the guide's text has no {mend.pattern!r} any more: {mend.why}")
    for word, value in (words or {}).items():
        text = text.replace(word, value)
    return text
