"""Arrays, and tables with a value per CPU."""

from __future__ import annotations

import ctypes as ct

from ..base.errors import KernelError
from .table_base import TableBase, failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ("ArrayBase", "LruPerCpuHash", "PerCpuArray", "PerCpuHash")


class ArrayBase(TableBase):
    """What tables with keys 0 ... max_entries - 1 share."""

    def _normalize_key(self, key: Any) -> Any:
        if isinstance(key, int):
            if key < 0:
                key += len(self)
            if key < 0:
                raise IndexError("Array index out of range")
            key = self.Key(key)
        if not isinstance(key, ct._SimpleCData):
            raise IndexError("Array index must be an integer type")
        if not 0 <= key.value < len(self):
            raise IndexError("Array index out of range")
        return key

    def __len__(self) -> int:
        return self.max_entries

    def __iter__(self) -> Iterator[Any]:
        return map(self.Key, range(self.max_entries))

    def __contains__(self, key: object) -> bool:
        try:
            self[key]
        except (IndexError, KeyError):
            return False
        return True

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._normalize_key(key))

    def __setitem__(self, key: Any, leaf: Any) -> None:
        super().__setitem__(self._normalize_key(key), leaf)

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(self._normalize_key(key))

    def clearitem(self, key: Any) -> None:
        """Sets an element to zero."""
        try:
            self.map.update(self._raw_key(self._normalize_key(key)), bytes(self.map.value_size))
        except KernelError as error:
            raise Exception(f"Could not clear item: {failure(error)}") from None


class _PerCpu(TableBase):
    """Values are arrays with one value (``sLeaf``) per possible CPU.

    ``Leaf`` is such an array as the kernel takes it: 32-bit integers are widened to 64 bits.
    """

    def __init__(self, bpf: Any, info: Any, map: Any, keytype: Any, leaftype: Any, map_id: int = 0, reducer: Any = None) -> None:
        super().__init__(bpf, info, map, keytype, leaftype, map_id)
        self.reducer: Callable[[Any, Any], Any] | None = reducer
        self.sLeaf = leaftype
        self.total_cpu = map.cpus
        self.alignment = ct.sizeof(leaftype) % 8
        wide = {ct.c_uint: ct.c_uint64, ct.c_int: ct.c_int64}.get(leaftype, leaftype)
        self.Leaf = wide * self.total_cpu
        self._values = leaftype * self.total_cpu

    def _leaf(self, data: bytes) -> Any:
        found = self._array(data)
        if self.reducer:
            from functools import reduce

            return reduce(self.reducer, found)
        return found

    def _array(self, data: bytes) -> Any:
        size, stride = ct.sizeof(self.sLeaf), self.map.stride
        if size != stride:
            data = b"".join([data[i * stride : i * stride + size] for i in range(self.total_cpu)])
        return self._values.from_buffer_copy(data)

    def _raw_leaf(self, leaf: Any) -> bytes:
        cpus, size, stride = self.total_cpu, self.map.value_size, self.map.stride
        if isinstance(leaf, int):
            leaf = self.sLeaf(leaf)
        data = bytes(leaf)
        if len(data) == stride * cpus or len(data) == size:
            return data
        if len(data) == size * cpus:
            return b"".join([data[i * size : i * size + size].ljust(stride, b"\0") for i in range(cpus)])
        return data[: stride * cpus].ljust(stride * cpus, b"\0")

    def getvalue(self, key: Any) -> Any:
        """The values of all CPUs; raises KeyError if there is no such key."""
        return self._array(self._found(key))

    def _numbers(self, key: Any, what: str) -> Iterable[Any]:
        if issubclass(self.sLeaf, (ct.Structure, ct.Union)):
            raise IndexError(f"Leaf must be an integer type for default {what} functions")
        values: Iterable[Any] = self.getvalue(key)
        return values

    def sum(self, key: Any) -> Any:
        """The sum over all CPUs."""
        return self.sLeaf(sum(self._numbers(key, "sum")))

    def max(self, key: Any) -> Any:
        """The largest CPU's value."""
        return self.sLeaf(max(self._numbers(key, "max")))

    def average(self, key: Any) -> float:
        """The mean over all possible CPUs."""
        return float(self.sum(key).value / self.total_cpu)


class PerCpuHash(_PerCpu):
    """A hash map with values per CPU."""


class LruPerCpuHash(PerCpuHash):
    """A hash map with values per CPU that drops the elements unused for longest when it is full."""


class PerCpuArray(ArrayBase, _PerCpu):
    """An array with values per CPU."""

    def getvalue(self, key: Any) -> Any:
        """The values of all CPUs of one element."""
        return super().getvalue(self._normalize_key(key))

    def __delitem__(self, key: Any) -> None:
        self.clearitem(key)
