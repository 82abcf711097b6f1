"""The doctor's report as text for people and as JSON for programs.

Every line of the text is "STATE  NAME  WHAT"; below a "no" stand why and what to do.  Neighbours with the same remedy share it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    # records of probes.doctor, which this package may not import
    Finding = Any
    Report = Any


__all__ = ("text", "plain", "wrapped")

_MARKS = {"yes": "yes", "no": "no", "unknown": "?", "info": "-", "some": "some"}
_COLOURS = {"yes": "\x1b[32m", "no": "\x1b[31m", "unknown": "\x1b[33m", "some": "\x1b[33m", "info": "\x1b[2m"}
_BOLD, _DIM, _OFF = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_STATE = 4
#: Sections whose members are many and alike: one line unless all is wanted.
_FOLDED = ("programs", "maps")


def plain(report: Report) -> dict[str, Any]:
    """The report as dictionaries and lists, for JSON.  Empty fields of findings are left out."""
    return {
        "kernel": report.kernel,
        "machine": report.machine,
        "summary": [_plain(finding) for finding in report.verdict],
        "sections": [
            {"key": section.key, "title": section.title, "findings": [_plain(finding) for finding in section.findings]}
            for section in report.sections
        ],
    }


def _plain(finding: Finding) -> dict[str, str]:
    fields = ("name", "title", "state", "detail", "reason", "errno", "call", "cause", "fix")
    return {field: getattr(finding, field) for field in fields if getattr(finding, field)}


def text(report: Report, *, colour: bool = False, width: int = 100, everything: bool = False) -> Iterator[str]:
    """The lines of the report, without line ends.

    Args:
        colour: use ANSI colours.
        width: columns of the terminal.
        everything: every member of long lists, and options and settings that are as they should be.
    """
    width = max(60, min(width, 140))
    yield _paint(f"{report.kernel} on {report.machine}", _BOLD, colour)
    yield ""
    yield _paint("In short", _BOLD, colour)
    yield from _lines(report.verdict, colour, width)
    for section in report.sections:
        findings = section.findings
        if section.key in _FOLDED and not everything:
            yield ""
            yield _paint(section.title, _BOLD, colour)
            yield from _folded(findings, colour, width)
            continue
        if section.key == "config" and not everything:
            findings = tuple(finding for finding in findings if finding.state != "yes")
        yield ""
        yield _paint(section.title, _BOLD, colour)
        yield from _lines(findings, colour, width)


def _lines(findings: Sequence[Finding], colour: bool, width: int) -> Iterator[str]:
    names = max((len(finding.title) for finding in findings), default=0)
    names = min(names, 44)
    indent = 2 + _STATE + 2 + names + 2
    for index, finding in enumerate(findings):
        mark = _paint(f"{_MARKS.get(finding.state, finding.state):<{_STATE}}", _COLOURS.get(finding.state, ""), colour)
        lines = wrapped(finding.detail, width - indent)
        yield f"  {mark}  {finding.title:<{names}}  {lines[0]}".rstrip()
        for line in lines[1:]:
            yield " " * indent + line
        following = findings[index + 1] if index + 1 < len(findings) else None
        shared = following is not None and following.state == finding.state and following.fix == finding.fix
        same = shared and following is not None and _why(following) == _why(finding)
        if finding.reason and not (same and finding.fix):
            yield from _remark("why", finding.reason, colour, width)
        if finding.fix and not shared:
            yield from _remark("fix", finding.fix, colour, width)


def _why(finding: Finding) -> str:
    return str(finding.cause or finding.reason)


def _folded(findings: Sequence[Finding], colour: bool, width: int) -> Iterator[str]:
    """ "yes  hash, array, ..." and one line for each group of others that have the reason in common."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        key = ("yes", "", "") if finding.state == "yes" else (finding.state, finding.cause or finding.reason, finding.fix)
        groups.setdefault(key, []).append(finding)
    for (state, _, advice), members in groups.items():
        mark = _paint(f"{_MARKS.get(state, state):<{_STATE}}", _COLOURS.get(state, ""), colour)
        lines = wrapped(", ".join(finding.title for finding in members), width - 2 - _STATE - 2)
        yield f"  {mark}  {lines[0]}"
        for line in lines[1:]:
            yield " " * (2 + _STATE + 2) + line
        if state != "yes":
            if members[0].reason:
                yield from _remark("why", members[0].reason, colour, width)
            if advice:
                yield from _remark("fix", advice, colour, width)


def _remark(word: str, content: str, colour: bool, width: int) -> Iterator[str]:
    start = " " * (2 + _STATE + 2)
    lines = wrapped(content, width - len(start) - 5)
    yield start + _paint(word, _DIM, colour) + "  " + lines[0]
    for line in lines[1:]:
        yield start + "     " + line


def wrapped(content: str, width: int) -> list[str]:
    """Text in lines of at most ``width`` columns, broken at blanks; a longer word has a line of its own.

    Example:
        >>> wrapped("one two three", 7)
        ['one two', 'three']
        >>> wrapped("", 7)
        ['']
    """
    lines, line = [], ""
    for word in content.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    lines.append(line)
    return lines


def _paint(content: str, code: str, colour: bool) -> str:
    return f"{code}{content}{_OFF}" if colour and code else content
