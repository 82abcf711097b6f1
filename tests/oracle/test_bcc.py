"""Histograms held against those of the installed BCC (python3-bpfcc)."""

from __future__ import annotations

import ast
import contextlib
import io
import random
import sys
from typing import Any

import pytest

from harken.render.bcc_histogram import json_histogram, linear_lines, log2_lines, stars

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def table() -> Any:
    """BCC's module ``table``."""
    sys.path.append("/usr/lib/python3/dist-packages")
    try:
        import bcc.table as found
    except (ImportError, OSError) as error:
        pytest.skip(f"python3-bpfcc is not installed: {error}")
    finally:
        sys.path.remove("/usr/lib/python3/dist-packages")
    return found


def _printed(action: Any, *args: Any) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        action(*args)
    return out.getvalue()


def test_histograms_are_bccs(table: Any) -> None:
    rng = random.Random(5)
    for _ in range(300):
        counts = [rng.choice([0, 0, 1, rng.randrange(1 << rng.randrange(1, 40))]) for _ in range(rng.choice([1, 5, 33, 34, 65]))]
        for strip in (None, True, False):
            assert _printed(table._print_log2_hist, counts, "usecs", strip) == "".join(
                f"{line}\n" for line in log2_lines(counts, "usecs", strip)
            )
            assert _printed(table._print_linear_hist, counts, "x", strip) == "".join(
                f"{line}\n" for line in linear_lines(counts, "x", strip)
            )
        theirs = ast.literal_eval(_printed(table._print_json_hist, counts, "x", ("part", 1)))
        assert json_histogram(counts, "x", theirs["ts"], ("part", 1)) == theirs


def test_bars_are_bccs(table: Any) -> None:
    rng = random.Random(6)
    for _ in range(2000):
        most = rng.randrange(1, 10 ** rng.randrange(1, 12))
        value = rng.randrange(most + 1)
        assert stars(value, most, 40) == table._stars(value, most, 40)
