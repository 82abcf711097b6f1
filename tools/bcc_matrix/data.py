"""What counts as a line of data of a tool, and what only looks like one: headings, notices, the clock, bars of nothing."""

from __future__ import annotations

import re

__all__ = ("line_of_data",)

_HEADING = re.compile(
    r"(Trac|Attach|Monitor|Runn|Sampl|Profil|Start|Print|Hit|Ctrl|Count|Collect|Watch|Detach|Summar|Hold|Possibly|WARN|ERROR|cannot |"
    r"Considering |Executing |If you do not see |Display kvm exit|LAddrPort|Function = |Process Name|Traceback|Exception|Current kernel)|"
    r"[\w.]*(Error|Exception|Interrupt)\b|File \"|target: |waker: |--\s+--|(hardirq|cpu|pid|disk|flags) = |[prut]:[^ ]*:|"
    r"\W*\d\d:\d\d:\d\d\W*$|\d\d:\d\d:\d\d loadavg|\[\d\d/\d\d/\d\d [\d:]+\]$|\[[\d:]+\] Top |\w{3} \w{3} +\d+ [\d:]+ \d{4}$|"
    r"\d+ -> \d+\s*: \d+\s*\|\s*\|$|"
    r"#\w|//|/?\*[ /]|[^{].*[;{]$|\}$"  # the tool's own program, which -v shows
)
_CLEAR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\(B|\x1b[=>]")

_BAR = r"\|\*"
#: Tools whose lines of data the general rule (no heading, and a digit or a bar in it) would not tell from others.
_EXPECT: dict[str, str] = {
    "argdist": rf"^[1-9]\d*\s+\S.*|{_BAR}",
    "bindsnoop": r"^([\d.]+\s+)?\d+\s+\S+\s+\S+\s+\S+\s+8081",
    "biolatpcts": r"^(read|write|discard|flush)\s+(-|[\d.]+[unm]?s?)|^\{\"read",
    "biotop": r"^\d+ .*\d+\.\d+$",
    "bpflist": r"^\d+\s+\S.*\s\w+\s+[1-9]\d*$",
    "cachetop": r"^\d+\s+\S+\s+.*\d+\.\d%",
    "compactsnoop": r"^\S+\s+\d+\s+\d+\s+ZONE",
    "cpuunclaimed": r"%CPU\s+\d|^\d{9,},",
    "criticalstat": r"^TASK: .* Total Time: +\d",
    "deadlock": r"^Cycle in lock order graph: ",
    "dirtop": r"^\d+\s+\d+\s+\d+\s+\d+\s+/",
    "drsnoop": r"\S+\s+\d+\s+\d+\.\d\d\s+\d+",
    "filetop": r"^\d+ .* [RDOS] ",
    "hardirqs": rf"^\S+\s+[1-9]\d*$|{_BAR}",
    "inject": r"$^",  # it prints nothing: calls fail
    "kvmexit": r"^(\d+\s+)*[A-Z_]+\s+[1-9]\d*$",
    "memleak": r"\d+ bytes in \d+ allocations",
    "netqtop": r"^(\d+|Total)\s+[1-9]",
    "nfsdist": _BAR,
    "ppchcalls": r"^(H_\w+|\d+ +\S.*) +[1-9]\d*( +[\d.]+)*$",
    "readahead": _BAR,
    "reset-trace": r"^(Checking|Needed to reset) ",
    "slabratetop": r"^\S+\s+\d+\s+\d+$",
    "softirqs": rf"^\S+\s+[1-9]\d*$|{_BAR}",
    "tcpcong": rf"^\S+/\d+\s+\S+/\d+\s+\d.*[1-9]\d*$|{_BAR}",
    "tcpsubnet": r"^\S+\.\d+/\d+\s+[1-9]|\"\S+/\d+\": *[1-9]",
    "tcpsynbl": _BAR,
    "tcptop": r"\d+\.\d+\.\d+\.\d+:\d+|\s\S*::\S*:\d+\s+\d+\s+\d+$",
    "tplist": r"^(b'|/\S+ )?\w+:\w+",
    "ttysnoop": r"typed on a terminal",
    **dict.fromkeys(
        ("javastat", "nodestat", "perlstat", "phpstat", "pythonstat", "rubystat", "tclstat", "ustat"), r"^\d+ .*\s[1-9]\d*(\s+\d+)*$"
    ),
    "virtiostat": r"^\S+\s+\S+\s+\S+\s+\d+\s+\d+",
}


def line_of_data(tool: str, text: str, expect: str = "") -> str:
    """The first line of data in a tool's output, or "".

    Args:
        tool: its name.
        text: what it printed.
        expect: a regular expression instead of the tool's own.

    >>> line_of_data("runqlat", "Tracing run queue latency... Hit Ctrl-C to end.\\n     0 -> 1 : 0 |   |\\n     2 -> 3 : 9 |***|")
    '2 -> 3 : 9 |***|'
    >>> line_of_data("netqtop", "Sat Nov 28 21:41:41 2026\\n 0  0  0")
    ''
    """
    expect = expect or _EXPECT.get(tool, "")
    for line in _CLEAR.sub("", text).splitlines():
        line = line.strip()
        if expect:
            if re.search(expect, line):
                return line
        elif line and not _HEADING.match(line) and re.search(r"\d|\|\*|b'", line):
            return line
    return ""
