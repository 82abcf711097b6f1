"""The language on a real kernel: programs are loaded, attached and judged by what the test itself did meanwhile."""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, __file__.rsplit("/", 1)[0])

pytestmark = pytest.mark.kernel

if os.geteuid() != 0:
    pytest.skip("loading BPF programs needs root", allow_module_level=True)

import language  # noqa: E402

from harken.base.errors import HarkenError, SourceError, VerifierError  # noqa: E402

ME = os.getpid()


def needs(*features: str) -> None:
    for name in features:
        answer = language._catalogue.features.answer(name)
        if answer.state != "yes":
            pytest.skip(f"no {name}: {answer.reason}")


def rows(session: object, name: str) -> dict[object, object]:
    return {key[0] if len(key) == 1 else key: value for key, value in session.kept[name]}  # type: ignore[attr-defined]


#: What BEGIN programs print; each goes through the verifier.
SAYS = [
    ('BEGIN { printf("%s %d %d\\n", comm == "x" ? "no" : "yes", pid > 0, 7 / 2); }', "yes 1 3\n"),
    ('BEGIN { $x = 5; $y = $x++; @a = 5; $q = @a++; clear(@a); print(($x, $y, $q)); }', "(6, 5, 5)\n"),
    ('BEGIN { $s = "hello"; @k[$s] = 2; if (@k["hello"] == 2 && $s == "hello") { print($s); } clear(@k); }', "hello\n"),
    ('BEGIN { $i = 0; while ($i < 5) { $i++; if ($i == 2) { continue; } if ($i == 4) { break; } print($i); } }', "1\n3\n"),
    ('BEGIN { $s = 0; for ($i : 0..100) { if ($i > 50) { break; } $s += $i; } if ($s > 5) { print($s); } }', "1275\n"),
    ('BEGIN { @m[1,"a"] = 10; $l = ""; for ($kv : @m) { $l = $kv.0.1; print($kv.1); } print($l); print(len(@m)); clear(@m); }',
     "10\na\n1\n"),
    ('BEGIN { @c = count(); @c = count(); if (@c > 1) { print(@c + 0); } clear(@c); }', "2\n"),
    ('BEGIN { $z = pid - pid; print(5 / $z); }', "1\n"),
    ('BEGIN { if (comm == "aaaaaaaaaaaaaaa" || strcontains(comm, "zz") || strncmp(comm, "qqqq", 4) == 0) { print(0); } print(1); }', "1\n"),
    ('BEGIN { printf("%s|%s\\n", str($1), buf("ab", 2)); }', "first|ab\n"),
    ("BEGIN { exit(3); print(1); }", ""),
]  # fmt: skip


@pytest.mark.parametrize("program, output", SAYS, ids=range(len(SAYS)))
def test_says(program: str, output: str) -> None:
    needs("prog_run")
    text, session = language.run(program, ("first",))
    kept = "".join(line for line in text.splitlines(True) if line.strip() and not line.startswith("@"))
    assert kept == output
    assert not any(loss.count for loss in session.losses)
    assert session.exit_code == (3 if "exit" in program else 0)


def test_task_fields() -> None:
    needs("prog_run")
    if language._catalogue.btf is None:
        pytest.skip("no kernel BTF")
    program = (
        "BEGIN { print(curtask->tgid == pid); print(curtask->comm == comm); print(curtask->mm->mm_users.counter > 0); "
        "$p = curtask->real_parent; print($p->tgid); @[curtask->comm, $p->tgid] = count(); }"
    )
    text, session = language.run(program)
    assert text.split()[:4] == ["true", "true", "true", str(os.getppid())]
    assert list(rows(session, "@").values()) == [1]


def test_histogram_on_every_cpu() -> None:
    needs("prog_run")
    text, _ = language.run("BEGIN { @h = hist(5); @h = hist(-1); @b[1] = hist(9, 2); @l = lhist(7, 0, 10, 5); }")
    assert "[4, 8)                 1 |" in text and "(..., 0)               1 |" in text and "[5, 10)                1 |" in text


def test_tracepoint_strings() -> None:
    needs("tracepoint_perf")
    path = "/harken-language-test"
    program = (
        f'tracepoint:syscalls:sys_enter_openat /pid == {ME} && str(args.filename) == "{path}"/ '
        '{ printf("%s %d\\n", str(args.filename), args.flags & 1); @[str(args.filename)] = count(); @who[comm, pid] = count(); }'
    )

    def work() -> None:
        for _ in range(3):
            try:
                os.open(path, os.O_WRONLY)
            except OSError:
                pass

    text, session = language.run(program, work=work)
    assert text.count(f"{path} 1\n") == 3
    assert rows(session, "@") == {path: 3}
    assert [key[1] for key in rows(session, "@who")] == [ME]


