"""Live BPF objects: maps and programs.

Every object owns one file descriptor, is a context manager and has ``close()``; nothing lives longer than its process unless it is
pinned.  The functions here take a ``Kernel`` first.  Attachments are in ``kernel.link``, what the kernel tells about objects in
``kernel.bpf_info``, loading of a whole Spec in ``kernel.loader``, ring buffers in ``kernel.ring``.

Facts: ``kernel/bpf/syscall.c``, ``include/uapi/linux/bpf.h``.
"""

from __future__ import annotations

import errno
from struct import pack_into, unpack_from

from ..abi import bpf as abi
from ..base.errors import KernelError
from .bpf_errors import refusal
from .kernel import Call, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any, Self

    from ..abi.bpf import Layout
    from ..formats.spec import MapSpec
    from .bpf_info import MapInfo, ProgramInfo
    from .kernel import Buffer, Kernel

__all__ = (
    "BpfObject",
    "Map",
    "Program",
    "RunResult",
    "attr",
    "bpf",
    "create_map",
    "load_btf",
    "load_program",
    "object_name",
    "open_pinned",
    "pin",
    "try_create_map",
    "try_load_program",
)

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

_UNSIGNED = {"=I": 0xFFFFFFFF, "=Q": 0xFFFFFFFFFFFFFFFF}

#: most bytes that one batch call moves at a time
_BATCH_BYTES = 1 << 20
#: errnos by which kernels tell that a map type has no batch operations
_NO_BATCH = (-errno.EINVAL, -errno.EOPNOTSUPP, -524)


def attr(layout: Layout, size: int, **values: int | Buffer | None) -> Memory:
    """A member of ``union bpf_attr``.

    Args:
        layout, size: from ``abi.bpf`` (``MAP_CREATE``, ``MAP_CREATE_SIZE``).
        values: ints; buffers for pointer fields; bytes for char arrays; None leaves a null pointer.

    Example:
        >>> one = attr(abi.MAP_ELEM, abi.MAP_ELEM_SIZE, map_fd=3, key=b"key", flags=1)
        >>> one.data[:4], one.at(8)
        (bytearray(b'\\x03\\x00\\x00\\x00'), b'key')
    """
    data = bytearray(size)
    pointers: list[tuple[int, Buffer]] = []
    for name, value in values.items():
        offset, form = layout[name]
        if type(value) is int:
            # a closed descriptor is -1, which goes into unsigned fields too: the kernel says EBADF
            pack_into(form, data, offset, value if value >= 0 or form[1] > "Z" else value & _UNSIGNED[form])
        elif value is None or len(value) == 0:  # type: ignore[arg-type]
            continue
        elif form[-1] == "s":
            data[offset : offset + len(value)] = value  # type: ignore[arg-type, assignment]
        else:
            pointers.append((offset, value))  # type: ignore[arg-type]
    return Memory(data, pointers)


def bpf(kernel: Kernel, command: int, attribute: Memory) -> int:
    """bpf(2); returns its result or ``-errno``.

    A kernel that is older than our headers takes the longer struct as long as what it does not know is zero
    (bpf_check_uarg_tail_zero).
    """
    return kernel.call(Call("bpf", (command, attribute, len(attribute.data))))


def field(layout: Layout, name: str, data: bytearray) -> int:
    """Reads an integer field of a struct that the kernel filled in."""
    offset, form = layout[name]
    return int(unpack_from(form, data, offset)[0])


def object_name(name: str) -> bytes:
    """A name as the kernel takes it: 15 characters of ``[A-Za-z0-9_.]``.

    >>> object_name("tracepoint:syscalls:sys_enter_openat")
    b'tracepoint_sysc'
    """
    kept = "".join([c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name])
    return kept[: abi.BPF_OBJ_NAME_LEN - 1].encode()


