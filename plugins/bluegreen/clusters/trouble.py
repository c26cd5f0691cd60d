"""What can go wrong between us and an API server, as one error with a kind; routers and deployers make theirs of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

Trouble = Literal["unreachable", "forbidden", "missing", "conflict", "refused", "expired"]
_HANDSHAKE = re.compile(r"Handshake status (?P<status>\d+) .* -\+-\+- (?P<body>.*)$", re.DOTALL)
_UNSAID = re.compile(r" is forbidden: *$")
"""Who may open a stream and not ``create`` it: the API server says neither who nor what."""
_UNTYPED = "failed to create typed patch object"
"""What a server-side apply says, with status 500, of a field that is not known, has another type or stands twice."""
_VALUE = re.compile(r"got &value\.\w+\{.*?\}(?=$|[\n,;])", re.DOTALL)
RULE = re.compile(r'User "(?P<who>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)"')


class ClusterTrouble(Exception):
    """
    Why an API server did not do it.

    :param kind: ``unreachable`` (no connection, 429, 5xx, no answer in time: asking again may help), ``forbidden``
        (401, or 403 for want of a rule), ``missing`` (404), ``conflict`` (409, or a JSON patch whose ``test`` failed:
        somebody else wrote), ``refused`` (the object is not valid, a quota, a namespace that is going), ``expired``
        (410: what a watch wanted to go on from is not kept any more)
    :param fact: what was found
    :param mend: what to do
    """

    def __init__(self, kind: Trouble, fact: str, mend: str) -> None:
        self.kind, self.fact, self.mend = kind, fact, mend
        super().__init__(fact)


@dataclass(frozen=True)
class Asked:
    """
    What was asked of an API server, for the sentence when it fails.

    :param verb: as in RBAC: get, list, watch, create, patch, delete
    :param resource: as in RBAC: ``services``, ``deployments/scale``
    :param group: API group, empty for the core's
    :param name: the object, empty for all
    :param namespace: empty for cluster-wide
    :param access: how the cluster is logged in to
    """

    verb: str
    resource: str
    group: str
    name: str
    namespace: str
    access: str

    @property
    def what(self) -> str:
        """``patch services/shop in namespace eu``."""
        name = f"/{self.name}" if self.name else ""
        return f"{self.verb} {self.resource}{name}" + (f" in namespace {self.namespace}" if self.namespace else "")

    @property
    def rule(self) -> str:
        """The RBAC rule that allows it."""
        return f'{{apiGroups: ["{self.group}"], resources: ["{self.resource}"], verbs: ["{self.verb}"]}}'


@contextmanager
def told(asked: Asked) -> Iterator[None]:
    """
    Turn what the client raises into one ``ClusterTrouble``.

    :raises ClusterTrouble: it failed
    """
    from kubernetes.client import ApiException  # noqa: PLC0415 - an extra; who is here has it
    from urllib3.exceptions import HTTPError, SSLError  # noqa: PLC0415 - comes with it

    try:
        yield
    except ApiException as error:
        raise _refused(error, asked) from error
    except AttributeError as error:
        # The client stumbles over its own error of a handshake, which has no body.
        if not isinstance(error.__context__, ApiException):
            raise
        raise _refused(error.__context__, asked) from error
    except SSLError as error:
        raise _tls(str(error), asked) from error
    except (HTTPError, OSError) as error:
        mend = f"see whether this host reaches the API server ({asked.access})"
        raise ClusterTrouble("unreachable", f"cannot {asked.what}: {_short(error)}", mend) from error
    except ValueError as error:
        # Its text may be the header with the token.
        fact = f"cannot {asked.what}: {type(error).__name__} in what was to be sent, or in the answer"
        raise ClusterTrouble(
            "refused", fact, f"see the login ({asked.access}), and a proxy before the API server"
        ) from None


def _refused(error: Any, asked: Asked) -> ClusterTrouble:
    if error.status:
        return answered(error.status, error.body, asked)
    # A stream that is not opened: the answer stands in the reason, as the WebSocket client writes it.
    found = _HANDSHAKE.match(str(error.reason))
    return answered(int(found["status"]), found["body"], asked) if found else _tls(error.reason, asked)


def answered(status: int, body: Any, asked: Asked) -> ClusterTrouble:
    """
    Say what an answer that is no success means.

    :param status: HTTP status
    :param body: the ``Status`` object as text, if it is one
    """
    said = _status(body)
    message, details = said.get("message", ""), said.get("details") or {}
    fact = f"cannot {asked.what}: {status} {_shown(message, asked)}".rstrip()
    if status == 401:
        mend = f"renew the login: its token is expired or revoked ({asked.access})"
        return ClusterTrouble("forbidden", f"cannot {asked.what}: 401, the login is not accepted", mend)
    if status == 403 and ((found := RULE.search(message)) or _UNSAID.search(message)):
        fact = f"{found['who'] if found else asked.access} may not {asked.what}"
        return ClusterTrouble("forbidden", fact, f"add the rule {asked.rule} to its Role; see include/kubernetes")
    if status == 404:
        return ClusterTrouble("missing", *_missing(asked, named=bool(details.get("name"))))
    if status == 422 and not details.get("kind"):
        # A JSON patch that does not fit: its test failed, or what it replaces is gone. What is not valid has a kind.
        return ClusterTrouble("conflict", f"cannot {asked.what}: it is not as it was read", _see_who(asked))
    kind = "refused" if _UNTYPED in message else _kind(status)
    return ClusterTrouble(
        kind, fact, _see_who(asked) if kind == "conflict" else _MENDS.get(kind) or _mend_refused(message)
    )


_MENDS: Mapping[Trouble, str] = {
    "expired": "read again",
    "unreachable": "try again; see the API server's own state",
}


def _shown(message: str, asked: Asked) -> str:
    """Return the API server's words without what it quotes of values: of a Secret's they may be the secret."""
    if asked.resource == "secrets":
        return "(what it says of a Secret may show a value, and is left out)" if message else ""
    return _VALUE.sub("got another type", message)


def _see_who(asked: Asked) -> str:
    where = f" -n {asked.namespace}" if asked.namespace else ""
    resource = asked.resource.partition("/")[0]
    return f"see who wrote it: kubectl{where} get {resource} {asked.name} -o yaml --show-managed-fields"


def _kind(status: int) -> Trouble:
    if status == 409:
        return "conflict"
    if status == 410:
        return "expired"
    return "unreachable" if status == 429 or status >= 500 else "refused"


def _status(body: Any) -> dict[str, Any]:
    try:
        found = json.loads(body or "{}")
    except (ValueError, TypeError):
        return {"message": " ".join(str(body).split())[:200]}
    return found if isinstance(found, dict) else {}


def _missing(asked: Asked, *, named: bool) -> tuple[str, str]:
    if named:
        return f"there is no {asked.what.partition(' ')[2]}", "make it, or name it as the cluster does"
    kind = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    return f"the cluster knows no {kind}", "install its custom resource definitions, or use another kind"


def _mend_refused(message: str) -> str:
    if "exceeded quota" in message:
        return "give the namespace more quota, or ask for less"
    if _UNTYPED in message:
        return "mend that field: its name, its type (quote a number that is a text), or that it stands twice"
    if "being terminated" in message:
        return "the namespace is being deleted: name another one, or wait and make it anew"
    return "mend what it names"


def _tls(reason: Any, asked: Asked) -> ClusterTrouble:
    fact = f"cannot {asked.what}: TLS: {' '.join(str(reason).split())[:200]}"
    if "CERTIFICATE" in fact.upper():
        return ClusterTrouble("refused", fact, f"see the certificate authority and server name of {asked.access}")
    # A handshake that breaks off is a server, or a balancer before it, that goes away.
    return ClusterTrouble("unreachable", fact, f"see whether this host reaches the API server ({asked.access})")


def _short(error: BaseException) -> str:
    """The last and plainest cause; urllib3 wraps its own objects' addresses in memory around it."""
    while error.__cause__ or error.__context__:
        inner = error.__cause__ or error.__context__
        if inner is None or not str(inner):
            break
        error = inner
    text = re.sub(r"<[^>]* object at 0x[0-9a-f]+>:? ?|HTTPS?ConnectionPool\([^)]*\): ?", "", str(error))
    return " ".join(text.split())[:200] or type(error).__name__
