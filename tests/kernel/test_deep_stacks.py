"""Stacks of processes without frame pointers, and of Python functions: this process's own chain of calls is the truth."""

from __future__ import annotations

import _thread
import os
import sys

import pytest

sys.path.insert(0, __file__.rsplit("/", 1)[0])

pytestmark = pytest.mark.kernel

if os.geteuid() != 0:
    pytest.skip("loading BPF programs needs root", allow_module_level=True)

import language  # noqa: E402

from harken.abi.arch import for_machine  # noqa: E402
from harken.compiler.target import Target  # noqa: E402
from harken.kernel.features import Answer, Features  # noqa: E402
from harken.session.api import trace  # noqa: E402

ME = os.getpid()
#: what the functions of system calls are called here
PREFIX = for_machine(os.uname().machine).syscall_prefix
HERE = __file__
PROBE = f"tracepoint:syscalls:sys_enter_getpgid /pid == {ME}/"


def needs(*features: str) -> None:
    for name in features:
        answer = language._catalogue.features.answer(name)
        if answer.state != "yes":
            pytest.skip(f"no {name}: {answer.reason}")


def needs_python() -> None:
    if sys.implementation.name != "cpython" or sys.version_info >= (3, 16):
        pytest.skip("no layout for this interpreter")


def chain(text: str) -> list[list[str]]:
    """The stacks in a program's output, as functions without offsets."""
    stacks: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.startswith("    "):
            stacks[-1].append(line.strip().partition("+")[0])
        elif stacks[-1]:
            stacks.append([])
    return stacks[:-1] if not stacks[-1] else stacks


@pytest.mark.parametrize(
    "probe, feature",
    [
        ("BEGIN", "prog_run"),
        ("tracepoint:sched:sched_process_fork", "tracepoint_perf"),
        ("rawtracepoint:sys_enter", "raw_tracepoint"),
        ("profile:hz:9", "perf_software"),  # emulated machines are slow, and the program copies much
        ("kprobe:SYSTEM_CALL_getpgid", "kprobe_perf"),
        ("fentry:SYSTEM_CALL_getpgid", "fentry"),
        ("uprobe:LIBC:getpgid", "uprobe_perf"),
        ("uretprobe:LIBC:getpgid", "uprobe_perf"),
    ],
)
def test_the_verifier_takes_every_form(probe: str, feature: str) -> None:
    needs(feature, "helper:tracepoint:task_pt_regs")
    libraries = language._catalogue.libraries("libc")
    if "LIBC" in probe and not libraries:
        pytest.skip("no libc found")
    probe = probe.replace("LIBC", libraries[0] if libraries else "").replace("SYSTEM_CALL_", PREFIX)
    program = (
        f"{probe} {{ @[ustack(dwarf), comm] = count(); @n[ustack(dwarf, 3)]++; printf('%s', ustack(dwarf)); @p[ustack(python)] = count(); "
        "print(ustack(mixed, 20)); print(ustack(python, 5)); for ($i : 0..1) { print(len(ustack(python, 5))); } }"
    ).replace("'", '"')
    with trace(program, cached=False) as running:
        running.run(0.05)


