"""A real sshd on loopback, with a host key, a client key and a known_hosts file of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil

from bluegreen.catalog.models import Ssh
from bluegreen.core.ports import Credentials
from demo.processes import LOOPBACK, Process, free_port, wait_until

SSHD = "/usr/sbin/sshd"

# Of two lines with one key the first counts.
_CONFIG = """\
{first}
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
PidFile {folder}/sshd.pid
MaxStartups 200
SetEnv {environment}
"""


def missing_sshd() -> str:
    """Say why no sshd can be started here; empty when it can."""
    if not Path(SSHD).exists():
        return f"there is no {SSHD}: apt-get install openssh-server"
    return "" if os.geteuid() == 0 else "sshd lets others in only when root starts it"


class Sshd:
    """
    One sshd: another host, as far as anybody can tell who comes through it.

    :param folder: absolute; holds keys, configuration and log
    :param first: lines of sshd_config that count before ours
    :param environment: of every session; ``SHLVL=2`` keeps bash from the start-up files of whoever runs the tests
    """

    def __init__(self, folder: Path, *, first: Sequence[str] = (), environment: str = "SHLVL=2") -> None:
        self.folder, self.first, self.environment, self.port = folder, first, environment, free_port()
        self._process: Process | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def private_key(self) -> str:
        return (self.folder / "client_key").read_text()

    @property
    def host_key(self) -> str:
        """The public half: kind and key."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def ssh(self, **fields: Any) -> Ssh:
        return Ssh.model_validate(self.section(**fields))

    def section(self, **fields: Any) -> dict[str, Any]:
        """What a service file says under ``ssh``."""
        known = {"known_hosts": str(self.known_hosts), "connection": "far_hosts"}
        return {"host": LOOPBACK, "port": self.port, **known, **fields}

    def secrets(self, connection_id: str) -> Credentials:
        """The Secrets port: one connection with the client's key."""
        assert connection_id == "far_hosts"
        return self.credentials()

    def credentials(self, login: str = "root", **fields: Any) -> Credentials:
        return Credentials(login, **({"extra": {"private_key": self.private_key}} | fields))

    def start(self) -> Self:
        # Its child looks at both again, and from another working directory.
        Path("/run/sshd").mkdir(exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "client_key").exists():
            self.make_key("client_key")
            shutil.copy(self.folder / "client_key.pub", self.folder / "authorized_keys")
            self.make_key("host_key")
            self.accept()
        config = self.folder / "sshd_config"
        fields = {"port": self.port, "folder": self.folder, "environment": self.environment}
        config.write_text(_CONFIG.format(**fields, first="\n".join(self.first)))
        command = [SSHD, "-D", "-f", config, "-E", self.folder / "sshd.log"]
        self._process = Process(command, self.folder / "sshd.out").start()
        wait_until(self._answers, 10, f"sshd answers:\n{self._process.tail()}")
        return self

    def stop(self) -> None:
        if self._process:
            sessions = self.sessions()
            self._process.stop()
            for one in sessions:
                _end(one, signal.SIGKILL)

    def make_key(self, name: str, *options: str, kind: str = "ed25519") -> Path:
        path = self.folder / name
        for old in (path, path.with_name(f"{name}.pub")):
            old.unlink(missing_ok=True)
        passphrase = options or ("-N", "")
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-C", "test", "-f", path, *passphrase], check=True)
        return path

    def accept(self) -> None:
        """Write the host's key into known_hosts, as ssh-keyscan prints it."""
        self.known_hosts.write_text(f"[{LOOPBACK}]:{self.port} {self.host_key}\n")

    def change_host_key(self, kind: str = "ed25519") -> None:
        self.stop()
        self.make_key("host_key", kind=kind)
        self.start()

    def sessions(self) -> list[psutil.Process]:
        """The processes that serve one connection each, and what runs in them."""
        if self._process is None or not self._process.alive:
            return []
        return psutil.Process(self._process.pid).children(recursive=True)

    def cut(self) -> None:
        """Break every connection; what runs on the host goes on."""
        for one in self.sessions():
            if _is_sshd(one):
                _end(one, signal.SIGKILL)

    def freeze(self) -> None:
        """Every connection is silent from now on, as when the host has lost its network."""
        for one in [*self.sessions(), psutil.Process(self._process.pid if self._process else 0)]:
            if _is_sshd(one):
                _end(one, signal.SIGSTOP)

    def thaw(self) -> None:
        for one in [psutil.Process(self._process.pid if self._process else 0), *self.sessions()]:
            _end(one, signal.SIGCONT)

    def programs(self) -> list[psutil.Process]:
        """Our programs that run on this host now."""
        return [one for one in self.sessions() if "calls=os.fdopen" in " ".join(_words(one))]

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1) as connection:
            return connection.recv(4) == b"SSH-"
        return False


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def _is_sshd(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):  # it ended just now
        return process.name() == "sshd"
    return False


def _end(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@contextmanager
def a_user(crypt: str = "*", home: Path = Path("/")) -> Iterator[str]:
    """
    A user of this machine for a while.

    :param crypt: its password, encrypted; by default there is none, but the account is not locked
    """
    name = f"bluegreen-{os.getpid()}"
    options = ["--no-create-home", "-d", str(home), "-s", "/bin/sh", "-p", crypt]
    subprocess.run(["useradd", *options, name], check=True, capture_output=True)
    try:
        yield name
    finally:
        subprocess.run(["userdel", "-f", name], check=False, capture_output=True)
