"""The README's "Your first service", literally: from the guide's configuration files to a release and a rollback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.system.first_service import ROOT, blocks

TOOLS = ("unshare", "ip", "openssl", "ssh", "sudo", "patch", "curl", "/usr/sbin/sshd", "/usr/bin/python3")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
ALONE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture
def walked(request):
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    if MISSING:
        pytest.skip(f"not installed here: {', '.join(MISSING)}")
    # Not below the clone, which is covered by a private copy of itself.
    folder = Path(tempfile.mkdtemp(prefix="bluegreen-first-"))
    command = [*ALONE, sys.executable, "-m", "tests.system.first_service", request.param, str(folder)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}
    environment.pop("BLUEGREEN_SERVICES", None)
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800, check=False
        )
        assert done.returncode == 0, done.stderr[-6000:]
        yield request.param, json.loads(done.stdout.splitlines()[-1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


SAYS = {
    "haproxy": ["no-admin-socket", "exact-match-map", "reload-not-hitless", "color-header-missing"],
    "nginx": ["events-missing", "include-missing", "key-never-matches", "health-answered-by-proxy"],
}


@pytest.mark.parametrize("walked", ["haproxy", "nginx"], indirect=True)
def test_the_readmes_first_service_works_as_it_stands(walked):
    router, found = walked
    said, users = found["said"], found["users"]
    assert [code for code in SAYS[router] if f" {code}: " not in said["3"]] == []
    assert "pay: all traffic on blue" in said["6"]
    assert "error:" not in said["6"]

    def live(step):
        (status,) = json.loads(said[f"status {step}"])
        return status["live"], status["deployed"][status["live"]]["version"], status["stamp"]["phase"]

    assert live(6) == ("blue", "1.4.0", "restored")
    assert "success dry run: nothing was touched" in said["8"]
    assert "success promoted: admin: 1.5.0 is live on green" in said["8"]
    assert live(8) == ("green", "1.5.0", "settled")
    assert live(9) == ("blue", "1.4.0", "restored")
    assert said["10"] == ""  # the guard has nothing to do
    assert users["failures"] == []
    assert users["answers"].keys() == {"blue 1.4.0", "green 1.5.0"}
    assert min(users["answers"].values()) > 100


def test_the_section_has_ten_steps_with_commands_for_both_routers():
    readme = (ROOT / "README.md").read_text()
    for router in SAYS:
        steps = dict(blocks(readme, router))
        assert list(steps) == list(range(1, 11))
        assert all(steps.values())
