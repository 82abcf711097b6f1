"""The size of a top buffer that nobody has used yet, which kernels before 6.7 forget when an instance gets a size."""

from __future__ import annotations

import pytest

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
