"""
What the watches of `watches` look at: many services behind a few real HAProxy nodes, and a real Prometheus beside them.

Each service is one that a release has just given half of the traffic to the new color, by the product's own router. Its
HAProxy is its source of counts; every second service also has a rule that asks Prometheus, which scrapes the same nodes.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import requests

from benchmarks.machine import children_with
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color, Split
from bluegreen.core.evidence import counts_as_json
from bluegreen.core.ports import Credentials
from bluegreen.core.stamp import Phase, Stamp, now_utc
from bluegreen.release.watch import WatchSpec
from bluegreen.routers.haproxy import HAProxyRouter
from demo.haproxy import HAProxyNode, StaticBackends
from demo.load import Load, LoadProcess
from demo.processes import LOOPBACK, Process, free_port, free_ports, wait_until

RUN, STEP, EPOCH = "bench", "canary_1_watch", 1
RELEASE = f"{RUN}@{EPOCH}"
LEASE = timedelta(seconds=60)
_REQUESTS = "haproxy_backend_http_responses_total"
_PROMETHEUS = """\
global: {{scrape_interval: 5s, query_log_file: {log}}}
scrape_configs:
  - job_name: haproxy
    params: {{scope: [backend]}}
    static_configs: [{{targets: [{targets}]}}]
    metric_relabel_configs: [{{source_labels: [__name__], regex: {requests}, action: keep}}]
"""
_GLOBAL = """\
global
    stats socket {socket} mode 600 level admin expose-fd listeners
    stats timeout 1h
    nbthread 1
defaults
    mode http
    timeout connect 2s
    timeout client 50s
    timeout server 50s
    option httpchk GET /health
    default-server check inter 10s
frontend all
    bind {entry}
    http-request use-service prometheus-exporter if {{ path /metrics }}
"""
_ROUTING = """\
    http-request set-var(txn.draw) rand(100)
    use_backend %[path,field(2,/)]-green if { var(txn.draw),sub(txn.green) lt 0 }
    use_backend %[path,field(2,/)]-blue
