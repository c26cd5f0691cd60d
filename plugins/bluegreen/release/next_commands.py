"""Commands that a diagnosis tells a person to type: each is safe to paste, and none changes more than it says."""

from __future__ import annotations

from shlex import quote
from urllib.parse import urlsplit

from bluegreen.catalog.kube import KubeNode
from bluegreen.catalog.models import HAProxyNode, Service

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def curl(url: str, *options: str) -> str:
    """Ask for an address and show the whole answer."""
    return " ".join(["curl", "-sS", "-i", *options, quote(url)])


def curl_node(service: Service, node: str, url: str) -> str:
    """Ask one node for the entry's page, under the entry's name."""
    entry = next((one.entry for one in service.router.nodes if one.name == node), "")
    authority = quote(str(service.entry.ca_file)) if service.entry.ca_file else ""
    return curl(url, *(["--cacert", authority] if authority else []), "--connect-to", quote(f"::{entry}"))


def certificate(url: str, address: str = "") -> str:
    """
    Show whose certificate is shown, by whom it is signed, and how long it holds.

    :param address: ``host:port`` of a node that is asked under the URL's name
    """
    parts = urlsplit(url)
    where = address or f"{parts.hostname}:{parts.port or 443}"
    shown = f"openssl s_client -connect {quote(where)} -servername {quote(parts.hostname or '')} </dev/null"
    return f"{shown} | openssl x509 -noout -subject -issuer -dates"


def on_host(host: str, command: str) -> str:
    """Run something on the host of a target."""
    return command if host in LOOPBACK else f"ssh {quote(host)} {quote(command)}"


def on_target(url: str, command: str) -> str:
    """Run something where a target runs."""
    return on_host(urlsplit(url).hostname or "localhost", command)


def on_node(service: Service, name: str, command: str) -> str:
    """Run something where a router's node runs."""
    node = next((one for one in service.router.nodes if one.name == name), service.router.nodes[0])
    if isinstance(node, KubeNode):
        return command  # kubectl runs anywhere
    ssh = node.ssh
    if ssh is None:
        far = isinstance(node, HAProxyNode) and not node.socket.startswith("/") and node.socket.rpartition(":")[0]
        return on_host(far.strip("[]"), command) if far else command
    port = "" if ssh.port == 22 else f"-p {ssh.port} "
    return f"ssh {port}{quote(ssh.host)} {quote(command)}"


def proxy_states(service: Service, name: str, url: str) -> str:
    """Show what a node's own check makes of the servers; for a proxy without one, ask from its host."""
    node = next((one for one in service.router.nodes if one.name == name), service.router.nodes[0])
    if isinstance(node, KubeNode):
        return f"kubectl -n {quote(node.namespace)} get pods -o wide"
    if not isinstance(node, HAProxyNode):
        return on_node(service, name, curl(url))
    where = node.socket if node.socket.startswith("/") else f"tcp:{node.socket}"
    return on_node(service, name, f"echo 'show stat' | socat stdio {quote(where)} | cut -d, -f1,2,18,37")


def router_state(service: Service, name: str) -> str:
    """Show whether what decides the split runs at all."""
    node = next((one for one in service.router.nodes if one.name == name), service.router.nodes[0])
    if isinstance(node, KubeNode):
        return f"kubectl -n {quote(node.namespace)} auth can-i --list"
    return on_node(service, name, f"systemctl status {service.router.type}")
