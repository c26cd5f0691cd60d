"""Every kind of deployer by its ``type`` in the catalog, imported only when a service uses it."""

from __future__ import annotations

from pkgutil import resolve_name

from bluegreen.catalog.models import Service
from bluegreen.core.errors import CatalogError
from bluegreen.core.ports import Deployer, Secrets

DEPLOYERS: dict[str, str] = {
    "command": "bluegreen.deployers.any_command:CommandDeployer",
    "helm": "bluegreen.deployers.helm_charts:HelmDeployer",
    "kubernetes": "bluegreen.deployers.kube_deployments:KubeDeployer",
    "ssh": "bluegreen.deployers.ssh_hosts:SshDeployer",
}
"""type -> ``module:Class``; a class is made with (service, secrets)."""


def make_deployer(service: Service, secrets: Secrets) -> Deployer:
    """
    Make the deployer of a service.

    :raises CatalogError: no deployer has the service's type
    """
    kind = service.deploy.type
    if kind not in DEPLOYERS:
        known = ", ".join(sorted(DEPLOYERS))
        raise CatalogError(
            f"no deployer is called {kind}", file=service.service, key="deploy.type", next_step=f"use one of {known}"
        )
    deployer: Deployer = resolve_name(DEPLOYERS[kind])(service, secrets)
    return deployer
