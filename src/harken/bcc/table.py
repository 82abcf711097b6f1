"""BCC's table classes (``bcc.table``): one per type of map.

=============================================  ====================================================================================
``HashTable``, ``LruHash``                     missing keys raise KeyError
``Array``                                      indexed by numbers, also negative ones; deleting an element sets it to zero
``PerCpuHash``, ``PerCpuArray``                a value is an array with a value per possible CPU; ``sum``, ``max``, ``average``
``PerfEventArray``, ``RingBuf``                events: see ``table_buffers``
``StackTrace``                                 ``walk(id)`` gives a stack's addresses
``ProgArray``                                  takes functions (``BPF.Function``) or their descriptors
``CgroupArray``                                takes paths of cgroups or descriptors
``MapInMapArray``, ``MapInMapHash``            take tables or descriptors
``QueueStack``                                 ``push``, ``pop``, ``peek``
``LpmTrie``, ``DevMap``, ``CpuMap``, ``XskMap``  plain mappings
=============================================  ====================================================================================
"""

from __future__ import annotations

import ctypes as ct
import os
from struct import unpack

from ..abi import bpf as _abi
from ..abi.bpf_names import MAP_TYPES
from ..base.errors import KernelError
from .table_base import TableBase, failure, raw
from .table_buffers import PerfEventArray, RingBuf
from .table_percpu import ArrayBase, LruPerCpuHash, PerCpuArray, PerCpuHash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..kernel.bpf import Map
    from .program import TableInfo

__all__ = (
    "Array", "ArrayBase", "CgroupArray", "CpuMap", "DevMap", "HashTable", "LpmTrie", "LruHash", "LruPerCpuHash", "MapInMapArray",
    "MapInMapHash", "PerCpuArray", "PerCpuHash", "PerfEventArray", "ProgArray", "QueueStack", "RingBuf", "StackTrace", "Table",
    "TableBase", "XskMap", "get_table_type_name", "linear_index_max", "log2_index_max", "map_type_name", "stars_max",
)  # fmt: skip

stars_max, log2_index_max, linear_index_max = 40, 65, 1025

#: number of a map type -> its name
map_type_name = {number: name.upper() for number, name in MAP_TYPES.items()}

globals().update({f"BPF_MAP_TYPE_{name}": number for number, name in map_type_name.items()})


def get_table_type_name(ttype: int) -> str:
    """The name of a map type, "<unknown>" for a number that is none."""
    return map_type_name.get(ttype, "<unknown>")


class HashTable(TableBase):
    """A hash map."""


class LruHash(HashTable):
    """A hash map that drops the elements unused for longest when it is full."""


class Array(ArrayBase):
    """An array."""

    def __delitem__(self, key: Any) -> None:
        self.clearitem(key)


class ProgArray(ArrayBase):
    """Programs to jump to by tail calls."""

    def __setitem__(self, key: Any, leaf: Any) -> None:
        super().__setitem__(key, getattr(leaf, "fd", leaf))

    def clear(self) -> None:
        for key in self:
            self.map.delete(self._raw_key(key))


class CgroupArray(ArrayBase):
    """Cgroups, given by path or descriptor."""

    def __setitem__(self, key: Any, leaf: Any) -> None:
        if isinstance(leaf, (str, bytes)):
            fd = os.open(leaf, os.O_RDONLY | os.O_CLOEXEC)
            try:
                super().__setitem__(key, fd)
            finally:
                os.close(fd)
        elif isinstance(leaf, int):
            super().__setitem__(key, leaf)
        else:
            raise Exception("Cgroup array key must be either FD or cgroup path")


class LpmTrie(TableBase):
    """Longest-prefix matching: a key is a prefix length (u32, in bits) and data."""


class DevMap(ArrayBase):
    """Network devices to redirect packets to."""


class CpuMap(ArrayBase):
    """CPUs to redirect packets to."""


class XskMap(ArrayBase):
    """AF_XDP sockets to redirect packets to."""


def _map_fd(leaf: Any) -> Any:
    return leaf.map_fd if isinstance(leaf, (TableBase, QueueStack)) else leaf


class MapInMapArray(ArrayBase):
    """An array of maps; a table or a descriptor is stored, a lookup gives the inner map's id."""

    def __setitem__(self, key: Any, leaf: Any) -> None:
        super().__setitem__(key, _map_fd(leaf))


class MapInMapHash(HashTable):
    """A hash of maps."""

    def __setitem__(self, key: Any, leaf: Any) -> None:
        super().__setitem__(key, _map_fd(leaf))


