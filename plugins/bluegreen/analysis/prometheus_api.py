"""Prometheus's HTTP API as a source: one finite, fresh number a question, or a sentence that says why there is none."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn
from urllib.parse import urlencode

from bluegreen.analysis.polled import Ask
from bluegreen.analysis.promql import promql
from bluegreen.catalog.evidence import Prometheus, PrometheusRule
from bluegreen.checks.fresh import Address, Answer, Asker, NoAnswer, asking
from bluegreen.core.colors import Color
from bluegreen.core.errors import NoNumber, QueryRefused, SecretPending
from bluegreen.core.ports import Credentials, Secrets

LONGEST_GET = 2000
"""Characters of a query that still goes into the address; a longer one is posted."""
PENDING = 0.2
"""Seconds between two looks at a connection that is on its way."""
SKEW = 10.0
"""Seconds by which our clock and Prometheus's may differ, as the guard allows."""
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_SELECTOR = re.compile(r"""\s*[a-zA-Z_:][\w:]*\s*(\{(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^{}"'])*\})?\s*""")


class PrometheusSource:
    """
    See ``analysis/polled.py``.

    :param secrets: asked when it is opened: a restore or a guard never needs metrics
    :param clock: seconds since 1970
    """

    def __init__(self, evidence: Prometheus, secrets: Secrets, clock: Callable[[], float] = time.time) -> None:
        self.interval = evidence.interval
        self._evidence, self._secrets, self._clock = evidence, secrets, clock

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Ask]:
        """
        Ask within this.

        :raises SecretMissing: a connection that it needs is not there
        :raises CheckFailed: its certificate authority cannot be read
        """
        credentials, ca_file = await self._credentials(), self._evidence.ca_file
        # Reading certificates takes a while: not on the loop that carries other watches.
        session = await asyncio.to_thread(asking, ca_file=ca_file, credentials=credentials)
        async with session as asker:
            yield partial(self._number, asker)

    async def _credentials(self) -> Credentials | None:
        while self._evidence.connection:
            try:
                return self._secrets(self._evidence.connection)
            except SecretPending:
                await asyncio.sleep(PENDING)
        return None

    async def _number(self, asker: Asker, rule: PrometheusRule, color: Color, elapsed: float) -> float:
        query = self._fresh_only(promql(self._evidence, rule, color, elapsed))
        address = Address.of(self._evidence.url, "/api/v1/query")
        try:
            if len(query) > LONGEST_GET:
                body = urlencode({"query": query})
                answer = await asker.ask(address, self._evidence.timeout, method="POST", headers=_FORM, body=body)
            else:
                asked = Address(address.url.with_query({"query": query}))
                answer = await asker.ask(asked, self._evidence.timeout)
        except NoAnswer as none:
            raise NoNumber(f"Prometheus gives no answer: {none}") from none
        try:
            at, value = sample_in(answer)
        except BadAnswer as bad:
            kind = QueryRefused if bad.refused else NoNumber
            raise kind(asker.excerpt(str(bad))) from None  # its own text is not masked
        self._is_fresh(at)
        return value

    def _fresh_only(self, query: str) -> str:
        # Prometheus takes a sample for up to five minutes, and gives it the time of the question; timestamp() tells the
        # sample's own time, but only of a plain selector. What has a range in it is as fresh as its range.
        if not _SELECTOR.fullmatch(query):
            return query
        return f"{query} and time() - timestamp({query}) <= {self._evidence.max_age.total_seconds():g}"

    def _is_fresh(self, at: float) -> None:
        age, most = self._clock() - at, self._evidence.max_age.total_seconds() + SKEW
        if age > most:
            raise NoNumber(f"stale: the sample is {age:.0f} s old by our clock, at most {most:.0f} s are allowed")
        if age < -most:
            raise NoNumber(f"Prometheus's clock is {-age:.0f} s ahead of ours: nobody knows how old the sample is")


class BadAnswer(ValueError):
    """
    An answer without a number.

    :param refused: Prometheus does not understand the query
    """

    def __init__(self, fact: str, *, refused: bool = False) -> None:
        super().__init__(fact)
        self.refused = refused


def sample_in(answer: Answer) -> tuple[float, float]:
    """
    Return the one sample of an answer: seconds since 1970, and its finite value.

    :raises BadAnswer: there is none; NaN and Inf are none
    """
    if 300 <= answer.status < 400:
        place = answer.headers.get("Location", "nowhere")
        _bad(
            f"HTTP {answer.status}: redirected to {place}, which is not followed; evidence.url must be the last address"
        )
    try:
        told = json.loads(answer.body)
    except ValueError:
        _bad(f"{'no JSON' if answer.status == 200 else 'HTTP'} {answer.said}")
    if isinstance(told, dict) and told.get("status") == "error":
        kind, text = told.get("errorType"), told.get("error")
        raise BadAnswer(f"Prometheus says {kind}: {text}", refused=kind == "bad_data")
    if answer.status != 200:
        _bad(f"HTTP {answer.said}")
    try:
        at, value = _one(told["data"]["resultType"], told["data"]["result"])
        return float(at), _finite(value)
    except (KeyError, TypeError, IndexError) as error:
        raise BadAnswer(f"not what Prometheus answers: {answer.text}") from error


def _one(kind: str, result: Any) -> tuple[float, str]:
    if kind == "scalar":
        return result[0], result[1]
    if kind != "vector":
        _bad(
            f"the query gives a {kind}, wanted one number" + ("; a range needs rate() or the like" * (kind == "matrix"))
        )
    if not result:
        _bad("empty: there is no such series, or too few or too old samples")
    if len(result) > 1:
        _bad(f"{len(result)} series, wanted one; sum() them or select one: {' '.join(_series(s) for s in result[:3])}")
    if "value" not in result[0]:
        _bad("the query gives a histogram, wanted one number; use histogram_quantile()")
    return result[0]["value"][0], result[0]["value"][1]


def _series(sample: Mapping[str, Any]) -> str:
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in sample["metric"].items()) + "}"


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        _bad(f"the value is {text!r}, wanted a number")
    if math.isnan(value):
        _bad("NaN: something was divided by zero, as when nothing was counted")
    if math.isinf(value):
        _bad(f"{text}: something was divided by zero")
    return value


def _bad(fact: str) -> NoReturn:
    raise BadAnswer(fact)
