"""The guide's nginx: what is changed in its two files, so that they run here and move the traffic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.guide_side import GUIDE, Guide, Mend, mended
from demo.haproxy import StaticBackends
from demo.nginx import NginxNode
from demo.processes import LOOPBACK, free_ports

MENDED = "guide-nginx-mended"


class NginxGuide(Guide):
    """The guide's `nginx.conf` and `nginx-bluegreen-deploy.sh`; unmended, nginx does not start."""

    def __init__(self, workdir: Path, backends: StaticBackends) -> None:
        config = _here(backends)
        ports = free_ports(4)
        nodes = [
            _node(f"guiden{number}", workdir, config, *pair)
            for number, pair in enumerate((ports[:2], ports[2:]), start=1)
        ]
        super().__init__(MENDED, nodes, "nginx-bluegreen-deploy.sh", (config, _SCRIPT), mended=True)

    def map_of(self, node: NginxNode) -> Path:
        """Return a node's map file."""
        return node.folder / "backend.map"

    def live(self) -> str:
        """Return the color that the first node's map names."""
        (color,) = set(re.findall(r'^"" (\w+)_backend;$', self.map_of(self.nodes[0]).read_text(), re.MULTILINE))
        return str(color)

    def initial(self) -> str:
        """Return the guide's map file."""
        return '# Backend activo (blue o green)\n"" blue_backend;\n'

    def environment(self, node: NginxNode) -> Mapping[str, str]:
        """Return what the mended script reads."""
        return {"BENCH_MAP": str(self.map_of(node)), "BENCH_NGINX": " ".join(node.command)}


def _node(name: str, workdir: Path, mends: Sequence[Mend], entry: int, status: int) -> NginxNode:
    node = NginxNode(name, workdir, "guide", entry, {}, status)
    words = {"@ENTRY@": f"{LOOPBACK}:{entry}", "@FOLDER@": str(node.folder)}
    node.config_text = mended((GUIDE / "nginx.conf").read_text(), mends, words)
    return node


def _here(backends: StaticBackends) -> list[Mend]:
    """What the configuration needs to run here at all, and with plain HTTP."""
    return [
        Mend(
            "no `events`, without which nginx does not start; and the files of a node in a folder of its own",
            r"^http \{\n",
            "pid nginx.pid;\nworker_processes 2;\nevents { worker_connections 2000; }\nhttp {\n    access_log off;\n",
        ),
        Mend("port 80 of all addresses -> a free port of loopback", r"listen 80;$", "listen @ENTRY@;"),
        Mend(
            "the load speaks plain HTTP: `listen 443 ssl http2` and its certificate taken out",
            r"^ *(listen 443 .*|ssl_certificate.*)\n",
        ),
        Mend("/etc/nginx/backend.map -> a file for each node", r"/etc/nginx/backend\.map", "@FOLDER@/backend.map"),
        Mend(
            '`map $http_host` never has the value "" that the map file names, so that nothing would ever move: `map ""`',
            r"map \$http_host \$backend",
            'map "" $backend',
        ),
        *(
            Mend("addresses of the servers", rf"server 192\.168\.{net}\.10{number}:8080", f"server {where}")
            for net, color in ((1, "blue"), (2, "green"))
            for number, where in enumerate(backends.addresses[color], start=1)
        ),
    ]


_SCRIPT = [
    Mend("/etc/nginx/backend.map -> a file for each node (script)", r"^NGINX_MAP=.*$", 'NGINX_MAP="$BENCH_MAP"'),
    Mend(
        "not the switch: deploy by Ansible and smoke tests taken out",
        r"^# Desplegar aplicación[\s\S]*?(?=^# Opción de despliegue gradual$)",
    ),
    Mend(
        "the canary taken out, as nginx refuses it (`invalid number of the map parameters`), and its five minutes' sleep",
        r"^# Opción de despliegue gradual$[\s\S]*?(?=^# Cambio completo$)",
    ),
    Mend("nginx with the node's own configuration", r"^nginx -s reload$", "$BENCH_NGINX -s reload"),
]
