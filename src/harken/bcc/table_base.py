"""What all tables share: a live map as a mutable mapping from ctypes keys to ctypes values.

Keys and values are instances of ``Key`` and ``Leaf``.  Where BCC wants a ctypes object, a plain number or bytes will do here as well.
"""

from __future__ import annotations

import ctypes as ct
import os
import sys
from collections.abc import MutableMapping

from ..base.errors import KernelError
from .histogram import Histograms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ..kernel.bpf import Map
    from .program import TableInfo

__all__ = ("TableBase", "failure", "raw")


def failure(error: KernelError) -> str:
    """An error as BCC words it: the C library's text for the errno, and what the kernel layer knows beyond."""
    return os.strerror(error.errno) if error.errno else error.message


def raw(value: Any, kind: Any, size: int) -> bytes:
    """The bytes of a key or value of ``size`` bytes, zero-filled; numbers and bytes become an instance of ``kind`` first."""
    if isinstance(value, (int, float)) and not isinstance(value, ct._SimpleCData):
        value = kind(value)
    elif isinstance(value, str):
        value = os.fsencode(value)
    data = bytes(value)
    return data if len(data) == size else data[:size].ljust(size, b"\0")


class TableBase(Histograms, MutableMapping):  # type: ignore[type-arg]
    """A map of a program.

    Attributes:
        bpf: the ``BPF`` object that it belongs to.
        map_fd, map_id: the map's descriptor, and its place among the program's tables.
        Key, Leaf: ctypes classes of keys and values.
        ttype, flags, max_entries: as the program declares them.
    """

    def __init__(self, bpf: Any, info: TableInfo, map: Map, keytype: Any, leaftype: Any, map_id: int = 0) -> None:
        self.bpf = bpf
        self.map = map
        self.map_id = map_id
        self.Key = keytype
        self.Leaf = leaftype
        self.info = info
        self.ttype = map.type
        self.flags = info.flags
        self.max_entries = map.max_entries
        self._name = info.name.encode()
        self._cbs: dict[Any, Any] = {}

    @property
    def map_fd(self) -> int:
        return self.map.fd

    def get_fd(self) -> int:
        """The map's descriptor."""
        return self.map.fd

    # -- one element

    def _raw_key(self, key: Any) -> bytes:
        return raw(key, self.Key, self.map.key_size)

    def _raw_leaf(self, leaf: Any) -> bytes:
        return raw(leaf, self.Leaf, self.map.value_size)

    def _leaf(self, data: bytes) -> Any:
        leaf = self.Leaf
        if len(data) < ct.sizeof(leaf):
            data = data.ljust(ct.sizeof(leaf), b"\0")
        return leaf.from_buffer_copy(data)

    def _found(self, key: Any) -> bytes:
        """A value as it is in the kernel; raises KeyError."""
        try:
            data = self.map.lookup(self._raw_key(key))
        except KernelError as error:
            raise KeyError(failure(error)) from None
        if data is None:
            raise KeyError(key)
        return data

    def __getitem__(self, key: Any) -> Any:
        return self._leaf(self._found(key))

    def __setitem__(self, key: Any, leaf: Any) -> None:
        try:
            self.map.update(self._raw_key(key), self._raw_leaf(leaf))
        except KernelError as error:
            raise Exception(f"Could not update table: {failure(error)}") from None

    def __delitem__(self, key: Any) -> None:
        try:
            found = self.map.delete(self._raw_key(key))
        except KernelError as error:
            raise KeyError(failure(error)) from None
        if not found:
            raise KeyError(key)

    # -- all elements

    def __iter__(self) -> Iterator[Any]:
        make, size = self.Key.from_buffer_copy, self.map.key_size
        keys = self.map.keys()
        for key in keys:
            yield make(key) if len(key) == size else self.Key()

    def __len__(self) -> int:
        return len(self.map.keys())

    def iter(self) -> Iterator[Any]:
        """An iterator over the keys."""
        return iter(self)

    def keys(self) -> Iterator[Any]:  # type: ignore[override]
        """An iterator over the keys."""
        return iter(self)

    def iteritems(self) -> Iterator[tuple[Any, Any]]:
        """(key, value) pairs; what vanishes meanwhile is left out."""
        for key in self:
            try:
                yield key, self[key]
            except KeyError:
                pass

    def itervalues(self) -> Iterator[Any]:
        """The values."""
        for _, value in self.iteritems():
            yield value

    def items(self) -> list[tuple[Any, Any]]:  # type: ignore[override]
        """All (key, value) pairs, read in bulk where the kernel can."""
        try:
            return self._pairs(self.map.items())
        except KernelError:
            return list(self.iteritems())

    def values(self) -> list[Any]:  # type: ignore[override]
        """All values."""
        return [value for _, value in self.items()]

    def _pairs(self, pairs: Iterable[tuple[bytes, bytes]]) -> list[tuple[Any, Any]]:
        make, leaf = self.Key.from_buffer_copy, self._leaf
        return [(make(key), leaf(data)) for key, data in pairs]

    def next(self, key: Any) -> Any:
        """The key after ``key`` (None: the first); raises StopIteration at the end."""
        found = self.map.next_key(None if key is None else self._raw_key(key))
        if found is None:
            raise StopIteration
        return self.Key.from_buffer_copy(found)

    def clear(self) -> None:
        """Removes all elements."""
        self.map.clear()

    def zero(self) -> None:
        """Sets all values to zero; the keys stay."""
        for key in list(self.keys()):
            self[key] = self.Leaf()

    # -- many elements at once

    def items_lookup_batch(self) -> Iterator[tuple[Any, Any]]:
        """All (key, value) pairs."""
        yield from self._pairs(self._batch("BPF_MAP_LOOKUP_BATCH", self.map.items))

    def items_lookup_and_delete_batch(self) -> Iterator[tuple[Any, Any]]:
        """All (key, value) pairs; the table is empty afterwards."""
        yield from self._pairs(self._batch("BPF_MAP_LOOKUP_AND_DELETE_BATCH", self.map.drain))

    def items_delete_batch(self, ct_keys: Any = None) -> None:
        """Removes the elements of an array of keys; all elements without one."""
        if ct_keys is None:
            self._batch("BPF_MAP_LOOKUP_AND_DELETE_BATCH", self.map.drain)
            return
        self._check_arrays(ct_keys)
        keys = [self._raw_key(key) for key in ct_keys]
        self._batch("BPF_MAP_DELETE_BATCH", lambda: self.map.delete_batch(keys))

    def items_update_batch(self, ct_keys: Any, ct_values: Any) -> None:
        """Stores the values of an array under the keys of another."""
        self._check_arrays(ct_keys, ct_values)
        pairs = [(self._raw_key(key), self._raw_leaf(value)) for key, value in zip(ct_keys, ct_values)]
        self._batch("BPF_MAP_UPDATE_BATCH", lambda: self.map.update_batch(pairs))

    def _batch(self, name: str, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except KernelError as error:
            raise Exception(f"{name} has failed: {failure(error)}") from None

    def _check_arrays(self, *arrays: Any) -> None:
        for array in arrays:
            if not isinstance(array, ct.Array):
                raise TypeError("keys and values are ctypes arrays")
            if not 1 <= len(array) <= self.max_entries:
                raise ValueError("Array's length is wrong")
        if len({len(array) for array in arrays}) > 1:
            raise ValueError("keys array length != values array length")

    # -- text

    def key_sprintf(self, key: Any) -> bytes:
        """A key as text: numbers in hexadecimal, structs in braces."""
        from .table_text import write

        return write(key if isinstance(key, self.Key) else self.Key.from_buffer_copy(self._raw_key(key)))

    def leaf_sprintf(self, leaf: Any) -> bytes:
        """A value as text."""
        from .table_text import write

        return write(leaf if isinstance(leaf, self.Leaf) else self.Leaf.from_buffer_copy(self._raw_leaf(leaf)))

    def key_scanf(self, key_str: bytes) -> Any:
        """The key that a text of ``key_sprintf`` describes."""
        from .table_text import read

        return read(key_str, self.Key, "key")

    def leaf_scanf(self, leaf_str: bytes) -> Any:
        """The value that a text of ``leaf_sprintf`` describes."""
        from .table_text import read

        return read(leaf_str, self.Leaf, "leaf")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.info.name!r} fd={self.map.fd}>"

    def _write(self, lines: list[str]) -> None:
        if lines:
            sys.stdout.write("\n".join(lines) + "\n")
