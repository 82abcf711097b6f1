"""What the kernel tells about BPF objects: info by descriptor, enumeration by id, run-time statistics.

Facts: BPF_OBJ_GET_INFO_BY_FD, BPF_*_GET_NEXT_ID, BPF_*_GET_FD_BY_ID and BPF_ENABLE_STATS of ``kernel/bpf/syscall.c``.  An older kernel
fills in less of a struct than newer headers define; what it does not know stays zero.
"""

from __future__ import annotations

import errno
from struct import unpack_from

from ..abi import bpf as abi
from ..base.record import Record
from .bpf_errors import refusal
from .bpf_object import BpfObject, attr, bpf, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..abi.bpf import Layout
    from .kernel import Buffer, Kernel

__all__ = (
    "BtfInfo", "LinkInfo", "MapInfo", "ProgramInfo", "btf_info", "enable_stats", "fd_by_id", "ids", "link_info", "map_info", "program_info",
)  # fmt: skip


class MapInfo(Record):
    """``struct bpf_map_info``."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str
    btf_id: int = 0
    btf_key_type_id: int = 0
    btf_value_type_id: int = 0


class ProgramInfo(Record):
    """``struct bpf_prog_info``.

    ``run_time_ns`` and ``run_cnt`` count only while statistics are enabled (``enable_stats``, or the sysctl kernel.bpf_stats_enabled);
    ``recursion_misses`` counts runs that were left out because the program was running on that CPU already (5.12).
    """

    type: int
    id: int
    name: str
    tag: bytes
    xlated_size: int
    jited_size: int
    load_time: int
    uid: int
    gpl_compatible: bool
    map_ids: tuple[int, ...]
    btf_id: int
    run_time_ns: int
    run_cnt: int
    recursion_misses: int
    verified_insns: int
    attach_btf_obj_id: int
    attach_btf_id: int


class LinkInfo(Record):
    """``struct bpf_link_info``; ``fields`` holds what belongs to the link's own type, named as in ``abi.bpf.LINK_INFO`` without the
    type's prefix."""

    type: int
    id: int
    prog_id: int
    fields: dict[str, int]

    @property
    def missed(self) -> int | None:
        """Events that the probe could not deliver (kprobe links since 6.7); None if this kind of link does not count them."""
        return self.fields.get("missed")


class BtfInfo(Record):
    """``struct bpf_btf_info``: ``name`` is "vmlinux", a module, or "" for a program's."""

    id: int
    name: str
    size: int
    kernel_btf: bool


def _info(kernel: Kernel, fd: int, layout: Layout, size: int, what: str, **pointers: int | Buffer) -> bytearray:
    inner = attr(layout, size, **pointers)
    attribute = attr(abi.OBJ_GET_INFO, abi.OBJ_GET_INFO_SIZE, bpf_fd=fd, info_len=size, info=inner)
    result = bpf(kernel, abi.BPF_OBJ_GET_INFO_BY_FD, attribute)
    if result == -errno.E2BIG:
        # bytes beyond what this kernel knows were not zero; cannot happen with what we ask for, except for a kernel bug
        raise refusal("info", errno.E2BIG, what)
    if result < 0:
        raise refusal("info", -result, what)
    return inner.data


def _text(layout: Layout, name: str, data: bytearray) -> str:
    offset, form = layout[name]
    raw: bytes = unpack_from(form, data, offset)[0]
    return raw.partition(b"\0")[0].decode("utf-8", "replace")


def map_info(kernel: Kernel, fd: int) -> MapInfo:
    """What the kernel knows of a map; raises KernelError."""
    layout = abi.MAP_INFO
    data = _info(kernel, fd, layout, abi.MAP_INFO_SIZE, "a map")
    return MapInfo(
        type=field(layout, "type", data),
        id=field(layout, "id", data),
        key_size=field(layout, "key_size", data),
        value_size=field(layout, "value_size", data),
        max_entries=field(layout, "max_entries", data),
        flags=field(layout, "map_flags", data),
        name=_text(layout, "name", data),
        btf_id=field(layout, "btf_id", data),
        btf_key_type_id=field(layout, "btf_key_type_id", data),
        btf_value_type_id=field(layout, "btf_value_type_id", data),
    )


