"""What a kernel offers as tracers: each can be chosen and given back, and what is missing is explained."""

from __future__ import annotations

import os
import time

import pytest

from harken.base.errors import KernelError, ProbeError
from harken.cli.commands.trace_cmd import run
from harken.formats.trace_dat import open_trace
from harken.kernel import tracefs
from harken.kernel.ftrace import Ftrace
from harken.kernel.ftrace_tracers import LATENCY_TRACERS
from harken.kernel.kernel import live

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracefs")]

NAMES = "wakeup wakeup_rt wakeup_dl irqsoff preemptoff preemptirqsoff hwlat osnoise timerlat blk mmiotrace function function_graph".split()
#: Chosen by other tests, or with effects on the whole machine: mmiotrace leaves one processor running.
ELSEWHERE = frozenset(("function", "function_graph", "mmiotrace"))


@pytest.fixture
def root():
    return tracefs.find(live())


@pytest.mark.parametrize("name", NAMES)
def test_a_tracer_is_there_or_its_absence_explained(root, name):
    with Ftrace.private(root, "tracers") as private:
        if name in root.tracers():
            if name not in private.tracers:
                with pytest.raises(ProbeError, match="top buffer only"):
                    private.set_tracer(name)
            elif name not in ELSEWHERE:
                private.set("tracing_on", "0")
                if private.has("options/function-trace"):
                    private.option("nofunction-trace")  # tracers of latencies would watch every function
                private.set_tracer(name)
                assert private.tracer == name
            return
        with pytest.raises(ProbeError, match=f"{name}.*built without it") as caught:
            private.set_tracer(name)
        assert "CONFIG_" in caught.value.message and "nop" in caught.value.hint


def test_a_name_that_no_kernel_has(root):
    with Ftrace.private(root, "tracers") as private, pytest.raises(ProbeError, match="there is no tracer 'functoin'") as caught:
        private.set_tracer("functoin")
    assert "function" in caught.value.hint


@pytest.mark.parametrize("command", ["start", "record"])
def test_functions_of_a_tracer_that_is_not_there(root, tmp_path, command):
    """The reason is the tracer, not the file with its functions."""
    if "function_graph" in root.tracers():
        pytest.skip("this kernel has function_graph")
    words = ["-o", str(tmp_path / "trace.dat"), "-p", "function_graph", "-g", "do_sys_open", "-O", "funcgraph-proc", "ls"]
    with pytest.raises(ProbeError, match="'function_graph' is not available") as caught:
        run([command, *(words if command == "record" else words[2:-1])])
    assert "harken graph" in caught.value.hint


def test_the_longest_latency_is_recorded_as_text(root, tmp_path, capfd):
    """What the tracer shows is what the report prints."""
    name = next((name for name in ("wakeup", "irqsoff") if name in root.tracers()), "")
    if not name:
        pytest.skip("no tracer of latencies: " + " ".join(sorted(LATENCY_TRACERS)))
    path = tmp_path / "trace.dat"
    assert run(["record", "-d", "-p", name, "-o", str(path), "sleep", "0.2"]) == 0
    assert "bytes of text" in capfd.readouterr().err
    assert run(["report", "-i", str(path)]) == 0
    text = capfd.readouterr().out
    assert f"# {name} latency trace v1.1.5 on {os.uname().release}" in text and "| task: " in text
    with open_trace(str(path)) as trace:
        assert text == f"cpus={trace.cpus}\n" + trace.text().decode("utf-8", "surrogateescape") + "\n"


@pytest.mark.parametrize("command", ["record", "stream"])
def test_a_tracer_beside_events(root, tmp_path, capfd, command):
    """The kernel changes no tracer while the buffer's raw files are open (EBUSY), so the order of a recorder's steps matters."""
    name = next((name for name in ("blk", "timerlat") if name in root.tracers()), "")
    if not name:
        pytest.skip("no tracer that is cheap to switch on")
    output = ["-q", "-o", str(tmp_path / "trace.dat")] if command == "record" else ["-q"]
    assert run([command, "-p", name, "-e", "sched:sched_switch", *output, "sleep", "0.1"]) == 0
    if command == "record":
        capfd.readouterr()
        assert run(["report", "-i", str(tmp_path / "trace.dat")]) == 0
    assert "sched_switch:" in capfd.readouterr().out


@pytest.mark.parametrize("name", [pytest.param("function", marks=pytest.mark.needs("function_tracer")), "osnoise", "timerlat", "hwlat"])
def test_a_tracers_text_is_made_again_from_its_recording(root, tmp_path, capfd, name):
    """Line for line what the ``trace`` file of the same buffer has."""
    if name not in root.tracers():
        pytest.skip(f"no tracer {name}")
    words = ["-l", "vfs_statx", "--func-stack", "-e", "sched:sched_switch"] if name == "function" else []
    try:
        assert run(["start", "-p", name, *words]) == 0
        end = time.monotonic() + 60
        while time.monotonic() < end:
            os.stat("/proc/self")
            time.sleep(0.02)
            if name == "hwlat" or any(not line.startswith("#") for line in root.read("trace", 64 << 20).splitlines()):
                break
        assert run(["stop"]) == 0
        wanted = [line for line in root.read("trace", 64 << 20).splitlines() if not line.startswith("#")]
        assert run(["extract", "-q", "-o", str(tmp_path / "trace.dat")]) == 0
    finally:
        assert run(["reset", "-k", "all"]) == 0
    capfd.readouterr()
    assert run(["report", "--layout", "kernel", "-i", str(tmp_path / "trace.dat")]) == 0
    assert capfd.readouterr().out.splitlines() == wanted
    assert wanted or name == "hwlat", "the tracer said nothing"
    if name == "function":
        assert any("vfs_statx <-" in line for line in wanted) and any(line.endswith("<stack trace>") for line in wanted)


def test_options_of_the_function_tracer_that_exclude_each_other(root):
    with Ftrace.private(root, "options") as private:
        if not private.has("options/func-args"):
            pytest.skip("the function tracer shows no arguments here")
        private.set("tracing_on", "0")
        private.set("set_ftrace_filter", "vfs_statx")
        try:
            private.set_tracer("function")
        except KernelError as error:
            pytest.skip(str(error))
        private.option("func_stack_trace")
        with pytest.raises(KernelError) as caught:
            private.option("func-args")
        assert "func-args neither with func_stack_trace" in caught.value.hint
        private.option("nofunc_stack_trace")
        private.option("func-args")
