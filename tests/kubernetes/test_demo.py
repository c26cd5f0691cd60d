"""``make demo ROUTER=kubernetes`` as a newcomer runs it: its exit code, its report, and what a signal leaves."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from demo.kubernetes.traefik import missing
from demo.shop import ROOT
from tests.system.conftest import PATIENCE_S
from tests.system.test_demo import REPORT, demo, left_behind, story

pytestmark = pytest.mark.kubernetes
PORT = 29080


@pytest.fixture(autouse=True)
def possible():
    if reason := missing():
        pytest.skip(reason)


def on_kubernetes():
    return demo("--router", "kubernetes", port=PORT)


def networks(process):
    """Network namespaces that a process has made."""
    told = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line for line in told.splitlines() if line.startswith(f"bg{process.pid}-")]


def test_a_good_version_goes_live_and_a_bad_one_puts_itself_back_behind_a_service_and_a_route():
    REPORT.unlink(missing_ok=True)
    running = on_kubernetes()
    _, services = story(running, 1800)  # behind a plain Service, behind an HTTPRoute
    for each in services.values():
        assert (each["live"], each["live_version"]) == ("green", "1.5.0")
    assert left_behind() == []
    assert networks(running) == []
    assert {path.suffix for path in (ROOT / "build/demo/kubernetes").iterdir()} == {".log"}  # no login stays


@pytest.mark.parametrize("reached", ["starting a Kubernetes", "release__shop"])
def test_a_signal_in_the_middle_ends_control_plane_pods_and_network(reached):
    running = on_kubernetes()
    assert any(reached in line for line in running.stdout)
    time.sleep(3)  # a part of the control plane runs, or releases are under way
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130, said
    assert left_behind() == []
    assert networks(running) == []
