"""The matrix of BCC's tools on machines that lack the runtimes of languages which some tools watch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tools.bcc_matrix import kernel_pairs, report, runtimes  # noqa: E402
from tools.bcc_matrix.cases import RUNTIMES, TOOLS, cases  # noqa: E402


def test_cases_say_what_they_need():
    assert runtimes.needed(["-L", "{perl_markers}"], "perlcalls") == ["perl_markers"]
    assert runtimes.needed(["1", "2"], "pythonstat") == ["python"]
    assert runtimes.needed(["1", "2"], "nodestat") == ["node_markers"]
    assert runtimes.needed(["-l", "java", "1", "2"], "ustat") == ["java"]
    assert runtimes.needed(["-m", "0", "postgres"], "dbslower") == ["postgres"]
    assert runtimes.needed(["-p", "{pid}"], "opensnoop") == []


@pytest.mark.skipif(not (TOOLS / "ucalls").exists(), reason="needs the scripts of Debian's bpfcc-tools")
def test_all_cases_of_runtimes_say_it():
    lost = [case.name for case in cases(every=True) if case.tool.startswith(RUNTIMES) and "{pid}" not in case.name]
    assert len(lost) > 40 and all(runtimes.needed(case.args, case.tool) for case in cases(every=True) if case.name in lost)


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def none(name: str) -> str:
        raise runtimes._NotInstalled

    monkeypatch.setattr(runtimes, "_program", none)
    found = runtimes.Runtimes(str(tmp_path))
    assert found.pid("ruby") == 0 and found.missing("ruby") == "ruby is not installed"
    result = {"tool": "rubycalls", "args": ["{ruby}"], "missing": found.missing("ruby")}
    assert report.verdict(result) == ("not installed", "ruby is not installed")
    found.close()


def test_what_is_compared_knows_what_differs():
    """Of two outputs that differ in what the workload determines the essences differ, too; times and pids do not count."""
    text = "PCOMM   PID     PPID    RET ARGS\ntrue    900     700       0 /bin/true one\nls      901     1         0 /bin/ls\n"
    first = kernel_pairs.essence("execsnoop", text, 700)
    assert first == ["PCOMM PID PPID RET ARGS", [["true", "0", "/bin/true one"]]]
    assert kernel_pairs.essence("execsnoop", text.replace("900", "955").replace(" 700", " 710"), 710) == first
    for wrong in (text.replace("one", "two"), text.replace("RET", "RES"), text.replace("0 /bin/true", "-2 /bin/true")):
        assert kernel_pairs.essence("execsnoop", wrong, 700) != first
    stacks = "  vfs_rmdir\n  do_rmdir\n    5\n"
    name = next(pair.name for pair in kernel_pairs.PAIRS if pair.words[0] == "stackcount")
    assert kernel_pairs.essence(name, stacks, 1) == ["vfs_rmdir", "do_rmdir", "5"]


def test_histograms_are_compared_by_what_was_counted():
    text = (
        "operation = read\n     usecs    : count     distribution\n  0 -> 1    : 12   |****|\n  2 -> 3    : 3   |*|\n\n"
        "operation = write\n     usecs    : count     distribution\n  4 -> 7    : 12   |****|\n"
    )
    name = next(pair.name for pair in kernel_pairs.PAIRS if pair.words[0] == "ext4dist")
    assert kernel_pairs.essence(name, text, 1) == ["usecs : count distribution", {"read": 15, "write": 12}]
    name = next(pair.name for pair in kernel_pairs.PAIRS if pair.words[0] == "biolatency")
    text = "     usecs    : count     distribution\n  0 -> 1    : 12   |****|\n\navg = 7 usecs, total: 90 usecs, count: 12\n"
    assert kernel_pairs.essence(name, text, 1) == ["usecs : count distribution", 12, ["usecs", "usecs", "12"]]
