"""Write the table of docs/unsafe-changes.md anew: ``python -m tools.unsafe_changes``."""

from __future__ import annotations

from pathlib import Path

from bluegreen.migrations.findings import Hazard
from bluegreen.migrations.ports import Phase
from bluegreen.migrations.rules.table import RULES, Rule

PAGE = Path(__file__).parents[1] / "docs" / "unsafe-changes.md"
BEGIN, END = "<!-- rules -->", "<!-- /rules -->"
HEAD = ("| rule | expand | contract | why | write instead |", "|---|---|---|---|---|")


def table() -> str:
    """Return the rules as Markdown."""
    return "\n".join([*HEAD, *map(_row, RULES.values())])


def _row(rule: Rule) -> str:
    cells = [f"`{rule.name}`", *(_cell(rule.hazard(phase)) for phase in (Phase.EXPAND, Phase.CONTRACT))]
    return f"| {' | '.join([*cells, rule.why, rule.instead])} |"


def _cell(hazard: Hazard | None) -> str:
    return f"`{hazard}`" if hazard else "no"


def page(text: str) -> str:
    """Return the page with the table as the rules are now."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
