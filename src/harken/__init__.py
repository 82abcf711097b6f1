"""harken: dynamic tracing for Linux.

``import harken`` costs nothing; names are loaded on first use (PEP 562).

    >>> import harken
    >>> harken.__version__
    '0.1.0'

Count the files that processes open, for a second (needs root)::

    import harken

    with harken.trace("tracepoint:syscalls:sys_enter_openat { @[comm] = count(); }") as t:
        t.run(1.0)
        for comm, count in t.maps["@"].items():
            print(comm, count)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import ftrace as ftrace
    from .base.errors import HarkenError as HarkenError
    from .session.api import Trace as Trace
    from .session.api import trace as trace
    from .symbols.symbolizer import Symbolizer as Symbolizer

__all__ = ("HarkenError", "Symbolizer", "Trace", "__version__", "ftrace", "trace")

__version__ = "0.1.0"

_LAZY = {"trace": "session.api", "Trace": "session.api", "HarkenError": "base.errors", "Symbolizer": "symbols.symbolizer"}


def __getattr__(name: str) -> Any:
    if name == "ftrace":
        return __import__("harken.ftrace", fromlist=["instance"])  # which keeps it here
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'harken' has no attribute {name!r}")
    return _keep(name, getattr(__import__(f"harken.{module}", fromlist=[name]), name))


def _keep(name: str, value: Any) -> Any:
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, "ftrace"})
