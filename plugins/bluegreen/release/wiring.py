"""Service and secrets to ports: the only place where the registries meet."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from bluegreen.analysis.registry import make_count_sources, make_source
from bluegreen.catalog.models import Service
from bluegreen.channels.delivery import Channels
from bluegreen.checks.proof import STICKY_KEY, prove, prove_again
from bluegreen.core.colors import Split
from bluegreen.core.deadlines import Deadline
from bluegreen.core.evidence import Proof
from bluegreen.core.ports import Secrets
from bluegreen.deployers.registry import make_deployer
from bluegreen.release.markers import telling
from bluegreen.release.ports import Log, Ports, say, tell_nobody
from bluegreen.release.replicated import Replicated, replica_of
from bluegreen.routers.registry import make_router


def ports_for(service: Service, secrets: Secrets, log: Log = say) -> Ports:
    """
    Build what the use cases work with.

    :param secrets: where credentials come from
    :param log: one line for people
    """
    router, deployer = make_router(service, secrets), make_deployer(service, secrets)

    def prover(split: Split) -> Proof:
        credentials = service.entry.credentials(secrets)
        nodes = {node.name: node.entry for node in service.router.nodes}
        cookie = service.router.client_cookie or STICKY_KEY
        ask = partial(prove, service.entry, nodes, split, credentials, cookie=cookie)
        return prove_again(ask, Deadline(router.limits.arrives_within))

    channels = service.notify.all
    tell = Channels(channels, secrets, log) if channels else tell_nobody
    marking = telling(tell, service.notify.markers, secrets, log)
    replica = replica_of(service)
    return Ports(
        service,
        router,
        deployer,
        prover,
        log,
        source=make_source(service, secrets),
        counting=make_count_sources(service, secrets),
        replicated=Replicated(service, replica, secrets, log) if replica else None,
        tell=marking,
    )


def union(service: Service, frozen: Iterable[Service]) -> Service:
    """Return the service with every node that a release under way still knows: a way back must reach them too."""
    nodes = {node.name: node for node in service.router.nodes}
    # Of another kind of router there is nothing that this kind could write.
    alike = [old for old in frozen if old.router.type == service.router.type]
    for node in (node for old in alike for node in old.router.nodes):
        if nodes.setdefault(node.name, node) != node:
            name = f"{node.name} as planned"
            nodes[name] = node.model_copy(update={"name": name})
    return service.model_copy(update={"router": service.router.model_copy(update={"nodes": tuple(nodes.values())})})
