from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from demo.processes import wait_until
from tests.rigs.sshd import Sshd, missing_sshd


@pytest.fixture(scope="session")
def _sshd() -> Iterator[Sshd]:
    if reason := missing_sshd():
        print(reason, file=sys.stderr)  # noqa: T201 - nobody should miss that sshd is missing
        pytest.skip(reason)
    # Not pytest's own folder: sshd reads the keys of other users as these.
    folder = Path(tempfile.mkdtemp(prefix="bg-sshd-"))
    folder.chmod(0o755)
    with Sshd(folder / "host") as host:
        yield host
    shutil.rmtree(folder)


@pytest.fixture
def host(_sshd: Sshd) -> Sshd:
    """A good host whose key is known."""
    if not _sshd.running:
        _sshd.stop()
        _sshd.start()
    _sshd.accept()
    with suppress(TimeoutError):
        wait_until(lambda: not _sshd.programs(), 3, "what the test before has left to end")
    for left in _sshd.programs():
        left.kill()
    wait_until(lambda: not _sshd.programs(), 10, "what the test before has left to be gone")
    return _sshd


@pytest.fixture
def odd_host(_sshd: Sshd) -> Iterator[Sshd]:
    """A host that is not started yet, to be made odd first."""
    host = Sshd(_sshd.folder.parent / "odd")
    yield host
    host.stop()
    shutil.rmtree(host.folder, ignore_errors=True)
