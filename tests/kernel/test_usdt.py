"""USDT on the real kernel: arguments whose values are known, semaphores, places, processes that start later; CPython's own markers."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from harken.base.errors import HarkenError
from harken.formats.elf import Elf
from harken.probes.attachers import ATTACHERS
from harken.probes.description import describe
from harken.probes.listing import search
from harken.probes.planner import plan
from harken.probes.providers import parse, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

sys.path.insert(0, __file__.rsplit("/", 1)[0])

if os.geteuid() != 0:
    pytest.skip("loading BPF programs needs root", allow_module_level=True)

from language import _catalogue, run  # noqa: E402

pytestmark = [pytest.mark.kernel, pytest.mark.needs("uprobe_perf", "usdt_refcount")]

SOURCE = r"""
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>
#include <stdio.h>
#include <stdint.h>

#define SEMAPHORE(name) unsigned short house_##name##_semaphore __attribute__((unused, section(".probes")))
SEMAPHORE(sizes); SEMAPHORE(unsigned_sizes); SEMAPHORE(constants); SEMAPHORE(memory); SEMAPHORE(places); SEMAPHORE(guarded);
SEMAPHORE(none); SEMAPHORE(text); SEMAPHORE(floating); SEMAPHORE(many); SEMAPHORE(memory_index);

struct { int32_t first; int16_t second; uint64_t third; } record = { -7, -300, 0x123456789abcdef0 };
static volatile int64_t numbers[4] = { 10, 20, -30, 40 };
static int32_t counter = -99;

__attribute__((noinline)) static void sizes(int8_t a, int16_t b, int32_t c, int64_t d) { DTRACE_PROBE4(house, sizes, a, b, c, d); }
__attribute__((noinline)) static void unsigned_sizes(uint8_t a, uint16_t b, uint32_t c, uint64_t d) {
    DTRACE_PROBE4(house, unsigned_sizes, a, b, c, d);
}
__attribute__((noinline)) static void memory(int i) {
    volatile int32_t local = -12345;
    DTRACE_PROBE5(house, memory, record.first, record.second, record.third, counter, local);
    DTRACE_PROBE1(house, memory_index, numbers[i]);
}
__attribute__((noinline)) static void places(long value, char *text) {
    DTRACE_PROBE2(house, places, value, 1);
    asm volatile("" ::: "rbx", "r12", "r13", "memory");
    long other = value * 3;
    asm volatile("" : "+r"(other) :: "rax", "rdi", "rsi", "memory");
    DTRACE_PROBE2(house, places, other, 2);
    DTRACE_PROBE2(house, places, 777, 3);
    *(volatile char *)text;  // a page that is not in memory cannot be read by a probe
    DTRACE_PROBE1(house, text, text);
}

