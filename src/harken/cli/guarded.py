"""Errors of commands that are used among other tools of text (``list``, ``symbolize``): a line on standard error that names the command, as
theirs do; and no error if the reader of the output has seen enough."""

from __future__ import annotations

import os
import sys

from ..base.errors import HarkenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("guarded", "tell")


def guarded(name: str, run: Callable[[], int]) -> int:
    """Runs a command with errors as text.

    Args:
        name: the command's.
        run: gives its exit status.
    """
    try:
        return run()
    except BrokenPipeError:  # "| head" has seen enough; the interpreter must not try to flush again
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
        return 0
    except HarkenError as error:
        tell(name, error)
        return error.exit_code


def tell(name: str, error: HarkenError) -> None:
    """Prints an error and its hint."""
    print(f"harken {name}: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"HINT: {error.hint}", file=sys.stderr)