class BpfObject:
    """Owner of one BPF file descriptor."""

    __slots__ = ("kernel", "fd", "name")

    def __init__(self, kernel: Kernel, fd: int, name: str = "") -> None:
        self.kernel = kernel
        self.fd = fd
        self.name = name

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        """Closes the descriptor; more than once does no harm."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self.kernel.close(fd)

    def detach(self) -> int:
        """Gives up the descriptor: the caller closes it."""
        fd, self.fd = self.fd, -1
        return fd

    def pin(self, path: str) -> None:
        """Keeps the object alive under a path of a bpf file system; raises KernelError."""
        pin(self.kernel, self.fd, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} fd={self.fd}>"


class Map(BpfObject):
    """A live map.

    Keys and values are bytes of exactly ``key_size`` and ``value_size``.  Where ``per_cpu`` is true, a value as the kernel hands it out
    is one value per possible CPU, each padded to a multiple of 8 bytes: ``stride * cpus`` bytes.  Maps without keys (queue, stack,
    bloom filter) take ``b""`` as key.

    A bad size raises KernelError before the kernel could read beyond the bytes.
    """

    __slots__ = ("type", "key_size", "value_size", "max_entries", "flags", "per_cpu", "_cpus", "_batch")

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
        self._batch = True

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
                from .procfs import cpus_possible

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
            raise self._refused(result, "read an element of")
        return bytes(value)

    def pop(self, key: bytes = b"") -> bytes | None:
        """Looks up and deletes in one step (hash maps since Linux 5.14; queues and stacks); None if there is nothing."""
        value = bytearray(self.lookup_size)
        result = self._elem(abi.BPF_MAP_LOOKUP_AND_DELETE_ELEM, key, value, 0)
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise self._refused(result, "take an element from")
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
            raise self._refused(result, "store an element in")

    def delete(self, key: bytes) -> bool:
        """Removes a key; False if there was none."""
        result = self._elem(abi.BPF_MAP_DELETE_ELEM, key, None, 0)
        if result == -errno.ENOENT:
            return False
        if result < 0:
            raise self._refused(result, "delete an element of")
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
            raise self._refused(result, "walk")
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
        keys, values, count = self.snapshot()
        size, width = self.key_size, self.lookup_size
        return [(keys[i * size : i * size + size], values[i * width : i * width + width]) for i in range(count)]

    def snapshot(self) -> tuple[bytes, bytes, int]:
        """All elements in bulk: (all keys, all values, number), without an object per element."""
        found = self._read_batches(abi.BPF_MAP_LOOKUP_BATCH)
        return found if found is not None else self._read_singly()

    def drain(self) -> list[tuple[bytes, bytes]]:
        """All elements of a hash map, which is empty afterwards; an update that happens meanwhile is neither lost nor read twice where the
        kernel has BPF_MAP_LOOKUP_AND_DELETE_BATCH (5.6); else it may be lost."""
        found = self._read_batches(abi.BPF_MAP_LOOKUP_AND_DELETE_BATCH)
        if found is None:
            pairs = self.items()
            for key, _ in pairs:
                self.delete(key)
            return pairs
        keys, values, count = found
        size, width = self.key_size, self.lookup_size
        return [(keys[i * size : i * size + size], values[i * width : i * width + width]) for i in range(count)]

    def keys(self) -> list[bytes]:
        """All keys."""
        if self.type in _ARRAYS:
            return [index.to_bytes(4, "little") for index in range(self.max_entries)]
        return list(self._walk())

    def clear(self) -> None:
        """Removes all elements; the elements of an array become zero."""
        if self.type in _ARRAYS:
            zero = bytes(self.stride * self.cpus)
            for key in self.keys():
                self.update(key, zero)
        elif self._read_batches(abi.BPF_MAP_LOOKUP_AND_DELETE_BATCH) is None:
            for key in self.keys():
                self.delete(key)

    def update_batch(self, pairs: list[tuple[bytes, bytes]], flags: int = abi.BPF_ANY) -> None:
        """Stores many elements, by BPF_MAP_UPDATE_BATCH where the kernel has it."""
        width = self.stride * self.cpus
        if any(len(key) != self.key_size or len(value) != width for key, value in pairs):
            batch = False
        else:
            batch = self._batch and len(pairs) > 1
        step = max(1, _BATCH_BYTES // max(1, self.key_size + width))
        while batch and pairs:
            chunk = pairs[:step]
            keys, values = b"".join([key for key, _ in chunk]), b"".join([value for _, value in chunk])
            attribute = attr(
                abi.MAP_BATCH, abi.MAP_BATCH_SIZE, keys=keys, values=values, count=len(chunk), map_fd=self.fd, elem_flags=flags
            )
            result = bpf(self.kernel, abi.BPF_MAP_UPDATE_BATCH, attribute)
            if result < 0:
                if result in _NO_BATCH:
                    break
                raise self._refused(result, "store elements in")
            pairs = pairs[step:]
        for key, value in pairs:
            self.update(key, value, flags)

    def freeze(self) -> None:
        """Makes the map read-only for user space (programs of the verifier may then be told its contents)."""
        result = bpf(self.kernel, abi.BPF_MAP_FREEZE, attr(abi.MAP_ELEM, abi.MAP_ELEM_SIZE, map_fd=self.fd))
        if result < 0:
            raise refusal("map_freeze", -result, f"map {self.name!r}")

    def mmap(self, writable: bool = False) -> Any:
        """The values of an array made with BPF_F_MMAPABLE as memory (values are 8-byte aligned); raises OSError."""
        size = ((self.value_size + 7) & ~7) * self.max_entries
        return self.kernel.mmap(self.fd, (size + 4095) & ~4095, writable)

    def _read_batches(self, command: int) -> tuple[bytes, bytes, int] | None:
        """All elements by a batch command; None if the kernel has none for this type."""
        if not self._batch or not self.key_size:
            return None
        size, width = self.key_size, self.lookup_size
        room = max(1, min(self.max_entries, _BATCH_BYTES // (size + width)))
        all_keys, all_values, total = [], [], 0
        cursor: bytearray | None = None
        interrupted = 0
        while True:
            keys, values, after = bytearray(room * size), bytearray(room * width), bytearray(max(8, size))
            attribute = attr(
                abi.MAP_BATCH,
                abi.MAP_BATCH_SIZE,
                in_batch=cursor,
                out_batch=after,
                keys=keys,
                values=values,
                count=room,
                map_fd=self.fd,
            )
            result = bpf(self.kernel, command, attribute)
            if result == -errno.ENOSPC and room < self.max_entries + (1 << 16):
                # one hash bucket holds more than a whole batch: try again with more room
                room *= 2
                continue
            if result == -errno.EINTR and interrupted < 64:
                # keys vanished under the kernel's feet; elements that it has found so far are valid
                interrupted += 1
                continue
            if result < 0 and result != -errno.ENOENT:
                if cursor is None and result in _NO_BATCH:
                    self._batch = command != abi.BPF_MAP_LOOKUP_BATCH
                    return None
                raise self._refused(result, "read")
            count = field(abi.MAP_BATCH, "count", attribute.data)
            if count > room:
                raise self._refused(-errno.EIO, "read")
            all_keys.append(bytes(memoryview(keys)[: count * size]))
            all_values.append(bytes(memoryview(values)[: count * width]))
            total += count
            if result == -errno.ENOENT:
                return b"".join(all_keys), b"".join(all_values), total
            cursor = after

    def _read_singly(self) -> tuple[bytes, bytes, int]:
        keys, values = [], []
        for key in self.keys():
            value = self.lookup(key)
            if value is not None:
                keys.append(key)
                values.append(value)
        return b"".join(keys), b"".join(values), len(keys)

    def _walk(self) -> Iterator[bytes]:
        """Each key once.  The kernel starts from the beginning when the key it shall go on from was deleted; known keys are passed over,
        and a bound ends the walk through a map that changes faster than we can read it."""
        seen: set[bytes] = set()
        key = self.next_key(None)
        steps = 4 * self.max_entries + 64
        while key is not None and steps > 0:
            if key not in seen:
                seen.add(key)
                yield key
            key = self.next_key(key)
            steps -= 1

    def _refused(self, result: int, verb: str) -> KernelError:
        error = refusal("map_elem", -result, f"map {self.name!r}")
        if -result == errno.E2BIG:
            return KernelError(f"map {self.name!r} is full ({self.max_entries} entries)", call=error.call, errno=errno.E2BIG)
        error.message = error.message.replace("cannot use", f"cannot {verb}", 1)
        return error


class RunResult:
    """What BPF_PROG_TEST_RUN gives: the program's return value, mean duration in ns, changed packet data and context."""

    __slots__ = ("retval", "duration", "data", "ctx")

    def __init__(self, retval: int, duration: int, data: bytes, ctx: bytes) -> None:
        self.retval = retval
        self.duration = duration
        self.data = data
        self.ctx = ctx


