"""
Requests through the entry, on fresh connections to each node, that say which color serves.

A whole split holds without exception. A share is held against the binomial distribution with the exact two-sided
("equal-tailed") test: C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the
case of the binomial", Biometrika 26 (1934), 404-413. Exact, because the normal approximations (Wald, Wilson) are
wrong by factors in the far tails that are wanted here. A node whose first sample lies outside is asked again for a
sample twice as large; only when that one, judged alone, lies outside too is the split not proven.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from secrets import token_hex
from typing import TypeVar

from bluegreen.catalog.models import Entry
from bluegreen.checks.fresh import TIMEOUT, Address, Answer, Asker, NoAnswer, asking, shown
from bluegreen.core.colors import Color, Split
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import CheckFailed
from bluegreen.core.evidence import NodeProof, Proof
from bluegreen.core.ports import Credentials

K = TypeVar("K")

WHOLE_ANSWERS = 50
SHARE_ANSWERS = 300
FEWEST_EXPECTED = 15
"""Answers that the smaller share is to expect: a 1 % share is asked for longer, or seeing none of it would pass."""
FIRST_ALPHA = 1e-2
SECOND_ALPHA = 1e-4
"""Both samples of a true split lie outside with a probability of at most 1e-2 x 1e-4 = 1e-6 a node."""

CONCURRENCY = 16
REQUEST_TIMEOUT = timedelta(seconds=5)
NODE_TIMEOUT = timedelta(seconds=10)
ENOUGH_FAILURES = 16
"""After so many a node is not asked further: the result stands, and a dead node must not hold a restore."""

FIRST_PAUSE = 0.2
"""Seconds before a proof is tried again."""
STICKY_KEY = "bluegreen-proof"
OUT_OF_TIME = "out of time"


def answers_needed(split: Split) -> int:
    """Return the size of a node's first sample."""
    if split.whole:
        return WHOLE_ANSWERS
    smaller = min(split.blue, split.green) / 100
    return max(SHARE_ANSWERS, math.ceil(FEWEST_EXPECTED / smaller))


def holds(split: Split, answers: Mapping[Color, int], alpha: float = FIRST_ALPHA) -> bool:
    """
    Tell whether answers by color are what a split would give.

    :param alpha: how often a true share may be refused, both sides together; a whole split knows no exception
    """
    blue, total = answers.get(Color.BLUE, 0), sum(answers.values())
    if total < answers_needed(split):
        return False
    if split.whole:
        return answers.get(split.whole, 0) == total
    lower, upper = tails(blue, total, split.blue / 100)
    return min(lower, upper) > alpha / 2


def tails(hits: int, total: int, share: float) -> tuple[float, float]:
    """Return the probabilities of at most and of at least so many hits; 0 < share < 1."""
    chances = [_chance(k, total, share) for k in range(total + 1)]
    return math.fsum(chances[: hits + 1]), math.fsum(chances[hits:])


def _chance(hits: int, total: int, share: float) -> float:
    # by logarithms: the factors alone leave the range of a float
    ways = math.lgamma(total + 1) - math.lgamma(hits + 1) - math.lgamma(total - hits + 1)
    return math.exp(ways + hits * math.log(share) + (total - hits) * math.log1p(-share))


@dataclass
class Tally:
    """
    One sample's counts.

    :param left: requests that are still to be sent
    """

    left: int
    answers: Counter[Color] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def take(self) -> bool:
        """Tell whether one more request is to be sent, and count it."""
        hangs = self.failures[TIMEOUT] > 0  # each more would cost the whole timeout
        if self.left <= 0 or hangs or self.failures.total() >= ENOUGH_FAILURES:
            return False
        self.left -= 1
        return True

    def fail(self, kind: str, example: str, count: int = 1) -> None:
        """Count what was no answer of a color."""
        self.failures[kind] += count
        self.examples.setdefault(kind, example)

    def count(self, found: Color | tuple[str, str]) -> None:
        """Count a color, or a failure's kind and example."""
        if isinstance(found, Color):
            self.answers[found] += 1
        else:
            self.fail(*found)

    def failed(self) -> str:
        """One line for people; empty without failures."""
        return ", ".join(
            f"{count} {kind}" + (f" (such as {self.examples[kind]})" if self.examples[kind] else "")
            for kind, count in self.failures.items()
        )


@dataclass(frozen=True)
class _Found:
    proof: NodeProof
    seen: str
    problem: str = ""


