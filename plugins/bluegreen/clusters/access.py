"""
How a cluster is logged in to: an Airflow connection of type ``kubernetes``, as the cncf-kubernetes provider has it.

Without a connection it is the service account of the pod that we run in, else what KUBECONFIG names. A kubeconfig is
never written anywhere; certificates that stand in it go to files that only we can read, as TLS wants them as files.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Secrets

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, Configuration

T = TypeVar("T")
PREFIX = "extra__kubernetes__"
WAYS = ("in_cluster", "kube_config_path", "kube_config")
"""Fields of a connection, one of which says how."""
TOKEN = "BearerToken"  # noqa: S105 - what the client calls it
KEPT_ALIVE = (("SO_KEEPALIVE", 1), ("TCP_KEEPIDLE", 120), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 6))
"""As the provider has it: a watch through a NAT gateway ends in silence otherwise."""


@dataclass(frozen=True)
class Access:
    """
    One cluster's login; nothing is read or connected to before ``client``.

    :param says: how errors call it
    :param extra: the connection's own fields; none for the pod's own service account or KUBECONFIG. Never printed
    :param trouble: why it cannot even be tried
    """

    says: str
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    trouble: ClusterTrouble | None = None

    def begin(self, seconds: float) -> Future[ApiClient]:
        """
        Begin to log in, which may run a plugin that hangs: in a thread that keeps neither another node nor our end waiting.

        :param seconds: how long a token may take that is asked for anew later
        """
        return _begun(lambda: self.client(seconds))

    def waited(self, login: Future[T], seconds: float) -> T:
        """
        Return what a login gave.

        :raises ClusterTrouble: it cannot be used, or is still under way after so many seconds
        """
        try:
            return login.result(seconds)
        except TimeoutError:
            fact = f"the login did not answer within {seconds:g} s: {self._way} of {self.says}"
            raise ClusterTrouble("unreachable", fact, "see whether a login plugin (exec) in it hangs") from None

    def client(self, seconds: float = 5.0) -> ApiClient:
        """
        Make a client of one's own.

        :param seconds: how long a token may take that is asked for anew later
        :raises ClusterTrouble: the login cannot be used
        """
        if self.trouble:
            raise self.trouble
        try:
            from kubernetes import client, config  # noqa: PLC0415 - an extra; and slow to import
        except ImportError:
            mend = "pip install 'airflow-blue-green[kubernetes]'"
            raise ClusterTrouble("refused", "the package kubernetes is not installed here", mend) from None
        made = client.Configuration()
        with self._errors():
            self._load(config, made)
            self._check(made)
        if hook := made.refresh_api_key_hook:
            made.refresh_api_key_hook = lambda asked: self.waited(_begun(lambda: self._renew(hook, asked)), seconds)
        made.retries = False  # deadlines are ours, and a write is never sent twice
        if self.is_on("disable_verify_ssl"):
            made.verify_ssl = False
        if not self.is_on("disable_tcp_keepalive"):
            made.socket_options = _keep_alive()
        return client.ApiClient(made)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say of whatever a login breaks with no more than its kind: its text may show a line of the kubeconfig."""
        try:
            yield
        except ClusterTrouble:
            raise
        except Exception as error:  # noqa: BLE001 - a kubeconfig that is odd breaks its reader in any way
            file = self._word("kube_config_path")
            what = type(error).__name__ + (f" ({file})" if file else "")
            mend = (
                "there must be a service account in our pod, or a kubeconfig whose cluster, context and user are there"
            )
            raise self._odd(what, mend) from None

    def _check(self, made: Configuration) -> None:
        """Refuse what would only show at the first call: no address, a token that no header takes, nobody to log in as."""
        if not str(made.host).startswith(("http://", "https://")):
            raise self._odd("its server is no address with http:// or https://", "give the cluster a server")
        if found := made.api_key.get(TOKEN):
            made.api_key[TOKEN] = token = found.strip()  # a file's last line break
            if not (token.isascii() and token.isprintable()):
                raise self._odd("its token has a line break or an odd character in it", "paste the token as one line")
        elif made.host.startswith("https://") and not (made.cert_file or made.username):
            mend = "see its user, and run its login plugin (exec) by hand to see what it says"
            raise self._odd("it gives no token, certificate or password", mend)

    def _renew(self, hook: Callable[[Configuration], None], made: Configuration) -> None:
        with self._errors():
            hook(made)
            self._check(made)

    def _odd(self, what: str, mend: str) -> ClusterTrouble:
        return ClusterTrouble("refused", f"the login cannot be used: {self._way} of {self.says}: {what}", mend)

    def field(self, name: str) -> Any:
        """Return one of the connection's own fields, such as ``kube_config_path``; None where it is not given."""
        return self._word(name)

    def _load(self, config: Any, made: Configuration) -> None:
        logging.getLogger().addFilter(_not_a_plugins)
        context = self._word("cluster_context")
        if self.is_on("in_cluster"):
            config.load_incluster_config(client_configuration=made)
        elif path := self._word("kube_config_path"):
            config.load_kube_config(path, context, made, persist_config=False)
        elif found := self._word("kube_config"):
            whole = yaml.safe_load(found) if isinstance(found, str) else _typed(found)
            config.load_kube_config_from_dict(whole, context, made, persist_config=False)
        else:  # no connection was named
            self._load_own(config, made, context)

    def _load_own(self, config: Any, made: Configuration, context: str | None) -> None:
        try:
            config.load_incluster_config(client_configuration=made)
        except config.ConfigException:
            config.load_kube_config(None, context, made, persist_config=False)

    @property
    def _way(self) -> str:
        return next(iter(self.ways), "what is there")

    @property
    def ways(self) -> list[str]:
        """The fields of the connection that say how; one of them is right."""
        return [name for name in WAYS if (self.is_on(name) if name == "in_cluster" else self._word(name))]

    def _word(self, name: str) -> Any:
        return self.extra.get(name) or self.extra.get(PREFIX + name) or None

    def is_on(self, name: str) -> bool:
        """Tell whether one of the connection's own fields says yes."""
        found = self._word(name)
        # Connections from the environment and from files have texts only.
        return found.strip().lower() in ("true", "1", "yes") if isinstance(found, str) else bool(found)


