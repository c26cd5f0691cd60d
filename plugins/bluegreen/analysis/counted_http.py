"""What all sources that are asked over HTTP share: session, credentials, time-out, status, JSON, masking."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar
from urllib.parse import urlencode

from yarl import URL

from bluegreen.analysis.counted import UNEXPECTED, Count, Told, counting, credentials_of, refuse
from bluegreen.analysis.prometheus_api import BadAnswer
from bluegreen.catalog.sources import HttpSection
from bluegreen.checks.fresh import Address, Answer, Asker, NoAnswer, asking
from bluegreen.core.colors import Color
from bluegreen.core.ports import Credentials, Secrets

S = TypeVar("S", bound=HttpSection)


@dataclass(frozen=True)
class Question:
    """
    One request.

    :param url: where it goes
    :param form: posted as a form; ``document`` as JSON; a GET without either
    :param query: of the address
    """

    url: str
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, Any] | None = None
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpCounts(ABC, Generic[S]):
    """
    A source over HTTP: a kind says what is asked, and what the answer tells.

    ``who`` is how errors call it; ``at_once``: one question tells both colors.

    :param secrets: asked when it is opened
    """

    who: ClassVar[str]
    at_once = True

    def __init__(self, section: S, secrets: Secrets) -> None:
        self.interval, self.section, self._secrets = section.interval, section, secrets

    @abstractmethod
    def question(self, colors: tuple[Color, ...], since: datetime, until: datetime) -> Question:
        """Say what is asked."""

    @abstractmethod
    def told(self, document: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:
        """
        Read an answer. What is not as documented may raise KeyError, TypeError, IndexError, ValueError.

        :raises BadAnswer: it tells nothing of any color
        """

    def document(self, answer: Answer) -> Any:
        """
        Return what is in a body.

        :raises ValueError: something else
        """
        return json.loads(answer.body)

    def headers(self, credentials: Credentials) -> Mapping[str, str] | None:  # noqa: ARG002 - for kinds with their own
        """
        Return the secret headers of an API that has its own way; None for HTTP basic or a bearer token.

        :raises SecretMissing: the connection lacks something
        """
        return None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Count]:
        """See ``CountSource``."""
        credentials = await credentials_of(self._secrets, self.section.connection)
        own = self.headers(credentials) if credentials else None
        sent = None if own is not None else credentials
        # Reading certificates takes a while: not on the loop that carries other watches.
        session = await asyncio.to_thread(asking, ca_file=self.section.ca_file, credentials=sent)
        async with session as asker:
            if own:
                asker = replace(asker, headers={**asker.headers, **own}, secrets=tuple(own.values()))  # noqa: PLW2901
            ask = partial(self._ask, asker)
            async with counting(ask, self.section.max_age, asker.excerpt, at_once=self.at_once) as count:
                yield count

    async def _ask(self, asker: Asker, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:
        answer = await self._answer(asker, self.question(colors, since, until))
        try:
            return self.told(self._read(answer), colors, since, until)
        except BadAnswer:
            raise
        except UNEXPECTED as error:
            raise BadAnswer(f"not what {self.who} answers: {answer.text}") from error

    async def _answer(self, asker: Asker, question: Question) -> Answer:
        address = Address(URL(question.url).update_query(question.query))
        body, headers = _body(question)
        try:
            return await asker.ask(
                address, self.section.timeout, method="POST" if body else "GET", headers=headers, body=body
            )
        except NoAnswer as none:
            raise BadAnswer(f"{self.who} gives no answer: {none}") from None

    def _read(self, answer: Answer) -> Any:
        if 300 <= answer.status < 400:
            place = answer.headers.get("Location", "nowhere")
            refuse(f"HTTP {answer.status}: redirected to {place}, which is not followed; url must be the last address")
        if answer.status == 400:
            refuse(f"{self.who} does not understand the question: HTTP {answer.said}", query=True)
        if answer.status != 200:
            refuse(f"HTTP {answer.said}")
        try:
            return self.document(answer)
        except ValueError:
            return refuse(f"no JSON {answer.said}")


def _body(question: Question) -> tuple[str | None, Mapping[str, str]]:
    if question.form is not None:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return urlencode(question.form, doseq=True), {**kind, **question.headers}
    if question.document is not None:
        return json.dumps(question.document), {"Content-Type": "application/json", **question.headers}
    return None, question.headers
