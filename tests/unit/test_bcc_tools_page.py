"""docs/bcc_tools.md has the form that ``tools.bcc_matrix`` gives it, and says of every tool where it works or why not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.bcc_matrix.reasons import NOWHERE  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "bcc_tools.md"
VERDICTS = {"works", "attaches", "refused", "fails", "not", "-"}


def tables():
    """The page's tables: (heading, rows) each."""
    found: list[list[list[str]]] = [[]]
    for line in PAGE.read_text().splitlines():
        if line.startswith("| "):
            found[-1].append([cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")])
        elif not line.startswith("|") and found[-1]:
            found.append([])
    return [(head, body) for head, *body in filter(None, found)]


def rows():
    return tables()[0]


@pytest.mark.skipif(not PAGE.exists(), reason="the page is made by python -m tools.bcc_matrix")
def test_every_tool_has_a_verdict_or_a_reason():
    head, body = rows()
    assert head[0] == "tool" and {"6.1", "6.12"} <= set(head)
    kernels = len(head) - 3
    for tool, *cells in body:
        assert len(cells) == kernels + 2, tool
        good, most = map(int, cells[kernels].split("/"))
        assert good <= most and (good > 0) == any(cell.startswith("works") for cell in cells[:kernels]), tool
        verdicts = {cell.split()[0] for cell in cells[:kernels]}
        assert verdicts <= VERDICTS, (tool, verdicts)
        assert "works" in verdicts or cells[-1], f"{tool}: no reason is given"
    assert [row[0] for row in body] == sorted(row[0] for row in body)


@pytest.mark.skipif(not PAGE.exists(), reason="the page is made by python -m tools.bcc_matrix")
def test_the_counts_are_those_of_the_table():
    _, body = rows()
    best = [
        next((kind for kind in ("works", "attaches", "refused", "fails") if kind in {c.split()[0] for c in cells[:-2]}), "-")
        for _, *cells in body
    ]
    numbers = [int(word) for word in re.findall(r"(\d+) (?:work|attach|are refused|fail|not run here)\b", PAGE.read_text())]
    assert sum(numbers) == len(body) == len(best)
    works = [int(word) for word in re.findall(r"(\d+) work\b", PAGE.read_text())]
    assert sum(works) == best.count("works")


@pytest.mark.skipif(not PAGE.exists(), reason="the page is made by python -m tools.bcc_matrix")
def test_what_works_on_some_kernels_only_has_a_reason_for_the_others():
    _, body = rows()
    works = {tool for tool, *cells in body if any(cell.startswith("works") for cell in cells)}
    for tool, kernel, reason in tables()[1][1]:
        assert tool in works and kernel in rows()[0] and len(reason) > 10, tool


@pytest.mark.skipif(not PAGE.exists(), reason="the page is made by python -m tools.bcc_matrix")
@pytest.mark.parametrize("tool", NOWHERE)
def test_reasons_are_whole(tool):
    assert [row[-1] for row in rows()[1] if row[0] == tool] == [NOWHERE[tool]]