class Program(BpfObject):
    """A loaded program."""

    __slots__ = ("type", "_id")

    def __init__(self, kernel: Kernel, fd: int, name: str, type: int) -> None:
        super().__init__(kernel, fd, name)
        self.type = type
        self._id = 0

    @classmethod
    def from_fd(cls, kernel: Kernel, fd: int) -> Program:
        """Takes over a descriptor; closes it if the kernel does not say what it is."""
        from .bpf_info import program_info

        try:
            info = program_info(kernel, fd)
        except BaseException:
            kernel.close(fd)
            raise
        return cls(kernel, fd, info.name, info.type)

    @property
    def id(self) -> int:
        """The kernel's number of the program."""
        if not self._id:
            self._id = self.info().id
        return self._id

    def info(self) -> ProgramInfo:
        """Run count, run time (with statistics enabled), recursion misses, sizes."""
        from .bpf_info import program_info

        return program_info(self.kernel, self.fd)

    def run(self, ctx: bytes = b"") -> int:
        """Runs the program once by BPF_PROG_TEST_RUN; returns its return value (u32).

        Kernels offer this for syscall (5.14), raw tracepoint (5.10), socket filter and other networking programs.
        """
        return self.test_run(ctx).retval

    def test_run(self, ctx: bytes = b"", data: bytes = b"", repeat: int = 0, cpu: int = -1) -> RunResult:
        """Runs the program by BPF_PROG_TEST_RUN.

        Args:
            ctx: the context (syscall: any struct, changed in place; raw tracepoint: u64 arguments).
            data: a packet (networking programs; at least 14 bytes).
            repeat: how often (networking programs; the duration is the mean in ns).
            cpu: run there (raw tracepoint programs), -1: on the current one.
        """
        context = bytearray(ctx)
        out = bytearray(len(data) + 256 if data else 0)
        # syscall and raw tracepoint programs refuse a ctx_out pointer: syscall writes to ctx_in itself
        packet = bool(data)
        attribute = attr(
            abi.PROG_TEST_RUN,
            abi.PROG_TEST_RUN_SIZE,
            prog_fd=self.fd,
            data_in=data,
            data_size_in=len(data),
            data_out=out,
            data_size_out=len(out),
            repeat=repeat,
            ctx_in=context,
            ctx_size_in=len(context),
            ctx_out=context if packet else None,
            ctx_size_out=len(context) if packet else 0,
            flags=abi.BPF_F_TEST_RUN_ON_CPU if cpu >= 0 else 0,
            cpu=max(cpu, 0),
        )
        result = bpf(self.kernel, abi.BPF_PROG_TEST_RUN, attribute)
        if result < 0:
            raise refusal("prog_test_run", -result, f"program {self.name!r}")
        size = field(abi.PROG_TEST_RUN, "data_size_out", attribute.data)
        return RunResult(
            field(abi.PROG_TEST_RUN, "retval", attribute.data),
            field(abi.PROG_TEST_RUN, "duration", attribute.data),
            bytes(out[:size]),
            bytes(context),
        )


