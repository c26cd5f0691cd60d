"""A small shop to release: one process is one application server of one color.

    python -m demo.app --port 9001 --color blue --version 1.4.0 --sessions DIR

Sessions live in DIR, outside the colors, so a switch does not log anybody out; users in a PostgreSQL that both colors
share, where `--database` names one. Faults are for the demo's bad
versions: `--fault errors=0.3`, or `POST /__faults {"errors": 0.3}` from this machine while it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import json
import os
import random
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo.users import NEW_USER, MemoryUsers, TableUsers, Users

# errors: share of /checkout answers that are 500; slow: seconds added to /checkout;
# crash-on-start: ends before it listens; dies-after: number of requests (health checks apart) it lives for.
FAULTS = ("errors", "slow", "crash-on-start", "dies-after")
CRASH_CODE = 3
DEATH_CODE = 70
_LONGEST_SLEEP_S = 60.0
_COOKIE = "session"
_PRODUCTS = [
    {"id": 1, "name": "Hammock", "price": 49.0},
    {"id": 2, "name": "Lantern", "price": 19.5},
    {"id": 3, "name": "Kettle", "price": 32.0},
]
_CATEGORIES = [{"id": 1, "name": "Garden"}, {"id": 2, "name": "Kitchen"}]


class Faults:
    """What is wrong with this server on purpose."""

    def __init__(self, values: dict[str, float] | None = None) -> None:
        self.values: dict[str, float] = {}
        self.replace(values or {})

    def replace(self, values: dict[str, Any]) -> None:
        """Take these faults instead of the present ones."""
        unknown = sorted(set(values) - set(FAULTS))
        if unknown:
            raise ValueError(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
        try:
            self.values = {name: float(value) for name, value in values.items()}
        except TypeError as error:
            raise ValueError(f"a fault's value is a number: {values}") from error

    def __getitem__(self, name: str) -> float:
        return self.values.get(name, 0.0)

    def __contains__(self, name: str) -> bool:
        return name in self.values


def parse_faults(texts: Sequence[str]) -> dict[str, float]:
    """`errors=0.3` or a bare `crash-on-start`, as on the command line."""
    pairs = (text.partition("=") for text in texts)
    return Faults({name: value or 1 for name, _, value in pairs}).values


class Sessions:
    """A file for each session in a directory that all servers of both colors share."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def create(self, user: str) -> str:
        """Begin a session and return its key."""
        key = secrets.token_hex(16)
        fresh = self._directory / f"{key}.tmp"
        fresh.write_text(json.dumps({"user": user}))
        fresh.replace(self._directory / f"{key}.json")
        return key

    def user(self, key: str) -> str | None:
        """Whose session it is, None when there is no such session."""
        # The key comes from the client and becomes part of a path.
        if not re.fullmatch(r"[0-9a-f]{32}", key):
            return None
        try:
            return str(json.loads((self._directory / f"{key}.json").read_text())["user"])
        except FileNotFoundError:
            return None


class _Signature:
    """Signs every answer with version and color, and lets the server die when it is told to."""

    def __init__(self, app: ASGIApp, color: str, version: str, faults: Faults) -> None:
        self._app = app
        self._headers = [(b"x-app-version", version.encode()), (b"x-app-color", color.encode())]
        self._faults = faults
        self._served = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._count(scope["path"])

        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        await self._app(scope, receive, signed)

    def _count(self, path: str) -> None:
        if path in ("/health", "/__faults"):
            return
        self._served += 1
        if "dies-after" in self._faults and self._served > self._faults["dies-after"]:
            sys.stderr.write(f"fault dies-after: dead after {self._served - 1} requests\n")
            sys.stderr.flush()
            # As by SIGKILL: no goodbye to the requests under way.
            os._exit(DEATH_CODE)


def create_app(
    color: str, version: str, sessions: Path, faults: dict[str, float] | None = None, database: str = ""
) -> FastAPI:
    """The shop as an ASGI application."""
    app = FastAPI(title="Sample shop", version=version)
    trouble = Faults(faults)
    app.include_router(_catalog(color, version))
    app.include_router(_people(TableUsers(database, version) if database else MemoryUsers()))
    app.include_router(_accounts(Sessions(sessions)))
    app.include_router(_orders(version, trouble))
    app.include_router(_operations(color, version, trouble))
    app.add_middleware(_Signature, color=color, version=version, faults=trouble)
    return app


