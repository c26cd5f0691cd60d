"""The guide's HAProxy: what is changed in its two files, so that they run here and move the traffic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.guide_side import GUIDE, Guide, Mend, mended
from demo.haproxy import HAProxyNode, StaticBackends, haproxy_binary
from demo.processes import LOOPBACK, free_ports

UNMENDED = "guide-haproxy"
MENDED = "guide-haproxy-mended"


class HAProxyGuide(Guide):
    """
    The guide's `haproxy.cfg` and `deploy-bluegreen.sh`.

    :param mended: let all paths follow the map, without which only `/` moves
    """

    def __init__(self, workdir: Path, backends: StaticBackends, *, mended: bool) -> None:
        config = [*_here(backends), *([_MAP_BEG] if mended else [])]
        ports = free_ports(4)
        nodes = [
            _node(f"guide{'m' if mended else 'u'}{number}", workdir, config, *pair)
            for number, pair in enumerate((ports[:2], ports[2:]), start=1)
        ]
        name = MENDED if mended else UNMENDED
        super().__init__(name, nodes, "deploy-bluegreen.sh", (config, _SCRIPT), mended=mended)

    def map_of(self, node: HAProxyNode) -> Path:
        """Return a node's map file."""
        return node.map_path

    def live(self) -> str:
        """Return the color that the first node's map names."""
        (color,) = set(re.findall(r"^/ (\w+)-backend$", self.nodes[0].map_path.read_text(), re.MULTILINE))
        return str(color)

    def initial(self) -> str:
        """Return the guide's map file."""
        return "# Mapeo de backend predeterminado\n/ blue-backend\n"

    def environment(self, node: HAProxyNode) -> Mapping[str, str]:
        """Return what the mended script reads."""
        return {
            "BENCH_MAP": str(node.map_path),
            "BENCH_HAPROXY": haproxy_binary(),
            "BENCH_CONFIG": str(node.config_path),
            "BENCH_MASTER": str(node.pid),
        }


def _node(name: str, workdir: Path, mends: Sequence[Mend], entry: int, stats: int) -> HAProxyNode:
    node = HAProxyNode(name, workdir, "guide", entry, {})
    words = {"@ENTRY@": f"{LOOPBACK}:{entry}", "@STATS@": f"{LOOPBACK}:{stats}"}
    words |= {"@SOCKET@": str(node.socket), "@MAP@": str(node.map_path)}
    node.config_text = mended((GUIDE / "haproxy.cfg").read_text(), mends, words)
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
