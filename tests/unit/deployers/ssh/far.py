"""A deploy over real SSH, as its tests start it, and what may happen to it on its way."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bluegreen.core.colors import Color
from bluegreen.deployers.far_host import FarHost
from bluegreen.deployers.ssh_hosts import SshDeployer
from tests.rigs.sshd import missing_sshd
from tests.unit.deployers.test_child import pid_in as soon_pid_in

NEEDS_SSHD = pytest.mark.skipif(bool(missing_sshd()), reason=missing_sshd())
GREEN = Color.GREEN
RELEASE = "run@4"


def pid_in(file):
    return soon_pid_in(file, 20)


def sh(script):
    """A command whose ``$0`` is the host's folder."""
    return ["sh", "-c", script, "FOLDER/$HOST"]


def deploy(rig, lines=None, version="2.0", epoch=4, release=RELEASE, wait=0.3):
    log = (lambda _: None) if lines is None else lines.append
    deployer = SshDeployer(rig.service, rig.secrets, log, timedelta(seconds=wait))
    return deployer.deploy(GREEN, version, epoch, release)


def before(monkeypatch, do, act, once=True):
    """Do something right before a step reaches its host."""
    ask, done = FarHost._ask, []

    async def asked(self, what, *more, **words):
        if what == do and not (once and done):
            done.append(what)
            act(self)
        return await ask(self, what, *more, **words)

    monkeypatch.setattr(FarHost, "_ask", asked)
