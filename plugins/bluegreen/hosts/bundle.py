"""One Python text of a host program and what it imports of ours, for a far host that has nothing but its Python."""

from __future__ import annotations

import inspect
import json
from types import ModuleType

from bluegreen.hosts import host_child, host_fence, host_files, host_stamp

BOOT = "import json,sys;exec(json.loads(sys.stdin.readline()))"
"""What ``python3 -c`` is to run: the first line of its input is the text, each further line is a call."""

_SHARED = (host_files, host_stamp, host_fence, host_child)

_TEXT = """\
import json, sys, types
for name, source in json.loads({sources!r}).items():
    whole = ""
    for part in name.split("."):
        parent, whole = whole, (whole + "." + part).lstrip(".")
        if whole not in sys.modules:
            sys.modules[whole] = types.ModuleType(whole)
            sys.modules[whole].__path__ = []
        if parent:
            setattr(sys.modules[parent], part, sys.modules[whole])
    exec(compile(source, name, "exec"), sys.modules[name].__dict__)
program, shared = sys.modules[{program!r}], sys.modules[{shared!r}]
for line in iter(sys.stdin.readline, ""):
    sys.stdout.write(json.dumps(shared.answer(program.FUNCTIONS, json.loads(line))) + "\\n")
    sys.stdout.flush()
"""


def text(program: ModuleType) -> str:
    """
    Return the program as one text for ``BOOT``; it answers each call, a line of JSON, with one line of JSON.

    :param program: a module with ``FUNCTIONS`` that imports the standard library and ``hosts.host_*`` only
    """
    sources = {module.__name__: inspect.getsource(module) for module in (*_SHARED, program)}
    return _TEXT.format(sources=json.dumps(sources), program=program.__name__, shared=host_files.__name__)
