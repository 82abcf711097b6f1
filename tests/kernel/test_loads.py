"""Programs of shapes that verifiers dislike: each must load and give its result on every kernel."""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from language import run  # noqa: E402

pytestmark = pytest.mark.kernel

BRANCHES = " ".join(f"if ($x % {n} == 0) {{ $y += {n}; }} else {{ $y ^= $x; }}" for n in range(2, 42))
PROGRAMS = {
    "branches": (f"$x = nsecs; $y = (uint64)0; {BRANCHES} @ = $y > 0; print($y >= 0);", "true"),
    "strings": (
        '$a = str($2); printf("%s %s %s %s %s %s\\n", $a, str($2, 2), str($2, 3), str($2), comm == "x" ? "y" : $a, str($2, 1));',
        "a word a  a w a word a word a",
    ),
    "shortened strings": (
        '$s = str($2); $n = pid > 0 ? 3 : 2; @c = comm; printf("[%s][%s][%s][%s][%s][%s]", str($2, 3), str("abcdef",$n), str($s, 4),str($s,$n),'  # noqa: E501
        ' str(@c, 1) == str(comm, 1) ? "same" : "other", str($2, 0));',
        "[a w][abc][a wo][a w][same][]",
    ),
    "long keys": ("@[str($2), str($2, 64), comm, str($2, 100)] = count(); print(len(@));", "1"),
    "nested loops": (
        "$n = 0; $i = 0; while ($i < 10) { $j = 0; while ($j < 10) { $k = 0; while ($k < 5) { $n++; $k++; } $j++; } $i++; } print($n);",
        "500",
    ),
    "breaks": (
        "$n = 0; $i = 0; while ($i < 100) { $i++; if ($i % 2) { continue; } if ($i > 20) { break; } $n += $i; } print($n);",
        "110",
    ),
    "unroll": ("$n = 0; unroll(50) { $n += pid > 0 ? 1 : 2; } print($n);", "50"),
    "twenty arguments": (f'printf("{"%d " * 20}\\n", {", ".join(f"pid * 0 + {n}" for n in range(20))});', " ".join(map(str, range(20)))),
    "many maps": (" ".join(f"@m{n}[pid, comm] = count();" for n in range(40)) + " print(len(@m7));", "1"),
    "histograms with keys": ("@h[comm, pid] = hist(nsecs); @l[cpu, str($2)] = lhist(pid, 0, 1000000, 10000); print(len(@h));", "1"),
    "tuples": ('@t[(1, str($2, 16), comm)] = ("x", str($2, 16), (pid, 2)); $t = (comm, (str($2, 8), 7)); print($t.1);', "(a word, 7)"),
    "logic": (
        '$x = pid; if (($x > 0 && $x < 0x7fffffff) || (cpu == 77 && comm == "q") || strncmp(comm, "zzz", 3) == 0) { print(1); }',
        "1",
    ),
    "map arithmetic": ("@[1] = 3; @[1] += 4; @[2] = @[1] * @[1]; @[@[1]] = @[2]; print(@[7]);", "49"),
    "spilled values": (
        " ".join(f"$v{n} = nsecs - nsecs + {n};" for n in range(30))
        + f" print({' + '.join(f'($v{n} < 1000000000000)' for n in range(30))});",
        "30",
    ),
    "map loop": (
        "@a[1] = 10; @a[2] = 20; @a[3] = 30; $s = (int64)0; for ($kv : @a) { $s += $kv.1; @b[$kv.0] = $kv.1; } print($s);",
        "60",
    ),
    "range loop": ("$s = 0; for ($i : 0..100) { if ($i == 50) { break; } $s += $i; } print($s);", "1225"),
    "kernel structs": (
        "$t = (struct task_struct *)curtask; $n = 0; if ($t->mm != 0) { $n = $t->real_parent->tgid + $t->group_leader->pid; }"
        " print($n >= 0 && $t->tgid == pid);",
        "true",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_loads_and_runs(name: str) -> None:
    body, expected = PROGRAMS[name]
    text, session = run(f"BEGIN {{ {body} clear(@); exit(); }}" if "@ =" in body else f"BEGIN {{ {body} exit(); }}", ("7", "a word"))
    assert expected in text, text
    assert not session.losses
