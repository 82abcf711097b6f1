"""The catalogue on a real kernel: its own BTF, all its events, its functions."""

from __future__ import annotations

import os

import pytest

from harken.base.errors import HarkenError
from harken.kernel.kernel import live
from harken.probes.catalogue import Catalogue

pytestmark = pytest.mark.kernel


#: Emulated guests are twenty times slower: they look at every seventh event.
STEP = 7 if "HARKEN_GUEST" in os.environ else 1


@pytest.fixture(scope="module")
def catalogue():
    found = Catalogue(live())
    if found.btf is None:
        pytest.skip(f"no BTF: {found.btf_reason}")
    return found


@pytest.fixture(scope="module")
def traced(catalogue):
    try:
        catalogue.tracepoints()
    except HarkenError as error:
        pytest.skip(f"no tracefs: {error}")
    return catalogue


def test_types_of_the_running_kernel(catalogue):
    task = catalogue.btf.struct("task_struct")
    assert task.size > 1000
    assert task.member("pid").type.name == "pid_t" and task.member("pid").type.size == 4
    assert task.member("comm").type.count == 16 and task.member("comm").type.element.size == 1
    assert task.member("mm").type.target.name == "mm_struct"
    read = catalogue.function("vfs_read")
    assert [name for name, _ in read.params] == ["file", "buf", "count", "pos"] and read.returns.name == "ssize_t"
    assert catalogue.btf.enum_value("BPF_MAP_TYPE_HASH") == 1
    assert catalogue.btf.find("unsigned long").size == catalogue.btf.pointer_size


@pytest.mark.keeps_fds
def test_the_second_start_finds_the_same_through_the_cache(catalogue):
    again = Catalogue(live())
    assert again.btf.count == catalogue.btf.count
    for name in ("task_struct", "file", "sk_buff"):
        assert again.btf.struct(name).size == catalogue.btf.struct(name).size
        assert again.btf.id_of(name, "struct") == catalogue.btf.id_of(name, "struct")


def test_every_event_parses_and_agrees_with_btf(traced):
    compared = 0
    for category, name in traced.tracepoints()[::STEP]:
        found = traced.tracepoint(category, name)
        assert found.name == name or category in ("kprobes", "uprobes"), (category, name)
        for field in found.fields:
            assert field.data_loc or field.rel_loc or field.ctype.size == field.size, (category, name, field)
        struct = traced.btf.struct(f"trace_event_raw_{name}")
        for field in found.own if struct is not None else ():
            member = struct.member(field.name) or struct.member(f"__data_loc_{field.name}") or struct.member(f"__rel_loc_{field.name}")
            assert member is not None, (category, name, field)
            assert (member.bit_offset, member.type.size) == (field.offset * 8, field.size), (category, name, field)
            compared += 1
    assert compared > 500 // STEP


def test_raw_tracepoints_have_named_arguments(catalogue):
    names = catalogue.raw_tracepoints()
    assert {"sched_switch", "sys_enter", "sys_exit"} <= set(names) and len(names) > 400
    assert [name for name, _ in catalogue.raw_tracepoint("sched_switch").params][:3] == ["preempt", "prev", "next"]


def test_functions(catalogue):
    functions = catalogue.functions()
    assert len(functions) > 20_000 and ("vfs_read", "") in functions
    assert catalogue.locate("vfs_read") == ("vfs_read", "")
    known = catalogue.described()
    assert sum(name in known for name, module in functions if not module) > len(functions) // 2


def test_symbols(catalogue):
    address = catalogue.kallsyms.address("vfs_read")
    if catalogue.kallsyms.hidden:
        pytest.skip("the addresses of symbols are hidden from this user")
    assert catalogue.kallsyms.at(address + 3) == ("vfs_read", 3, "")


def test_iterators(catalogue):
    assert {"task", "task_file", "bpf_map"} <= set(catalogue.iterators())
    assert catalogue.iterator("task").member("task").type.target.name == "task_struct"
