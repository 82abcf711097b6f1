"""``harken graph``'s command line, and graphs from probes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harken.base.diagnostics import Source, error
from harken.base.errors import LimitError, ProbeError, SourceError, UsageError
from harken.cli.commands import graph
from harken.cli.commands.graph_options import parse_time
from harken.session import function_graph_probes as probes


def test_options() -> None:
    found = graph.options(["-F", "vfs_*", "-F", "ksys_read", "--threshold", "1.5ms", "--depth", "3", "-O", "funcgraph-proc", "ls", "-l"])
    assert found.functions == ("vfs_*", "ksys_read") and found.threshold == 1_500_000 and found.depth == 3
    assert found.command == ("ls", "-l") and found.words == ("funcgraph-proc",)
    assert graph.options(["-F", "f", "--", "-x"]).command == ("-x",)
    assert graph.options(["-F", "f", "-c", "echo 'a b'"]).command == ("echo", "a b")


@pytest.mark.parametrize(
    "words",
    [
        ["-x", "/bin/sh"],
        ["-F", "f", "-p", "1", "ls"],
        ["-F", "f", "-c", "a", "b"],
        ["-t", "5parsec"],
        ["-t", "-1"],
        ["--depth", "-1"],
        ["-d", "0"],
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        graph.options(words)


def test_times() -> None:
    assert [parse_time(text) for text in ("20", "20us", "7ns", "2s", "0.5ms")] == [20_000, 20_000, 7, 2_000_000_000, 500_000]


class FakeTrace:
    """Events as ``harken.trace`` gives them."""

    losses = ()

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        for row in self.rows:
            yield type("Event", (), {"action": "printf", "values": row})()


def test_steps_from_probes() -> None:
    rows = [
        (10, 0, 7, 1, "uprobe:/bin/x:main", "x"),
        (20, 0, 7, 1, "uprobe:/bin/x:work", "x"),
        (50, 1, 7, 0, "uretprobe:/bin/x:work", 3),
        (90, 1, 7, 0, "uretprobe:/bin/x:main", 0),
    ]
    made = probes.ProbeGraph(FakeTrace(rows), "uprobe/uretprobe")  # type: ignore[arg-type]
    assert [(step.func, step.depth, step.duration, step.retval) for step in made.steps() if step.kind] == [
        ("work", 1, 30, 3),
        ("main", 0, 80, 0),
    ]
    assert made.comm(7) == "x" and made.comm(8) == "<...>"


def test_functions_are_chosen_by_glob() -> None:
    names = ["alpha", "beta", "betamax"]
    assert probes._choose(["b*", "beta"], names, "x") == ["beta", "betamax"]
    with pytest.raises(ProbeError) as caught:
        probes._choose(["betta"], names, "x")
    assert "beta" in caught.value.hint
    with pytest.raises(LimitError):
        probes._choose(["*"], [f"f{n}" for n in range(1001)], "x")


def test_leaves_among_several_cpus() -> None:
    from harken.analysis.function_graph import pair

    points = [(0, 0, 7, True, "f"), (1, 1, 8, True, "g"), (2, 1, 8, False, "g"), (3, 0, 7, False, "f")]
    assert [(step.func, step.kind, step.leaf is not None) for step in graph._by_cpu(pair(points))] == [
        ("f", 0, False),
        ("g", 0, True),
        ("f", 1, False),
    ]


RECORDING = Path(__file__).parent.parent / "oracle" / "fixtures" / "function_graph-6.12-trace-cmd-3.1.6.dat"


def graph_of_file(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert graph.run(["-i", str(RECORDING), *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_recording(capsys: pytest.CaptureFixture[str]) -> None:
    lines = graph_of_file(capsys)
    assert lines[4] == " 0) + 15.818 us   |  mutex_unlock();" and " 0)               |  do_sys_openat2() {" in lines
    chosen = graph_of_file(capsys, "-F", "path_*", "--depth", "2")
    assert chosen[4].strip().endswith("path_openat() {") and chosen[-1].endswith("}") and all("mutex_unlock" not in line for line in chosen)
    folded = graph_of_file(capsys, "--folded")
    assert any(line.startswith("busybox;do_sys_openat2;do_filp_open;path_openat ") for line in folded)
    table = graph_of_file(capsys, "--summary", "--top", "1", "--sort", "total")
    assert table[1].endswith("do_sys_openat2") and table[-1].startswith("... and ")


def test_a_recording_without_the_calls_that_are_wanted_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert graph.run(["-i", str(RECORDING), "-F", "path_opena", "--summary"]) == 0
    assert "no call of path_opena in this recording; did you mean path_openat" in capsys.readouterr().err
    assert graph.run(["-i", str(RECORDING), "-p", "999999"]) == 0
    assert "no calls of task 999999" in capsys.readouterr().err
    assert graph.run(["-i", str(RECORDING)]) == 0 and capsys.readouterr().err == ""


def test_a_recording_is_not_live() -> None:
    with pytest.raises(UsageError):
        graph.options(["-i", "trace.dat", "-x", "/bin/sh", "-F", "f"])


def test_errors_of_the_program_behind_a_graph_do_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_program: str, **_options: Any) -> None:
        raise SourceError((error("uprobe:x:main cannot be attached", Source("graph", "uprobe:x:main { }").span(0, 13), "run as root"),))

    monkeypatch.setattr(probes, "trace", refused)
    with pytest.raises(ProbeError, match="cannot be attached") as failed:
        probes._traced("uprobe:x:main { }", "uprobe/uretprobe", None, None, None)
    assert failed.value.hint == "run as root"
