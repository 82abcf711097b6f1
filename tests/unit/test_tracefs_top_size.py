"""Sizes of buffers: of a top buffer that nobody has used yet, which kernels before 6.7 forget when an instance gets a size, and as the
kernel rounds them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harken.kernel.ftrace import Ftrace
from harken.kernel.ftrace_journal import _still
from harken.kernel.tracefs_instances import let_top_grow


class _Root:
    def __init__(self, text):
        self.text, self.written = text, []

    def read(self, _name):
        return self.text

    def write(self, name, value):
        self.written.append((name, value))


@pytest.mark.parametrize(
    ("before", "after", "written"),
    [
        ("7 (expanded: 1408)\n", "7\n", [("buffer_size_kb", "1408")]),  # forgotten
        ("7 (expanded: 1408)\n", "7 (expanded: 1408)\n", []),  # Linux 6.7 and later
        ("7 (expanded: 1408)\n", "64\n", []),  # it is this buffer that got a size
        ("1408\n", "1408\n", []),
        ("7\n", "7\n", []),  # somebody wanted it so
    ],
)
def test_the_top_buffer_still_grows(before, after, written):
    root = _Root(before)
    let_top_grow(root, lambda: setattr(root, "text", after))
    assert root.written == written


def test_the_top_buffer_still_grows_if_there_is_no_memory_for_the_other():
    root = _Root("7 (expanded: 1408)\n")

    def resize():
        root.text = "7\n"
        raise MemoryError

    with pytest.raises(MemoryError):
        let_top_grow(root, resize)
    assert root.written == [("buffer_size_kb", "1408")]


@pytest.mark.parametrize(("name", "written"), [("", []), ("mine", [("buffer_size_kb", "1408")])])
def test_a_top_buffer_that_is_to_be_small_is(name, written):
    trace = object.__new__(Ftrace)
    trace.name, trace.root = name, _Root("7 (expanded: 1408)\n")
    trace.set = lambda _name, size: setattr(trace.root, "text", f"{size}\n")
    trace.set_buffer_kb(7)
    assert trace.root.written == written


@pytest.mark.parametrize(
    ("written", "shown", "ours"),
    [
        ("1408", "1410", True),
        ("1", "1023", True),  # two sub-buffers of 512 KB, less their heads
        ("1408", "1408", True),
        ("1408", "1400", False),
        ("1408", "9000", False),  # somebody else's wish
    ],
)
def test_a_size_that_the_kernel_has_rounded_is_still_ours(written, shown, ours):
    assert _still(SimpleNamespace(read=lambda _name: f"{shown}\n"), "buffer_size_kb", written, False) == ours