def access_of(connection: str | None, secrets: Secrets | None) -> Access:
    """
    Return how a cluster is logged in to.

    :param connection: id of an Airflow connection of type kubernetes, or None for our own
    :param secrets: asked now, in the caller's thread
    """
    if connection is None:
        return Access("the service account of our pod, else KUBECONFIG")
    says = f"connection {connection}"
    try:
        extra = secrets(connection).extra if secrets else {}
    except SecretMissing as missing:
        return Access(
            says, {}, ClusterTrouble("refused", f"no login for {connection}: {missing.fact}", missing.next_step)
        )
    access = Access(says, extra)
    if len(access.ways) > 1:
        fact = f"{says} has {' and '.join(access.ways)}, and may have one only"
        return Access(says, {}, ClusterTrouble("refused", fact, "take the others out of its extra"))
    if not access.ways:
        fact = f"{says} has none of in_cluster, kube_config_path and kube_config in its extra"
        mend = "give it one; without a connection in the service file it is our pod's own account, else KUBECONFIG"
        return Access(says, {}, ClusterTrouble("refused", fact, mend))
    return access


def _keep_alive() -> list[tuple[int, int, int]]:
    from urllib3.connection import HTTPConnection  # noqa: PLC0415 - comes with the extra

    options = list(HTTPConnection.default_socket_options)
    for name, value in KEPT_ALIVE:
        if (option := getattr(socket, name, None)) is not None:
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            options.append((level, option, value))
    return options


def _typed(found: Any) -> Any:
    """Give texts back their meaning where connections have texts only: ``insecure-skip-tls-verify: "false"`` is no yes."""
    if isinstance(found, Mapping):
        return {key: _typed(value) for key, value in found.items()}
    if isinstance(found, list):
        return [_typed(value) for value in found]
    return {"true": True, "false": False}.get(found.lower(), found) if isinstance(found, str) else found


def _not_a_plugins(record: logging.LogRecord) -> bool:
    """Drop what the client writes to the root logger: all that a plugin said as it failed, which may be a secret."""
    return not record.pathname.endswith("kubernetes/config/kube_config.py")


def _begun(job: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(job())
        except BaseException as error:  # noqa: BLE001 - it is told to who waits
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future
