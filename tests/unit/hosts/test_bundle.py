"""What goes to a far host: each program with all that it imports of ours, for the oldest Python that is taken."""

from __future__ import annotations

import ast
import inspect
import sys
from types import ModuleType

import pytest

from bluegreen.deployers import ssh_host
from bluegreen.hosts import bundle
from bluegreen.routers import haproxy_host, nginx_host

PROGRAMS = [haproxy_host, nginx_host, ssh_host]


def imports(module: ModuleType) -> set[str]:
    """What a module imports that is not the standard library's."""
    tree = ast.parse(inspect.getsource(module), feature_version=bundle.OLDEST)
    nodes = list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in (node for node in nodes if isinstance(node, ast.ImportFrom)):
        whole = {f"{node.module}.{alias.name}" for alias in node.names} & set(sys.modules)
        names |= whole or {node.module or ""}
    return {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_takes_with_it_all_that_it_imports(program: ModuleType) -> None:
    sent = [*bundle._SHARED, *getattr(program, "PARTS", ()), program]
    names = {module.__name__ for module in sent}
    for module in sent:
        assert imports(module) <= names, module.__name__
