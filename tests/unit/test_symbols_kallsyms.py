"""symbols.kallsyms: names and addresses of the kernel, of modules, of 32-bit kernels, hidden ones, and rubbish."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.base.errors import ProbeError
from harken.symbols.kallsyms import Kallsyms

TEXT = b"""\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000100 t do_it
ffffffff81000180 d table
ffffffff81000200 D data_alias
ffffffff81000200 T real_function
ffffffff81000300 t twice
ffffffff81000400 t twice
ffffffffc0001000 t init\t[ext4]
ffffffffc0000000 T do_it_mod\t[xfs]
ffffffffc0002000 t twice\t[ext4]
"""


def test_names():
    table = Kallsyms(TEXT)
    assert table.address("do_it") == 0xFFFFFFFF81000100 and table.address("do_it_mod") == 0xFFFFFFFFC0000000
    assert table.address("init", "ext4") == 0xFFFFFFFFC0001000 and table.address("init", "") is None
    assert table.address("do") is None and table.address("") is None and table.address("it") is None
    assert table.addresses("twice") == [0xFFFFFFFF81000300, 0xFFFFFFFF81000400, 0xFFFFFFFFC0002000]
    assert table.modules_of("twice") == ["", "", "ext4"]
    assert not table.hidden


def test_ambiguous_names_are_refused():
    table = Kallsyms(TEXT)
    with pytest.raises(ProbeError, match="3 kernel symbols are called twice"):
        table.address("twice")
    assert table.address("twice", "ext4") == 0xFFFFFFFFC0002000


def test_addresses():
    table = Kallsyms(TEXT)
    assert table.at(0xFFFFFFFF81000104) == ("do_it", 4, "")
    assert table.at(0xFFFFFFFF81000000) == ("_stext", 0, "")
    assert table.at(0xFFFFFFFF81000210) == ("real_function", 16, "")  # a function before data at the same address
    assert table.at(0xFFFFFFFFC0000FFF) == ("do_it_mod", 0xFFF, "xfs")  # lines need not be sorted
    assert table.at(0xFFFFFFFFC0001004) == ("init", 4, "ext4")
    assert Kallsyms(b"ffffffff81000000 T a\n").at(0xFFFFFFFF80000000) is None and Kallsyms(b"").at(0) is None


def test_functions():
    assert list(Kallsyms(TEXT).functions()) == [
        ("_stext", ""),
        ("do_it", ""),
        ("real_function", ""),
        ("twice", ""),
        ("twice", ""),
        ("init", "ext4"),
        ("do_it_mod", "xfs"),
        ("twice", "ext4"),
    ]


def test_hidden():
    table = Kallsyms(b"0000000000000000 T a\n0000000000000000 T b\n")
    assert table.hidden and Kallsyms(b"").hidden
    with pytest.raises(ProbeError, match="hidden"):
        table.address("a")


def test_32_bits():
    table = Kallsyms(b"c0008000 T _text\nc0009000 t f")
    assert table.address("f") == 0xC0009000 and table.at(0xC0009002) == ("f", 2, "")


@given(st.binary(max_size=200) | st.text(alphabet="0123f tT\n\t[]ab", max_size=200).map(str.encode), st.integers(0, 1 << 64))
def test_rubbish(text, address):
    table = Kallsyms(text)
    table.at(address)
    list(table.functions())
    try:
        table.address("ab")
    except ProbeError:
        pass
