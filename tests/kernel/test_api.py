"""The library on the real kernel: ``harken.trace`` and the examples of its docstrings."""

from __future__ import annotations

import doctest
import os
import textwrap
from typing import TYPE_CHECKING

import pytest

import harken
from harken.base.errors import HarkenError, LossError, SourceError, UsageError

if TYPE_CHECKING:
    from types import ModuleType

pytestmark = pytest.mark.kernel

OPEN = "tracepoint:syscalls:sys_enter_openat"


def blocks(module: ModuleType) -> list[str]:
    """The indented code blocks of a module's docstring that use ``harken.trace``."""
    lines = (module.__doc__ or "").splitlines()
    found: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("    ") or (not line and found[-1]):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    texts = [textwrap.dedent("\n".join(block)) for block in found]
    return [text for text in texts if "harken.trace" in text and ">>>" not in text]


def test_the_examples_of_the_docstrings_run(capsys: pytest.CaptureFixture[str]) -> None:
    import harken.session.api as api

    ran = 0
    for module in (harken, api):
        for block in blocks(module):
            code = block.replace("t.run(1.0)", "import os; os.close(os.open('/dev/null', 0)); t.run(0.05)").replace(
                "duration=10", "duration=0.05"
            )
            exec(compile(code, module.__name__, "exec"), {})
            ran += 1
    assert ran == 2
    assert capsys.readouterr().out
    assert doctest.testmod(harken).failed == 0


def opens(path: str = "/dev/null", times: int = 1) -> None:
    for _ in range(times):
        os.close(os.open(path, os.O_RDONLY))


def mine(program: str, **options: object) -> harken.Trace:
    own = f'pid == {os.getpid()} && (str(args.filename) == "/dev/null" || str(args.filename) == "/dev/zero")'
    return harken.trace(f"{OPEN} /{own}/ {{ {program} }}", **options)  # type: ignore[arg-type]


def test_maps_are_python_values() -> None:
    with mine('@n = count(); @by[comm, args.flags] = count(); @h = hist(3); @s = stats(4); @a = avg(5); @t["k"] = (1, "x");') as t:
        opens(times=3)
        t.run(0.01)
        assert t.maps["@n"] == 3
        (key,) = t.maps["@by"]
        assert isinstance(key, tuple) and key[1] & os.O_RDWR == 0
        assert t.maps["@by"][key] == 3
        assert [(bucket.low, bucket.high, bucket.count) for bucket in t.maps["@h"]] == [(2, 4, 3)]
        assert (t.maps["@s"].count, t.maps["@s"].average, t.maps["@s"].total) == (3, 4, 12)
        assert t.maps["@a"] == 5
        assert t.maps["@t"] == {"k": (1, "x")}
        opens()
        assert t.maps["@n"] == 4
    opens()
    assert t.maps["@n"] == 4
    assert sorted(t.maps) == ["@a", "@by", "@h", "@n", "@s", "@t"]
    assert t.losses == ()


def test_events_are_typed() -> None:
    with mine('printf("%s %d\\n", str(args.filename), pid); if (str(args.filename) == "/dev/zero") { exit(); }') as t:
        opens()
        opens("/dev/zero")
        events = list(t)
    assert [event.action for event in events] == ["printf", "printf"]
    assert events[0].values == ("/dev/null", os.getpid())
    assert events[1].text == f"/dev/zero {os.getpid()}\n"
    assert events[0].arg1 == os.getpid()
    with pytest.raises(AttributeError, match="arg0, arg1"):
        _ = events[0].arg7
    assert events[0].position.startswith("stdin:1:")


def test_other_events() -> None:
    with harken.trace('BEGIN { @x["a"] = 1; @x["b"] = 0; print(@x); print((1, "y")); time("%%"); exit(5); }') as t:
        events = list(t)
    assert [(event.action, event.text) for event in events] == [
        ("print_map", "@x[b]: 0\n@x[a]: 1\n"),
        ("print_value", "(1, y)\n"),
        ("time", "%"),
    ]
    assert events[0].values == ("@x", {"b": 0, "a": 1})
    assert t.exit_code == 5


def test_a_command_is_traced_from_its_first_call_to_its_last() -> None:
    with harken.trace(f"{OPEN} {{ @[str(args.filename)] = count(); }}", command=["cat", "/dev/null"]) as t:
        t.run()
    assert "/dev/null" in t.maps["@"]
    assert not any("python" in name for name in t.maps["@"])


def test_the_command_has_a_name_in_the_program() -> None:
    program = "rawtracepoint:sched_process_exit { @[pid == cpid, has_cpid] = count(); } BEGIN { @child = cpid; }"
    with harken.trace(program, command=["true"]) as t:
        t.run()
        assert t.maps["@child"] == t._session.command.pid  # type: ignore[union-attr]
    assert t.maps["@"] == {(1, 1): 1}


def test_parameters_and_explanation() -> None:
    with harken.trace("BEGIN { @x = $1 + $#; exit(); }", params=("40", "b")) as t:
        t.run()
    assert t.maps["@x"] == 42
    assert t.explain().startswith("BEGIN\n  uses run")
    assert t.probes == ("BEGIN",)


def test_stop_and_duration() -> None:
    with mine("@ = count();", duration=0.05) as t:
        assert list(t) == []
    with mine("@ = count();") as t:
        t.stop()
        assert list(t) == []


def test_strict_raises_for_losses() -> None:
    program = "@full[args.filename, nsecs] = 1;"
    with pytest.raises(LossError), mine(program, strict=True, settings={"max_map_keys": 2}) as t:
        opens(times=5)
    assert [(loss.kind, loss.subject, loss.count) for loss in t.losses] == [("map", "@full", 3)]
    with mine(program, settings={"max_map_keys": 2}):
        opens(times=5)


def test_events_nobody_takes_are_counted() -> None:
    with mine('printf("%d\\n", pid);', keep=2) as t:
        opens(times=5)
        t.run(0.05)
        opens()
        t.run(0.05)
        assert sum(loss.count for loss in t.losses) == 4


def test_errors_are_raised() -> None:
    with pytest.raises(SourceError, match="Undefined"):
        harken.trace("BEGIN { print($x); }")
    with pytest.raises(HarkenError):
        harken.trace("tracepoint:no:such { }")
    with pytest.raises(UsageError):
        harken.trace("BEGIN { }", pid=1, command=["ls"])
    with pytest.raises(HarkenError):
        harken.trace("BEGIN { }", command=["/nonexistent"])
    with pytest.raises(AttributeError):
        _ = harken.nonsense
    assert "trace" in dir(harken)
