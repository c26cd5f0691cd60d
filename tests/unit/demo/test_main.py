"""What the demo refuses before it starts anything."""

from __future__ import annotations

import os
import subprocess
import sys

from demo.shop import ROOT


def refused(*arguments, **environment):
    ended = subprocess.run(
        [sys.executable, "-m", "demo.main", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    return ended.stderr


def test_a_router_that_there_is_no_demo_of_is_refused_with_what_there_is():
    said = refused("--router", "istio")
    assert "no ROUTER=istio" in said
    assert "allowed is ROUTER=kubernetes, or none" in said


def test_without_kubernetes_programs_it_says_how_to_get_them(tmp_path):
    said = refused("--router", "kubernetes", XDG_CACHE_HOME=str(tmp_path), KUBEBUILDER_ASSETS="")
    assert "not built: kube-apiserver" in said
    assert "`make kubernetes`" in said
