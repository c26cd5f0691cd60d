"""Objects of one namespace: read, listed, written under a comparison, and watched. Each call is counted by its verb."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluegreen.catalog.kube import ClusterPlace
from bluegreen.clusters.access import Access, access_of
from bluegreen.clusters.trouble import Asked, ClusterTrouble, answered, told
from bluegreen.core.ports import Secrets
from bluegreen.hosts import host_files

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

MANAGER = "bluegreen"
"""Our field manager: what stands in ``managedFields`` beside each field that we wrote."""
STRICT = {"fieldValidation": "Strict"}
"""A field that nobody knows is refused: left to itself the API server drops it and says nothing."""
JSON_PATCH, APPLY_PATCH = "application/json-patch+json", "application/apply-patch+yaml"

Json = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """
    A kind of object, as its address and RBAC have it.

    :param group: API group, empty for the core's
    :param version: ``v1``
    :param plural: ``services``
    :param name: ``Service``
    :param namespaced: False for what is cluster-wide
    """

    group: str
    version: str
    plural: str
    name: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version


SERVICES = Kind("", "v1", "services", "Service")
PODS = Kind("", "v1", "pods", "Pod")
EVENTS = Kind("", "v1", "events", "Event")
CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")
NODES = Kind("", "v1", "nodes", "Node", namespaced=False)
DEPLOYMENTS = Kind("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = Kind("apps", "v1", "replicasets", "ReplicaSet")
CRON_JOBS = Kind("batch", "v1", "cronjobs", "CronJob")
JOBS = Kind("batch", "v1", "jobs", "Job")
AUTOSCALERS = Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DISRUPTION_BUDGETS = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
ENDPOINT_SLICES = Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
VIRTUAL_SERVICES = Kind("networking.istio.io", "v1", "virtualservices", "VirtualService")
DESTINATION_RULES = Kind("networking.istio.io", "v1", "destinationrules", "DestinationRule")
HTTP_ROUTES = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
GRPC_ROUTES = Kind("gateway.networking.k8s.io", "v1", "grpcroutes", "GRPCRoute")
ACCESS_REVIEWS = Kind("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False)


@dataclass(frozen=True)
class Listed:
    """
    Objects of one kind, at one moment.

    :param items: the objects
    :param version: what a watch goes on from
    """

    items: tuple[Json, ...]
    version: str


@dataclass(frozen=True)
class Event:
    """
    One change that a watch tells.

    :param kind: ADDED, MODIFIED, DELETED or BOOKMARK
    :param item: the object as it is now, or was when it was deleted
    """

    kind: str
    item: Json

    @property
    def version(self) -> str:
        """What another watch goes on from."""
        return str(self.item["metadata"]["resourceVersion"])


class Cluster:
    """
    One namespace of one cluster. Every failure is a ``ClusterTrouble``.

    :param access: how it is logged in to; used at the first call
    :param namespace: where its objects are
    :param timeout: seconds for one answer
    """

    def __init__(self, access: Access, namespace: str, timeout: float = 5.0) -> None:
        self.access, self.namespace, self.timeout = access, namespace, timeout
        self.calls: Counter[str] = Counter()
        """How often each verb was asked for: get, list, watch, create, patch, apply, delete, review."""
        self._login: Future[ApiClient] | None = None

    @classmethod
    def of(cls, place: ClusterPlace, secrets: Secrets | None) -> Cluster:
        """Return the namespace that a service file names; nothing is connected to."""
        return cls(access_of(place.connection, secrets), place.namespace, place.timeout.total_seconds())

    def get(self, kind: Kind, name: str, part: str = "") -> Json:
        """
        Read one object.

        :param part: a subresource, such as ``scale``
        """
        return dict(self._call("get", "GET", kind, name, part))

    def list(self, kind: Kind, labels: str = "") -> Listed:
        """
        Read the objects of a kind.

        :param labels: a label selector, such as ``app=shop,color in (blue)``; empty for all
        """
        found = self._call("list", "GET", kind, query={"labelSelector": labels} if labels else {})
        return Listed(tuple(found["items"]), str(found["metadata"]["resourceVersion"]))

    def create(self, kind: Kind, body: Mapping[str, Any]) -> Json:
        """Make an object; ``conflict`` where one of that name is there."""
        return dict(self._call("create", "POST", kind, body=body, query={"fieldManager": MANAGER, **STRICT}))

    def patch(self, kind: Kind, name: str, operations: Sequence[Mapping[str, Any]], part: str = "") -> Json:
        """
        Write with a JSON patch, all of it or nothing; ``conflict`` where one of its ``test`` operations fails.

        :param operations: RFC 6902; see ``comparing``
        """
        body, query = [dict(one) for one in operations], {"fieldManager": MANAGER}
        return dict(self._call("patch", "PATCH", kind, name, part, body=body, query=query, content=JSON_PATCH))

    def apply(self, kind: Kind, name: str, body: Mapping[str, Any], *, force: bool = False) -> Json:
        """
        Server-side apply: we own what stands in ``body`` and nothing else; ``conflict`` where another manager owns it.

        :param body: with ``metadata.resourceVersion`` it is compared, too
        :param force: take fields over from other managers
        """
        whole = {"apiVersion": kind.api_version, "kind": kind.name, **body}
        whole["metadata"] = {**body.get("metadata", {}), "name": name}
        query = {"fieldManager": MANAGER, "force": str(force).lower(), **STRICT}
        return dict(self._call("apply", "PATCH", kind, name, body=whole, query=query, content=APPLY_PATCH))

    def delete(self, kind: Kind, name: str, preconditions: Mapping[str, str] | None = None) -> Json:
        """
        Delete an object; its own pods go in the background.

        :param preconditions: ``uid`` and ``resourceVersion`` that it must have
        """
        body: Json = {"propagationPolicy": "Background"}
        body |= {"preconditions": dict(preconditions)} if preconditions else {}
        return dict(self._call("delete", "DELETE", kind, name, body=body))

    def watch(self, kind: Kind, since: str, seconds: float, *, name: str = "", labels: str = "") -> Iterator[Event]:
        """
        Yield each change as it comes, until the time is over or the API server ends it.

        :param since: the ``resourceVersion`` after which it begins
        :param seconds: how long at most
        :param name: one object; needs no more rights than to watch that one
        :raises ClusterTrouble: ``expired`` where the API server does not keep what came after ``since``
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": since}
        query |= {"timeoutSeconds": str(max(1, round(seconds)))}
        query |= {"labelSelector": labels} if labels else {}
        query |= {"fieldSelector": f"metadata.name={name}"} if name else {}
        asked = self._asked("watch", kind, name)
        self.calls["watch"] += 1
        with told(asked):
            path, limit = self._path(kind), (self.timeout, max(0.1, seconds))
            answer = self._client.call_api(
                path, "GET", query_params=list(query.items()), auth_settings=["BearerToken"],
                _preload_content=False, _request_timeout=limit,
            )  # fmt: skip
            try:
                yield from (_event(line, asked) for line in _lines(answer))
            finally:
                answer.close()

    def may(self, verb: str, kind: Kind, name: str = "", part: str = "") -> bool:
        """Tell whether the API server lets us, without trying it."""
        attributes = {"namespace": self.namespace, "verb": verb, "group": kind.group, "resource": kind.plural}
        body = {
            "apiVersion": ACCESS_REVIEWS.api_version,
            "kind": ACCESS_REVIEWS.name,
            "spec": {"resourceAttributes": attributes | {"name": name, "subresource": part}},
        }
        found = self._call("review", "POST", ACCESS_REVIEWS, body=body)
        return bool(found["status"].get("allowed"))

    def text(self, kind: Kind, name: str, part: str, query: Mapping[str, str] | None = None) -> str:
        """
        Read a subresource that is no object, such as a pod's ``log``.

        :param query: such as ``{"container": "app", "tailLines": "50"}``
        """
        asked = self._asked("get", kind, name, part)
        self.calls["get"] += 1
        with told(asked):
            # As it comes: of a text the client makes the picture of its bytes, and of a line of JSON a dictionary's.
            answer = self._client.call_api(
                self._path(kind, name, part), "GET", query_params=list((query or {}).items()),
                auth_settings=["BearerToken"], _preload_content=False, _request_timeout=(self.timeout, self.timeout),
            )  # fmt: skip
            return str(answer.data.decode(errors="replace"))

    @property
    def _client(self) -> ApiClient:
        if self._login is None:
            self._login = self.access.begin(self.timeout)
        try:
            return self.access.waited(self._login, self.timeout)
        except ClusterTrouble as trouble:
            if trouble.kind != "unreachable":  # else it is waited for again: it was not asked twice at once
                self._login = None
            raise

    def _call(
        self,
        verb: str,
        method: str,
        kind: Kind,
        name: str = "",
        part: str = "",
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> Any:
        client, asked = self._client, self._asked("patch" if verb == "apply" else verb, kind, name, part)
        writes = method != "GET" and kind is not ACCESS_REVIEWS
        if writes:
            host_files.checkpoint(f"before {asked.what}")
        self.calls[verb] += 1
        with told(asked):
            found = client.call_api(
                self._path(kind, name, part), method,
                query_params=list((query or {}).items()), body=body,
                header_params={"Accept": "application/json", "Content-Type": content},
                response_types_map=dict.fromkeys((200, 201, 202), "object"), auth_settings=["BearerToken"],
                _return_http_data_only=True, _request_timeout=(self.timeout, self.timeout),
            )  # fmt: skip
        if writes:
            host_files.checkpoint(f"after {asked.what}")
        return found

    def _path(self, kind: Kind, name: str = "", part: str = "") -> str:
        root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        place = f"/namespaces/{self.namespace}" if kind.namespaced else ""
        return "/".join([f"{root}{place}/{kind.plural}", *(word for word in (name, part) if word)])

    def _asked(self, verb: str, kind: Kind, name: str = "", part: str = "") -> Asked:
        resource = f"{kind.plural}/{part}" if part else kind.plural
        return Asked(verb, resource, kind.group, name, self.namespace if kind.namespaced else "", self.access.says)


def comparing(found: Mapping[str, Any], path: str = "/metadata/resourceVersion") -> Json:
    """Return the JSON patch operation that lets a patch fail where the object is not any more what was found."""
    value: Any = found
    for word in path.split("/")[1:]:
        value = value[int(word) if isinstance(value, list) else unescaped(word)]
    return {"op": "test", "path": path, "value": value}


def escaped(word: str) -> str:
    """Return a key as a JSON pointer has it: ``app.kubernetes.io/name`` has a slash."""
    return word.replace("~", "~0").replace("/", "~1")


def unescaped(word: str) -> str:
    """Return the key that ``escaped`` made a word of a JSON pointer."""
    return word.replace("~1", "/").replace("~0", "~")


def _lines(answer: Any) -> Iterator[bytes]:
    rest = b""
    for chunk in answer.stream(amt=None, decode_content=False):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())


def _event(line: bytes, asked: Asked) -> Event:
    found = json.loads(line)
    if found["type"] == "ERROR":
        # Most often 410; in any case this watch cannot go on from where it was.
        trouble = answered(int(found["object"].get("code") or 500), json.dumps(found["object"]), asked)
        raise ClusterTrouble("expired", trouble.fact, "read again")
    return Event(found["type"], found["object"])
