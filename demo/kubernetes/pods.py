"""
What kwok makes of pods: ready, not ready, crashing or dead, as the pod itself asks and at any time.

The annotation ``rig.bluegreen/pod`` names a state of ``STATES``; it may stand in a Deployment's template (a bad version)
or be put on running pods (``Namespace.turn``). Without it an image says it: ``:missing`` is an image that does not exist,
``:crash`` one that ends at once; every other one gets ready. ``rig.bluegreen/after`` and ``rig.bluegreen/ends-after``
are how long it takes to get there, and to end, as Go writes durations: ``3s``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

STATE, AFTER, ENDS_AFTER = "rig.bluegreen/pod", "rig.bluegreen/after", "rig.bluegreen/ends-after"
CRASH_CODE = 3
LOG = ("starting", "fault: cannot read its configuration")
"""Lines of every container's log."""

_ASKED = f"""\
(.metadata.annotations["{STATE}"] // (.spec.containers[0].image
 | if endswith(":missing") then "image-pull" elif endswith(":crash") then "crash-loop" else "ready" end))"""
# What a pod shows now, in the words of STATES; "new" is none of them.
_SHOWN = """\
(.status as $s | ($s.containerStatuses // [{}])[0] as $c
 | if $s.phase == "Failed" then "dead"
   elif $c.state.waiting.reason == "ImagePullBackOff" then "image-pull"
   elif $c.state.waiting.reason == "CrashLoopBackOff" then "crash-loop"
   elif $c.ready == true then "ready"
   elif $c.state.running != null then "not-ready"
   else "new" end)"""
_RUNNING = "running: {startedAt: {{ $now | Quote }}}"
_ENDED = "{exitCode: %d, reason: %s, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}"
_STATUS = """\
{{ $now := Now }}
conditions:
- {type: Initialized, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: PodReadyToStartContainers, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: Ready, status: "%(ready)s", %(why)slastTransitionTime: {{ $now | Quote }}}
- {type: ContainersReady, status: "%(ready)s", %(why)slastTransitionTime: {{ $now | Quote }}}
{{ range .spec.readinessGates }}
- {type: {{ .conditionType | Quote }}, status: "%(ready)s", lastTransitionTime: {{ $now | Quote }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  ready: %(is_ready)s
  started: %(is_ready)s
  restartCount: %(restarts)d
  state: %(state)s
  lastState: %(last)s
{{ end }}
{{ with NodeIPWith .spec.nodeName }}
hostIP: {{ . | Quote }}
hostIPs: [{ip: {{ . | Quote }}}]
{{ end }}
{{ with or .status.podIP (PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace) }}
podIP: {{ . | Quote }}
podIPs: [{ip: {{ . | Quote }}}]
{{ end }}
phase: %(phase)s
startTime: {{ or .status.startTime $now | Quote }}
"""


@dataclass(frozen=True)
class State:
    """
    How a pod may be, as a kubelet would report it.

    :param state: of each container, and ``last`` the one before
    :param event: type, reason and message of the event that tells it
    """

    phase: str
    state: str
    event: tuple[str, str, str]
    last: str = "{}"
    ready: bool = False
    restarts: int = 0

    def status(self) -> str:
        """Return kwok's template of the status."""
        word, why = ("True", "") if self.ready else ("False", "reason: ContainersNotReady, ")
        numbers = {"ready": word, "why": why, "is_ready": str(self.ready).lower(), "restarts": self.restarts}
        state = self.state if self.state.startswith("{") else f"{{{self.state}}}"
        return _STATUS % {**numbers, "state": state, "last": self.last, "phase": self.phase}


_NO_IMAGE = 'Back-off pulling image {{ .image | printf "%q" | Quote }}'
STATES = {
    "ready": State("Running", _RUNNING, ("Normal", "Started", "Container started"), ready=True),
    "not-ready": State("Running", _RUNNING, ("Warning", "Unhealthy", "Readiness probe failed: HTTP 503")),
    "crash-loop": State(
        "Running",
        'waiting: {reason: CrashLoopBackOff, message: "back-off 40s restarting failed container"}',
        ("Warning", "BackOff", "Back-off restarting failed container"),
        last="{terminated: %s}" % (_ENDED % (CRASH_CODE, "Error")),
        restarts=3,
    ),
    "image-pull": State(
        "Pending",
        'waiting: {reason: ImagePullBackOff, message: {{ printf "Back-off pulling image %q: not found" .image | Quote }}}',
        ("Warning", "Failed", "Failed to pull image: not found"),
    ),
    "dead": State(
        "Failed", "terminated: %s" % (_ENDED % (137, "OOMKilled")), ("Warning", "OOMKilling", "Memory limit reached")
    ),
}
_WAITING = {"ImagePullBackOff": "image-pull", "CrashLoopBackOff": "crash-loop"}
_NODE_STATUS = """\
{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- type: {{ .type | Quote }}
  status: {{ .status | Quote }}
  reason: {{ .reason | Quote }}
  message: {{ .message | Quote }}
  lastHeartbeatTime: {{ $now | Quote }}
  lastTransitionTime: {{ $now | Quote }}
{{ end }}
addresses:
- {type: InternalIP, address: {{ NodeIP | Quote }}}
- {type: Hostname, address: {{ NodeName | Quote }}}
daemonEndpoints: {kubeletEndpoint: {Port: {{ NodePort }}}}
{{ with .status.capacity }}
allocatable:
{{ YAML . 1 }}
capacity:
{{ YAML . 1 }}
{{ end }}
phase: Running
"""