@dataclass(frozen=True)
class _Probe:
    """One node under one entry."""

    asker: Asker
    entry: Entry
    node: str
    address: Address
    split: Split
    concurrency: int
    request_timeout: timedelta
    cookie: str

    async def find(self, node_timeout: timedelta) -> _Found:
        """Ask until the split holds, is refuted, or the time is over."""
        samples: list[Tally] = []
        try:
            async with asyncio.timeout(node_timeout.total_seconds()):
                await self._samples(samples)
        except TimeoutError:
            limit = f"{node_timeout.total_seconds():g} s for the node"
            samples[-1].fail(OUT_OF_TIME, limit, max(1, _unanswered(self.split, samples)))
        return self._judge(samples)

    async def _samples(self, samples: list[Tally]) -> None:
        first = Tally(answers_needed(self.split))
        samples.append(first)
        await self._sample(first)
        if self.split.whole or first.failures or holds(self.split, first.answers, FIRST_ALPHA):
            return
        second = Tally(2 * answers_needed(self.split))
        samples.append(second)
        await self._sample(second)

    async def _sample(self, tally: Tally) -> None:
        await asyncio.gather(*(self._ask_on(tally) for _ in range(self.concurrency)))

    async def _ask_on(self, tally: Tally) -> None:
        while tally.take():
            tally.count(await self._ask())

    async def _ask(self) -> Color | tuple[str, str]:
        # In every place that a router may hash by; the query also passes any cache by.
        key = token_hex(8)
        address = replace(self.address, url=self.address.url.update_query({STICKY_KEY: key}))
        headers = {"Cookie": f"{self.cookie}={key}", "X-Bluegreen-Proof": key, "Cache-Control": "no-cache"}
        try:
            answer = await self.asker.ask(address, self.request_timeout, headers=headers)
        except NoAnswer as none:
            return none.kind, none.detail
        return color_of(answer, self.entry.color_header, self.asker)

    def _judge(self, samples: list[Tally]) -> _Found:
        answers, failures = _sum(s.answers for s in samples), _sum(s.failures for s in samples)
        proof = NodeProof(self.node, dict(answers), dict(failures))
        failed = ", ".join(filter(None, (sample.failed() for sample in samples)))
        seen = " and then ".join(_spelled(sample.answers) for sample in samples)
        if failed:
            return _Found(proof, seen, f"{self.node}: {failed}, of {proof.total} requests")
        # The last sample alone: the first one was the reason to take it.
        alpha = FIRST_ALPHA if len(samples) == 1 else SECOND_ALPHA
        if holds(self.split, samples[-1].answers, alpha):
            return _Found(proof, seen)
        return _Found(proof, seen, f"{self.node}: wanted blue/green {self.split}, found {seen}")


def color_of(answer: Answer, header: str, asker: Asker) -> Color | tuple[str, str]:
    """
    Return the color that an answer names, or the kind and an example of why it names none.

    A 5xx that names a color still says which color served: the split is what is proven, not the color's health.
    """
    if 300 <= answer.status < 400:
        return "redirect", asker.excerpt(f"{answer.status} to {answer.headers.get('Location', 'nowhere')}")
    named = {value.strip().lower() for value in answer.headers.getall(header, [])}
    if not named:
        return "without color", asker.excerpt(f"{answer.status} without {header}: {answer.text}")
    try:
        (name,) = named
        return Color(name)
    except ValueError:
        return "unknown color", asker.excerpt(f"{header}: {', '.join(sorted(named))}")


def prove(
    entry: Entry,
    nodes: Mapping[str, str],
    split: Split,
    credentials: Credentials | None = None,
    *,
    cookie: str = STICKY_KEY,
    concurrency: int = CONCURRENCY,
    request_timeout: timedelta = REQUEST_TIMEOUT,
    node_timeout: timedelta = NODE_TIMEOUT,
) -> Proof:
    """
    Ask every node through the entry which color serves, and hold the answers against a split. Raises nothing of its own.

    :param nodes: ``host:port`` of each node's entry by node name; none of them means unproven
    :param credentials: HTTP basic login of the entry
    :param cookie: the one by which the router knows a client: each request is another client
    :param concurrency: requests at one time to each node
    :param request_timeout: for one request
    :param node_timeout: for all requests to one node; what is open then counts as failed
    """
    if not nodes:
        return Proof(str(split), None, "no node's entry is known, so nothing was asked")

    async def ask_all() -> list[_Found]:
        session = asking(concurrency=concurrency * len(nodes), ca_file=entry.ca_file, credentials=credentials)
        async with session as asker:
            probes = [
                _Probe(asker, entry, node, _address(entry, where), split, concurrency, request_timeout, cookie)
                for node, where in nodes.items()
            ]
            return await asyncio.gather(*(probe.find(node_timeout) for probe in probes))

    try:
        found = asyncio.run(ask_all())
    except CheckFailed as error:
        return Proof(str(split), False, str(error))
    return _proof(entry, split, found)


def prove_again(ask: Callable[[], Proof], within: Deadline) -> Proof:
    """
    Ask again while a write may still be on its way to what routes requests, as in a cluster; two in a row must hold then.

    The pauses double, so that the tries are few: a split that leaks must not come through by many.

    :param ask: one proof
    :param within: how long it may be on its way; one try where that is nothing
    """
    proof = ask()
    if proof.proven is not False or within.left <= 0:
        return proof
    pauses = within.tries(FIRST_PAUSE, longest_pause=within.left)
    next(pauses)  # the first try is behind us
    for _ in pauses:
        if (proof := ask()).proven is False:
            continue
        if (proof := ask()).proven is not False:
            break
    return proof


def _address(entry: Entry, node: str) -> Address:
    return Address.of(entry.url, entry.path).pinned(node)


def _proof(entry: Entry, split: Split, found: list[_Found]) -> Proof:
    problems = [one.problem for one in found if one.problem]
    where = f"{shown(entry.url)}: "
    reason = "; ".join(problems) or ", ".join(f"{f.proof.node} {f.seen}" for f in found)
    return Proof(str(split), not problems, where + reason, tuple(one.proof for one in found))


def _unanswered(split: Split, samples: list[Tally]) -> int:
    wanted = answers_needed(split) * (1 if len(samples) == 1 else 2)
    return wanted - samples[-1].answers.total() - samples[-1].failures.total()


def _spelled(answers: Mapping[Color, int]) -> str:
    return " + ".join(f"{answers.get(color, 0)} {color}" for color in Color)


def _sum(counters: Iterable[Counter[K]]) -> Counter[K]:
    return sum(counters, Counter())
