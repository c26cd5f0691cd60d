"""What is the matter with a Deployment, in short lines: the most telling last, with the next command for each symptom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bluegreen.clusters.objects import Json
from bluegreen.clusters.status import condition, is_ready
from bluegreen.core.masks import masked, without
from bluegreen.deployers.child import spellings
from bluegreen.deployers.kube_facts import KubeFacts, unplaced, when
from bluegreen.deployers.kube_resources import asked_by, lines_of_nodes
from bluegreen.deployers.kube_rollout import container_statuses, rollout

LONGEST = 240
"""Characters of a line."""
MOST = {"events": 20, "pods": 30, "quota": 10}
"""Lines of a part."""


def said(facts: KubeFacts, hide: Iterable[str] = ()) -> list[str]:
    """
    Return facts as lines, at most 200.

    :param hide: what no line may show
    """
    hidden = spellings(hide)
    parts = (_missing, _quota, _nodes, _events, _logs, _pods, _deployment, _next)
    return [_short(without(line, hidden)) for part in parts for line in part(facts)]


def _missing(facts: KubeFacts) -> Iterator[str]:
    for part, why in facts.missing.items():
        yield f"not had: {part}: {why}"


def _quota(facts: KubeFacts) -> Iterator[str]:
    for quota in facts.quotas[: MOST["quota"]]:
        status = quota.get("status") or {}
        used, hard = status.get("used") or {}, status.get("hard") or {}
        yield f"quota {quota['metadata']['name']}: " + ", ".join(
            f"{used.get(key, '0')} of {hard[key]} {key}" for key in sorted(hard)
        )


def _nodes(facts: KubeFacts) -> Iterator[str]:
    pod = next((pod for pod in facts.pods if unplaced(pod)), None)
    if pod:
        yield f"{pod['metadata']['name']} asks for {asked_by(pod) or 'nothing'}"
        yield from lines_of_nodes(facts.nodes, facts.placed)


def _events(facts: KubeFacts) -> Iterator[str]:
    warnings = [event for event in facts.events if event.get("type") != "Normal"]
    for event in (warnings or facts.events)[: MOST["events"]]:
        about, count = event["involvedObject"], event.get("count") or 1
        often = f" ({count} times)" if count > 1 else ""
        what = f"{event.get('type')} {event.get('reason')}"
        yield f"event {when(event)} {what} {about.get('kind')} {about.get('name')}: {event.get('message')}{often}"


def _logs(facts: KubeFacts) -> Iterator[str]:
    for key, found in facts.logs.items():
        yield from (f"log of {key}: {line}" for line in found)


def _pods(facts: KubeFacts) -> Iterator[str]:
    trouble = [pod for pod in facts.pods if not is_ready(pod)]
    for pod in trouble[: MOST["pods"]]:
        yield f"pod {pod['metadata']['name']}: {_state(pod)}"
    more = len(trouble) - MOST["pods"]
    yield f"{len(facts.pods) - len(trouble)} pods are ready" + (f", {more} more are not" if more > 0 else "")


def _state(pod: Json) -> str:
    status = pod.get("status") or {}
    words = ["it is ending"] if pod["metadata"].get("deletionTimestamp") else []
    words += [str(status.get("phase", "Unknown")), f"on {pod['spec'].get('nodeName') or 'no node'}"]
    if why := unplaced(pod) or status.get("message"):
        words.append(str(why))
    return ", ".join(words) + "".join(f"; {one['name']}: {_container(one)}" for one in container_statuses(pod))


def _container(one: Json) -> str:
    state, last = one.get("state") or {}, (one.get("lastState") or {}).get("terminated")
    words = [_terminated(found) if kind == "terminated" else _words(kind, found) for kind, found in state.items()]
    words += [f"before that {_terminated(last)}"] if last else []
    restarts = one.get("restartCount", 0)
    return ", ".join([*words, *([f"{restarts} restarts"] if restarts else [])]) or "unknown"


def _words(kind: str, found: Mapping[str, Any]) -> str:
    told = " ".join(str(found[key]) for key in ("reason", "message") if found.get(key))
    return f"{kind} {told}".rstrip()


def _terminated(found: Mapping[str, Any]) -> str:
    return f"ended with {found.get('exitCode')} ({found.get('reason') or 'no reason'})"


def _deployment(facts: KubeFacts) -> Iterator[str]:
    found = facts.deployment
    images = ", ".join(one.get("image", "") for one in found["spec"]["template"]["spec"]["containers"])
    yield f"deployment {facts.name}: {rollout(found).says}; image {images}"
    for one in (condition(found, "Progressing", "False"), condition(found, "Available", "False")):
        if one:
            yield f"deployment {facts.name}: {one['type']} is False: {one.get('reason')}: {one.get('message')}"


# The next command


def _next(facts: KubeFacts) -> Iterator[str]:
    found: dict[str, str] = {}
    for symptom, command in _symptoms(facts):
        if symptom not in found and command not in found.values():
            found[symptom] = command
    yield from (f"next: {symptom}: {command}" for symptom, command in found.items())


def _symptoms(facts: KubeFacts) -> Iterator[tuple[str, str]]:
    kubectl = f"kubectl -n {facts.namespace}"
    if facts.deployment["spec"].get("paused"):
        yield "paused", f"{kubectl} rollout resume deployment/{facts.name}"
    failure = condition(facts.deployment, "ReplicaFailure")
    if failure and "quota" in str(failure.get("message")):
        yield "quota exceeded", f"{kubectl} describe quota"
    elif failure:
        yield "no pod can be made", f"{kubectl} get events --field-selector reason=FailedCreate"
    for pod in facts.pods:
        yield from _symptoms_of(pod, kubectl, facts.name)


def _symptoms_of(pod: Json, kubectl: str, deployment: str) -> Iterator[tuple[str, str]]:
    name = pod["metadata"]["name"]
    if unplaced(pod):
        yield "no node has room for a pod", f"{kubectl} describe pod {name}; kubectl describe nodes"
    for one in container_statuses(pod):
        state, last = one.get("state") or {}, one.get("lastState") or {}
        reasons = [((found or {}).get("reason") or "") for found in (*state.values(), *last.values())]
        for reason in reasons:
            if reason in _COMMANDS:
                yield reason, _COMMANDS[reason].format(k=kubectl, pod=name, c=one["name"], deployment=deployment)
        if "running" in state and not one.get("ready"):
            yield "runs, but is not ready", f"{kubectl} describe pod {name} | grep -A2 -i readiness"


_LOGS, _LOOK = "{k} logs {pod} -c {c} --previous", "{k} describe pod {pod}"
_COMMANDS = {
    "CrashLoopBackOff": _LOGS,
    "Error": _LOGS,
    "OOMKilled": "{k} set resources deployment/{deployment} -c {c} --limits=memory=… (it used more than its limit)",
    "ImagePullBackOff": _LOOK + " (is the image there, and may the cluster pull it?)",
    "ErrImagePull": _LOOK + " (is the image there, and may the cluster pull it?)",
    "InvalidImageName": "mend the image's name in the service file or manifest",
    "ErrImageNeverPull": _LOOK + " (imagePullPolicy is Never, and the node has no such image)",
    "CreateContainerConfigError": _LOOK + " (a ConfigMap or Secret that it names is not there)",
    "CreateContainerError": _LOOK,
    "RunContainerError": _LOOK,
}


def _short(line: str) -> str:
    text = masked(" ".join(line.split()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
