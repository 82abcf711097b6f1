"""Live BPF maps: one element, all elements (``bpf_map_bulk`` has how), safely while programs change them."""

from __future__ import annotations

import errno

from ..abi import bpf as abi
from ..base.errors import KernelError
from .bpf_object import BpfObject, attr, bpf, bpf_with_memlock, object_name, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..formats.spec import MapSpec
    from .bpf_info import MapInfo
    from .kernel import Kernel

__all__ = ("FD_TYPES", "Map", "PER_CPU_TYPES", "create_map", "try_create_map")

#: map types whose values exist once per possible CPU
PER_CPU_TYPES = frozenset(
    (
        abi.BPF_MAP_TYPE_PERCPU_HASH,
        abi.BPF_MAP_TYPE_PERCPU_ARRAY,
        abi.BPF_MAP_TYPE_LRU_PERCPU_HASH,
        abi.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
    )
)
#: map types that hold file descriptors: a lookup gives the object's id (u32) where it gives anything
FD_TYPES = frozenset(
    (
        abi.BPF_MAP_TYPE_PROG_ARRAY,
        abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
        abi.BPF_MAP_TYPE_CGROUP_ARRAY,
        abi.BPF_MAP_TYPE_ARRAY_OF_MAPS,
        abi.BPF_MAP_TYPE_HASH_OF_MAPS,
    )
)
_ARRAYS = frozenset((abi.BPF_MAP_TYPE_ARRAY, abi.BPF_MAP_TYPE_PERCPU_ARRAY))


