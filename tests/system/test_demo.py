"""``make demo`` as a newcomer runs it: its exit code, its report, and what a signal and a taken port do to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

from demo.processes import LOOPBACK
from demo.shop import ROOT
from demo.shop_database import NAMES, ROWS
from tests.system.conftest import PATIENCE_S

PORT = 28080
REPORT = ROOT / "build" / "demo-report.json"


def demo(*arguments: str, port: int = PORT) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "demo.main", "--port", str(port), *arguments]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def left_behind() -> list[str]:
    """Processes that still run out of the demo's folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        # The second is where a clone's path does not do.
        if str(ROOT / "build" / "demo") in line or "/bluegreen-demo-" in line:
            found.append(line)
    return found


def story(running: subprocess.Popen[str], within_s: float) -> tuple[str, dict[str, Any]]:
    """Wait for a demo's end, and hold what both services' releases must have come to; return what it said and reported."""
    try:
        said, _ = running.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGINT)  # the next one needs its ports
        raise AssertionError(running.communicate()[0]) from None
    assert running.returncode == 0, said
    services: dict[str, Any] = json.loads(REPORT.read_text())["services"]
    assert services.keys() == {"shop", "pay"}
    for each in services.values():
        assert (each["good"], each["bad"], each["failed_by_release"]) == ("promoted", "restored", 0), said
        assert each["requests"] > 1000
        assert 0 < each["harmed_by_bad_version"] < each["requests"] / 10
        assert each["verdict_to_restored_s"] is not None
    return said, services


def test_a_good_version_goes_live_a_bad_one_puts_itself_back_and_a_destructive_one_is_refused():
    REPORT.unlink(missing_ok=True)
    said, services = story(demo(), 1800)  # behind HAProxy, behind nginx
    changed = services["shop"]
    assert changed["expanded"] == [f"{NAMES}.expand.sql"]
    assert changed["backfilled_rows"] >= ROWS
    assert changed["wrong_names_while_both_wrote"] == changed["wrong_names"] == 0
    assert (changed["destructive"], changed["touched_by_destructive"]) == ("refused by lint", [])
    assert "write instead" in said
    assert (changed["contract_before_retire"], changed["contract"]) == ("refused", "executed")
    assert "email" in changed["columns_contracted"]
    assert "full_name" not in changed["columns_contracted"]
    assert "contract" not in services["pay"]
    assert left_behind() == []


@pytest.mark.parametrize("reached", ["starting", "release__shop"])
def test_a_signal_in_the_middle_stops_everything_that_was_started(reached):
    running = demo()
    assert any(reached in line for line in running.stdout)
    time.sleep(8)  # a part of Airflow runs, or releases are under way
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130, said
    assert left_behind() == []


def test_a_taken_port_is_named_with_its_holder_and_the_way_out():
    with socket.create_server((LOOPBACK, PORT + 1)):
        running = demo()
        said, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 1
    assert str(PORT + 1) in said
    assert "make demo PORT=" in said
    assert str(os.getpid()) in said