# -- making objects


def try_create_map(kernel: Kernel, spec: MapSpec, inner_fd: int | None = None) -> int:
    """BPF_MAP_CREATE: a descriptor or ``-errno`` (probes of features want the errno)."""
    count = spec.max_entries
    if count == 0 and spec.type == abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY:
        from .procfs import cpus_possible

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
    )
    return _with_memlock(kernel, abi.BPF_MAP_CREATE, attribute)


def create_map(kernel: Kernel, spec: MapSpec) -> Map:
    """Creates a map; ``contents`` and ``frozen`` are left to the loader.

    Raises:
        KernelError: with advice.
    """
    inner = create_map(kernel, spec.inner) if spec.inner is not None else None
    try:
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
        from .procfs import cpus_possible

        count = len(cpus_possible(kernel))
    return Map(kernel, fd, spec.name, spec.type, spec.key_size, spec.value_size, count, spec.flags)


def load_btf(kernel: Kernel, data: bytes) -> BpfObject:
    """Hands type information to the kernel (BPF_BTF_LOAD).

    Raises:
        KernelError: with the last line of the kernel's log.
    """
    attribute = attr(abi.BTF_LOAD, abi.BTF_LOAD_SIZE, btf=data, btf_size=len(data))
    fd = _with_memlock(kernel, abi.BPF_BTF_LOAD, attribute)
    if fd < 0:
        log = bytearray(1 << 16)
        attribute = attr(
            abi.BTF_LOAD, abi.BTF_LOAD_SIZE, btf=data, btf_size=len(data), btf_log_buf=log, btf_log_size=len(log), btf_log_level=1
        )
        again = bpf(kernel, abi.BPF_BTF_LOAD, attribute)
        if again < 0:
            raise refusal("btf_load", -fd, "the program's type information", text_of(log))
        fd = again
    return BpfObject(kernel, fd, "btf")


