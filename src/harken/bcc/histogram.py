"""Histograms of tables: ``print_log2_hist``, ``print_linear_hist``, ``print_json_hist``.

A table whose key is a number is one histogram: the key is the slot.  A table whose key is a struct of two members is several: the first
member tells which, the second is the slot.  The layout of the text is ``render.bcc_histogram``'s.
"""

from __future__ import annotations

import ctypes as ct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ("Histograms",)


def _number(value: Any) -> int:
    """A count: of a per-CPU table the sum."""
    inner = getattr(value, "value", None)
    if inner is not None:
        return int(inner)
    return sum(value) if isinstance(value, ct.Array) else int(value)


class Histograms:
    """The part of a table that shows it as histograms."""

    if TYPE_CHECKING:
        Key: Any

        def items(self) -> list[tuple[Any, Any]]: ...
        def _write(self, lines: list[str]) -> None: ...

    def decode_c_struct(
        self,
        tmp: dict[Any, list[int]],
        buckets: list[Any],
        bucket_fn: Callable[[Any], Any] | None,
        bucket_sort_fn: Callable[[list[Any]], list[Any]] | None,
        slots: int = 0,
    ) -> None:
        """Sorts the table into lists of counts.

        Args:
            tmp: gets bucket -> counts.
            buckets: gets the buckets in the order in which they shall be shown.
            bucket_fn: bucket as in the key -> what to call it.
            bucket_sort_fn: a list of buckets -> the same in order.
        """
        if not slots:
            from ..render.bcc_histogram import LOG2_SLOTS

            slots = LOG2_SLOTS
        names = [field[0] for field in self.Key._fields_ if not field[0].startswith("__pad_")]
        first, second = names[0], names[1]
        for key, value in self.items():
            bucket = getattr(key, first)
            if bucket_fn:
                bucket = bucket_fn(bucket)
            counts = tmp.get(bucket)
            if counts is None:
                counts = tmp[bucket] = [0] * slots
            counts[getattr(key, second)] = _number(value)
        found = list(tmp)
        buckets.extend(bucket_sort_fn(found) if bucket_sort_fn else found)

    def _sections(
        self, slots: int, bucket_fn: Callable[[Any], Any] | None, bucket_sort_fn: Callable[[list[Any]], list[Any]] | None
    ) -> list[tuple[Any, list[int]]] | None:
        """(bucket, counts) pairs of a table whose keys are structs; None if they are not."""
        if not issubclass(self.Key, ct.Structure):
            return None
        tmp: dict[Any, list[int]] = {}
        buckets: list[Any] = []
        self.decode_c_struct(tmp, buckets, bucket_fn, bucket_sort_fn, slots)
        return [(bucket, tmp[bucket]) for bucket in buckets]

    def print_log2_hist(
        self,
        val_type: str = "value",
        section_header: str = "Bucket ptr",
        section_print_fn: Callable[[Any], Any] | None = None,
        bucket_fn: Callable[[Any], Any] | None = None,
        strip_leading_zero: bool | None = None,
        bucket_sort_fn: Callable[[list[Any]], list[Any]] | None = None,
    ) -> None:
        """Prints the table as histograms of powers of two.

        Args:
            val_type: what was counted: the title of the column of values.
            section_header: what stands before the ``=`` of each section's heading.
            section_print_fn: a section's bucket -> what stands behind it.
            bucket_fn: a bucket as in the key -> the bucket.
            strip_leading_zero: leave out empty slots before the first that is not.
            bucket_sort_fn: puts a list of buckets in order.
        """
        from ..render.bcc_histogram import LOG2_SLOTS, log2_lines

        sections = self._sections(LOG2_SLOTS, bucket_fn, bucket_sort_fn)
        if sections is None:
            self._write(log2_lines(self._counts(LOG2_SLOTS, "print_log2_hist"), val_type, strip_leading_zero))
        for bucket, counts in sections or ():
            self._heading(section_header, section_print_fn, bucket)
            self._write(log2_lines(counts, val_type, strip_leading_zero))

    def print_linear_hist(
        self,
        val_type: str = "value",
        section_header: str = "Bucket ptr",
        section_print_fn: Callable[[Any], Any] | None = None,
        bucket_fn: Callable[[Any], Any] | None = None,
        strip_leading_zero: bool | None = None,
        bucket_sort_fn: Callable[[list[Any]], list[Any]] | None = None,
    ) -> None:
        """Prints the table as histograms with a slot per value, from 0 to 1024; arguments as of ``print_log2_hist``.

        Raises:
            IndexError: a value is larger.
        """
        from ..render.bcc_histogram import LINEAR_SLOTS, linear_lines

        sections = self._sections(LINEAR_SLOTS, bucket_fn, bucket_sort_fn)
        if sections is None:
            self._write(linear_lines(self._counts(LINEAR_SLOTS, "print_linear_hist"), val_type, strip_leading_zero))
        for bucket, counts in sections or ():
            self._heading(section_header, section_print_fn, bucket)
            self._write(linear_lines(counts, val_type, strip_leading_zero))

    def print_json_hist(
        self,
        val_type: str = "value",
        section_header: str = "Bucket ptr",
        section_print_fn: Callable[[Any], Any] | None = None,
        bucket_fn: Callable[[Any], Any] | None = None,
        bucket_sort_fn: Callable[[list[Any]], list[Any]] | None = None,
    ) -> None:
        """Prints the table's histograms of powers of two, each as a dict on a line; arguments as of ``print_log2_hist``."""
        from time import strftime

        from ..render.bcc_histogram import LOG2_SLOTS, json_histogram

        moment = strftime("%Y-%m-%d %H:%M:%S")
        sections = self._sections(LOG2_SLOTS, bucket_fn, bucket_sort_fn)
        if sections is None:
            self._write([str(json_histogram(self._counts(LOG2_SLOTS, "print_json_hist"), val_type, moment))])
        for bucket, counts in sections or ():
            section = (section_header, section_print_fn(bucket) if section_print_fn else bucket)
            self._write([str(json_histogram(counts, val_type, moment, section))])

    def _counts(self, slots: int, method: str) -> list[int]:
        """The values of a table whose keys are slots."""
        counts = [0] * slots
        for key, value in self.items():
            try:
                counts[key.value] = _number(value)
            except IndexError:
                raise IndexError(f"Index in {method}() of {key.value} exceeds max of {slots}.") from None
        return counts

    def _heading(self, header: str, show: Callable[[Any], Any] | None, bucket: Any) -> None:
        self._write([f"\n{header} = {show(bucket) if show else repr(bucket)}"])
