"""Lists of functions: what is said where the kernel takes none."""

from __future__ import annotations

import errno

import pytest

from harken.base.errors import KernelError, ProbeError
from harken.kernel.ftrace_functions import Lists


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
