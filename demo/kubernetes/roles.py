"""The Roles of ``include/kubernetes``, for a service and an account of our own."""

from __future__ import annotations

from typing import Any

import yaml

from demo.kubernetes.namespace import Account, Namespace
from demo.shop import ROOT

FOLDER = ROOT / "include" / "kubernetes"
_SHIPPED = "shop"
"""Whose objects they name."""


def shipped(namespace: Namespace, account: str, *files: str, service: str = _SHIPPED) -> list[dict[str, Any]]:
    """
    Return the Roles, and who has them: what a person writes who copies the files.

    :param account: a service account in the namespace
    :param files: names, such as ``router-service.yaml``
    """
    found = []
    for file in files:
        text = (FOLDER / file).read_text().replace(_SHIPPED, service)
        found += [each for each in yaml.safe_load_all(text) if each["kind"] != "ServiceAccount"]
    for each in found:
        each["metadata"]["namespace"] = namespace.name
        for subject in each.get("subjects", ()):
            subject |= {"name": account, "namespace": namespace.name}
    return found


def account_of(namespace: Namespace, name: str, *files: str, service: str) -> Account:
    """Make a service account that may what the files say, and nothing else."""
    namespace.apply({"kind": "ServiceAccount", "metadata": {"name": name}})
    namespace.apply(*shipped(namespace, name, *files, service=service))
    return Account(namespace, name)
