"""What the matrix of BCC's tools takes for data, and which cases it runs again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tools.bcc_matrix import report  # noqa: E402
from tools.bcc_matrix.__main__ import _rest, _there  # noqa: E402
from tools.bcc_matrix.cases import Case  # noqa: E402
from tools.bcc_matrix.data import line_of_data  # noqa: E402


@pytest.mark.parametrize(
    ("tool", "text", "data"),
    [
        ("execsnoop", "PCOMM PID PPID RET ARGS\ntrue 14366 14300 0 /usr/bin/true", "true 14366 14300 0 /usr/bin/true"),
        ("runqlat", "Tracing run queue latency... Hit Ctrl-C to end.\n usecs : count distribution\n 0 -> 1 : 0 |    |", ""),
        ("runqlat", " 0 -> 1 : 0 |    |\n 2 -> 3 : 7 |**  |", "2 -> 3 : 7 |**  |"),
        ("slabratetop", "\x1b[H\x1b[J21:44:07 loadavg: 1.17 1.34 0.91 1/83 372\nCACHE ALLOCS BYTES\nfilp 86 22016", "filp 86 22016"),
        ("netqtop", "Sat Nov 28 21:41:41 2026\n 0 0 0", ""),
        ("tcpsubnet", "[11/28/26 22:34:09]\n127.0.0.1/32           40012", "127.0.0.1/32           40012"),
        ("dirtop", "Considering /tmp with inode_id 1\n34 13 2340 70 /tmp", "34 13 2340 70 /tmp"),
        ("opensnoop", 'Traceback (most recent call last):\n  File "x", line 3, in y\nKeyError: 3', ""),
        ("tcpconnlat", "#include <net/sock.h>\n    u64 ts;\n 237 worker 4 127.0.0.1 80 0.86", "237 worker 4 127.0.0.1 80 0.86"),
        ("biolatency", "{'ts': '12:00:00', 'data': [{'interval-start': 0}]}", "{'ts': '12:00:00', 'data': [{'interval-start': 0}]}"),
        ("inject", "u64 conds_met = 0;", ""),
        ("bindsnoop", "PID COMM\n0.000000 241 worker TCP 127.0.0.1 8081 ..NR. 0", "0.000000 241 worker TCP 127.0.0.1 8081 ..NR. 0"),
        ("bindsnoop", "0 236 worker UNKN 127.0.0.1 8081 ..NR. 0", "0 236 worker UNKN 127.0.0.1 8081 ..NR. 0"),
        ("criticalstat", "Finding critical section with IRQ disabled for > 100us", ""),
        ("criticalstat", "TASK: b'w' (pid 1 tid 1) Total Time: 703.5us", "TASK: b'w' (pid 1 tid 1) Total Time: 703.5us"),
        ("ppchcalls", "[02:45:00]\nPPC HCALL    COUNT\nH_READ   3", "H_READ   3"),
        ("ppchcalls", "PID    COMM    COUNT\n241    worker   12", "241    worker   12"),
        ("memleak", "[23:31:49] Top 10 stacks:\n 45 bytes in 1 allocations from stack", "45 bytes in 1 allocations from stack"),
    ],
)  # fmt: skip
def test_data_and_what_only_looks_like_it(tool: str, text: str, data: str) -> None:
    assert line_of_data(tool, text) == data


def result(tool: str, args: tuple[str, ...], stdout: str, attached: float = 1.0, stderr: str = "", status: int = 0) -> dict[str, object]:
    return {
        "tool": tool, "args": list(args), "stdout": stdout, "stderr": stderr, "attached": attached, "status": status, "interrupted": True,
        "data": "",
    }  # fmt: skip


def test_verdicts() -> None:
    assert report.verdict(result("filelife", (), "12:00:00 1 worker 0.01 x"))[0] == "works"
    assert report.verdict(result("filelife", (), "TIME PID COMM AGE(s) FILE"))[0] == "attaches"
    assert report.verdict(result("filelife", (), "12:00:00 1 worker 0.01 x", 0.0))[0] == "fails"
    refused = {**result("filelife", (), "", 0.0, "no such probe", 1), "interrupted": False}
    assert report.verdict(refused) == ("refused", "no such probe")


def test_what_is_run_again() -> None:
    cases = [Case(tool, (word,), ()) for tool in ("filelife", "dirtop", "solisten") for word in ("a", "b")]
    results = {
        "6.1": [result("filelife", ("a",), "1 2"), result("dirtop", ("a",), "")],
        "6.12": [result("filelife", ("b",), "1 2")],
    }
    again = [(case.tool, *case.args) for case in _rest(cases, "6.1", results)]
    assert again == [("dirtop", "a"), ("solisten", "a")]
    results["6.12"] = []
    assert ("filelife", "b") in [(case.tool, *case.args) for case in _rest(cases, "6.1", results)]


def test_guests_have_no_runtimes_but_python() -> None:
    assert _there("pythoncalls", ("{python}",)) and _there("opensnoop", ("-p", "{pid}"))
    assert not _there("javacalls", ("{java}",)) and not _there("perlstat", ("1", "2")) and not _there("ustat", ("-l", "java", "-C"))


def test_the_page_tells_stand_ins_and_variants_that_show_nothing() -> None:
    line = "12:00:00 1 worker 0.01 x"
    refused = {**result("filelife", ("-x",), "", 0.0, "no such probe", 1), "interrupted": False}
    module = {**result("zfsslower", ("0",), "12:00:00 worker 1 W 9 0 2.10 x"), "stand_in": "module"}
    page = report.page({"6.1": [result("filelife", (), line), refused, module]}, {})
    assert "of 2 tools: 2 work (1 of them with a stand-in only)." in page
    assert "With a stand-in only (1): zfsslower." in page and "kernel_stand_in" in page
    assert "| filelife -x | no such probe |" in page.partition("## Variants")[2]
    assert "Of 9 commands, 3 were run on at least one kernel; 2 of them printed" in report.page(
        {"6.1": [result("filelife", (), line), refused, module]}, {}, 9
    )
    plain = report.page({"6.1": [result("filelife", (), line)]}, {})
    assert "of 1 tools: 1 work." in plain and "kernel_stand_in" not in plain and "## Variants" not in plain
