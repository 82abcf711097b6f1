"""bcc.libbcc: what stands for BCC's C library."""

from __future__ import annotations

import ctypes as ct
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from harken.bcc import lib
from harken.bcc.libbcc import bcc_symbol, bcc_symbol_option


def test_tables_and_functions() -> None:
    tables = {"counts": SimpleNamespace(type=1, max_entries=10), "events": SimpleNamespace(type=4, max_entries=0)}
    module = SimpleNamespace(maps_live={"counts": SimpleNamespace(fd=9)}, tables=tables, functions={"f": None, "g": None})
    assert lib.bpf_table_fd(module, b"counts") == 9 and lib.bpf_table_fd(module, b"none") == -1
    assert lib.bpf_table_id(module, b"events") == 1 and lib.bpf_table_id(module, b"none") == -1
    assert lib.bpf_table_type_id(module, 1) == 4 and lib.bpf_table_max_entries_id(module, 0) == 10
    assert lib.bpf_num_functions(module) == 2
    assert lib.bpf_function_name(module, 1) == b"g" and lib.bpf_function_name(module, 2) is None


def resolve(name: bytes, kinds: int = 0, module: bytes = b"") -> tuple[int, Any]:
    symbol, option = bcc_symbol(), bcc_symbol_option(use_symbol_type=kinds)
    result = lib.bcc_resolve_symname(module or os.fsencode(sys.executable), name, 0, 0, ct.byref(option), ct.byref(symbol))
    return result, symbol


def test_symbols_of_files() -> None:
    result, symbol = resolve(b"PyObject_Call")
    if result < 0:
        pytest.skip("this Python is linked to a library that has its symbols")
    assert symbol.name == b"PyObject_Call" and symbol.offset
    assert os.path.samefile(ct.cast(symbol.module, ct.c_char_p).value or b"", sys.executable)
    assert resolve(b"PyObject_Call", 1 << 10)[0] == -1, "it is no indirect function"
    assert resolve(b"PyObject_Call", 1 << 2)[0] == 0
    assert resolve(b"nowhere_to_be_found")[0] == resolve(b"main", 0, b"/nowhere")[0] == -1


def test_what_is_not_there_says_so() -> None:
    with pytest.raises(AttributeError, match=r"no lib.bpf_attach_kprobe\(\): use the methods of BPF"):
        _ = lib.bpf_attach_kprobe
    assert lib.bcc_procutils_language(os.getpid()) in (b"python", None)
    assert lib.bpf_lookup_elem(-1, None, None) == -1
