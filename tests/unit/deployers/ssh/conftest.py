"""Hosts with a real sshd each, and the lines that a deploy says."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.rigs.ssh_deploy import far_hosts_rig


@pytest.fixture
def make(tmp_path):
    with ExitStack() as stack:
        yield lambda **deploy: stack.enter_context(far_hosts_rig(tmp_path, **deploy))


@pytest.fixture
def lines():
    return []