"""


@dataclass
class Watched:
    """
    The services and what they stand on.

    :param workdir: everything that it writes
    :param count: services; every second one also asks Prometheus
    :param nodes: HAProxy processes that share them
    :param rate: requests a second to each service
    """

    workdir: Path
    count: int
    nodes: int
    rate: float
    services: list[Service] = field(default_factory=list, init=False)

    def __enter__(self) -> Self:
        ports = free_ports(4 + self.nodes)
        self._backends = StaticBackends(self.workdir, {"blue": ports[:2], "green": ports[2:4]})
        self._nodes = [HAProxyNode(f"lb{n}", self.workdir, "all", port, {}) for n, port in enumerate(ports[4:])]
        self._prometheus, self._loads = self._make_prometheus(), [self._load(n) for n in range(self.nodes)]
        self.services = [Service.model_validate(self._service(number)) for number in range(self.count)]
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for load in self._loads:
            load.kill()
        self._prometheus.kill()
        for node in self._nodes:
            node.stop()
        self._backends.stop()

    def shift(self) -> None:
        """Give half of each service's traffic to green, by the product's own router, and keep the counts of then."""
        with ThreadPoolExecutor(2) as threads:
            self._counted = list(threads.map(_shift, self.services))

    def specs(self, until: datetime) -> list[dict[str, Any]]:
        """
        Return a `WatchSpec` of each service as JSON, with evidence from now on.

        :param until: when all watches end
        """
        who = {"run": RUN, "release": RELEASE, "epoch": EPOCH, "step": STEP, "color": Color.GREEN}
        both = zip(self.services, self._counted, strict=True)
        specs = [WatchSpec(service=s, since=now_utc(), until=until, baseline=c, **who) for s, c in both]
        return [spec.model_dump(mode="json") for spec in specs]

    def leases(self) -> list[datetime]:
        """When each service's lease ends."""
        stamps = [_router(service).read().stamp for service in self.services]
        return [stamp.lease for stamp in stamps if stamp and stamp.lease]

    def queries(self) -> dict[str, list[float]]:
        """When Prometheus was asked by which service's watch, in seconds since 1970, by its own log."""
        found = defaultdict(list)
        for line in self._query_log.read_text().splitlines():
            told = json.loads(line)
            if "-green" in (query := told["params"]["query"]):
                name = query.partition('proxy="')[2].partition("-")[0]
                found[name].append(datetime.fromisoformat(told["params"]["start"]).timestamp())
        return dict(found)

    def load_pids(self) -> list[int]:
        """The processes that send requests."""
        return children_with("demo.load")

    @property
    def _query_log(self) -> Path:
        return self.workdir / "queries.log"

    def _make_prometheus(self) -> Process:
        self._port = free_port()
        config = self.workdir / "prometheus.yml"
        self.workdir.mkdir(parents=True, exist_ok=True)
        targets = ", ".join(f'"{node.entry}"' for node in self._nodes)
        config.write_text(_PROMETHEUS.format(log=self._query_log, targets=targets, requests=_REQUESTS))
        command = [shutil.which("prometheus") or "prometheus", f"--config.file={config}"]
        command += [f"--storage.tsdb.path={self.workdir}/tsdb", f"--web.listen-address={LOOPBACK}:{self._port}"]
        return Process(command, self.workdir / "prometheus.log")

    def _load(self, node: int) -> LoadProcess:
        names = self._names[node :: self.nodes]
        paths = [("GET", f"/{name}") for name in names]
        targets = [(LOOPBACK, self._nodes[node].entry_port)]
        load = Load(targets, host_header="watched.test", connections=4, rate=self.rate * len(names), paths=paths)
        return LoadProcess(load, self.workdir, f"load{node}")

    @property
    def _names(self) -> list[str]:
        return [f"s{number:03}" for number in range(self.count)]

    def _map(self, name: str) -> Path:
        return self.workdir / "maps" / f"{name}.map"

    def _start(self) -> None:
        self._backends.start()
        (self.workdir / "maps").mkdir()
        for name in self._names:
            self._map(name).write_text("green 0\n")
        for number, node in enumerate(self._nodes):
            node.config_text = self._config(node, self._names[number :: self.nodes])
            node.start()
        self._prometheus.start()
        for load in self._loads:
            load.start()
        wait_until(self._prometheus_has_all, 60, "Prometheus to have scraped all services", 0.5)

    def _config(self, node: HAProxyNode, names: Sequence[str]) -> str:
        text = _GLOBAL.format(socket=node.socket, entry=node.entry)
        for name in names:
            text += f"    http-request set-var(txn.green) str(green),map_str_int({self._map(name)},0)"
            text += f" if {{ path /{name} }}\n"
        text += _ROUTING
        for name in names:
            for color, servers in self._backends.addresses.items():
                text += f"backend {name}-{color}\n    http-response set-header X-Release-Color {color}\n"
                text += "".join(f"    server {color}{n} {address}\n" for n, address in enumerate(servers, start=1))
        return text

    def _prometheus_has_all(self) -> bool:
        with requests.Session() as session:
            session.trust_env = False  # no proxy of the caller leads to this machine's loopback
            query = f'count({_REQUESTS}{{code="2xx"}})'
            try:
                answer = session.get(f"http://{LOOPBACK}:{self._port}/api/v1/query", params={"query": query}, timeout=5)
            except requests.ConnectionError:
                return False
            found: list[Any] = answer.json()["data"]["result"] if answer.ok else []
            return bool(found) and int(found[0]["value"][1]) >= 2 * self.count

    def _service(self, number: int) -> dict[str, Any]:
        name = self._names[number]
        node = self._nodes[number % self.nodes].catalog() | {"map": str(self._map(name))}
        rules: list[dict[str, Any]] = [
            {"type": "sequential", "healthy_requests": 5},
            {"type": "threshold", "metric": "error_rate", "max": 5, "min_requests": 5},
            {"type": "threshold", "metric": "latency_ms", "max": 500, "no_data": "ignore"},
        ]
        # Not by number's parity: that chooses the node.
        asks = number // self.nodes % 2 == 1
        if asks:
            rules.append({"type": "prometheus", "metric": "error_rate", "max": 5, "min_requests": 2})
        evidence = {
            "type": "prometheus",
            "url": f"http://{LOOPBACK}:{self._port}",
            "labels": {"proxy": f"{name}-$color"},
            "requests": _REQUESTS,
            "errors": 'code="5xx"',
        }
        return {
            "service": name,
            "entry": {"url": "http://watched.test/"},
            "router": {
                "type": "haproxy",
                "backends": {"blue": f"{name}-blue", "green": f"{name}-green"},
                "nodes": [node],
            },
            "colors": {
                color: {"targets": [f"http://{address}" for address in addresses]}
                for color, addresses in self._backends.addresses.items()
            },
            "deploy": {"type": "command", "command": ["true"]},
            "release": {"canary": [{"share": 50, "watch": "30s"}], "rules": rules},
        } | ({"evidence": evidence} if asks else {})


def _shift(service: Service) -> dict[str, Any]:
    router, now = _router(service), now_utc()
    stamp = Stamp(EPOCH, RELEASE, STEP, Phase.CANARY, Color.BLUE, {}, now + LEASE, at=now)
    router.shift(Split.parse("50/50"), None, stamp)
    return counts_as_json(asyncio.run(router.counters()))


def _router(service: Service) -> HAProxyRouter:
    return HAProxyRouter.of(service, lambda _: Credentials())
