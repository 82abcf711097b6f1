"""Functions: what is said where the kernel takes no list of them, or not this way of showing them."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from harken.base.errors import KernelError, ProbeError
from harken.kernel.ftrace_functions import Lists
from harken.kernel.ftrace_tracers import exclusive, refuse_used


class Root:
    @staticmethod
    def filter_functions():
        return [("vfs_read", ""), ("vfs_write", ""), ("ext4_read", "ext4")]


class Refusing(Lists):
    root = Root()

    def set(self, file, value, append=False):
        raise KernelError(f"cannot write {value!r}", errno=errno.EINVAL)


EVERY = "'harken trace-cmd list -f' shows all functions"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["vfs_raed"], "this kernel has vfs_read"),
        (["vfs_read", "something_else_entirely"], EVERY),
        (["nothing_*"], EVERY),
        (["[a-b]*"], EVERY),
    ],
)
def test_functions_that_are_not_there(words, hint):
    with pytest.raises(ProbeError, match="no such function that it can trace") as caught:
        Refusing().functions("set_ftrace_filter", words)
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("word", ["vfs_read", "vfs_*", "*:mod:ext4", "vfs_read:traceon:5"])
def test_what_exists_is_refused_for_another_reason(word):
    with pytest.raises(KernelError, match="cannot write"):
        Refusing().functions("set_ftrace_filter", [word])


def test_hints_for_functions_that_were_not_called():
    assert Refusing().near_function("vfs_read", existing=True).startswith("this kernel has vfs_")
    assert Refusing().near_function("nothing_at_all_like_it", existing=True) == ""


@pytest.mark.parametrize(("tracer", "running", "refused"), [("nop", True, False), ("function", False, False), ("function", True, True)])
def test_a_tracer_of_somebody_else_is_left_running(tracer, running, refused):
    top = SimpleNamespace(tracer=tracer, running=running)
    if not refused:
        refuse_used(top, "function_graph")
        return
    with pytest.raises(ProbeError, match="its tracer is 'function'") as caught:
        refuse_used(top, "function_graph")
    assert "this kernel has function_graph in the top buffer only" in caught.value.hint


class Options:
    """A buffer whose function tracer is chosen and has some options on."""

    def __init__(self, *on):
        self.on = on

    def read(self, name):
        option = name.removeprefix("options/")
        if option == "func-no-repeats":
            raise KernelError("no such file", errno=errno.ENOENT)
        return "1\n" if option in self.on else "0\n"


@pytest.mark.parametrize(
    ("on", "name", "told"),
    [
        (["func-args"], "func_stack_trace", True),
        (["func_stack_trace"], "func-args", True),
        (["func-args", "func_stack_trace"], "current_tracer", True),
        (["func_stack_trace"], "func-no-repeats", False),
        ([], "func-args", False),
        (["func_stack_trace"], "current_tracer", False),
        (["func-args", "func_stack_trace"], "funcgraph-args", False),
    ],
)
def test_options_that_exclude_each_other(on, name, told):
    assert ("func-args neither with func_stack_trace" in exclusive(Options(*on), name)) == told