def try_load_program(
    kernel: Kernel,
    type: int,
    insns: bytes,
    *,
    name: str = "",
    license: str = "GPL",
    expected_attach_type: int = 0,
    flags: int = 0,
    attach_btf_id: int = 0,
    attach_btf_obj_fd: int = 0,
    btf_fd: int = 0,
    func_info: bytes = b"",
    line_info: bytes = b"",
    fd_array: bytes = b"",
    log: bytearray | None = None,
    log_level: int = 0,
) -> int:
    """BPF_PROG_LOAD: a descriptor or ``-errno``; ``log`` takes the verifier's text (NUL-terminated) if ``log_level`` is not 0."""
    attribute = attr(
        abi.PROG_LOAD,
        abi.PROG_LOAD_SIZE,
        prog_type=type,
        insn_cnt=len(insns) // 8,
        insns=insns,
        license=license.encode() + b"\0",
        log_level=log_level,
        log_size=len(log) if log is not None and log_level else 0,
        log_buf=log if log_level else None,
        prog_flags=flags,
        prog_name=object_name(name),
        expected_attach_type=expected_attach_type,
        prog_btf_fd=btf_fd,
        func_info_rec_size=8 if func_info else 0,
        func_info=func_info,
        func_info_cnt=len(func_info) // 8,
        line_info_rec_size=16 if line_info else 0,
        line_info=line_info,
        line_info_cnt=len(line_info) // 16,
        attach_btf_id=attach_btf_id,
        attach_btf_obj_fd=attach_btf_obj_fd,
        fd_array=fd_array,
    )
    for _ in range(5):
        fd = _with_memlock(kernel, abi.BPF_PROG_LOAD, attribute)
        # the verifier gives up with EAGAIN when a signal is pending (commit c3494801cd17)
        if fd != -errno.EAGAIN:
            break
    return fd