int main(void) {
    int c;
    setvbuf(stdout, 0, _IONBF, 0);
    while ((c = getchar()) != EOF) {
        if (c == '\n')
            continue;
        sizes(-5, -500, -50000, -5000000000);
        unsigned_sizes(200, 60000, 4000000000u, 18000000000000000000u);
        DTRACE_PROBE3(house, constants, 42, -1, (unsigned char)255);
        memory(2);
        places(1000, "a text of the program");
        DTRACE_PROBE(house, none);
        DTRACE_PROBE2(house, floating, 2.5, 7);
        DTRACE_PROBE12(house, many, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, c);
        if (__builtin_expect(house_guarded_semaphore, 0)) {
            int total = 0;
            for (int i = 0; i <= 10; i++)
                total += i;
            DTRACE_PROBE1(house, guarded, total);
        }
        printf("%d\n", house_guarded_semaphore);
    }
    return 0;
}
"""


class House:
    """The program, compiled in one of several ways; it runs its markers once per letter on its input."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def once(self) -> int:
        """The semaphore of ``guarded`` afterwards."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("x")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module", params=["-O2", "-O0", "-O2 -fno-pie -no-pie"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder: Path = tmp_path_factory.mktemp("house")
    (folder / "house.c").write_text(SOURCE)
    done = subprocess.run(["gcc", *request.param.split(), "-o", "house", "house.c"], cwd=folder, capture_output=True, text=True)
    if "sys/sdt.h" in done.stderr:
        pytest.skip("sys/sdt.h is not there (package systemtap-sdt-dev)")
    assert not done.returncode, done.stderr
    return str(folder / "house")


@pytest.fixture
def house(program: str) -> Iterator[House]:
    made = House(program)
    yield made
    made.close()


def lines(house: House, text: str, **options: Any) -> list[str]:
    output, session = run(text.replace("HOUSE", house.path), work=house.once, **options)
    assert not session.losses
    return output.rstrip("\n").split("\n")


MECHANISMS = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("uprobe_multi", "uprobe_perf", "uprobe_tracefs")]


def test_values_of_all_sizes(house: House) -> None:
    text = 'usdt:HOUSE:house:sizes { printf("%d %d %d %lld\\n", arg0, arg1, arg2, arg3); }'
    text += 'usdt:HOUSE:unsigned_sizes { printf("%d %d %lld %llu\\n", arg0, arg1, arg2, arg3); }'
    assert lines(house, text) == ["-5 -500 -50000 -5000000000", "200 60000 4000000000 18000000000000000000"]


def test_constants_and_memory(house: House) -> None:
    text = 'usdt:HOUSE:constants { printf("%d %d %d\\n", arg0, arg1, arg2); }'
    text += 'usdt:HOUSE:memory { printf("%d %d %llx %d %d\\n", arg0, arg1, arg2, arg3, arg4); }'
    text += 'usdt:HOUSE:memory_index { printf("%d\\n", arg0); }'
    assert lines(house, text) == ["42 -1 255", "-7 -300 123456789abcdef0 -99 -12345", "-30"]


def test_one_marker_in_several_places(house: House) -> None:
    """Each place has its arguments elsewhere: as many programs as there are sets of operands, all the values right."""
    assert lines(house, 'usdt:HOUSE:places { printf("%d %d\\n", arg1, arg0); }') == ["1 1000", "2 3000", "3 777"]
    assert lines(house, "usdt:HOUSE:places { @ = count(); } END { print(@); clear(@); }")[0] == "@: 3"
    probes = resolve(parse(f"usdt:{house.path}:house:places"), _catalogue)
    assert len(probes) == 3
    assert len(plan(probes, _catalogue, frozenset(("comm",)))) == 1
    assert len(plan(probes, _catalogue, frozenset(("arg0",)))) == len({tuple(view_operands(probe)) for probe in probes}) > 1


def view_operands(probe: Any) -> Any:
    from harken.probes.providers import view

    return view(probe, _catalogue).operands


def test_texts_and_wildcards(house: House) -> None:
    assert lines(house, 'usdt:HOUSE:ho*:te*t { printf("%s %s\\n", probe, str(arg0)); }') == [
        f"usdt:{house.path}:house:text a text of the program"
    ]
    assert lines(house, "usdt:HOUSE:*:* { @[probe] = count(); } END { print(@); clear(@); }") != []


def test_many_arguments(house: House) -> None:
    wanted = ", ".join(f"arg{number}" for number in range(12))
    assert lines(house, f'usdt:HOUSE:many {{ printf("{" %d" * 12}\\n", {wanted}); }}') == [
        " " + " ".join(map(str, [*range(1, 12), ord("x")]))
    ]


def test_arguments_that_cannot_be_read(house: House) -> None:
    """An argument in a floating-point register is an error with its reason; the other arguments can be read."""
    assert lines(house, 'usdt:HOUSE:floating { printf("%d\\n", arg1); }') == ["7"]
    operands = view_operands(resolve(parse(f"usdt:{house.path}:floating"), _catalogue)[0])
    if operands[0].register.startswith("xmm"):
        with pytest.raises(HarkenError, match="floating-point register"):
            run(f"usdt:{house.path}:floating {{ print(arg0); }}", seconds=0)
    with pytest.raises(HarkenError, match="can not be used|out of range"):
        run(f"usdt:{house.path}:none {{ print(arg0); }}", seconds=0)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_semaphores(house: House, mechanism: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The semaphore is up while attached, in this process and in one that starts later, and down afterwards."""
    from harken.probes.providers.usdt import Usdt

    monkeypatch.setattr(Usdt, "attachers", (mechanism,))
    assert house.once() == 0
    during: list[int] = []

    def work() -> None:
        during.append(house.once())
        later = House(house.path)
        during.append(later.once())
        later.close()

    output, session = run(f'usdt:{house.path}:guarded {{ printf("%d\\n", arg0); }}', work=work)
    assert {mechanism} == {place.mechanism for program in session.unit.spec.programs for place in program.attach}
    assert during == [1, 1] and output.split() == ["55", "55"]
    assert house.once() == 0


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_one_process_only(house: House, mechanism: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from harken.probes.providers.usdt import Usdt

    monkeypatch.setattr(Usdt, "attachers", (mechanism,))
    other = House(house.path)
    for place in (house.path, "", "*"):
        output, _ = run(
            f'usdt:{place}:house:guarded {{ printf("%d %d\\n", pid, arg0); }}', work=lambda: (house.once(), other.once()), pid=house.pid
        )
        assert output.strip() == f"{house.pid} 55", place
    other.close()


def test_listing_with_arguments(house: House) -> None:
    ((_, names),) = search(_catalogue, f"usdt:{house.path}:*")
    assert f"usdt:{house.path}:house:sizes" in names and len(names) == 11
    found = describe(_catalogue, f"usdt:{house.path}:house:sizes")
    assert [line.split("  ")[0] for line in found[:4]] == ["int8 arg0", "int16 arg1", "int32 arg2", "int64 arg3"]
    assert "(3 places)" in describe(_catalogue, f"usdt:{house.path}:house:places")
    running = [name for kind, texts in search(_catalogue, "usdt:*:house:*", house.pid) for name in texts]
    assert sorted(running) == sorted(names)


@pytest.mark.skipif(not os.path.exists("/usr/bin/python3.11"), reason="no /usr/bin/python3.11, whose markers are known")
def test_the_markers_of_cpython() -> None:
    """gc__start has the generation; function__return has file, function and line."""
    path = os.path.realpath("/usr/bin/python3.11")
    with open(path, "rb") as file:
        markers = {marker.name for marker in Elf(file.read()).stapsdt()}
    if not {"gc__start", "function__return"} <= markers:
        pytest.skip("this Python was built without --with-dtrace")
    if os.path.realpath(sys.executable) == path:

        def work() -> None:
            gc.collect(1)
            gc.collect(2)

        text = f'usdt:{path}:python:gc__start /pid == {os.getpid()}/ {{ printf("%d\\n", arg0); }}'
        assert run(text, work=work)[0].split()[:2] == ["1", "2"]
    # called from C: calls from Python to Python stay inside of one evaluation, whose markers the outermost one passes
    script = "def some_function(x):\n    return 7\nlist(map(some_function, [1]))\n"

    def child() -> None:
        subprocess.run([path, "-S", "-E", "-c", script], check=True)

    text = f'usdt:{path}:function__return /str(arg1) == "some_function"/ {{ printf("%s %s %d\\n", str(arg0), str(arg1), arg2); }}'
    assert run(text, work=child)[0].strip() == "<string> some_function 2"


def test_attachers_are_all_tested() -> None:
    from harken.probes.providers.usdt import Usdt

    assert set(Usdt.attachers) == {"uprobe_multi", "uprobe_perf", "uprobe_tracefs"} <= set(ATTACHERS)


@pytest.mark.keeps_fds
@pytest.mark.skipif(importlib.util.find_spec("clang") is None, reason="C needs libclang (pip install harken[c])")
def test_bcc_scripts_may_attach_markers_by_their_addresses(house: House) -> None:
    """As ustat does: it enables markers of a process, and attaches where these are in all processes; semaphores are raised all the same."""
    from harken.bcc import BPF, USDT, USDTException

    usdt = USDT(pid=house.pid)
    usdt.enable_probe("guarded", "count")
    places = {(path, function, address) for path, function, address, _ in usdt.enumerate_active_probes()}
    b = BPF(text="BPF_ARRAY(seen, u64, 1); int count(void *ctx) { seen.increment(0); return 0; }")
    try:
        assert house.once() == 0
        for path, function, address in places:
            b.attach_uprobe(name=path, fn_name=function, addr=address, pid=-1)
        assert house.once() == 1
        assert b["seen"][0].value == 1
    finally:
        b.cleanup()
    assert house.once() == 0
    with pytest.raises(USDTException, match="no such marker; did you mean .*guarded"):
        usdt.enable_probe("guardd", "count")


@pytest.mark.keeps_fds
@pytest.mark.skipif(importlib.util.find_spec("clang") is None, reason="C needs libclang (pip install harken[c])")
def test_bcc_scripts_read_variables(house: House) -> None:
    from harken.bcc import BPF, USDT

    usdt = USDT(pid=house.pid)
    usdt.enable_probe("memory", "look")
    text = "BPF_ARRAY(seen, s64, 3); int look(void *ctx) { int n = 0, zero = 0, one = 1, two = 2; s64 v; u64 wide = 0;"
    text += "bpf_usdt_readarg(1, ctx, &n); v = n; seen.update(&zero, &v); bpf_usdt_readarg(4, ctx, &n); v = n; seen.update(&one, &v);"
    text += "bpf_usdt_readarg(3, ctx, &wide); v = wide; seen.update(&two, &v); return 0; }"
    b = BPF(text=text, usdt_contexts=[usdt])
    try:
        house.once()
        assert [b["seen"][number].value for number in range(3)] == [-7, -99, 0x123456789ABCDEF0]
    finally:
        b.cleanup()


@pytest.mark.skipif(shutil.which("sleep") is None, reason="there is no sleep")
def test_what_was_built_without_markers_is_named(tmp_path: Path) -> None:
    from harken.bcc.usdt import USDT, USDTException

    copy = tmp_path / "perl5.99"
    shutil.copy(os.path.realpath(shutil.which("sleep") or ""), copy)
    with pytest.raises(USDTException, match=r"perl5.99 has no such marker; .*/perl5.99 is built without static markers"):
        USDT(path=str(copy)).enable_probe("sub__entry", "on_entry")
