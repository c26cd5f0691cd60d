"""The demo's service: application servers of both colors, two router nodes before them, and its service file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from demo.haproxy import HAProxyNode
from demo.load import Load
from demo.nginx import NginxNode
from demo.processes import LOOPBACK, free_ports, require_free
from demo.shop_database import ShopDatabase

ROOT = Path(__file__).resolve().parent.parent
FIRST, GOOD, BAD, DESTRUCTIVE = "1.4.0", "1.5.0", "1.6.0", "1.5.1"
FAULTS = {BAD: ["errors=0.6"], "1.6.1-slow": ["slow=2"], "1.6.2-crash": ["crash-on-start"]}
"""What is wrong with which version. 1.6.0 passes its smoke tests: only /checkout fails, which they do not ask for."""

LOAD_PATHS = (("GET", "/"), ("GET", "/api/products"), ("POST", "/checkout"), ("GET", "/api/users"))
DATABASE_LOAD_PATHS = (*LOAD_PATHS, ("POST", "/api/users"))
"""Both colors write while both are there."""

WATCH_S = 10
PORTS = 8
"""Ports of one service: entries and status of two nodes, two servers of each color."""


@dataclass
class Shop:
    """
    One service on loopback.

    :param workdir: everything that it writes
    :param ports: entry 1, entry 2, two servers of blue, two of green, status 1, status 2; free ones if not given
    :param router: kind of the nodes
    :param canary: seconds of the watch after the canary step
    :param watch: seconds of the watch after the full switch
    :param more: merged over the service file's ``release`` section
    :param has_database: users are in a PostgreSQL of its own, and its releases change it
    :param services_folder: the catalog that it is in; one of its own if not given
    """

    workdir: Path
    ports: list[int] = field(default_factory=lambda: free_ports(PORTS))
    name: str = "shop"
    router: str = "haproxy"
    canary: float = WATCH_S
    watch: float = WATCH_S
    more: dict[str, Any] = field(default_factory=dict)
    services_folder: Path = Path()
    has_database: bool = False
    nodes: list[Any] = field(init=False)
    database: ShopDatabase | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.services_folder = self.services_folder if self.services_folder.name else self.workdir / "services"
        servers = {color: [f"{LOOPBACK}:{port}" for port in ports] for color, ports in self.servers.items()}
        if self.has_database:
            migrations = self.services_folder.parent / "migrations" / self.name
            self.database = ShopDatabase(self.name, self.workdir / "db", migrations)
        folder, status = self.workdir / self.router, self.ports[6:8]
        self.nodes = [
            HAProxyNode(f"lb{n}", folder, self.name, port, servers)
            if self.router == "haproxy"
            else NginxNode(f"lb{n}", folder, self.name, port, servers, status[n - 1])
            for n, port in enumerate(self.ports[:2], start=1)
        ]

    @property
    def servers(self) -> dict[str, list[int]]:
        """Ports of the application servers by color."""
        return {"blue": self.ports[2:4], "green": self.ports[4:6]}

    @property
    def behind(self) -> str:
        """What is before it, and beside it."""
        return f"two {self.router} nodes{' with a PostgreSQL' if self.database else ''}"

    @property
    def entries(self) -> list[str]:
        """How a person asks it."""
        return [f"http://{node.entry}/" for node in self.nodes]

    @property
    def looks(self) -> list[str]:
        """What to type for a look at it: nothing but ``bluegreen status``."""
        return []

    @property
    def connections(self) -> dict[str, str]:
        """Airflow connections of the service, as variables of the environment."""
        return self.database.connection if self.database else {}

    def load(self, rate: float, connections: int = 20) -> Load:
        """Users of the service: requests a second over both nodes, on keep-alive connections."""
        targets = [(LOOPBACK, node.entry_port) for node in self.nodes]
        paths = DATABASE_LOAD_PATHS if self.database else LOAD_PATHS
        return Load(targets, host_header=f"{self.name}.test", connections=connections, rate=rate, paths=paths)

    def start(self, version: str = FIRST) -> Shop:
        """Start a version on blue, the nodes, and write the service file."""
        require_free(self.ports, f"the demo's service {self.name}")
        self.workdir.mkdir(parents=True, exist_ok=True)
        (self.workdir / "faults.json").write_text(json.dumps(FAULTS))
        self.services_folder.mkdir(exist_ok=True)
        if self.database:
            self.database.start()
        self.write_service_file()
        self.deploy("blue", version)
        for node in self.nodes:
            node.start()
        return self

    def stop(self) -> None:
        """Stop nodes, servers, and the database."""
        for node in self.nodes:
            node.stop()
        subprocess.run([*self._deploy_command()[:5], "--stop-all"], cwd=ROOT, check=False)
        if self.database:
            self.database.stop()

    def deploy(self, color: str, version: str) -> None:
        """Put a version on a color past every release, as somebody did before there was one."""
        environment = os.environ | {"COLOR": color, "VERSION": version, "SERVICE": self.name}
        subprocess.run(self._deploy_command(), cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)

    def write_service_file(self, **changes: Any) -> Path:
        """Write the service file; ``changes`` replace whole sections."""
        return write_service(self.services_folder, self.service() | changes)

    def service(self) -> dict[str, Any]:
        """The service file's content."""
        told: dict[str, Any] = {
            "service": self.name,
            "description": f"The demo's {self.name}, behind two {self.router} nodes",
            "owner": "team-shop",
            "tags": ["demo"],
            "entry": {"url": f"http://{self.name}.test/"},
            "router": {
                "type": self.router,
                "backends": {"blue": f"{self.name}-blue", "green": f"{self.name}-green"},
                "nodes": [node.catalog() for node in self.nodes],
            },
            "colors": {
                color: {"targets": [f"http://{LOOPBACK}:{port}" for port in ports]}
                for color, ports in self.servers.items()
            },
            "deploy": {
                "type": "command",
                "command": self._deploy_command(),
                "retire": [*self._deploy_command(), "--retire"],
                "cwd": str(ROOT),
                "fence": str(self.workdir / "fence"),
            },
            "prewarm": {"paths": ["/api/products", "/api/users", "/api/categories"], "requests": 100},
            "smoke": [
                {"path": "/", "status": 200},
                {"path": "/api/products", "json": {"type(@)": "array"}, "max_latency": "2s"},
                {"path": "/api/users", "json": {"type([0].name)": "string"}},
            ],
            "release": release_section(self.canary, self.watch) | self.more,
        }
        return told | ({"migrations": self.database.section} if self.database else {})

    def _deploy_command(self) -> list[str]:
        servers = [
            word for color, ports in self.servers.items() for word in ("--servers", f"{color}={ports[0]},{ports[1]}")
        ]
        state = ["--state", str(self.workdir / "servers")]
        database = ["--database", self.database.conninfo] if self.database else []
        faults = ["--faults", str(self.workdir / "faults.json")]
        return [sys.executable, "-m", "demo.deploy", *state, *servers, *faults, *database]


def release_section(canary: float = WATCH_S, watch: float = WATCH_S, source: str = "router") -> dict[str, Any]:
    """
    Return the ``release`` section of a service of the demo.

    :param canary: seconds of the watch after the canary step, ``watch`` of the one after the full switch
    :param source: who counts what the rules judge
    """
    counted = {} if source == "router" else {"source": source}
    return {
        "canary": [{"share": 10, "watch": f"{int(canary * 1000)}ms"}],
        "watch": f"{int(watch * 1000)}ms",
        "rules": [
            {"type": "sequential"} | counted,
            {"type": "threshold", "metric": "error_rate", "max": 5, "min_requests": 20} | counted,
        ],
    }


def write_service(folder: Path, content: dict[str, Any]) -> Path:
    """Write a service file into a catalog."""
    path = folder / f"{content['service']}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
