"""Program output held against bpftrace 0.17, byte for byte but for what later bpftrace versions changed on purpose.

Since then (0.21 to 0.27): "@h:" without the blank behind it, stats as ``{ .count = ...}``, no empty line after avg and stats maps,
"Attached N probes" on standard error instead of "Attaching N probes..." on standard output, JSON buckets joined by "," alone,
``count`` in attached_probes, rows of equal value in no order (ours are then ordered by key).
"""

from __future__ import annotations

import re
import subprocess

import pytest

from harken.cli.main import main

pytestmark = [pytest.mark.kernel, pytest.mark.oracle, pytest.mark.program("bpftrace")]


def theirs(*argv: str) -> tuple[str, int]:
    done = subprocess.run(["bpftrace", *argv], capture_output=True, check=False)
    text = done.stdout.decode("utf-8", "surrogateescape")
    text = re.sub(r"^Attaching \d+ probes?\.\.\.\n", "", text)
    text = re.sub(r"^(@\w*(?:\[.*\])?): $", r"\1:", text, flags=re.MULTILINE)
    text = re.sub(r"(?<=: )count (-?\d+), average (-?\d+), total (-?\d+)", r"{ .count = \1, .average = \2, .total = \3 }", text)
    text = re.sub(r"^((?:@(?:avg|stats)\w*(?:\[.*\])?: .*\n)+)\n", r"\1", text, flags=re.MULTILINE)
    if "json" in argv:
        text = text.replace("}, {", "},{")
        text = re.sub(r'("attached_probes", )"data"', r'\1"count": 1, "data"', text)
        text = re.sub(r"^\n+", "", text, flags=re.MULTILINE)
    return text, done.returncode


def ours(*argv: str, capfd: pytest.CaptureFixture[str]) -> tuple[str, int]:
    code = main(argv)
    out, err = capfd.readouterr()
    assert "ERROR" not in err, err
    return out, code


PROGRAMS = {
    "scalars": 'BEGIN { @a = 1; @b = -5; @s = "hello"; @c = count(); @min = min(5); @max = max(8); @sum = sum(3); exit(); }',
    "keys": 'BEGIN { @b[1, "x"] = 2; @b[0, "zz"] = 5; @b[-7, "aa"] = 7; @n[1] = 500; @n[2] = -3; @n[0] = 3; exit(); }',
    "strings by key": 'BEGIN { @s["b"] = "x"; @s["a"] = "z"; @s["c"] = "y"; exit(); }',
    "tuples": 'BEGIN { @t = (1, "a", (2, 3)); @u[1] = (5, "x"); print((1, 2, "x")); print((1, (2, "y"))); exit(); }',
    "hist": "BEGIN { @h = hist(0); @h = hist(5); @h = hist(5); @h = hist(1000); @h = hist(-3); @h = hist(1); @h = hist(70000); exit(); }",
    "hist keyed": 'BEGIN { @h["x"] = hist(3); @h["y"] = hist(3); @h["y"] = hist(7); @h["z", 1] = 1; exit(); }'.replace(
        '@h["z", 1] = 1; ', ""
    ),
    "hist far": "BEGIN { @h = hist(1073741824); @h = hist(268435456); @h = hist(268435457); @h = hist(268435458); exit(); }",
    "lhist": "BEGIN { @l = lhist(3, 0, 10, 2); @l = lhist(-1, 0, 10, 2); @l = lhist(50, 0, 10, 2); @l = lhist(5, 0, 10, 2); exit(); }",
    "lhist large": "BEGIN { @l = lhist(5000, 0, 100000, 1000); @l = lhist(1025, 0, 100000, 1000); "
    "@m = lhist(2048, 0, 10240, 1024); exit(); }",
    "averages": "BEGIN { @avg = avg(5); @avg = avg(8); @stats = stats(5); @stats = stats(10); "
    "@avg2[1] = avg(9); @avg2[2] = avg(3); exit(); }",
    "print": 'BEGIN { @x["a"] = 1; @x["b"] = 3; @x["c"] = 2; print(@x); print(@x, 1); print(@x, 2, 1); print(5); print("s"); exit(); }',
    "print divided": "BEGIN { @c[1] = count(); @c[2] = count(); @c[2] = count(); print(@c, 1, 2); @h[1] = hist(1); @h[2] = hist(2); "
    "@h[2] = hist(2); print(@h, 1, 2); exit(); }",
    "zero": "BEGIN { @y[1] = 2; zero(@y); print(@y); exit(); }",
    "printf": r'BEGIN { printf("%d|%5d|%-5d|%05d|%x|%X|%o|%c|%u|%lu|%llx|%hhx|%hd|", '
    r"-1, 2, 3, 4, -1, 255, 8, 65, -1, -1, -1, -1, -1); "
    r'printf("%s|%10s|%-10s|%d|%ld|%c|%x|%lx\n", "str", "str", "str", 7, -9, 321, 1 << 33, 1 << 33); exit(); }',
    "printf precision": r'BEGIN { printf("|%.2d|%5.3s|%08x|%-8x|%lld|%8.3d|\n", 5, "abcdef", 255, 255, -5, 5); exit(); }',
    "end": r'BEGIN { exit(); } END { printf("end\n"); @x = 1; }',
    "nothing": "BEGIN { exit(); }",
    "buffers": r'BEGIN { printf("%r|%r\n", buf("a\x01b", 3), buf("xyz", 2)); exit(); }',
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_text(program: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert ours("-e", program, capfd=capfd) == theirs("-e", program)


JSON = {
    "scalars": 'BEGIN { @a = 1; @s = "he\\"l\\nlo"; @avg = avg(5); @stats = stats(5); @t = (1, "a", (2, 3)); exit(); }',
    "keyed": 'BEGIN { @b[1, "x"] = 2; @h[1, 2] = hist(-1); @h[1, 2] = hist(9); @u["b"] = stats(3); @v[1] = (1, "a"); exit(); }',
    "lhist": "BEGIN { @l = lhist(-1, 0, 10, 5); @l = lhist(7, 0, 10, 5); @l = lhist(70, 0, 10, 5); exit(); }",
    "stream": r'BEGIN { printf("a\"b\n%d %s\t", 3, "x"); print(5); print("s"); print((1, 2, "x")); '
    "@x[1] = 2; print(@x); clear(@x); exit(); }",
}


@pytest.mark.parametrize("program", JSON.values(), ids=JSON.keys())
def test_json(program: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert ours("-f", "json", "-e", program, capfd=capfd) == theirs("-f", "json", "-e", program)


def test_diagnostics_have_the_same_form(capfd: pytest.CaptureFixture[str]) -> None:
    program = 'BEGIN { printf("%d %d\\n", 1); }'
    done = subprocess.run(["bpftrace", "-e", program], stderr=subprocess.PIPE, check=False)
    place, source, marks = done.stderr.decode().splitlines()[-3:]
    assert main(["-e", program]) == done.returncode == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].split(" ERROR:")[0] == place.split(" ERROR:")[0]
    assert lines[1:3] == [source, marks]
