"""Every type of the kernel's BTF, held against what bpftool prints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from harken.formats.btf import Btf

VMLINUX = "/sys/kernel/btf/vmlinux"
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(shutil.which("bpftool") is None, reason="bpftool is not installed"),
    pytest.mark.skipif(not os.access(VMLINUX, os.R_OK), reason=f"{VMLINUX} cannot be read"),
]


def expected(entry: dict) -> tuple:
    """bpftool's record in the order of ``ours``."""
    kind = entry["kind"].lower()
    name = "" if entry["name"] == "(anon)" else entry["name"]
    items: tuple = ()
    if kind in ("struct", "union"):
        items = tuple((clean(m["name"]), m["type_id"], m["bits_offset"], m.get("bitfield_size", 0)) for m in entry["members"])
    elif kind in ("enum", "enum64"):
        bits = 64 if kind == "enum64" else 32
        items = tuple((v["name"], v["val"] % (1 << bits)) for v in entry["values"])
    elif kind == "func_proto":
        items = tuple((clean(p["name"]), p["type_id"]) for p in entry["params"])
    elif kind == "array":
        items = (entry["type_id"], entry["index_type_id"], entry["nr_elems"])
    elif kind == "datasec":
        items = tuple((v["type_id"], v["offset"], v["size"]) for v in entry["vars"])
    elif kind == "decl_tag":
        items = (entry["component_idx"] % (1 << 32),)
    last = entry.get("ret_type_id", entry.get("size", entry.get("type_id", 0)))
    return kind, name, 0 if kind in ("array", "fwd") else last, items


def clean(name: str) -> str:
    return "" if name == "(anon)" else name


def ours(btf: Btf, number: int) -> tuple:
    kind, name, _, last, flag = btf.info(number)
    items: tuple = ()
    raw = btf.items(number)
    if kind in ("struct", "union"):
        split = [(off & 0xFFFFFF, off >> 24) if flag else (off, 0) for _, _, off in raw]
        items = tuple((btf._string(n), t, off, size) for (n, t, _), (off, size) in zip(raw, split))
    elif kind in ("enum", "enum64"):
        items = tuple((btf._string(v[0]), v[1] | (v[2] << 32 if len(v) > 2 else 0)) for v in raw)
    elif kind == "func_proto":
        items = tuple((btf._string(n), t) for n, t in raw)
    elif kind in ("array", "decl_tag"):
        items = raw[0]
    elif kind == "datasec":
        items = raw
    return kind, name, 0 if kind in ("array", "fwd") else last, items


def test_every_type():
    dump = subprocess.run(["bpftool", "-j", "btf", "dump", "file", VMLINUX], capture_output=True, check=True, timeout=120)
    with open(VMLINUX, "rb") as file:
        btf = Btf(file.read())
    types = json.loads(dump.stdout)["types"]
    assert btf.count == len(types) + 1
    for entry in types:
        assert ours(btf, entry["id"]) == expected(entry)


def test_layouts_of_a_few_structs_in_c():
    """Member for member, in the order and nesting that bpftool's C output has."""
    dump = subprocess.run(
        ["bpftool", "btf", "dump", "file", VMLINUX, "format", "c"], capture_output=True, check=True, timeout=120, text=True
    )
    with open(VMLINUX, "rb") as file:
        btf = Btf(file.read())
    for name in ("list_head", "path", "qstr", "sockaddr", "timespec64", "cred"):
        start = dump.stdout.index(f"\nstruct {name} {{\n")
        theirs = dump.stdout[start : dump.stdout.index("\n}", start)]
        for member in btf.struct(name).names():
            assert member in theirs
