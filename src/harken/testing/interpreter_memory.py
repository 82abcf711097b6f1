"""The interpreter's memory: regions, every access to which is checked, and maps made of them.

Pointers are numbers: the upper 32 bits name a region, the lower 32 an offset in it, so that arithmetic just works and every access
can be checked.  ``Memory.memory`` holds what a program may read as kernel or user memory, by address.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..formats.spec import MapSpec

__all__ = ("Fault", "FakeMap", "Memory")

_M32 = (1 << 32) - 1
#: BPF_MAP_TYPE_HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH
_HASHES = (1, 5, 9, 10)


class Fault(Exception):
    """The program did something that the verifier exists to prevent."""


class Region:
    """Memory; ``written`` marks initialised bytes where that matters (stacks)."""

    __slots__ = ("data", "name", "read_only", "written")

    def __init__(self, name: str, data: bytearray, read_only: bool = False, written: bytearray | None = None) -> None:
        self.name, self.data, self.read_only, self.written = name, data, read_only, written


class Memory:
    """Regions by number.

    Attributes:
        memory: kernel and user memory, address -> bytes.
    """

    def __init__(self) -> None:
        self.regions: dict[int, Region] = {}
        self._next = 1
        self.memory: dict[int, bytes] = {}

    def region(self, name: str, data: bytearray, written: bytearray | None = None) -> int:
        """Adds memory; returns its number (its address is that number << 32)."""
        number = self._next
        self._next += 1
        self.regions[number] = Region(name, data, False, written)
        return number

    def find(self, address: int, size: int) -> tuple[Region, int]:
        found = self.regions.get(address >> 32)
        offset = address & _M32
        if offset >> 31:
            found, offset = self.regions.get((address >> 32) + 1), offset - (1 << 32)
        if found is None:
            raise Fault(f"access to {address:#x}, which is nowhere")
        if offset < 0 or offset + size > len(found.data):
            raise Fault(f"{size} bytes at offset {offset} of {found.name}, which has {len(found.data)}")
        return found, offset

    def read(self, address: int, size: int) -> bytes:
        """Reads what a direct load may read."""
        found, offset = self.find(address, size)
        if found.written is not None and not all(found.written[offset : offset + size]):
            raise Fault(f"bytes {offset - len(found.data)} of {found.name} are read before they are written")
        return bytes(found.data[offset : offset + size])

    def write(self, address: int, data: bytes) -> None:
        found, offset = self.find(address, len(data))
        if found.read_only:
            raise Fault(f"{found.name} is read-only")
        found.data[offset : offset + len(data)] = data
        if found.written is not None:
            found.written[offset : offset + len(data)] = b"\1" * len(data)

    def foreign(self, address: int, size: int) -> bytes | None:
        """Reads kernel, user or own memory as probe_read does; None if it faults."""
        for base, data in self.memory.items():
            if base <= address and address + size <= base + len(data):
                return data[address - base : address - base + size]
        try:
            return self.read(address, size)
        except Fault:
            return None


class FakeMap:
    """A map: ``values`` are key -> number of the region that holds the value; arrays are full from the start."""

    def __init__(self, spec: MapSpec, number: int, memory: Memory) -> None:
        self.spec, self.number = spec, number
        self.values: dict[bytes, int] = {}
        #: what was sent through a ring or perf buffer
        self.records: list[bytes] = []
        #: refuse ring-buffer space from this many records on
        self.capacity = 1 << 30
        if spec.type in (2, 6):
            for index in range(spec.max_entries):
                self.values[index.to_bytes(4, "little")] = memory.region(f"{spec.name}[{index}]", bytearray(spec.value_size))
        for key, value in spec.contents:
            self.put(memory, key, value)
        if spec.frozen:
            for number_ in self.values.values():
                memory.regions[number_].read_only = True

    def put(self, memory: Memory, key: bytes, value: bytes, flags: int = 0) -> int:
        """Stores like bpf_map_update_elem; 0 or -errno."""
        number = self.values.get(key)
        if number is None:
            if flags == 2:
                return -errno.ENOENT
            if self.spec.type not in _HASHES:
                return -errno.E2BIG
            if len(self.values) >= self.spec.max_entries:
                if self.spec.type not in (9, 10):
                    return -errno.E2BIG
                del self.values[next(iter(self.values))]
            self.values[key] = memory.region(self.spec.name, bytearray(value))
            return 0
        if flags == 1:
            return -errno.EEXIST
        memory.regions[number].data[:] = value
        return 0
