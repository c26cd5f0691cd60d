"""Commands in a pod's container, over the API server's own stream: output as it comes, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any

import yaml

from bluegreen.clusters.objects import PODS, Cluster
from bluegreen.clusters.trouble import Asked, ClusterTrouble, told
from bluegreen.core.deadlines import Deadline

_TICK = 1.0
"""Seconds that output is waited for at a time."""


def run_in_pod(  # where, what, how long, and who hears of it
    cluster: Cluster,
    pod: str,
    container: str | None,
    argv: Sequence[str],
    deadline: Deadline,
    feed: Callable[[str], None],
) -> int | None:
    """
    Run a command in a container.

    One that does not end in time is left to itself: Kubernetes has no way to end it.

    :param container: None for the pod's first one
    :param argv: program and arguments; no shell
    :param feed: gets its output as it comes, standard and error output as one
    :returns: the code that it ended with; None where it did not end in time
    :raises ClusterTrouble: it cannot be run, or nobody tells how it ended
    """
    asked = Asked("create", "pods/exec", PODS.group, pod, cluster.namespace, cluster.access.says)
    cluster.calls["exec"] += 1
    with told(asked):
        stream = _opened(cluster, pod, container, argv)
        try:
            while stream.is_open() and deadline.left > 0:
                stream.update(timeout=min(_TICK, deadline.left))
                _pass_on(stream, feed)
            _pass_on(stream, feed)
            return None if stream.is_open() else _code(stream, asked)
        finally:
            stream.close()


def _opened(cluster: Cluster, pod: str, container: str | None, argv: Sequence[str]) -> Any:
    """
    Open the stream, in a thread: the client has no other way to give up a server that accepts and is silent.

    :raises TimeoutError: it did
    """
    made: Future[Any] = Future()

    def opening() -> None:
        found, failed = None, None
        try:
            found = _stream(cluster, pod, container, argv)
        except BaseException as error:  # noqa: BLE001 - it is the waiting thread's
            failed = error
        if not made.set_running_or_notify_cancel():  # nobody waits any more
            if found:
                found.close()
        elif failed:
            made.set_exception(failed)
        else:
            made.set_result(found)

    Thread(target=opening, daemon=True).start()
    wait([made], cluster.timeout)
    if made.cancel():
        raise TimeoutError(f"no answer within {cluster.timeout:g} s")
    return made.result()


def _stream(cluster: Cluster, pod: str, container: str | None, argv: Sequence[str]) -> Any:
    from kubernetes.client import CoreV1Api  # noqa: PLC0415 - an extra; who is here has it
    from kubernetes.stream import stream  # noqa: PLC0415 - comes with it

    # A client of its own: this one's way to ask is replaced while the stream is opened.
    core, more = CoreV1Api(cluster.access.client()), {"container": container} if container else {}
    return stream(
        core.connect_get_namespaced_pod_exec, pod, cluster.namespace, command=list(argv), stdin=False, stdout=True,
        stderr=True, tty=False, _preload_content=False, **more,
    )  # fmt: skip


def _pass_on(stream: Any, feed: Callable[[str], None]) -> None:
    for read in (stream.read_stdout, stream.read_stderr):
        if text := read(timeout=0):
            feed(text)


def _code(stream: Any, asked: Asked) -> int:
    from kubernetes.stream.ws_client import ERROR_CHANNEL  # noqa: PLC0415 - an extra; who is here has it

    said = yaml.safe_load(stream.read_channel(ERROR_CHANNEL, timeout=0) or "{}") or {}
    if said.get("status") == "Success":
        return 0
    causes = (said.get("details") or {}).get("causes") or []
    codes = [cause.get("message", "") for cause in causes if cause.get("reason") == "ExitCode"]
    if codes and codes[0].isdigit():
        return int(codes[0])
    fact = f"cannot {asked.what}: {said.get('message') or 'the connection broke off'}"
    raise ClusterTrouble("refused", fact, "see whether the command is there, and the pod's state")
