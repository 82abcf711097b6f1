"""``harken doctor``: what this machine allows a tracer, why not more, and how to get more.

Everything is tried on the spot with probes that do nothing, and undone.  Nothing is mounted or changed.
"""

from __future__ import annotations

import os
import sys

from ...base.record import Record

__all__ = ("NAME", "HELP", "Options", "run")

NAME = "doctor"
HELP = "tell what this machine allows, and how to allow more"


class Options(Record):
    """The command's options."""

    json: bool = False
    everything: bool = False
    colour: bool = False
    width: int = 100


def options(argv: list[str]) -> Options:
    """The options in the arguments after the command's name."""
    import argparse

    parser = argparse.ArgumentParser(prog=f"harken {NAME}", description=HELP[0].upper() + HELP[1:] + ".")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("-v", "--verbose", action="store_true", help="every program type, map type and kernel option")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="colours; auto: on a terminal (default)")
    found = parser.parse_args(argv)
    terminal = sys.stdout.isatty()
    colour = found.color == "always" or (found.color == "auto" and terminal and not os.environ.get("NO_COLOR"))
    try:
        width = int(os.environ.get("COLUMNS", "")) if os.environ.get("COLUMNS") else os.get_terminal_size(1).columns
    except (OSError, ValueError):
        width = 100
    return Options(found.json, found.verbose, colour, width)


def run(argv: list[str]) -> int:
    """Runs the command; the exit status is 0 whatever the machine allows."""
    chosen = options(argv)
    from ...kernel.kernel import live
    from ...probes.doctor import examine
    from ...render.doctor import plain, text

    report = examine(live())
    if chosen.json:
        import json

        print(json.dumps(plain(report), indent=2, ensure_ascii=False))
    else:
        lines = text(report, colour=chosen.colour, width=chosen.width, everything=chosen.everything)
        print("\n".join(lines))
    sys.stdout.flush()
    return 0
