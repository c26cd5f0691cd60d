"""Who logs in where over SSH, with what, and whether it is the right host: only a known key is ever trusted."""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import socket
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import asyncssh

from bluegreen.catalog.models import Ssh
from bluegreen.core.ports import Credentials
from bluegreen.hosts import background
from bluegreen.hosts.host_files import Trouble

CONNECT_SECONDS = 5.0
"""How long address look-up, TCP and login may take together."""

KEEPALIVE_SECONDS, KEEPALIVE_MISSES = 1.0, 3
"""A host that is gone is noticed after about four seconds."""

LOGINS_AT_ONCE = 8
"""On one host: sshd drops others than that at random (MaxStartups, 10 by default)."""

SSH_PORT = 22

# It writes ten lines a connection, and in debugging what is sent.
logging.getLogger("asyncssh").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Login:
    """
    One login on one host.

    :param ssh: where, as the service file says
    :param credentials: the connection's login, password or key; its host and port are not used
    """

    ssh: Ssh
    credentials: Credentials = field(default=Credentials(), repr=False)

    @property
    def user(self) -> str:
        """The connection's login, else the user that we run as."""
        try:
            return self.credentials.login or getpass.getuser()
        except (KeyError, OSError):  # a container's bare user id
            return str(os.getuid())

    @property
    def name(self) -> str:
        """How errors call it."""
        port = "" if self.ssh.port == SSH_PORT else f":{self.ssh.port}"
        return f"{self.user}@{self.ssh.host}{port}"

    async def connect(self) -> asyncssh.SSHClientConnection:
        """
        Log in.

        :raises Trouble: refused (key unknown or changed, login not taken) or unreachable
        """
        trusted, keys = self._trusted(), self._keys()
        seen = _Seen()
        try:
            async with (
                _gate(asyncio.get_running_loop(), self.ssh.host, self.ssh.port),
                asyncio.timeout(CONNECT_SECONDS),
            ):
                return await self._connect(trusted, keys, seen)
        except asyncssh.HostKeyNotVerifiable as error:
            raise self._wrong_host(trusted, seen.key, str(error)) from None
        except asyncssh.PermissionDenied:
            raise self._denied() from None
        except TimeoutError:
            fact = f"{self.name} did not let us in within {CONNECT_SECONDS:g} s"
            raise Trouble("unreachable", fact, f"see whether it answers: {self._by_hand}") from None
        except (OSError, asyncssh.Error) as error:
            words = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            raise Trouble("unreachable", f"{self.name} cannot be reached: {words}", self._by_hand) from None

    async def _connect(self, trusted: Any, keys: dict[str, Any], seen: _Seen) -> asyncssh.SSHClientConnection:
        address = (self.ssh.host, self.ssh.port)
        connection = await asyncio.to_thread(socket.create_connection, address, CONNECT_SECONDS)
        connection.setblocking(False)
        background.close_in_children(connection)
        try:
            return await asyncssh.connect(
                self.ssh.host,
                self.ssh.port,
                sock=connection,
                config=None,  # the service file says everything, the same on every host that we run on
                username=self.user,
                known_hosts=trusted,
                # Those of known keys come first; with all of them a host shows its key, even one of another kind.
                server_host_key_algs="+*",
                client_factory=lambda: seen,
                keepalive_interval=KEEPALIVE_SECONDS,
                keepalive_count_max=KEEPALIVE_MISSES,
                gss_host=None,
                x509_trusted_certs=None,
                **keys,
            )
        except BaseException:
            connection.close()
            raise

    @property
    def _by_hand(self) -> str:
        return f"try by hand: ssh -p {self.ssh.port} {self.user}@{self.ssh.host} true"

    # The host's key

    @property
    def _entry(self) -> str:
        return self.ssh.host if self.ssh.port == SSH_PORT else f"[{self.ssh.host}]:{self.ssh.port}"

    @property
    def _known_hosts(self) -> Path:
        return self.ssh.known_hosts or Path("~/.ssh/known_hosts").expanduser()

    def _trusted(self) -> Any:
        """Return what asyncssh may trust for this host and port, and nothing else."""
        one = str(self.credentials.extra.get("host_key") or "").split()
        try:
            if one:
                # As Airflow's ssh provider reads it: without its kind it is an RSA key.
                key = asyncssh.import_public_key(" ".join(one[:2] if len(one) > 1 else ["ssh-rsa", *one]))
                return ([key], [], [], [], [], [], [])
            if not self.ssh.known_hosts and not self._known_hosts.exists():
                return ([], [], [], [], [], [], [])
            return asyncssh.read_known_hosts(str(self._known_hosts)).match(self._entry, "", None)
        except OSError as error:
            fact = f"the known hosts {self._known_hosts} cannot be read: {error.strerror}"
            raise Trouble("refused", fact, f"make it: {self._keyscan}") from None
        except ValueError:
            place = f"host_key of connection {self.ssh.connection}" if one else f"the file {self._known_hosts}"
            raise Trouble("refused", f"{place} holds no host key", "write a line as ssh-keyscan prints it") from None

    @property
    def _keyscan(self) -> str:
        port = "" if self.ssh.port == SSH_PORT else f"-p {self.ssh.port} "
        return f"ssh-keyscan {port}{self.ssh.host} >> {self._known_hosts}"

    def _wrong_host(self, trusted: Any, shown: asyncssh.SSHKey | None, words: str) -> Trouble:
        compare = "compare with `ssh-keygen -lf /etc/ssh/ssh_host_….pub` on that host, then"
        if shown is None:  # revoked, or a certificate that does not hold
            return Trouble("refused", f"{self.name}: its host key cannot be trusted: {words}", f"{compare} mend it")
        key = f"{shown.get_algorithm()} {shown.get_fingerprint()}"
        if not trusted[0]:
            fact = f"the host key of {self.name} is not known, so nobody can say whether it is the right host: {key}"
            return Trouble("refused", fact, f"{compare} {self._keyscan}")
        known = ", ".join(sorted({one.get_fingerprint() for one in trusted[0]}))
        if self.credentials.extra.get("host_key"):
            source = step = f"host_key of connection {self.ssh.connection}"
            step = f"{compare} mend {step}"
        else:
            source = str(self._known_hosts)
            step = f"{compare} ssh-keygen -f {source} -R '{self._entry}' && {self._keyscan}"
        fact = f"the host key of {self.name} has CHANGED: it shows {key}, but {source} has {known}"
        return Trouble("refused", f"{fact}; somebody may be in between", step)

    # Our login

    def _keys(self) -> dict[str, Any]:
        """Return what we log in with; of a connection that has a key or a password nothing else is tried."""
        extra, password = self.credentials.extra, self.credentials.password
        passphrase = extra.get("private_key_passphrase") or None
        if not (extra.get("private_key") or extra.get("key_file") or password):
            return {}
        keys = []
        try:
            if extra.get("private_key"):
                keys.append(asyncssh.import_private_key(str(extra["private_key"]), passphrase))
            elif extra.get("key_file"):
                keys.append(asyncssh.read_private_key(str(Path(str(extra["key_file"])).expanduser()), passphrase))
        except OSError as error:
            fact = f"key_file {extra['key_file']} of connection {self.ssh.connection} cannot be read: {error.strerror}"
            raise Trouble("refused", fact, "give the key itself as private_key, or let us read the file") from None
        except asyncssh.KeyEncryptionError:
            fact = f"the private key of connection {self.ssh.connection} does not open with its private_key_passphrase"
            raise Trouble("refused", fact, "mend the connection") from None
        except asyncssh.KeyImportError:
            # Not the library's words: they may quote the key.
            fact = f"what connection {self.ssh.connection} gives as a private key is none, or needs a passphrase"
            raise Trouble("refused", fact, "give it whole, with its BEGIN and END lines and line ends") from None
        return {"client_keys": keys or None, "password": password or None, "agent_path": None}

    def _denied(self) -> Trouble:
        extra, tried = self.credentials.extra, []
        if extra.get("private_key") or extra.get("key_file"):
            tried.append("its private key" if extra.get("private_key") else f"the key {extra['key_file']}")
        tried += ["its password"] if self.credentials.password else []
        source = f"connection {self.ssh.connection}: " if self.ssh.connection else ""
        method = f"{source}{' and '.join(tried) or 'the keys of our own user and its agent'}"
        mend = f"put the public key into ~{self.user}/.ssh/authorized_keys there, or mend the connection"
        return Trouble("refused", f"{self.ssh.host} does not let {self.user} in; tried {method}", mend)


@cache
def _gate(loop: asyncio.AbstractEventLoop, host: str, port: int) -> asyncio.Semaphore:
    """Return what lets a few logins at a time through to one host; ``loop`` keeps a forked child's apart."""
    del loop, host, port
    return asyncio.Semaphore(LOGINS_AT_ONCE)


class _Seen(asyncssh.SSHClient):
    """Remembers the host key that was not trusted, for the error."""

    key: asyncssh.SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Take no key that is not known."""
        del host, addr, port
        self.key = key
        return False
