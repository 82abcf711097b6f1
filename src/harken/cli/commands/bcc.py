"""``harken bcc SCRIPT ARGS...``: runs a script that was written for BCC, as ``python -m harken.bcc`` does."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("HELP", "NAME", "run")

NAME = "bcc"
HELP = "run a Python script written for BCC"


def run(argv: Sequence[str]) -> int:
    """The script gets an interpreter of its own: exit handlers, signals and tracebacks are then as it expects them."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "harken.bcc", *argv])