@pytest.mark.skipif("HARKEN_GUEST" in os.environ, reason="the verifier takes minutes for it on an emulated machine")
def test_the_verifier_takes_loops_that_are_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for Linux 5.15 and 5.16, which have no bpf_loop."""
    needs("tracepoint_perf", "helper:tracepoint:task_pt_regs")
    has, answer = Target.has, Features.answer
    monkeypatch.setattr(Target, "has", lambda self, name: name != "bpf_loop" and has(self, name))
    no = Answer("no", "not here")
    monkeypatch.setattr(Features, "answer", lambda self, name, fresh=False: no if name == "bpf_loop" else answer(self, name, fresh))
    truth: list[list[tuple[str, str, int]]] = []
    with trace(f"{PROBE} {{ print(ustack(python)); @[ustack(mixed)] = count(); }}", cached=False) as running:
        again(3, truth)
        running.run(0.05)
        (stack,) = [event.values[0] for event in running._sink.take()]
    assert [(frame.name, frame.file, frame.line) for frame in stack] == truth[0]


def test_a_stack_without_frame_pointers_reaches_its_start() -> None:
    needs("tracepoint_perf", "helper:tracepoint:task_pt_regs")
    program = f"{PROBE} {{ @[ustack(dwarf), 1] = sum(2); print(ustack(dwarf, 2)); @h[ustack(dwarf, 1)] = lhist(tid, 0, 10, 1); }}"

    def work() -> None:
        for _ in range(3):
            os.getpgid(0)

    text, session = language.run(program, work=work)
    assert not session.losses
    whole = [stack for stack in chain(text) if len(stack) > 5]
    assert len(whole) == 1 and text.count(", 1]: 6\n") == 1, text
    assert whole[0][0].endswith("getpgid") and whole[0][-1] == "_start" and "__libc_start_main" in whole[0][-2]
    assert sum(name.startswith("_PyEval_EvalFrameDefault") for name in whole[0]) > 1
    assert [len(stack) for stack in chain(text)].count(2) == 3


def test_the_copy_of_a_stack_may_be_too_short() -> None:
    needs("tracepoint_perf", "helper:tracepoint:task_pt_regs")
    text, session = language.run(
        f"config = {{ user_stack_bytes = 256 }} {PROBE} {{ @[ustack(dwarf)] = count(); }}", work=lambda: os.getpgid(0)
    )
    assert [(loss.kind, loss.count) for loss in session.losses] == [("truncated", 1)]
    assert chain(text)[0][0].endswith("getpgid") and "_start" not in text


def test_maps_that_lie_here_are_full_cleared_and_zeroed() -> None:
    needs("tracepoint_perf", "helper:tracepoint:task_pt_regs")
    program = (
        f"config = {{ max_map_keys = 2 }} {PROBE} {{ @[ustack(dwarf, 1), args.pid] = count(); @z[ustack(dwarf, 1)]++; "
        "if (args.pid == 2) { print(@); clear(@); zero(@z); } }"
    )

    def work() -> None:
        for number in range(5):
            try:
                os.getpgid(number)
            except OSError:
                pass

    text, session = language.run(program, work=work)
    assert [(loss.kind, loss.subject, loss.count) for loss in session.losses] == [("map", "@", 1)]
    assert [line for line in text.split("\n") if "]:" in line] == [f", {n}]: 1" for n in (0, 1)] + [f", {n}]: 1" for n in (3, 4)] + ["]: 2"]


def shown() -> list[tuple[str, str, int]]:
    frame, found = sys._getframe(1), []
    while frame is not None:
        found.append((frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return found


def leaf(truth: list[list[tuple[str, str, int]]]) -> None:
    (truth.append(shown()), os.getpgid(0))  # both on one line, which is the truth


def again(number: int, truth: list[list[tuple[str, str, int]]]) -> None:
    if number:
        again(number - 1, truth)
    else:
        leaf(truth)


def generator(truth: list[list[tuple[str, str, int]]]):
    again(20, truth)
    yield


#: names that are no ASCII text
OTHER = compile("def \u00fcber():\n  leaf(truth)\n\u00fcber()", "/nirgends/\u00fcber.py", "exec")


def python_work(truth: list[list[tuple[str, str, int]]]) -> None:
    again(3, truth)
    sorted([2, 1], key=lambda _: list(generator(truth)))
    done = _thread.allocate_lock()
    done.acquire()

    def other() -> None:
        try:
            again(2, truth)
        finally:
            done.release()

    _thread.start_new_thread(other, ())
    done.acquire()
    exec(OTHER, {"leaf": leaf, "truth": truth})


@pytest.mark.parametrize("probe", ["tracepoint", "uprobe"])
def test_python_stacks_are_those_that_python_shows(probe: str) -> None:
    needs_python()
    needs("tracepoint_perf", "uprobe_perf")
    where = PROBE if probe == "tracepoint" else f"uprobe:{language._catalogue.libraries('libc')[0]}:getpgid /pid == {ME}/"
    truth: list[list[tuple[str, str, int]]] = []
    with trace(
        f"{where} {{ print(ustack(python)); @[ustack(python, 200)] = count(); print(len(ustack(python))); }}", cached=False
    ) as running:
        python_work(truth)
        running.run(0.05)
        events = list(running._sink.take())
    stacks = [event.values[0] for event in events[::2]]
    for stack, one in zip(stacks, truth, strict=True):
        for frame, (name, file, line) in zip(stack, one, strict=True):
            assert (frame.name, frame.file, frame.line) == (name, file, line)
    assert all(stack.pid == ME and stack[0].kind == "python" for stack in stacks)
    assert [event.values[0] for event in events[1::2]] == [len(one) for one in truth]
    assert {tuple((frame.name, frame.line) for frame in stack): count for stack, count in running.maps["@"].items()} == {
        tuple((name, line) for name, _, line in one): truth.count(one) for one in truth
    }
    assert not running.losses
    assert f"        leaf@{HERE}:{leaf.__code__.co_firstlineno + 1}\n" in events[0].text


def test_native_and_python_frames_in_the_order_of_their_calls() -> None:
    needs_python()
    needs("tracepoint_perf", "helper:tracepoint:task_pt_regs")
    truth: list[list[tuple[str, str, int]]] = []
    program = f"{PROBE} {{ print(ustack(mixed, 250)); @[ustack(mixed, 250), 7] = count(); @s[ustack(mixed, 3)] = count(); }}"
    with trace(program, cached=False) as running:
        python_work(truth)
        running.run(0.05)
        stacks = [event.values[0] for event in running._sink.take()]
    assert not running.losses
    for stack, one in zip(stacks, truth, strict=True):
        assert [(frame.name, frame.file, frame.line) for frame in stack if frame.kind == "python"] == one
        names = [frame.name for frame in stack if frame.kind != "python"]
        assert names[0].endswith("getpgid") and not any(name.startswith("_PyEval_EvalFrameDefault") for name in names)
    kinds = ["p" if frame.kind == "python" else "n" for frame in stacks[0]]
    # getpgid() and what calls it, then leaf, again, ... without C between them, then what began it all
    start, end = kinds.index("p"), len(kinds) - kinds[::-1].index("p")
    assert start > 1 and kinds[start : start + 6] == ["p"] * 6 and kinds[end:] == ["n"] * (len(kinds) - end) and len(kinds) > end
    assert stacks[0][-1].name == "_start"
    # the generator that runs below sorted(): C code lies between the two
    one = [frame.name.rpartition(".")[2] for frame in stacks[1]]
    inner, outer = one.index("<lambda>"), one.index("python_work")
    assert outer - inner > 2 and all(frame.kind != "python" for frame in stacks[1][inner + 1 : outer])
    # equal stacks of Python may have been reached through different places in C
    whole: dict[tuple[tuple[str, int], ...], int] = {}
    for (stack, _), count in running.maps["@"].items():
        python = tuple((frame.name, frame.line) for frame in stack if frame.kind == "python")
        whole[python] = whole.get(python, 0) + count
    assert whole == {tuple((name, line) for name, _, line in one): truth.count(one) for one in truth}
    assert all(len(stack) == 3 for stack in running.maps["@s"])


def test_a_python_process_that_is_gone() -> None:
    """It was started while traced, or forked, and its code is not there any more when its names are asked for."""
    needs_python()
    needs("tracepoint_perf")
    # it waits: whether a process is known before it has run for some milliseconds is a race, and told when it is lost
    text = "import os, time; time.sleep(0.3)\nfor i in range(3):\n  def f():\n    os.getpgid(0)\n  f()\n"
    program = "tracepoint:syscalls:sys_enter_getpgid { @[ustack(python)] = count(); }"
    with trace(program, command=[sys.executable, "-S", "-c", text], cached=False) as running:
        running.run(30)
    ((stack, count),) = running.maps["@"].items()
    assert count == 3 and [(frame.name, frame.file, frame.line) for frame in stack] == [("f", "<string>", 4), ("<module>", "<string>", 5)]


def test_return_probes_do_not_cut_stacks() -> None:
    """A return probe that waits has the kernel's address in the place of the caller's, which leads nowhere."""
    needs("uprobe_perf", "helper:tracepoint:task_pt_regs")
    if os.uname().machine != "x86_64":
        pytest.skip("where the address was taken from is known on x86-64 only")
    needs("bpf_loop")
    import ctypes

    libraries = language._catalogue.libraries("libc")
    if not libraries:
        pytest.skip("no libc found")
    libc = ctypes.CDLL(libraries[0])
    libc.fopen.restype = libc.popen.restype = ctypes.c_void_p
    own = f"/pid == {ME}/"
    program = (
        f"uretprobe:{libraries[0]}:fopen {own} {{ @returned = count(); }} "
        f"uprobe:{libraries[0]}:fopen {own} {{ @in = 1; }} "
        f"uprobe:{libraries[0]}:malloc {own} {{ if (@in == 1) {{ print(ustack(dwarf)); @in = 2; }} }}"
    )

    def work() -> None:
        libc.fclose(ctypes.c_void_p(libc.fopen(b"/dev/null", b"r")))

    text, session = language.run(program, work=work)
    assert not session.losses and "@returned: 1\n" in text
    (stack,) = [one for one in chain(text) if one[0].endswith("malloc")]
    above = [place for place, name in enumerate(stack) if name.startswith("_PyEval") or "ffi" in name or "Py_" in name]
    assert len(above) > 3, text


@pytest.mark.parametrize("mode", ["dwarf", "mixed"])
def test_generated_code_is_crossed_by_its_end(mode: str) -> None:
    """A trampoline without frame pointer, as CPython's of -X perf: sub $8, %rsp; call *%rdi; add $8, %rsp; ret."""
    needs("tracepoint_perf", "helper:tracepoint:task_pt_regs")
    if os.uname().machine != "x86_64":
        pytest.skip("the code is that of x86-64")
    if mode == "mixed":
        needs_python()
    import ctypes
    import mmap

    code = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code[:11] = bytes.fromhex("4883ec08 ffd7 4883c408 c3")
    place = ctypes.addressof(ctypes.c_char.from_buffer(code))
    target = ctypes.cast(ctypes.CDLL(None).getpgid, ctypes.c_void_p)
    call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(place)
    text, session = language.run(f"{PROBE} {{ print(ustack({mode}, 100)); }}", work=lambda: call(target))
    (stack,) = chain(text)
    assert stack[1] == f"{place + 6:#x}" and stack[-1] == "_start" and not session.losses, text
