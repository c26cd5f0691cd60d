"""What pods ask for against what nodes have: why the scheduler finds no place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from bluegreen.clusters.objects import Json

MOST_NODES = 15
"""Lines; of a thousand nodes the emptiest are shown."""
_SHOWN = {"cpu": (Decimal(1), "cpu"), "memory": (Decimal(1024**2), "Mi memory")}


def asked_by(pod: Mapping[str, Any]) -> str:
    """Return what a pod asks for, ``0.5 cpu, 512 Mi memory``; empty for nothing."""
    return _words(_requests(pod))


def lines_of_nodes(nodes: Iterable[Json], pods: Iterable[Json]) -> Iterator[str]:
    """
    Yield what each node has left, the emptiest first.

    :param pods: of all namespaces
    """
    taken: dict[str, Counter[str]] = {}
    for pod in pods:
        phase = (pod.get("status") or {}).get("phase")
        if (name := pod["spec"].get("nodeName")) and phase not in ("Succeeded", "Failed"):
            taken.setdefault(name, Counter()).update(_requests(pod) | {"pods": Decimal(1)})
    found = [(node, _left(node, taken.get(node["metadata"]["name"], Counter()))) for node in nodes]
    found.sort(key=lambda pair: pair[1].get("cpu", Decimal(0)), reverse=True)
    for node, left in found[:MOST_NODES]:
        yield f"node {node['metadata']['name']}: {_words(left)}, {left.get('pods', Decimal(0))} pods left{_closed(node)}"


def _left(node: Json, taken: Mapping[str, Any]) -> dict[str, Decimal]:
    has = (node.get("status") or {}).get("allocatable") or {}
    return {key: quantity(has[key]) - Decimal(taken.get(key, 0)) for key in ("cpu", "memory", "pods") if key in has}


def _closed(node: Json) -> str:
    taints = [
        str(one.get("key")) for one in node["spec"].get("taints") or [] if one.get("effect") != "PreferNoSchedule"
    ]
    return f"; only for pods that tolerate {', '.join(taints)}" if taints else ""


def _requests(pod: Mapping[str, Any]) -> dict[str, Decimal]:
    asked: dict[str, Decimal] = {}
    for one in pod["spec"].get("containers") or []:
        for key, value in ((one.get("resources") or {}).get("requests") or {}).items():
            asked[key] = asked.get(key, Decimal(0)) + quantity(value)
    return asked


def quantity(text: object) -> Decimal:
    """Return a number as Kubernetes writes it: ``500m`` is a half, ``1Gi`` is 1073741824."""
    from kubernetes.utils import parse_quantity  # noqa: PLC0415 - an extra; who is here has it

    return Decimal(parse_quantity(str(text)))


def _words(found: Mapping[str, Decimal]) -> str:
    shown = [(key, *_SHOWN[key]) for key in _SHOWN if key in found]
    return ", ".join(f"{float(found[key] / unit):.4g} {word}" for key, unit, word in shown)
