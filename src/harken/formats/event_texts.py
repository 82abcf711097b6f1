"""Columns of what has no fixed length: texts, each different one once and a number per record, and other memory, cut out when asked for.

Names of tasks and files come up again and again, so that a number per record is what can be made fast, compared fast and handed to Arrow
(a dictionary array) or pandas (a categorical) as it is.

Example:
    >>> import numpy
    >>> column = TextColumn(numpy.array([0, 1, 0]), ["bash", "cat"])
    >>> list(column), column[1], column[column.codes == 0].tolist(), column == ["bash", "cat", "bash"]
    (['bash', 'cat', 'bash'], 'cat', ['bash', 'bash'], True)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

__all__ = ("MemoryColumn", "TextColumn")


class TextColumn:
    """Texts; ``values`` are the different ones, ``codes`` (a numpy array) says which each record has."""

    __slots__ = ("codes", "values")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, codes: Any, values: list[str]) -> None:
        self.codes, self.values = codes, values

    @classmethod
    def of(cls, texts: Iterable[str], np: Any) -> TextColumn:
        """A column of texts that are there one by one."""
        numbers: dict[str, int] = {}
        codes = [numbers.setdefault(text, len(numbers)) for text in texts]
        return cls(np.array(codes, dtype="u4"), list(numbers))

    @classmethod
    def joined(cls, parts: Sequence[TextColumn], np: Any) -> TextColumn:
        """One column behind the other."""
        if len(parts) == 1:
            return parts[0]
        numbers: dict[str, int] = {}
        maps = [np.array([numbers.setdefault(text, len(numbers)) for text in part.values], dtype="u4") for part in parts]
        return cls(
            np.concatenate([mapping[part.codes] if len(mapping) else part.codes for mapping, part in zip(maps, parts)]), list(numbers)
        )

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        return map(self.values.__getitem__, self.codes.tolist())

    def __getitem__(self, index: Any) -> Any:
        """A text, or a column for a slice or an array of positions."""
        found = self.codes[index]
        return TextColumn(found, self.values) if hasattr(found, "__len__") else self.values[int(found)]

    def __eq__(self, other: object) -> bool:
        return (
            len(self) == len(other) and all(a == b for a, b in zip(self, other)) if isinstance(other, (TextColumn, list, tuple)) else False
        )

    def __repr__(self) -> str:
        return f"<TextColumn of {len(self)}, {len(self.values)} different>"

    def tolist(self) -> list[str]:
        """A text per record."""
        return list(self)

    def nbytes(self, np: Any) -> int:
        """Letters of all of them."""
        return int(np.array([len(text) for text in self.values], dtype="i8")[self.codes].sum()) if len(self) else 0

    def objects(self, np: Any) -> Any:
        """A numpy array of Python's texts."""
        return np.array(self.values, dtype=object)[self.codes]

    def to_arrow(self) -> Any:
        """A ``pyarrow.DictionaryArray``; bytes that are not UTF-8 are replaced."""
        import pyarrow  # type: ignore[import-not-found, unused-ignore]

        clean = [text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for text in self.values]
        return pyarrow.DictionaryArray.from_arrays(pyarrow.array(self.codes), pyarrow.array(clean, type=pyarrow.string()))


class MemoryColumn:
    """Parts of a buffer, as ``bytes``; ``starts`` and ``ends`` are numpy arrays."""

    __slots__ = ("buffer", "ends", "starts")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, buffer: Any, starts: Any, ends: Any) -> None:
        self.buffer, self.starts, self.ends = buffer, starts, ends

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[bytes]:
        buffer = self.buffer
        return (bytes(buffer[start:end]) for start, end in zip(self.starts.tolist(), self.ends.tolist()))

    def __getitem__(self, index: Any) -> Any:
        """A piece, or a column for a slice or an array of positions."""
        start = self.starts[index]
        if hasattr(start, "__len__"):
            return MemoryColumn(self.buffer, start, self.ends[index])
        return bytes(self.buffer[int(start) : int(self.ends[index])])

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (MemoryColumn, list, tuple)) else False

    def tolist(self) -> list[bytes]:
        """A piece per record."""
        return list(self)

    def nbytes(self, np: Any) -> int:
        """Bytes of all of them."""
        return int(np.maximum(self.ends - self.starts, 0).sum())
