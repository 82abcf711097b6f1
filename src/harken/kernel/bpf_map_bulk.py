"""Many elements of a map at a time: batch commands (Linux 5.6) where the kernel has them for the type, else key by key.

These are the parts of ``bpf_map.Map`` that a session needs at its end; its start does not import them.
"""

from __future__ import annotations

import errno

from ..abi import bpf as abi
from .bpf_object import attr, bpf, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .bpf_map import Map

__all__ = ("delete_batch", "read_batches", "read_singly", "update_batch", "walk")

#: most bytes that one batch call moves at a time
_BATCH_BYTES = 1 << 20
#: errnos by which kernels tell that a map type has no batch operations
_NO_BATCH = (-errno.EINVAL, -errno.EOPNOTSUPP, -524)


def read_batches(map: Map, command: int) -> tuple[bytes, bytes, int] | None:
    """All elements by a batch command: (all keys, all values, number); None if the kernel has none for this type."""
    if not map.batches or not map.key_size:
        return None
    size, width = map.key_size, map.lookup_size
    room = max(1, min(map.max_entries, _BATCH_BYTES // (size + width)))
    all_keys, all_values, total = [], [], 0
    cursor: bytearray | None = None
    interrupted = 0
    while True:
        keys, values, after = bytearray(room * size), bytearray(room * width), bytearray(max(8, size))
        attribute = attr(
            abi.MAP_BATCH, abi.MAP_BATCH_SIZE, in_batch=cursor, out_batch=after, keys=keys, values=values, count=room, map_fd=map.fd
        )
        result = bpf(map.kernel, command, attribute)
        if result == -errno.ENOSPC and room < map.max_entries + (1 << 16):
            # one hash bucket holds more than a whole batch: try again with more room
            room *= 2
            continue
        if result == -errno.EINTR and interrupted < 64:
            # keys vanished under the kernel's feet; elements that it has found so far are valid
            interrupted += 1
            continue
        if result < 0 and result != -errno.ENOENT:
            if cursor is None and result in _NO_BATCH:
                map.batches = command != abi.BPF_MAP_LOOKUP_BATCH
                return None
            raise map.refused(result, "read")
        count = field(abi.MAP_BATCH, "count", attribute.data)
        if count > room:
            raise map.refused(-errno.EIO, "read")
        all_keys.append(bytes(memoryview(keys)[: count * size]))
        all_values.append(bytes(memoryview(values)[: count * width]))
        total += count
        if result == -errno.ENOENT:
            return b"".join(all_keys), b"".join(all_values), total
        cursor = after


def read_singly(map: Map) -> tuple[bytes, bytes, int]:
    """The same key by key."""
    keys, values = [], []
    for key in map.keys():  # noqa: SIM118 (a Map is no mapping)
        value = map.lookup(key)
        if value is not None:
            keys.append(key)
            values.append(value)
    return b"".join(keys), b"".join(values), len(keys)


def walk(map: Map) -> Iterator[bytes]:
    """Each key once.  The kernel starts from the beginning when the key it shall go on from was deleted; known keys are passed over,
    and a bound ends the walk through a map that changes faster than we can read it."""
    seen: set[bytes] = set()
    key = map.next_key(None)
    steps = 4 * map.max_entries + 64
    while key is not None and steps > 0:
        if key not in seen:
            seen.add(key)
            yield key
        key = map.next_key(key)
        steps -= 1


def update_batch(map: Map, pairs: list[tuple[bytes, bytes]], flags: int) -> list[tuple[bytes, bytes]]:
    """Stores elements in batches; returns those that are left to be stored one by one."""
    width = map.stride * map.cpus
    if len(pairs) < 2 or not map.batches or any([len(key) != map.key_size or len(value) != width for key, value in pairs]):
        return pairs
    step = max(1, _BATCH_BYTES // max(1, map.key_size + width))
    while pairs:
        chunk = pairs[:step]
        keys, values = b"".join([key for key, _ in chunk]), b"".join([value for _, value in chunk])
        attribute = attr(abi.MAP_BATCH, abi.MAP_BATCH_SIZE, keys=keys, values=values, count=len(chunk), map_fd=map.fd, elem_flags=flags)
        result = bpf(map.kernel, abi.BPF_MAP_UPDATE_BATCH, attribute)
        if result in _NO_BATCH:
            break
        if result < 0:
            raise map.refused(result, "store elements in")
        pairs = pairs[step:]
    return pairs


def delete_batch(map: Map, keys: list[bytes]) -> list[bytes]:
    """Removes keys in batches; returns those that are left to be removed one by one."""
    if len(keys) < 2 or not map.batches or any([len(key) != map.key_size for key in keys]):
        return keys
    step = max(1, _BATCH_BYTES // max(1, map.key_size))
    while keys:
        chunk = keys[:step]
        attribute = attr(abi.MAP_BATCH, abi.MAP_BATCH_SIZE, keys=b"".join(chunk), count=len(chunk), map_fd=map.fd)
        result = bpf(map.kernel, abi.BPF_MAP_DELETE_BATCH, attribute)
        if result == -errno.ENOENT:
            # it stopped at a key that is not there
            keys = keys[field(abi.MAP_BATCH, "count", attribute.data) + 1 :]
            continue
        if result in _NO_BATCH:
            break
        if result < 0:
            raise map.refused(result, "delete elements of")
        keys = keys[step:]
    return keys