def load_program(kernel: Kernel, type: int, insns: bytes, *, name: str = "", **options: Any) -> Program:
    """Loads a program: first without a log, then, if refused, again with one.

    Args:
        type: BPF_PROG_TYPE_* number.
        insns: the instructions.
        options: as for ``try_load_program``.

    Raises:
        VerifierError: the verifier refused it; the log is explained by ``kernel.verifier``.
        KernelError: the kernel refused before the verifier looked at it.
    """
    from .loader import refused_program

    fd = try_load_program(kernel, type, insns, name=name, **options)
    if fd < 0:
        retried, log = load_with_log(kernel, type, insns, name=name, **options)
        if retried < 0:
            raise refused_program(-retried, log, name=name, type=type)
        fd = retried
    return Program(kernel, fd, name, type)


def load_with_log(kernel: Kernel, type: int, insns: bytes, *, log_level: int = 1, **options: Any) -> tuple[int, str]:
    """Loads with a log and a buffer that grows until the log fits (at most 16 MiB): (descriptor or ``-errno``, log)."""
    size = 1 << 16
    while True:
        log = bytearray(size)
        fd = try_load_program(kernel, type, insns, log=log, log_level=log_level, **options)
        # since 6.4 the kernel rotates the log and still says ENOSPC (commit 121664093803)
        if fd != -errno.ENOSPC or size >= 1 << 24:
            return fd, text_of(log)
        size *= 8


def text_of(log: bytearray) -> str:
    """The text in a buffer that the kernel filled."""
    return bytes(log[: log.find(0) if 0 in log else len(log)]).decode("utf-8", "replace")


def _with_memlock(kernel: Kernel, command: int, attribute: Memory) -> int:
    """A command that may count against RLIMIT_MEMLOCK.

    Kernels before 5.11 charge maps and programs to the limit and say EPERM when it is reached; newer ones use memory cgroups (commit
    80ee81e0403c).  So only after EPERM, and only if the limit is finite, it is raised and the command tried once more.
    """
    result = bpf(kernel, command, attribute)
    if result == -errno.EPERM:
        # struct rlimit64; RLIMIT_MEMLOCK is 8 on all machines but alpha, mips and sparc
        old = bytearray(16)
        infinity = b"\xff" * 16
        finite = kernel.call(Call("prlimit64", (0, 8, None, old))) == 0 and old != infinity
        if finite and kernel.call(Call("prlimit64", (0, 8, infinity, None))) == 0:
            result = bpf(kernel, command, attribute)
            if result < 0:
                kernel.call(Call("prlimit64", (0, 8, bytes(old), None)))
    return result


def pin(kernel: Kernel, fd: int, path: str) -> None:
    """BPF_OBJ_PIN: keeps an object alive under a path of a mounted bpf file system; raises KernelError."""
    result = bpf(kernel, abi.BPF_OBJ_PIN, attr(abi.OBJ, abi.OBJ_SIZE, pathname=path.encode() + b"\0", bpf_fd=fd))
    if result < 0:
        raise refusal("obj_pin", -result, f"an object at {path!r} (it must lie on a bpf file system)")


def open_pinned(kernel: Kernel, path: str, flags: int = 0) -> int:
    """BPF_OBJ_GET: a descriptor of the pinned object; raises KernelError.

    ``Map.from_fd`` and ``Program.from_fd`` make objects of it.
    """
    fd = bpf(kernel, abi.BPF_OBJ_GET, attr(abi.OBJ, abi.OBJ_SIZE, pathname=path.encode() + b"\0", file_flags=flags))
    if fd < 0:
        raise refusal("obj_get", -fd, f"the pinned object {path!r}")
    return fd