def program_info(kernel: Kernel, fd: int, map_ids: bool = False) -> ProgramInfo:
    """What the kernel knows of a program; raises KernelError.

    Args:
        map_ids: also ask for the ids of its maps.
    """
    layout = abi.PROG_INFO
    ids_buffer = bytearray(4 * 256 if map_ids else 0)
    data = _info(
        kernel, fd, layout, abi.PROG_INFO_SIZE, "a program", map_ids=ids_buffer, nr_map_ids=len(ids_buffer) // 4,
    )  # fmt: skip
    count = min(field(layout, "nr_map_ids", data), len(ids_buffer) // 4)
    return ProgramInfo(
        type=field(layout, "type", data),
        id=field(layout, "id", data),
        name=_text(layout, "name", data),
        tag=bytes(data[layout["tag"][0] : layout["tag"][0] + abi.BPF_TAG_SIZE]),
        xlated_size=field(layout, "xlated_prog_len", data),
        jited_size=field(layout, "jited_prog_len", data),
        load_time=field(layout, "load_time", data),
        uid=field(layout, "created_by_uid", data),
        # gpl_compatible is the lowest bit of the u32 after ifindex
        gpl_compatible=bool(data[layout["ifindex"][0] + 4] & 1),
        map_ids=unpack_from(f"={count}I", ids_buffer),
        btf_id=field(layout, "btf_id", data),
        run_time_ns=field(layout, "run_time_ns", data),
        run_cnt=field(layout, "run_cnt", data),
        recursion_misses=field(layout, "recursion_misses", data),
        verified_insns=field(layout, "verified_insns", data),
        attach_btf_obj_id=field(layout, "attach_btf_obj_id", data),
        attach_btf_id=field(layout, "attach_btf_id", data),
    )


#: how the fields of struct bpf_link_info begin, by link type; a perf event link has a type of its own inside (enum bpf_perf_event_type)
_LINK_FIELDS = {
    abi.BPF_LINK_TYPE_RAW_TRACEPOINT: "raw_tracepoint_",
    abi.BPF_LINK_TYPE_TRACING: "tracing_",
    abi.BPF_LINK_TYPE_CGROUP: "cgroup_",
    abi.BPF_LINK_TYPE_ITER: "iter_",
    abi.BPF_LINK_TYPE_NETNS: "netns_",
    abi.BPF_LINK_TYPE_XDP: "xdp_",
    abi.BPF_LINK_TYPE_PERF_EVENT: "perf_event_",
    abi.BPF_LINK_TYPE_KPROBE_MULTI: "kprobe_multi_",
    abi.BPF_LINK_TYPE_STRUCT_OPS: "struct_ops_",
    abi.BPF_LINK_TYPE_NETFILTER: "netfilter_",
    abi.BPF_LINK_TYPE_TCX: "tcx_",
    abi.BPF_LINK_TYPE_UPROBE_MULTI: "uprobe_multi_",
    abi.BPF_LINK_TYPE_NETKIT: "netkit_",
    abi.BPF_LINK_TYPE_SOCKMAP: "sockmap_",
}
_PERF_FIELDS = {
    abi.BPF_PERF_EVENT_UPROBE: "uprobe_",
    abi.BPF_PERF_EVENT_URETPROBE: "uprobe_",
    abi.BPF_PERF_EVENT_KPROBE: "kprobe_",
    abi.BPF_PERF_EVENT_KRETPROBE: "kprobe_",
    abi.BPF_PERF_EVENT_TRACEPOINT: "tracepoint_",
    abi.BPF_PERF_EVENT_EVENT: "event_",
}


def link_info(kernel: Kernel, fd: int) -> LinkInfo:
    """What the kernel knows of a link; raises KernelError."""
    layout = abi.LINK_INFO
    data = _info(kernel, fd, layout, abi.LINK_INFO_SIZE, "a link")
    kind = field(layout, "type", data)
    prefix = _LINK_FIELDS.get(kind, "?")
    fields = {name.removeprefix(prefix): field(layout, name, data) for name in layout if name.startswith(prefix)}
    if kind == abi.BPF_LINK_TYPE_PERF_EVENT:
        inner = _PERF_FIELDS.get(fields["type"], "?")
        own = {name.removeprefix(inner): value for name, value in fields.items() if name.startswith(inner)}
        fields = {"perf_type": fields["type"], **own}
    return LinkInfo(kind, field(layout, "id", data), field(layout, "prog_id", data), fields)


def btf_info(kernel: Kernel, fd: int) -> BtfInfo:
    """What the kernel knows of a loaded BTF; raises KernelError."""
    layout = abi.BTF_INFO
    name = bytearray(64)
    data = _info(kernel, fd, layout, abi.BTF_INFO_SIZE, "type information", name=name, name_len=len(name))
    text = bytes(name).partition(b"\0")[0].decode("utf-8", "replace")
    return BtfInfo(field(layout, "id", data), text, field(layout, "btf_size", data), bool(field(layout, "kernel_btf", data)))


_NEXT = {
    "map": (abi.BPF_MAP_GET_NEXT_ID, abi.BPF_MAP_GET_FD_BY_ID, "map"),
    "program": (abi.BPF_PROG_GET_NEXT_ID, abi.BPF_PROG_GET_FD_BY_ID, "prog"),
    "link": (abi.BPF_LINK_GET_NEXT_ID, abi.BPF_LINK_GET_FD_BY_ID, "link"),
    "btf": (abi.BPF_BTF_GET_NEXT_ID, abi.BPF_BTF_GET_FD_BY_ID, "btf"),
}


def ids(kernel: Kernel, kind: str) -> list[int]:
    """The ids of all objects of a kind ("map", "program", "link", "btf") in the whole system, ascending.

    Raises:
        KernelError: without CAP_SYS_ADMIN.
    """
    found: list[int] = []
    last = 0
    while True:
        attribute = attr(abi.GET_ID, abi.GET_ID_SIZE, start_id=last)
        result = bpf(kernel, _NEXT[kind][0], attribute)
        if result == -errno.ENOENT:
            return found
        if result < 0:
            raise refusal(f"{_NEXT[kind][2]}_get_next_id", -result, f"the ids of all {kind}s")
        last = field(abi.GET_ID, "next_id", attribute.data)
        found.append(last)


def fd_by_id(kernel: Kernel, kind: str, number: int) -> int | None:
    """A descriptor of an object, or None if it is gone; raises KernelError for any other refusal."""
    result = bpf(kernel, _NEXT[kind][1], attr(abi.GET_ID, abi.GET_ID_SIZE, start_id=number))
    if result == -errno.ENOENT:
        return None
    if result < 0:
        raise refusal(f"{_NEXT[kind][2]}_get_fd_by_id", -result, f"{kind} {number}")
    return result


def enable_stats(kernel: Kernel) -> BpfObject:
    """Turns on run count and run time of all programs until the returned object is closed (BPF_ENABLE_STATS, Linux 5.8).

    Raises:
        KernelError: without CAP_SYS_ADMIN.
    """
    fd = bpf(kernel, abi.BPF_ENABLE_STATS, attr(abi.ENABLE_STATS, abi.ENABLE_STATS_SIZE, type=abi.BPF_STATS_RUN_TIME))
    if fd < 0:
        raise refusal("enable_stats", -fd, "statistics of programs")
    return BpfObject(kernel, fd, "stats")
