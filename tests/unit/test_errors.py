"""What errors carry: the hint is also what Python's traceback shows below them."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from harken.base.errors import HarkenError, KernelError, ProbeError


def shown(error: BaseException) -> list[str]:
    return [line for line in "".join(traceback.format_exception_only(error)).splitlines() if line.startswith("HINT")]


def test_tracebacks_show_the_hint_also_one_that_is_given_later() -> None:
    error = KernelError("the kernel refuses", errno=22)
    assert shown(error) == []
    error.hint = "ask it again"
    error.add_note("somebody's own")
    error.hint = "ask it another time"
    assert shown(error) == ["HINT: ask it another time"] and "somebody's own" in error.__notes__
    error.hint = ""
    assert shown(error) == [] and error.__notes__ == ["somebody's own"]


@pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_copies_keep_it(copied: object) -> None:
    assert callable(copied)
    error: HarkenError = copied(ProbeError("there is none", "take another"))
    assert (error.message, error.hint, shown(error)) == ("there is none", "take another", ["HINT: take another"])
