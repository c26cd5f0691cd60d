"""Our own Prometheus configuration on a real Prometheus: real HAProxy nodes with their exporter, a service's histograms, our metrics."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, Self

import requests
import yaml

from demo.haproxy import HAProxyNode, StaticBackends
from demo.processes import LOOPBACK, Process, free_port, free_ports, wait_until
from tests.rigs.deploy_targets import Reply, Site
from tests.rigs.prometheus import BINARY, Traffic

MONITORING = Path(__file__).parents[2] / "include" / "monitoring"
GO_BIN = Path.home() / "go" / "bin" / "statsd_exporter"
EXPORTER = shutil.which("statsd_exporter") or (str(GO_BIN) if GO_BIN.exists() else None)
EXPORTS = "http-request use-service prometheus-exporter if { path /metrics }"

_session = requests.Session()
_session.trust_env = False


class Services:
    """The histograms of two colors, as the guide's services have them; labels of the color come from our scrape configuration."""

    def __init__(self) -> None:
        self.sites = {color: Site(lambda _, color=color: self._metrics(color)) for color in ("blue", "green")}
        self.traffic = {color: Traffic() for color in self.sites}

    def _metrics(self, color: str) -> Reply:
        text = "\n".join([*self.traffic[color].lines(color), ""])
        return Reply(headers={"Content-Type": "text/plain; version=0.0.4"}, body=text)


class MonitoringRig:
    """
    Prometheus as ``include/monitoring/prometheus.yml`` says, but with this machine's addresses and five scrapes a second.

    :param statsd: address of a real statsd exporter's metrics
    """

    def __init__(self, statsd: str) -> None:
        self._statsd = statsd
        self.services = Services()
        self.url = ""

    def __enter__(self) -> Self:
        self.workdir = Path(tempfile.mkdtemp(prefix="bg-mon-"))
        ports = free_ports(4)
        self.backends = StaticBackends(self.workdir, {"blue": ports[:1], "green": ports[1:2]}).start()
        self.node = HAProxyNode(
            "lb1", self.workdir, "shop", ports[2], self.backends.addresses, extra_frontend=[EXPORTS]
        )
        self.node.start()
        for site in self.services.sites.values():
            site.__enter__()
        self.url = f"http://{LOOPBACK}:{ports[3]}"
        command = [
            BINARY or "prometheus",
            f"--config.file={self._configured()}",
            f"--web.listen-address={self.url[7:]}",
        ]
        command.append(f"--storage.tsdb.path={self.workdir}/data")
        self._process = Process(command, self.workdir / "log").start()
        wait_until(lambda: len(self.ask("up == 1")) == 4, 40, f"four targets; the log: {self._process.tail(3)}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()
        for site in self.services.sites.values():
            site.__exit__()
        self.node.stop()
        self.backends.stop()
        shutil.rmtree(self.workdir, ignore_errors=True)

    def ask(self, query: str) -> Any:
        """Return Prometheus's answer; nothing while it does not answer."""
        try:
            answer = _session.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=5)
        except requests.ConnectionError:
            return []
        if answer.status_code == 503:  # it reads its disk
            return []
        assert answer.ok, answer.text
        return answer.json()["data"]["result"]

    def request(self) -> None:
        """Send one request through the entry."""
        _session.get(f"http://{self.node.entry}/", timeout=5)

    def _configured(self) -> Path:
        told = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        told["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "1s"}
        told["rule_files"] = [str(MONITORING / name) for name in told["rule_files"]]
        del told["alerting"]
        ours = {"airflow": [self._statsd], "haproxy": [self.node.entry]}
        for job in told["scrape_configs"]:
            for number, target in enumerate(job["static_configs"]):
                found = (
                    [self.services.sites[target["labels"]["color"]].address] if number or "labels" in target else None
                )
                target["targets"] = found or ours[job["job_name"]]
        path = self.workdir / "prometheus.yml"
        path.write_text(yaml.safe_dump(told))
        return path


class StatsdExporter:
    """A real statsd exporter with our mapping."""

    def __enter__(self) -> Self:
        self.workdir = Path(tempfile.mkdtemp(prefix="bg-statsd-"))
        self.address = f"{LOOPBACK}:{free_port()}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((LOOPBACK, 0))
            self.port = probe.getsockname()[1]
        command = [EXPORTER or "statsd_exporter", f"--statsd.mapping-config={MONITORING}/statsd-mapping.yml"]
        command += [f"--web.listen-address={self.address}", f"--statsd.listen-udp={LOOPBACK}:{self.port}"]
        self._process = Process([*command, "--statsd.listen-tcp="], self.workdir / "log").start()
        wait_until(self.text, 20, f"the statsd exporter; its log: {self._process.tail(3)}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()
        shutil.rmtree(self.workdir, ignore_errors=True)

    def text(self) -> str:
        """Return what it exports."""
        try:
            return _session.get(f"http://{self.address}/metrics", timeout=2).text
        except requests.ConnectionError:
            return ""
