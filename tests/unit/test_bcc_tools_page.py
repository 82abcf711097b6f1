"""docs/bcc_tools.md has the form that ``tools.bcc_matrix`` gives it, and says of every tool where it works or why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "bcc_tools.md"
VERDICTS = {"works", "attaches", "refused", "fails", "-"}


def rows():
    lines = PAGE.read_text().splitlines()
    table = [line for line in lines if line.startswith("| ")]
    head, *body = [[cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")] for line in table]
    return head, body


@pytest.mark.skipif(not PAGE.exists(), reason="the page is made by python -m tools.bcc_matrix")
def test_every_tool_has_a_verdict_or_a_reason():
    head, body = rows()
    assert head[0] == "tool" and {"6.1", "6.12"} <= set(head)
    kernels = len(head) - 2
    for tool, *cells in body:
        assert len(cells) == kernels + 1, tool
        verdicts = {cell.split()[0] for cell in cells[:kernels]}
        assert verdicts <= VERDICTS, (tool, verdicts)
        assert "works" in verdicts or cells[-1], f"{tool}: no reason is given"
    assert [row[0] for row in body] == sorted(row[0] for row in body)


@pytest.mark.skipif(not PAGE.exists(), reason="the page is made by python -m tools.bcc_matrix")
def test_the_counts_are_those_of_the_table():
    _, body = rows()
    best = [
        next((kind for kind in ("works", "attaches", "refused", "fails") if kind in {c.split()[0] for c in cells[:-1]}), "-")
        for _, *cells in body
    ]
    numbers = [int(word) for word in re.findall(r"(\d+) (?:work|attach|are refused|fail)\b", PAGE.read_text())]
    assert sum(numbers) == len(body) == len(best)
    works = [int(word) for word in re.findall(r"(\d+) work\b", PAGE.read_text())]
    assert sum(works) == best.count("works")