def shown(pod: Mapping[str, Any]) -> str:
    """Return the state of ``STATES`` that a pod shows now; ``new`` where it is none of them."""
    status = pod.get("status", {})
    first = (status.get("containerStatuses") or [{}])[0]
    state, waiting = first.get("state", {}), first.get("state", {}).get("waiting", {}).get("reason")
    if status.get("phase") == "Failed":
        return "dead"
    if waiting in _WAITING:
        return _WAITING[waiting]
    return "ready" if first.get("ready") else "not-ready" if "running" in state else "new"


def log() -> str:
    """Return ``LOG`` as a container runtime writes it."""
    now = datetime.now(UTC).isoformat()
    return "".join(f"{now} stderr F {line}\n" for line in LOG)


def config(logged: str, folder: str) -> list[dict[str, Any]]:
    """
    Return kwok's configuration: stages, and what ``kubectl logs`` and ``exec`` find in its pods.

    :param logged: path of the file that is every container's log
    :param folder: where commands are run; they run on this machine, with ``POD=rig`` in their environment
    """
    logs = {"logsFile": logged, "previousLogsFile": logged, "follow": False}
    execs = {"local": {"workDir": folder, "envs": [{"name": "POD", "value": "rig"}]}}
    return [
        _stage("node", "Node", [_is(".status.phase", "NotIn", "Running")], {"statusTemplate": _NODE_STATUS}),
        *(_turning(name, state) for name, state in STATES.items()),
        _job_ends(),
        _ends(),
        {**_head("ClusterLogs", "logs"), "spec": {"logs": [logs]}},
        {**_head("ClusterExec", "execs"), "spec": {"execs": [execs]}},
    ]


def _head(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": kind, "metadata": {"name": name}}


def _stage(
    name: str, kind: str, expressions: list[dict[str, Any]], following: dict[str, Any], delay: str = ""
) -> dict[str, Any]:
    spec: dict[str, Any] = {"resourceRef": {"apiGroup": "v1", "kind": kind}}
    spec |= {"selector": {"matchExpressions": expressions}, "next": following}
    if delay:
        spec["delay"] = {"durationMilliseconds": 0, "durationFrom": {"expressionFrom": delay}}
    return {**_head("Stage", name), "spec": spec}


def _is(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


_ALIVE = _is(".metadata.deletionTimestamp", "DoesNotExist")


def _turning(name: str, state: State) -> dict[str, Any]:
    wanted = f'if {_ASKED} == "{name}" and {_SHOWN} != "{name}" then "yes" else "no" end'
    kind, reason, message = state.event
    following = {"statusTemplate": state.status(), "event": {"type": kind, "reason": reason, "message": message}}
    expressions = [_ALIVE, _is(".status.phase", "NotIn", "Failed", "Succeeded"), _is(wanted, "In", "yes")]
    return _stage(f"pod-{name}", "Pod", expressions, following, f'.metadata.annotations["{AFTER}"]')


def _job_ends() -> dict[str, Any]:
    status = "phase: Succeeded\n"
    running = f'if .status.phase == "Running" and {_SHOWN} == "ready" then "yes" else "no" end'
    expressions = [_ALIVE, _is(running, "In", "yes"), _is(".metadata.ownerReferences.[].kind", "In", "Job")]
    return _stage("pod-complete", "Pod", expressions, {"statusTemplate": status})


def _ends() -> dict[str, Any]:
    gone = {"finalizers": {"empty": True}, "delete": True}
    return _stage(
        "pod-delete",
        "Pod",
        [_is(".metadata.deletionTimestamp", "Exists")],
        gone,
        f'.metadata.annotations["{ENDS_AFTER}"]',
    )