def _catalog(color: str, version: str) -> APIRouter:
    router = APIRouter()

    @router.get("/")
    async def home(request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"shop": "sample", "color": color, "version": version})
        # A color is a CSS color here, and so a page shows at a glance who served it.
        page = f"<body style='border-top: 1em solid {html.escape(color)}'><h1>Sample shop</h1>"
        return HTMLResponse(f"<!doctype html><title>Sample shop</title>{page}<p>{html.escape(version)}, {color}</p>")

    @router.get("/api/products")
    async def products() -> Response:
        return JSONResponse(_PRODUCTS)

    @router.get("/api/categories")
    async def categories() -> Response:
        return JSONResponse(_CATEGORIES)

    return router


def _people(users: Users) -> APIRouter:
    router = APIRouter()

    @router.get("/api/users")
    async def latest() -> Response:
        return JSONResponse(await users.latest())

    @router.post("/api/users")
    async def add(name: str = NEW_USER) -> Response:
        return JSONResponse(await users.add(name))

    return router


def _accounts(sessions: Sessions) -> APIRouter:
    router = APIRouter()

    @router.api_route("/login", methods=["GET", "POST"])
    async def login(user: str = "ana") -> Response:
        answer = JSONResponse({"user": user})
        answer.set_cookie(_COOKIE, sessions.create(user), httponly=True, samesite="lax")
        return answer

    @router.get("/me")
    async def me(request: Request) -> Response:
        user = sessions.user(request.cookies.get(_COOKIE, ""))
        if user is None:
            raise HTTPException(401, "log in first: POST /login?user=ana")
        return JSONResponse({"user": user})

    return router


def _orders(version: str, faults: Faults) -> APIRouter:
    router = APIRouter()

    @router.api_route("/checkout", methods=["GET", "POST"])
    async def checkout() -> Response:
        if faults["slow"]:
            await asyncio.sleep(min(faults["slow"], _LONGEST_SLEEP_S))
        if random.random() < faults["errors"]:
            raise HTTPException(500, "the payment service did not answer")
        return JSONResponse({"order": secrets.token_hex(4), "version": version})

    return router


def _operations(color: str, version: str, faults: Faults) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok", "version": version, "color": color})

    @router.get("/slow")
    async def slow(seconds: float = 1.0) -> Response:
        await asyncio.sleep(max(0.0, min(seconds, _LONGEST_SLEEP_S)))
        return JSONResponse({"slept": seconds})

    @router.get("/__faults")
    async def read_faults(request: Request) -> Response:
        _only_from_here(request)
        return JSONResponse(faults.values)

    @router.post("/__faults")
    async def write_faults(request: Request) -> Response:
        _only_from_here(request)
        try:
            faults.replace(dict(await request.json()))
        except (ValueError, TypeError) as error:
            raise HTTPException(422, str(error)) from error
        return JSONResponse(faults.values)

    return router


def _only_from_here(request: Request) -> None:
    # A router on this machine also comes from loopback, but it says for whom it asks.
    client = request.client.host if request.client else ""
    if client not in ("127.0.0.1", "::1") or "x-forwarded-for" in request.headers:
        raise HTTPException(403, "only directly, from this machine")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM, then finish the requests under way."""
    parser = argparse.ArgumentParser(prog="python -m demo.app", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--color", choices=("blue", "green"), required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--sessions", type=Path, required=True, metavar="DIR")
    parser.add_argument("--database", default="", metavar="CONNINFO", help="of the users, as libpq has it; no password")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME[=VALUE]", help=", ".join(FAULTS))
    options = parser.parse_args(arguments)
    try:
        faults = parse_faults(options.fault)
    except ValueError as error:
        parser.error(str(error))
    if "crash-on-start" in faults:
        sys.stderr.write(f"fault crash-on-start: version {options.version} cannot read its configuration\n")
        raise SystemExit(CRASH_CODE)
    uvicorn.run(
        create_app(options.color, options.version, options.sessions, faults, options.database),
        host=options.bind,
        port=options.port,
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        # Longer than a router keeps its idle connections: the one who sends must be the one who closes.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=30,
    )


if __name__ == "__main__":
    main()
