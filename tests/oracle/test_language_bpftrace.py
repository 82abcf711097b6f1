"""The same programs through harken and the installed bpftrace print the same (bpftrace 0.17, where the language did not change since)."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kernel"))

pytestmark = pytest.mark.oracle

if os.geteuid() != 0 or shutil.which("bpftrace") is None:
    pytest.skip("needs root and bpftrace", allow_module_level=True)

import language  # noqa: E402

from harken.base.diagnostics import Source  # noqa: E402
from harken.languages.bpftrace.parser import parse  # noqa: E402

PROGRAMS = [
    r'printf("%d %s %x|%5d|%-5d|%05d|%X|%o|%c|%p|%lld|%hhd\n", 10, "abc", 255, 42, 42, 42, 255, 8, 65, 4096, -1, 300);',
    r'printf("%-10s|%10s|%.2s|\n", "ab", "cd", "efgh"); printf("%d %u %d\n", 0xffffffffffffffff, 0xffffffffffffffff, 1e3);',
    r"@ = count(); @ = count(); @s[1] = sum(3); @s[2] = sum(4); @a = avg(3); @a = avg(4); @mn[1] = min(4); @mn[1] = min(2);",
    r"@max = max(5); @max = max(3); @min = min(-5); @sum = sum(-5); @avg = avg(-10); @avg = avg(-20);",
    r'@x[1,"a"] = 5; @x[2,"b"] = 3; @x[0,"c"] = 9; @z["zz"] = 2; @z["aa"] = 1; @y[5] = "five"; @y[3] = "three";',
    r'print((1,2,"abc")); print(5); print("str"); @t = (1,"x"); print(@t);',
    r"$x = 5; if ($x == 5 && $x < 6 || 0) { print(1); } else { print(2); } unroll(4) { @++; }",
    r"print(7/2); print(7%3); print(1<<4); print(255>>2); print(~1); print(-5); print(5 & 3 == 1); print(1 | 2 ^ 3);",
    r'$i = 0; while ($i < 3) { printf("%d ", $i); $i++; } @z[1] = 5; zero(@z); @d[1] = 1; @d[2] = 2; delete(@d[1]);',
    r'printf("%s\n", "abc" == "abc" ? "eq" : "ne"); if (strncmp("hello", "help", 3) == 0) { printf("same\n"); }',
    r'printf("%s %s\n", ntop(0x0100007f), ntop(2, 0x0100007f)); printf("%r\n", buf("a\x01b", 3)); print((uint8)300); print((int8)200);',
    r"@a[1] = count(); @a[2] = count(); @a[2] = count(); print(@a, 1); print(@a, 2, 2); clear(@a); $a = (uint16)65535; print($a + 1);",
    r'printf("%d %d %s\n", $1, $#, str($2)); @a = 1; @a++; ++@a; @a--; printf("%d\n", @a++ + 1);',
    r'$s = "hello"; printf("%s %d\n", $s, $s == "hello"); @a = $s; if (@a != "hellp") { printf("z\n"); }',
    r'$ns = ((struct task_struct*)curtask)->nsproxy->uts_ns; printf("%s\n", $ns->name.sysname); printf("%d %d\n", uid, gid);',
    r"@x = 10; @x += 5; @x -= 3; @x *= 2; @x <<= 2; @x |= 1; @x ^= 3; @x &= 0xff;",
    r'time("%Y-%m-%d\n"); printf("%s\n", strftime("%Y-%m", nsecs)); $x = (uint64)-1; printf("%llu %lld %d\n", $x, $x, $x > 5);',
]  # fmt: skip


def cleaned(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("Attaching")]


@pytest.mark.parametrize("body", PROGRAMS, ids=range(len(PROGRAMS)))
def test_same_output(body: str) -> None:
    program = f"BEGIN {{ {body} exit(); }}"
    theirs = subprocess.run(["bpftrace", "-e", program, "7", "abc"], capture_output=True, text=True, timeout=60, check=False)
    assert theirs.returncode == 0, theirs.stderr
    ours, _ = language.run(program, ("7", "abc"))
    assert cleaned(ours) == cleaned(theirs.stdout)


@pytest.mark.parametrize(
    "aggregate", ["hist(-1) hist(0) hist(1) hist(3) hist(70000)", "lhist(-5,0,100,10) lhist(5,0,100,10) lhist(100,0,100,10)"]
)
def test_same_histograms(aggregate: str) -> None:
    program = "BEGIN { " + " ".join(f'@ = {one}; @k[comm == "x"] = {one};' for one in aggregate.split()) + " exit(); }"
    theirs = subprocess.run(["bpftrace", "-e", program], capture_output=True, text=True, timeout=60, check=False)
    ours, _ = language.run(program)
    # 0.17 leaves a space behind the colon of a scalar map and prints truth as a number
    assert cleaned(ours) == [line.replace("@: ", "@:").replace("@k[0]: ", "@k[false]:") for line in cleaned(theirs.stdout)]


@pytest.mark.parametrize("path", sorted(glob.glob("/usr/sbin/*.bt")), ids=os.path.basename)
def test_tools_of_bpftrace_parse(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        program = parse(Source(path, file.read()))
    assert program.probes and not program.unsupported
