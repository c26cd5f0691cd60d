"""
Answers HTTP for every pod of kwok, as a small shop in it would: ``python -m demo.kubernetes.pod_server KUBECONFIG --port 80``.

Runs where all pods' addresses are local (``net.py``) and watches the API server. A pod that is ready or not ready
answers, with its ``color`` label in ``X-Release-Color`` and its version; ``/health`` is 503 where it is not ready. A pod
that is being deleted finishes and closes its connections; any other address refuses. The annotation
``rig.bluegreen/errors`` is the share of 500s, ``--failing 1.6.0=0.6`` the share of them that a version gives to ``/checkout``.

What was answered is told at another port: ``/counts?namespace=shop&since=…``, see ``counts.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import ssl
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import yaml

from demo.kubernetes import pods
from demo.kubernetes.counts import Counts

ERRORS = "rig.bluegreen/errors"
_SERVING = ("ready", "not-ready")


class Pods:
    """
    What the API server says of the pods, by address.

    :param failing: version -> share of its answers to ``/checkout`` that are a 500
    """

    def __init__(self, failing: Mapping[str, float]) -> None:
        self.counts = Counts()
        self._failing = failing
        self.by_address: dict[str, dict[str, Any]] = {}
        self.open: dict[str, set[asyncio.StreamWriter]] = {}
        self._by_uid: dict[str, dict[str, Any]] = {}

    def see(self, kind: str, pod: dict[str, Any]) -> None:
        """Take in one event of the watch."""
        uid = pod["metadata"]["uid"]
        before = self._by_uid.pop(uid, pod)
        if kind != "DELETED":
            self._by_uid[uid] = pod
        for address in {each.get("status", {}).get("podIP", "") for each in (before, pod)} - {""}:
            self._settle(address)

    def _settle(self, address: str) -> None:
        """Find whose an address is. Kwok gives one again while the pod that had it still ends."""
        known = [each for each in self._by_uid.values() if each.get("status", {}).get("podIP") == address]
        serving = [each for each in known if pods.shown(each) in _SERVING]
        owner = max(serving, key=_claim, default=None)
        before = self.by_address.pop(address, None)
        if owner:
            self.by_address[address] = owner
        if before and (owner is None or owner["metadata"]["uid"] != before["metadata"]["uid"]):
            for writer in self.open.pop(address, set()):
                writer.close()

    async def watch(self, kubeconfig: dict[str, Any]) -> None:
        """Follow all pods until the process ends; list anew whenever the watch breaks."""
        cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
        trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
        headers = {"Authorization": f"Bearer {user['token']}"}
        patient = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(ssl=trust)
        async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=patient) as session:
            while True:
                with suppress(aiohttp.ClientError):
                    await self._follow(session, f"{cluster['server']}/api/v1/pods")
                await asyncio.sleep(0.2)

    async def _follow(self, session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(url) as answer:
            answer.raise_for_status()
            found = await answer.json()
        known = {pod["metadata"]["uid"] for pod in found["items"]}
        for uid in set(self._by_uid) - known:
            self.see("DELETED", self._by_uid[uid])
        for pod in found["items"]:
            self.see("ADDED", pod)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        query = {"watch": "true", "resourceVersion": found["metadata"]["resourceVersion"]}
        async with session.get(url, params=query, read_bufsize=2**22) as answer:
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self.see(event["type"], event["object"])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        address = writer.get_extra_info("sockname")[0]
        if address not in self.by_address:
            writer.transport.abort()
            return
        self.open.setdefault(address, set()).add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while pod := self.by_address.get(address):
                path, last = await _request(reader)
                if not path:
                    break
                ends = last or "deletionTimestamp" in pod["metadata"]
                writer.write(self._answer(pod, path, ends))
                await writer.drain()
                if ends:
                    break
        self.open.get(address, set()).discard(writer)
        writer.close()

    async def tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one question for counts."""
        with suppress(ConnectionError):
            asked = parse_qs(urlsplit((await _request(reader))[0]).query)
            if {"namespace", "since"} <= asked.keys():
                told = self.counts.since(asked["namespace"][0], float(asked["since"][0]))
                writer.write(_http(200, json.dumps(told), "Connection: close"))
            else:
                writer.write(_http(404, '{"wanted": "/counts?namespace=shop&since=0"}', "Connection: close"))
            await writer.drain()
        writer.close()

    def _answer(self, pod: dict[str, Any], path: str, ends: bool) -> bytes:
        metadata, version = pod["metadata"], pod["spec"]["containers"][0]["image"].rpartition(":")[2]
        color = metadata.get("labels", {}).get("color", "none")
        healthy = pods.shown(pod) == "ready"
        share = float(metadata.get("annotations", {}).get(ERRORS, 0))
        if path == "/checkout":
            share = max(share, self._failing.get(version, 0))
        if path == "/health":
            status = 200 if healthy else 503
        else:
            status = 500 if random.random() < share else 200
            self.counts.add(metadata["namespace"], color, failed=status == 500)
        told = {"pod": metadata["name"], "color": color, "version": version}
        signs = [f"X-Release-Color: {color}", f"X-Pod: {metadata['name']}", f"X-App-Version: {version}"]
        return _http(status, json.dumps(told), *signs, *(["Connection: close"] if ends else []))


def _http(status: int, body: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Rig", *headers, "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", body]).encode()


def _claim(pod: dict[str, Any]) -> tuple[bool, str]:
    return "deletionTimestamp" not in pod["metadata"], pod["metadata"]["creationTimestamp"]


async def _request(reader: asyncio.StreamReader) -> tuple[str, bool]:
    """Return the path of the next request, its body read, and whether it is the last; no path where the client has gone."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return "", True
    headers = dict(line.partition(":")[::2] for line in head.lower().split("\r\n")[1:])
    await reader.readexactly(int(headers.get("content-length", 0)))
    return head.split()[1], headers.get("connection", "").strip() == "close"


async def main(kubeconfig: dict[str, Any], port: int, counts_port: int, failing: Mapping[str, float]) -> None:
    """Serve until the process is ended."""
    served = Pods(failing)
    await asyncio.start_server(served.serve, "0.0.0.0", port, backlog=1024)
    await asyncio.start_server(served.tell, "0.0.0.0", counts_port)
    await served.watch(kubeconfig)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.kubernetes.pod_server", description=__doc__)
    parser.add_argument("kubeconfig", type=Path, help="of an account that may watch all pods")
    parser.add_argument("--port", type=int, required=True, help="of every pod")
    parser.add_argument("--counts-port", type=int, required=True)
    parser.add_argument("--failing", action="append", default=[], metavar="VERSION=SHARE")
    return parser.parse_args()


if __name__ == "__main__":
    options = _options()
    shares = {version: float(share) for version, _, share in (each.partition("=") for each in options.failing)}
    config = yaml.safe_load(options.kubeconfig.read_text())
    asyncio.run(main(config, options.port, options.counts_port, shares))