class Map(BpfObject):
    """A live map.

    Keys and values are bytes of exactly ``key_size`` and ``value_size``.  Where ``per_cpu`` is true, a value as the kernel hands it out
    is one value per possible CPU, each padded to a multiple of 8 bytes: ``stride * cpus`` bytes.  Maps without keys (queue, stack,
    bloom filter) take ``b""`` as key.

    A bad size raises KernelError before the kernel could read beyond the bytes.
    """

    __slots__ = ("type", "key_size", "value_size", "max_entries", "flags", "per_cpu", "batches", "_cpus")

    def __init__(
        self, kernel: Kernel, fd: int, name: str, type: int, key_size: int, value_size: int, max_entries: int, flags: int = 0
    ) -> None:
        super().__init__(kernel, fd, name)
        self.type = type
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.flags = flags
        self.per_cpu = type in PER_CPU_TYPES
        self._cpus = 0
        #: the kernel may have batch operations for this type
        self.batches = True

    @classmethod
    def from_fd(cls, kernel: Kernel, fd: int) -> Map:
        """Takes over a descriptor; sizes and name are asked of the kernel.  Closes it if that fails."""
        from .bpf_info import map_info

        try:
            info = map_info(kernel, fd)
        except BaseException:
            kernel.close(fd)
            raise
        return cls(kernel, fd, info.name, info.type, info.key_size, info.value_size, info.max_entries, info.flags)

    @property
    def cpus(self) -> int:
        """Number of values per lookup: the possible CPUs for per-CPU maps, else 1."""
        if not self._cpus:
            if self.per_cpu:
                from .cpus import cpus_possible

                self._cpus = len(cpus_possible(self.kernel))
            else:
                self._cpus = 1
        return self._cpus

    @property
    def stride(self) -> int:
        """Bytes from one CPU's value to the next one's."""
        return (self.value_size + 7) & ~7 if self.per_cpu else self.value_size

    @property
    def lookup_size(self) -> int:
        """Bytes of one lookup's result."""
        return self.stride * self.cpus if self.per_cpu else 4 if self.type in FD_TYPES else self.value_size

    def info(self) -> MapInfo:
        """What the kernel knows of the map."""
        from .bpf_info import map_info

        return map_info(self.kernel, self.fd)

    # -- one element

    def lookup(self, key: bytes, flags: int = 0) -> bytes | None:
        """The value of a key, or None if there is none (of a queue or stack: the head, which stays)."""
        value = bytearray(self.lookup_size)
        result = self._elem(abi.BPF_MAP_LOOKUP_ELEM, key, value, flags)
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise self.refused(result, "read an element of")
        return bytes(value)

    def pop(self, key: bytes = b"") -> bytes | None:
        """Looks up and deletes in one step (hash maps since Linux 5.14; queues and stacks); None if there is nothing."""
        value = bytearray(self.lookup_size)
        result = self._elem(abi.BPF_MAP_LOOKUP_AND_DELETE_ELEM, key, value, 0)
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise self.refused(result, "take an element from")
        return bytes(value)

    def update(self, key: bytes, value: bytes, flags: int = abi.BPF_ANY) -> None:
        """Stores a value.

        Args:
            value: for a per-CPU map either one value per CPU as ``lookup`` gives them, or one value that every CPU gets.
            flags: BPF_ANY, BPF_NOEXIST (fails with EEXIST), BPF_EXIST (fails with ENOENT).
        """
        if self.per_cpu and len(value) == self.value_size:
            value = (value + bytes(self.stride - self.value_size)) * self.cpus
        if len(value) != (self.stride * self.cpus if self.per_cpu else self.value_size):
            raise KernelError(f"map {self.name!r}: a value has {self.value_size} bytes, got {len(value)}", errno=errno.EINVAL)
        result = self._elem(abi.BPF_MAP_UPDATE_ELEM, key, value, flags)
        if result < 0:
            raise self.refused(result, "store an element in")

    def delete(self, key: bytes) -> bool:
        """Removes a key; False if there was none."""
        result = self._elem(abi.BPF_MAP_DELETE_ELEM, key, None, 0)
        if result == -errno.ENOENT:
            return False
        if result < 0:
            raise self.refused(result, "delete an element of")
        return True

    def next_key(self, key: bytes | None) -> bytes | None:
        """The key after ``key`` in the map's own order; the first one after None or after a key that is gone; None at the end."""
        found = bytearray(self.key_size)
        if key is not None and len(key) != self.key_size:
            raise KernelError(f"map {self.name!r}: a key has {self.key_size} bytes, got {len(key)}", errno=errno.EINVAL)
        attribute = attr(abi.MAP_ELEM, abi.MAP_ELEM_SIZE, map_fd=self.fd, key=key, next_key=found)
        result = bpf(self.kernel, abi.BPF_MAP_GET_NEXT_KEY, attribute)
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise self.refused(result, "walk")
        return bytes(found)

    def _elem(self, command: int, key: bytes, value: bytes | bytearray | None, flags: int) -> int:
        if len(key) != self.key_size:
            raise KernelError(f"map {self.name!r}: a key has {self.key_size} bytes, got {len(key)}", errno=errno.EINVAL)
        attribute = attr(abi.MAP_ELEM, abi.MAP_ELEM_SIZE, map_fd=self.fd, key=key, value=value, flags=flags)
        return bpf(self.kernel, command, attribute)

    # -- all elements

    def items(self) -> list[tuple[bytes, bytes]]:
        """All elements as (key, value) pairs, safe while the map changes.

        An element that exists all the while is in the list exactly once; one that comes or goes meanwhile may be or not.
        """
        return self._pairs(*self.snapshot())

    def snapshot(self) -> tuple[bytes, bytes, int]:
        """All elements in bulk: (all keys, all values, number), without an object per element."""
        from .bpf_map_bulk import read_batches, read_singly

        found = read_batches(self, abi.BPF_MAP_LOOKUP_BATCH)
        return found if found is not None else read_singly(self)

    def drain(self) -> list[tuple[bytes, bytes]]:
        """All elements of a hash map, which is empty afterwards; an update that happens meanwhile is neither lost nor read twice where the
        kernel has BPF_MAP_LOOKUP_AND_DELETE_BATCH (5.6); else it may be lost."""
        from .bpf_map_bulk import read_batches

        found = read_batches(self, abi.BPF_MAP_LOOKUP_AND_DELETE_BATCH)
        if found is not None:
            return self._pairs(*found)
        pairs = self.items()
        for key, _ in pairs:
            self.delete(key)
        return pairs

    def _pairs(self, keys: bytes, values: bytes, count: int) -> list[tuple[bytes, bytes]]:
        size, width = self.key_size, self.lookup_size
        return [(keys[i * size : i * size + size], values[i * width : i * width + width]) for i in range(count)]

    def keys(self) -> list[bytes]:
        """All keys."""
        if self.type in _ARRAYS:
            return [index.to_bytes(4, "little") for index in range(self.max_entries)]
        from .bpf_map_bulk import walk

        return list(walk(self))

    def clear(self) -> None:
        """Removes all elements; the elements of an array become zero."""
        from .bpf_map_bulk import read_batches

        if self.type in _ARRAYS:
            zero = bytes(self.stride * self.cpus)
            for key in self.keys():
                self.update(key, zero)
        elif read_batches(self, abi.BPF_MAP_LOOKUP_AND_DELETE_BATCH) is None:
            for key in self.keys():
                self.delete(key)

    def update_batch(self, pairs: list[tuple[bytes, bytes]], flags: int = abi.BPF_ANY) -> None:
        """Stores many elements, by BPF_MAP_UPDATE_BATCH where the kernel has it."""
        from .bpf_map_bulk import update_batch

        for key, value in update_batch(self, pairs, flags):
            self.update(key, value, flags)

    def delete_batch(self, keys: list[bytes]) -> None:
        """Removes many elements, by BPF_MAP_DELETE_BATCH where the kernel has it; keys that are not there do not matter."""
        from .bpf_map_bulk import delete_batch

        for key in delete_batch(self, keys):
            self.delete(key)

    def freeze(self) -> None:
        """Makes the map read-only for user space (programs of the verifier may then be told its contents)."""
        result = bpf(self.kernel, abi.BPF_MAP_FREEZE, attr(abi.MAP_ELEM, abi.MAP_ELEM_SIZE, map_fd=self.fd))
        if result < 0:
            raise refusal("map_freeze", -result, f"map {self.name!r}")

    def mmap(self, writable: bool = False) -> Any:
        """The values of an array made with BPF_F_MMAPABLE as memory (values are 8-byte aligned); raises OSError."""
        from mmap import PAGESIZE

        size = ((self.value_size + 7) & ~7) * self.max_entries
        return self.kernel.mmap(self.fd, -(-size // PAGESIZE) * PAGESIZE, writable)

    def refused(self, result: int, verb: str) -> KernelError:
        """The error for an operation that gave ``-errno``; ``verb`` is what could not be done ("read", "store an element in")."""
        error = refusal("map_elem", -result, f"map {self.name!r}")
        if -result == errno.E2BIG:
            return KernelError(f"map {self.name!r} is full ({self.max_entries} entries)", call=error.call, errno=errno.E2BIG)
        error.message = error.message.replace("cannot use", f"cannot {verb}", 1)
        return error


def try_create_map(kernel: Kernel, spec: MapSpec, inner_fd: int | None = None, btf_fd: int = 0) -> int:
    """BPF_MAP_CREATE: a descriptor or ``-errno`` (probes of features want the errno).

    With ``btf_fd``, the types that the spec names go to the kernel too.
    """
    count = spec.max_entries
    if count == 0 and spec.type == abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY:
        from .cpus import cpus_possible

        count = len(cpus_possible(kernel))
    attribute = attr(
        abi.MAP_CREATE,
        abi.MAP_CREATE_SIZE,
        map_type=spec.type,
        key_size=spec.key_size,
        value_size=spec.value_size,
        max_entries=count,
        map_flags=spec.flags,
        map_name=object_name(spec.name),
        inner_map_fd=inner_fd or 0,
        btf_fd=btf_fd,
        btf_key_type_id=spec.key_type if btf_fd else 0,
        btf_value_type_id=spec.value_type if btf_fd else 0,
    )
    return bpf_with_memlock(kernel, abi.BPF_MAP_CREATE, attribute)


def create_map(kernel: Kernel, spec: MapSpec, btf_fd: int = 0) -> Map:
    """Creates a map; ``contents`` and ``frozen`` are left to the loader.

    Args:
        btf_fd: the loaded BTF in which ``spec.key_type`` and ``spec.value_type`` are; a map type that takes no types is made without.

    Raises:
        KernelError: with advice.
    """
    inner = create_map(kernel, spec.inner) if spec.inner is not None else None
    try:
        fd = -1
        if btf_fd and spec.value_type:
            fd = try_create_map(kernel, spec, inner.fd if inner else None, btf_fd)
        if fd < 0:
            fd = try_create_map(kernel, spec, inner.fd if inner else None)
    finally:
        if inner:
            inner.close()
    if fd < 0:
        from ..abi.bpf_names import MAP_TYPES

        kind = MAP_TYPES.get(spec.type, f"type {spec.type}")
        raise refusal("map_create", -fd, f"map {spec.name!r} ({kind}, {spec.max_entries} entries)")
    count = spec.max_entries
    if count == 0 and spec.type == abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY:
        from .cpus import cpus_possible

        count = len(cpus_possible(kernel))
    return Map(kernel, fd, spec.name, spec.type, spec.key_size, spec.value_size, count, spec.flags)