class StackTrace(TableBase):
    """Stacks by id."""

    MAX_DEPTH = 127
    BPF_F_STACK_BUILD_ID = 1 << 5
    BPF_STACK_BUILD_ID_EMPTY, BPF_STACK_BUILD_ID_VALID, BPF_STACK_BUILD_ID_IP = 0, 1, 2

    class StackWalker:
        """An iterator over a stack's addresses, innermost first."""

        def __init__(self, stack: list[Any], resolve: Callable[[Any], Any] | None = None) -> None:
            self.stack = stack
            self.resolve = resolve
            self.n = -1

        def __iter__(self) -> StackTrace.StackWalker:
            return self

        def __next__(self) -> Any:
            self.n += 1
            if self.n >= len(self.stack):
                raise StopIteration
            address = self.stack[self.n]
            return self.resolve(address) if self.resolve else address

        next = __next__

    def walk(self, stack_id: Any, resolve: Callable[[Any], Any] | None = None) -> StackWalker:
        """A stack's addresses, or what ``resolve`` makes of each; with BPF_F_STACK_BUILD_ID structs of build id and offset.

        Raises:
            KeyError: no such stack.
        """
        number = stack_id.value if isinstance(stack_id, ct._SimpleCData) else int(stack_id)
        try:
            data = self.map.lookup((number & 0xFFFFFFFF).to_bytes(4, "little"))
        except KernelError as error:
            raise KeyError(failure(error)) from None
        if data is None:
            raise KeyError(stack_id)
        found: list[Any] = []
        if self.flags & self.BPF_F_STACK_BUILD_ID:
            for frame in self._leaf(data).trace:
                if frame.status != self.BPF_STACK_BUILD_ID_VALID:
                    break
                found.append(frame)
        else:
            for address in unpack(f"={len(data) // 8}Q", data):
                if not address or len(found) == self.MAX_DEPTH:
                    break
                found.append(address)
        return StackTrace.StackWalker(found, resolve)

    def clear(self) -> None:
        """Removes all stacks."""
        self.map.delete_batch(self.map.keys())


class QueueStack:
    """A queue or a stack: values without keys."""

    BPF_EXIST = 2

    def __init__(self, bpf: Any, info: TableInfo, map: Map, leaftype: Any, map_id: int = 0) -> None:
        self.bpf, self.info, self.map, self.map_id, self.Leaf = bpf, info, map, map_id, leaftype
        self.ttype, self.flags, self.max_entries = map.type, info.flags, map.max_entries

    @property
    def map_fd(self) -> int:
        return self.map.fd

    def get_fd(self) -> int:
        """The map's descriptor."""
        return self.map.fd

    def push(self, leaf: Any, flags: int = 0) -> None:
        """Appends a value; with flag BPF_EXIST the oldest one makes room if the map is full."""
        try:
            self.map.update(b"", raw(leaf, self.Leaf, self.map.value_size), flags)
        except KernelError as error:
            raise Exception(f"Could not push to table: {failure(error)}") from None

    def pop(self) -> Any:
        """Takes the next value out; raises KeyError if there is none."""
        data = self.map.pop()
        if data is None:
            raise KeyError("Could not pop from table")
        return self.Leaf.from_buffer_copy(data)

    def peek(self) -> Any:
        """The next value, which stays; raises KeyError if there is none."""
        data = self.map.lookup(b"")
        if data is None:
            raise KeyError("Could not peek table")
        return self.Leaf.from_buffer_copy(data)

    def itervalues(self) -> Iterator[Any]:
        """Takes the values out one by one, at most as many as the map can hold."""
        for _ in range(self.max_entries):
            try:
                yield self.pop()
            except KeyError:
                return

    def values(self) -> list[Any]:
        """Takes all values out."""
        return list(self.itervalues())

    leaf_sprintf = TableBase.leaf_sprintf
    leaf_scanf = TableBase.leaf_scanf
    _raw_leaf = TableBase._raw_leaf


_CLASSES: dict[int, Any] = {
    _abi.BPF_MAP_TYPE_HASH: HashTable,
    _abi.BPF_MAP_TYPE_ARRAY: Array,
    _abi.BPF_MAP_TYPE_PROG_ARRAY: ProgArray,
    _abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY: PerfEventArray,
    _abi.BPF_MAP_TYPE_PERCPU_HASH: PerCpuHash,
    _abi.BPF_MAP_TYPE_PERCPU_ARRAY: PerCpuArray,
    _abi.BPF_MAP_TYPE_LPM_TRIE: LpmTrie,
    _abi.BPF_MAP_TYPE_STACK_TRACE: StackTrace,
    _abi.BPF_MAP_TYPE_LRU_HASH: LruHash,
    _abi.BPF_MAP_TYPE_LRU_PERCPU_HASH: LruPerCpuHash,
    _abi.BPF_MAP_TYPE_CGROUP_ARRAY: CgroupArray,
    _abi.BPF_MAP_TYPE_DEVMAP: DevMap,
    _abi.BPF_MAP_TYPE_CPUMAP: CpuMap,
    _abi.BPF_MAP_TYPE_XSKMAP: XskMap,
    _abi.BPF_MAP_TYPE_ARRAY_OF_MAPS: MapInMapArray,
    _abi.BPF_MAP_TYPE_HASH_OF_MAPS: MapInMapHash,
    _abi.BPF_MAP_TYPE_RINGBUF: RingBuf,
}


def Table(
    bpf: Any,
    info: TableInfo,
    map: Map,
    keytype: Any,
    leaftype: Any,
    map_id: int = 0,
    reducer: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """The object for a map, by the map's type; types without a class of their own are plain mappings.

    Args:
        reducer: makes one value of two; a per-CPU table's values are reduced by it.
    """
    if map.type in (_abi.BPF_MAP_TYPE_QUEUE, _abi.BPF_MAP_TYPE_STACK):
        return QueueStack(bpf, info, map, leaftype, map_id)
    made = _CLASSES.get(map.type, TableBase)
    if issubclass(made, (PerCpuHash, PerCpuArray)):
        return made(bpf, info, map, keytype, leaftype, map_id, reducer)
    return made(bpf, info, map, keytype, leaftype, map_id)