def test_two_strings_in_one_record() -> None:
    """Where the second lies depends on the length of the first, which each kernel's verifier must see bounded."""
    needs("tracepoint_perf")
    program = (
        f'tracepoint:syscalls:sys_enter_symlinkat /pid == {ME} && str(args.newname) == "/harken-none/new"/ '
        '{ printf("%s %s %d\\n", str(args.oldname), str(args.newname), pid); @ = strlen(str(args.oldname)); }'
    )

    folder = os.open("/", os.O_RDONLY)  # symlink is no system call of arm64, symlinkat is one of every machine

    def work() -> None:
        with pytest.raises(OSError):
            os.symlink("/harken-old", "/harken-none/new", dir_fd=folder)

    text, session = language.run(program, work=work)
    os.close(folder)
    assert text.startswith(f"/harken-old /harken-none/new {ME}\n")
    assert list(rows(session, "@").values()) == [(11,)]


def test_tracepoint_wildcard_and_pid_filter() -> None:
    needs("tracepoint_perf")
    program = "tracepoint:syscalls:sys_enter_getp* { @[probe] = count(); }"
    _, session = language.run(program, work=lambda: [os.getpgid(0) for _ in range(4)], pid=ME)  # type: ignore[arg-type]
    assert rows(session, "@").get("tracepoint:syscalls:sys_enter_getpgid") == 4


def test_data_loc_and_fixed_strings() -> None:
    needs("tracepoint_perf")
    program = (
        "tracepoint:sched:sched_process_exec { @[args.filename] = count(); } "
        "tracepoint:sched:sched_switch { @c[args.next_comm] = count(); }"
    )
    _, session = language.run(program, work=lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0))
    assert "/bin/true" in rows(session, "@") or "/usr/bin/true" in rows(session, "@")
    assert all(isinstance(key, str) for key in rows(session, "@c"))


def test_raw_tracepoint() -> None:
    needs("raw_tracepoint")
    _, session = language.run(
        f"rawtracepoint:sys_enter /pid == {ME}/ {{ @[arg1] = count(); }}", work=lambda: [os.getpgid(0) for _ in range(5)]
    )
    assert 5 in rows(session, "@").values()


def test_timers_and_software() -> None:
    needs("perf_software")
    text, session = language.run("profile:hz:50 { @[cpu] = count(); } interval:ms:20 { @t = count(); if (@t >= 3) { exit(); } }", seconds=5)
    assert session.exit_code == 0 and session.ended == "exit"
    _, session = language.run(f"software:page-faults:1 /pid == {ME}/ {{ @ = count(); }}", work=lambda: b"x" * (1 << 24))
    assert list(rows(session, "@").values()) != [0]


def test_uprobe() -> None:
    needs("uprobe_perf")
    libraries = language._catalogue.libraries("libc")
    if not libraries:
        pytest.skip("no libc found")
    program = (
        f"uprobe:{libraries[0]}:getenv /pid == {ME}/ {{ @[str(arg0), func] = count(); }} uretprobe:{libraries[0]}:getenv /pid == {ME}/ "
        "{ @r[retval == 0] = count(); }"
    )
    import ctypes

    getenv = ctypes.CDLL(libraries[0]).getenv
    _, session = language.run(program, work=lambda: [getenv(b"HARKEN_NOT_SET") for _ in range(3)])
    assert rows(session, "@") == {("HARKEN_NOT_SET", "getenv"): 3}
    assert rows(session, "@r") == {1: 3} or rows(session, "@r") == {True: 3}


def test_kprobe() -> None:
    program = (
        f"kprobe:do_sys_openat2 /pid == {ME}/ {{ @[str(arg1)] = count(); }} kretprobe:do_sys_openat2 /pid == {ME}/ {{ @r = min(retval); }}"
    )
    try:
        language.unit(program)
    except HarkenError as error:
        assert error.hint and "cannot be attached" in error.message
        pytest.skip(error.message)

    def work() -> None:
        for _ in range(2):
            try:
                os.open("/harken-kprobe-test", os.O_RDONLY)
            except OSError:
                pass

    _, session = language.run(program, work=work)
    assert rows(session, "@")["/harken-kprobe-test"] == 2


def test_full_map_is_a_loss() -> None:
    needs("prog_run")
    _, session = language.run("let @x = hash(2); BEGIN { for ($i : 0..10) { @x[$i] = 1; } }")
    assert {(loss.kind, loss.subject): loss.count for loss in session.losses if loss.count} == {("map", "@x"): 8}


def test_verifier_is_content_with_large_programs() -> None:
    """Many strings, keys and aggregations in one probe: scratch memory, not the 512 bytes of stack."""
    needs("prog_run")
    body = "".join(f'@a{i}[str($1), comm, {i}] = hist(pid); printf("%s %s\\n", str($1), comm); ' for i in range(6))
    try:
        language.run("BEGIN { " + body + " }", ("x",))
    except (VerifierError, SourceError) as error:
        raise AssertionError(str(error)) from error
