"""
The other side of the switch bench: the guide's own HAProxy configuration and script, from `benchmarks/guide/`.

Both files are the guide's, to the letter. What is changed before they run is a `Mend`: each is listed in the result,
and one that does not match any more is an error.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.observed import Move
from benchmarks.ours import COLOR_HEADER, PROOF_PATH
from bluegreen.catalog.models import Entry
from bluegreen.checks.proof import prove
from bluegreen.core.colors import Color, Split
from demo.haproxy import HAProxyNode, StaticBackends, haproxy_binary
from demo.processes import LOOPBACK, free_ports

GUIDE = Path(__file__).resolve().parent / "guide"
PROVEN_WITHIN_S = 10.0
PAUSE_S = 0.05
NOT_ASKED = "paths other than / do not move, so there is no proof to ask for and no last answer; see moved_share"
UNMENDED = "guide-haproxy"
MENDED = "guide-haproxy-mended"


class Mend(NamedTuple):
    """A change to one of the guide's files."""

    why: str
    pattern: str
    new: str = ""


class Guide:
    """
    The guide's two files on two nodes, one after the other.

    :param mended: let all paths follow the map, without which only `/` moves
    """

    def __init__(self, workdir: Path, backends: StaticBackends, *, mended: bool) -> None:
        self.name = MENDED if mended else UNMENDED
        self.mended = mended
        self._config = [*_here(backends), *([_MAP_BEG] if mended else [])]
        ports = free_ports(4)
        self.nodes = [
            self._node(f"guide{'m' if mended else 'u'}{number}", workdir, *pair)
            for number, pair in enumerate((ports[:2], ports[2:]), start=1)
        ]

    @property
    def mends(self) -> tuple[str, ...]:
        """What was changed, in words."""
        return tuple(dict.fromkeys(mend.why for mend in [*self._config, *_SCRIPT]))

    @property
    def targets(self) -> list[tuple[str, int]]:
        """Where the load goes."""
        return [(LOOPBACK, node.entry_port) for node in self.nodes]

    def start(self) -> None:
        """Start the nodes on the guide's configuration and map."""
        for node in self.nodes:
            node.map_path.parent.mkdir(parents=True, exist_ok=True)
            node.map_path.write_text("# Mapeo de backend predeterminado\n/ blue-backend\n")
            (node.map_path.parent / "deploy-bluegreen.sh").write_text(
                _mended((GUIDE / "deploy-bluegreen.sh").read_text(), _SCRIPT)
            )
            node.start()

    def stop(self) -> None:
        """Stop the nodes."""
        for node in self.nodes:
            node.stop()

    def move(self) -> Move:
        """Run the script on each node; for the mended one, ask through the entry until all answers are the new color's."""
        old = self._live()
        begin, clock = time.time(), time.monotonic()
        for node in self.nodes:
            self._run(node)
        new = self._live()
        if not self.mended:
            return Move(begin, begin, old, new, None, NOT_ASKED, asked=False)
        return Move(begin, begin, old, new, *self._proven(Color(new), clock))

    def _proven(self, new: Color, clock: float) -> tuple[float | None, str]:
        entry = Entry(url="http://shop.test/", path=PROOF_PATH, color_header=COLOR_HEADER)
        while True:
            proof = prove(entry, {node.name: node.entry for node in self.nodes}, Split.whole_on(new))
            seconds = time.monotonic() - clock
            if proof.proven:
                return seconds, ""
            if seconds > PROVEN_WITHIN_S:
                return None, proof.reason
            time.sleep(PAUSE_S)

    def _live(self) -> str:
        (color,) = set(re.findall(r"^/ (\w+)-backend$", self.nodes[0].map_path.read_text(), re.MULTILINE))
        return str(color)

    def _run(self, node: HAProxyNode) -> None:
        environment = {
            "BENCH_MAP": str(node.map_path),
            "BENCH_HAPROXY": haproxy_binary(),
            "BENCH_CONFIG": str(node.config_path),
            "BENCH_MASTER": str(node.pid),
        }
        script = node.map_path.parent / "deploy-bluegreen.sh"
        done = subprocess.run(
            ["bash", script], env=os.environ | environment, capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode:
            raise RuntimeError(f"the guide's script ended with {done.returncode}: {done.stdout}{done.stderr}")

    def _node(self, name: str, workdir: Path, entry: int, stats: int) -> HAProxyNode:
        node = HAProxyNode(name, workdir, "guide", entry, {})
        text = _mended((GUIDE / "haproxy.cfg").read_text(), self._config)
        words = {"@ENTRY@": f"{LOOPBACK}:{entry}", "@STATS@": f"{LOOPBACK}:{stats}"}
        words |= {"@SOCKET@": str(node.socket), "@MAP@": str(node.map_path)}
        for word, value in words.items():
            text = text.replace(word, value)
        node.config_text = text
        return node


def _here(backends: StaticBackends) -> list[Mend]:
    """What the configuration needs to run here at all, and with plain HTTP."""
    return [
        Mend("no syslog here: `log` and `option httplog` taken out", r"^    (log .*|option httplog)\n"),
        Mend("the master stays in the foreground, as systemd's -Ws has it: `daemon` taken out", r"^    daemon\n"),
        Mend(
            "`maxconn 100000` needs 200,058 open files, which not every user may have: 2000, as ours",
            r"100000$",
            "2000",
        ),
        Mend("port 80 of all addresses -> a free port of loopback", r"bind \*:80$", "bind @ENTRY@"),
        Mend("the load speaks plain HTTP: `bind *:443 ssl` taken out", r"^    bind \*:443 ssl .*\n"),
        Mend(
            "... and the redirect to HTTPS, which would answer every request with 302",
            r"^    # Redirigir .*\n    http-request redirect .*\n",
        ),
        Mend("port 8404 -> a free port of loopback", r"bind \*:8404$", "bind @STATS@"),
        Mend("/etc/haproxy/backend.map -> a file for each node", r"/etc/haproxy/backend\.map", "@MAP@"),
        Mend(
            "the script reads /var/run/haproxy/admin.sock, which the configuration does not open: `stats socket` added",
            r"^global\n",
            "global\n    stats socket @SOCKET@ mode 600 level admin\n",
        ),
        *(
            Mend("addresses of the servers", rf"server {color}{number} \S+", f"server {color}{number} {where}")
            for color, addresses in backends.addresses.items()
            for number, where in enumerate(addresses, start=1)
        ),
    ]


_MAP_BEG = Mend(
    "`map` compares the whole path with the key `/`, so that only `/` itself would move: `map_beg`",
    r"path,map\(",
    "path,map_beg(",
)

_SCRIPT = [
    Mend("/etc/haproxy/backend.map -> a file for each node (script)", r"^HAPROXY_MAP=.*$", 'HAPROXY_MAP="$BENCH_MAP"'),
    Mend(
        "not the switch: deploy by ssh, ten seconds' sleep, health checks and the question taken out",
        r"^# Desplegar nueva versión[\s\S]*?(?=^# Cambiar tráfico$)",
    ),
    Mend(
        "no systemd here: what `systemctl reload haproxy` does by Debian's unit, `haproxy -c -q` and SIGUSR2",
        r"^systemctl reload haproxy$",
        '"$BENCH_HAPROXY" -W -f "$BENCH_CONFIG" -c -q && kill -USR2 "$BENCH_MASTER"',
    ),
    Mend(
        "not the switch: the five minutes' watch taken out (its `awk '{print $14}'` reads connection errors of several "
        "lines at once, which `[` refuses, and its way back writes `blue-backend-backend`)",
        r'^echo "Monitoreando[\s\S]*\Z',
    ),
]


def _mended(text: str, mends: Sequence[Mend]) -> str:
    for mend in mends:
        text, times = re.subn(mend.pattern, lambda _, new=mend.new: new, text, flags=re.MULTILINE)
        if not times:
            raise ValueError(f"the guide's text has no {mend.pattern!r} any more: {mend.why}")
    return text
