"""A command in a pod whose API server accepts connections and says nothing."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any

import pytest

from bluegreen.clusters.access import access_of
from bluegreen.clusters.objects import Cluster
from bluegreen.clusters.pod_commands import run_in_pod
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.core.deadlines import Deadline
from bluegreen.core.ports import Credentials


@pytest.fixture
def silent() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_server_that_is_silent_is_given_up(silent: int) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [{"name": "one", "cluster": {"server": f"http://127.0.0.1:{silent}"}}],
        "users": [{"name": "one", "user": {"token": "a"}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
    }
    cluster = Cluster(access_of("c", lambda _: Credentials(extra={"kube_config": config})), "shop", timeout=0.5)
    with pytest.raises(ClusterTrouble, match="cannot create pods/exec/shop-1") as caught:
        run_in_pod(cluster, "shop-1", None, ["true"], Deadline(timedelta(seconds=60)), print)
    assert caught.value.kind == "unreachable"
    assert "no answer within 0.5 s" in caught.value.fact
