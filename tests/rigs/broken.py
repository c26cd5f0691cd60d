"""A service over a real rig that a test breaks, and what `bluegreen diagnose` says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from bluegreen.cli.main import main
from bluegreen.core.colors import Color, Split
from bluegreen.core.stamp import Expected, Phase, Stamp, now_utc
from demo.processes import LOOPBACK

BLUE = Split.whole_on(Color.BLUE)
VERSIONS = {Color.BLUE: "1.0.0", Color.GREEN: "1.0.0"}


@dataclass
class Broken:
    """
    A service file over a rig's nodes and targets.

    :param rig: a real one, put right
    :param folder: of the service file
    :param read: returns and forgets what was printed
    :param sections: of the service file, as far as they differ
    """

    rig: Any
    folder: Path
    read: Callable[[], Any]
    sections: dict[str, Any] = field(default_factory=dict)

    def stamp(
        self,
        phase: Phase = Phase.CLAIMED,
        split: Split = BLUE,
        lease: int = 60,
        epoch: int = 1,
        expected: Expected | None = None,
        **more: Any,
    ) -> None:
        """Let both nodes bear a release's stamp."""
        until = now_utc() + timedelta(seconds=lease) if phase.transitional else None
        fields = {"versions": VERSIONS, "at": now_utc(), "why": "a test"} | more
        mark = Stamp(epoch, "run@1", str(phase), phase, back_to=Color.BLUE, lease=until, **fields)
        self.rig.router().shift(split, expected, mark)

    def green(self, *targets: str) -> None:
        """Let green's targets be others than the router's."""
        self.sections["colors"] = self._colors() | {"green": {"targets": list(targets)}}

    def node(self, number: int, **fields: Any) -> None:
        """Change a node of the service file."""
        self.sections.setdefault("nodes", self.rig.catalog())[number].update(fields)

    def diagnose(self, *options: str) -> SimpleNamespace:
        """Run the command as a person would: its first three lines, all of it, its exit code."""
        (self.folder / "shop.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(self._service(), default=str))))
        self.read()
        code = main(["--services", str(self.folder), "diagnose", "shop", *options])
        out = self.read().out
        return SimpleNamespace(code=code, out=out, head="\n".join(out.splitlines()[:3]))

    def _colors(self) -> dict[str, Any]:
        addresses = self.rig.backends.addresses
        return {str(color): {"targets": [f"http://{one}" for one in addresses[color]]} for color in Color}

    def _service(self) -> dict[str, Any]:
        sections, kind = dict(self.sections), self.rig.name.partition("-")[0]
        nodes = sections.pop("nodes", self.rig.catalog())
        entry = {"url": f"http://{LOOPBACK}:{self.rig.nodes[0].entry_port}"} | sections.pop("entry", {})
        backends = {str(color): f"shop-{color}" for color in Color}
        return {
            "service": "shop",
            "entry": entry,
            "router": {"type": kind, "nodes": nodes, "backends": backends} | sections.pop("router", {}),
            "colors": self._colors(),
            "health": {"timeout": "500ms"},
            "deploy": {"type": "command", "command": ["true"]},
        } | sections
