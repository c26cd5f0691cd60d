"""
How a cluster is logged in to: an Airflow connection of type ``kubernetes``, as the cncf-kubernetes provider has it.

Without a connection it is the service account of the pod that we run in, else what KUBECONFIG names. A kubeconfig is
never written anywhere; certificates that stand in it go to files that only we can read, as TLS wants them as files.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Secrets

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, Configuration

PREFIX = "extra__kubernetes__"
WAYS = ("in_cluster", "kube_config_path", "kube_config")
"""Fields of a connection, one of which says how."""
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

    def client(self) -> ApiClient:
        """
        Make a client of one's own.

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
        try:
            self._load(config, made)
        except (config.ConfigException, OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            # Its text may show a line of the kubeconfig.
            fact = f"the login cannot be used: {self._way} of {self.says}: {type(error).__name__}"
            mend = (
                "there must be a service account in our pod, or a kubeconfig whose cluster, context and user are there"
            )
            raise ClusterTrouble("refused", fact, mend) from None
        made.retries = False  # deadlines are ours, and a write is never sent twice
        if self.is_on("disable_verify_ssl"):
            made.verify_ssl = False
        if not self.is_on("disable_tcp_keepalive"):
            made.socket_options = _keep_alive()
        return client.ApiClient(made)

    def field(self, name: str) -> Any:
        """Return one of the connection's own fields, such as ``kube_config_path``; None where it is not given."""
        return self._word(name)

    def _load(self, config: Any, made: Configuration) -> None:
        context = self._word("cluster_context")
        if self.is_on("in_cluster"):
            config.load_incluster_config(client_configuration=made)
        elif path := self._word("kube_config_path"):
            config.load_kube_config(path, context, made, persist_config=False)
        elif found := self._word("kube_config"):
            whole = yaml.safe_load(found) if isinstance(found, str) else found
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
        return next(filter(self._word, WAYS), "what is there")

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
    ways = [name for name in WAYS if access._word(name)]  # noqa: SLF001
    if len(ways) > 1:
        fact = f"{says} has {' and '.join(ways)}, and may have one only"
        return Access(says, {}, ClusterTrouble("refused", fact, "take the others out of its extra"))
    if not ways:
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
