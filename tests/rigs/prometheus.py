"""A real Prometheus that scrapes a small shop's metrics five times a second, and a proxy before it for what a network does."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests

from demo.processes import LOOPBACK, Process, free_port, wait_until
from tests.rigs.deploy_targets import Asked, Reply, Site

BINARY = shutil.which("prometheus")
LOGIN, PASSWORD = "watcher", "s3cret-word"
BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0)
_CONFIG = """\
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
scrape_configs:
  - job_name: shop
    static_configs: [{targets: ["%s"]}]
"""
_USERS = """\
basic_auth_users:
  watcher: $2b$04$ZlF5M97JCM1FfAD61lAWueIV9sIz1lggrtlKwCXkBjg4hPAI94Ehm
"""

_session = requests.Session()
_session.trust_env = False  # no proxy of the caller leads to this machine's loopback


@dataclass
class Traffic:
    """
    What one color does now.

    :param rate: requests a second; 0 leaves its counters as they are
    :param errors: share of 5xx
    :param seconds: response time of each request
    """

    rate: float = 200
    errors: float = 0.0
    seconds: float = 0.05
    counts: dict[str, float] = field(default_factory=lambda: {"200": 1000.0, "500": 0.0})
    buckets: dict[float, float] = field(default_factory=lambda: dict.fromkeys(BUCKETS, 1000.0))
    at: float = field(default_factory=time.monotonic)

    def grow(self) -> None:
        """Count what came since the last scrape."""
        now = time.monotonic()
        new, self.at = self.rate * (now - self.at), now
        self.counts["200"] += new * (1 - self.errors)
        self.counts["500"] += new * self.errors
        for bound in self.buckets:
            self.buckets[bound] += new if self.seconds <= bound else 0

    def lines(self, color: str) -> list[str]:
        """Return the exposition; as from a real client, a status that never came has no series."""
        self.grow()
        name, total = f'environment="{color}"', sum(self.counts.values())
        found = [f'http_requests_total{{{name},status="{s}"}} {n}' for s, n in self.counts.items() if n]
        found += [f'http_request_duration_seconds_bucket{{{name},le="{b}"}} {n}' for b, n in self.buckets.items()]
        found.append(f'http_request_duration_seconds_bucket{{{name},le="+Inf"}} {total}')
        return [*found, f"http_request_duration_seconds_count{{{name}}} {total}"]


class PrometheusRig:
    """
    Prometheus and what it scrapes.

    ``traffic`` is by color and may be changed at any time; ``more`` are further lines of the exposition.

    :param login: asks for ``LOGIN`` and ``PASSWORD``
    """

    def __init__(self, *, login: bool = False) -> None:
        self._login = login
        self.traffic: dict[str, Traffic] = {}
        self.more: list[str] = []
        self.exporter = Site(self._metrics)
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        self.workdir = Path(tempfile.mkdtemp(prefix="bg-prometheus-"))
        self.exporter.__enter__()
        self.reset()
        (self.workdir / "prometheus.yml").write_text(_CONFIG % self.exporter.address)
        command = [BINARY or "prometheus", f"--config.file={self.workdir}/prometheus.yml"]
        command += [f"--storage.tsdb.path={self.workdir}/data", f"--web.listen-address={LOOPBACK}:{self.port}"]
        if self._login:
            (self.workdir / "web.yml").write_text(_USERS)
            command.append(f"--web.config.file={self.workdir}/web.yml")
        self._process = Process(command, self.workdir / "log").start()
        wait_until(self._ready, 30, f"Prometheus to be ready; its log ends with: {self._process.tail(3)}")
        wait_until(lambda: len(self.exporter.asked) > 2, 30, "the first scrapes, which come after 5 s")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()
        self.exporter.__exit__()
        shutil.rmtree(self.workdir, ignore_errors=True)

    def reset(self) -> None:
        """Both colors are well."""
        self.traffic = {"blue": Traffic(), "green": Traffic()}
        self.more = []

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def ask(self, query: str) -> Any:
        """Return Prometheus's own answer to a query, past everything of ours."""
        return _session.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=5).json()["data"]["result"]

    def wait_for(self, query: str) -> None:
        """Wait until a query gives something."""
        wait_until(lambda: self.ask(query), 10, query)

    def _metrics(self, _: Asked) -> Reply:
        lines = [line for color, traffic in self.traffic.items() for line in traffic.lines(color)]
        body = "\n".join([*lines, *self.more, ""])
        return Reply(headers={"Content-Type": "text/plain; version=0.0.4"}, body=body)

    def _ready(self) -> bool:
        try:
            return _session.get(f"{self.url}/-/ready", timeout=2).status_code in (200, 401)
        except requests.ConnectionError:
            return False


class Proxy(Site):
    """
    What may stand between a watch and Prometheus.

    :param hang: seconds before each answer
    :param instead: answers in Prometheus's place
    :param lose: how many of the next answers are lost
    :param freeze: gives the first answer again and again, as a cache would
    """

    def __init__(self, url: str) -> None:
        super().__init__(self._forward)
        self.url_behind = url
        self.hang, self.lose, self.freeze = 0.0, 0, False
        self.instead: Reply | None = None
        self._kept: Reply | None = None

    def _forward(self, asked: Asked) -> Reply:
        if self.lose:
            self.lose -= 1
            return Reply(cut=True)
        if self.instead:
            return self.instead
        if self.freeze and self._kept:
            return self._kept
        self._kept = self._answer(asked)
        return self._kept

    def _answer(self, asked: Asked) -> Reply:
        passed = {name: value for name, value in asked.headers.items() if name in ("Content-Type", "Authorization")}
        address = self.url_behind + asked.path
        answer = _session.request(asked.method, address, data=asked.body, headers=passed, timeout=5)
        return Reply(answer.status_code, {"Content-Type": "application/json"}, answer.text, self.hang)
