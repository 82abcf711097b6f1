"""``trace-cmd options``: what ``report -O`` understands.

trace-cmd's handlers of single events are plugins in files; harken's are built in, with the same options.
"""

from __future__ import annotations

from .arguments import parse

__all__ = ("run", "OPTIONS", "text")

#: (plugin, option, description, whether it is on)
OPTIONS = (
    ("ftrace", "parent", "Print parent of functions for function events", False),
    ("ftrace", "indent", "Try to show function call indents, based on parents", True),
    ("ftrace", "offset", "Show function names as well as their offsets", False),
    ("fgraph", "tailprint", "Print function name at function exit in function graph", False),
    ("fgraph", "depth", "Show the depth of each entry", False),
)


def text() -> str:
    """The options as trace-cmd prints them."""
    pieces: list[str] = []
    before = ""
    for plugin, name, what, on in OPTIONS:
        if before:
            pieces.append(("-" if plugin == before else "=") * 12 + "\n")
        pieces.append(f"  plugin:\t{plugin}\n  option:\t{name}\n    desc:\t{what}\n     set:\t{int(on)}\n")
        before = plugin
    return "".join(pieces)


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, _ = parse(argv, "h", ("help",))
    print("usage:\n  harken trace-cmd options" if pairs else text(), end="\n" if pairs else "")
    return 0
