"""The bytes of BTF: header, type records, strings.

Reference: Documentation/bpf/btf.rst and include/uapi/linux/btf.h.  A BTF blob is a header, a type section and a string section.  Every
field of the type section is a u32, so it is read as one array of words, whatever the byte order of the machine that wrote it:
a record is ``name_off, info, size_or_type`` and words that depend on the kind; ``info`` is ``kind_flag << 31 | kind << 24 | vlen``.

This module only cuts: ``formats.btf`` gives meaning, ``formats.btf_index`` finds by name.
"""

from __future__ import annotations

import struct
import sys

from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..native.btf import Types

    Buffer = bytes | bytearray | memoryview

__all__ = (
    "KINDS",
    "KIND_OF",
    "INT",
    "PTR",
    "ARRAY",
    "STRUCT",
    "UNION",
    "ENUM",
    "FWD",
    "TYPEDEF",
    "VOLATILE",
    "CONST",
    "RESTRICT",
    "FUNC",
    "FUNC_PROTO",
    "VAR",
    "DATASEC",
    "FLOAT",
    "DECL_TAG",
    "TYPE_TAG",
    "ENUM64",
    "FIXED_WORDS",
    "ITEM_WORDS",
    "MAX_NAME",
    "MAX_TYPES",
    "Sections",
    "for_native",
    "name_offsets",
    "split",
    "walk",
    "string_at",
)

(
    INT,
    PTR,
    ARRAY,
    STRUCT,
    UNION,
    ENUM,
    FWD,
    TYPEDEF,
    VOLATILE,
    CONST,
    RESTRICT,
    FUNC,
    FUNC_PROTO,
    VAR,
    DATASEC,
    FLOAT,
    DECL_TAG,
    TYPE_TAG,
    ENUM64,
) = range(1, 20)

#: Names of the kinds by number, as bpftool spells them in lower case.
KINDS = (
    "void",
    "int",
    "ptr",
    "array",
    "struct",
    "union",
    "enum",
    "fwd",
    "typedef",
    "volatile",
    "const",
    "restrict",
    "func",
    "func_proto",
    "var",
    "datasec",
    "float",
    "decl_tag",
    "type_tag",
    "enum64",
)
KIND_OF = {name: number for number, name in enumerate(KINDS)}

#: Words after the three common ones, by kind: a fixed number, and a number for each of the ``vlen`` items.
FIXED_WORDS = (0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0)
ITEM_WORDS = (0, 0, 0, 0, 3, 3, 2, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 3)

#: Longest name: the kernel's own limit is KSYM_NAME_LEN (512).
MAX_NAME = 1024
#: BTF_MAX_TYPE of include/uapi/linux/btf.h
MAX_TYPES = 0xFFFFF

_MAGIC = 0xEB9F
_HEADER = 24


class Sections:
    """A blob cut in two: ``words`` (the type section as u32 in this machine's order) and the strings at ``strings_start`` of ``data``."""

    __slots__ = ("big_endian", "data", "strings_length", "strings_start", "types_start", "what", "words")

    def __init__(
        self, data: Buffer, words: Sequence[int], types_start: int, strings_start: int, strings_length: int, big_endian: bool, what: str
    ) -> None:
        self.data, self.words, self.types_start = data, words, types_start
        self.strings_start, self.strings_length = strings_start, strings_length
        self.big_endian, self.what = big_endian, what

    @property
    def swapped(self) -> bool:
        """Whether the blob is not in this machine's byte order."""
        return self.big_endian != (sys.byteorder == "big")

    def strings(self) -> bytes:
        """The whole string section (a copy)."""
        return bytes(self.data[self.strings_start : self.strings_start + self.strings_length])


def split(data: Buffer, what: str = "BTF", base_strings: bool = False) -> Sections:
    """Cuts a blob into its sections.

    Args:
        data: raw BTF (not an ELF file); it is referred to, not copied, unless its byte order is foreign.
        what: what the user calls it, for messages.
        base_strings: whether this is split BTF, whose strings continue those of a base.

    Raises:
        FormatError: this is not BTF, or a section lies outside of it.
    """
    if len(data) < _HEADER:
        raise FormatError(what, f"only {len(data)} bytes, a BTF header has {_HEADER}", 0)
    for order in "<>":
        magic, version, _flags, header, type_off, type_len, str_off, str_len = struct.unpack_from(order + "HBBIIIII", data)
        if magic == _MAGIC:
            break
    else:
        raise FormatError(what, "not BTF: the magic number 0xeb9f is missing", 0)
    if version != 1:
        raise FormatError(what, f"BTF version {version} is unknown", 2)
    size = len(data)
    if not _HEADER <= header <= size:
        raise FormatError(what, f"header length {header} does not fit", 4)
    types, strings = header + type_off, header + str_off
    if types + type_len > size or type_len % 4:
        raise FormatError(what, "the type section does not fit into the data (truncated?)", 8)
    if strings + str_len > size:
        raise FormatError(what, "the string section does not fit into the data (truncated?)", 16)
    if (
        str_len
        and data[strings + str_len - 1] != 0
        or str_len
        and not base_strings
        and data[strings] != 0
        or not str_len
        and not base_strings
    ):
        raise FormatError(what, "the string section must begin and end with NUL", strings)
    view = memoryview(data)[types : types + type_len]
    big = order == ">"
    words: Sequence[int]
    if big == (sys.byteorder == "big"):
        words = view.cast("B").cast("I")
    else:
        from array import array

        swapped = array("I", bytes(view))
        swapped.byteswap()
        words = swapped
    return Sections(data, words, types, strings, str_len, big, what)


def walk(sections: Sections) -> tuple[Sequence[int], bytes]:
    """Where each record starts and of what kind it is: by the accelerator, which refuses what is not well formed, or in Python.

    Returns:
        (positions, kinds): index into ``sections.words`` and kind number of every own type, in order of ids.

    Raises:
        FormatError: an unknown kind, a record that reaches past the end, too many types.
    """
    if not sections.swapped:
        from ..native.btf import walk as fast

        known = fast(sections.data, sections.types_start, len(sections.words), bytes(FIXED_WORDS), bytes(ITEM_WORDS), MAX_TYPES)
        if known is not None:
            return known
    from array import array

    # one word on, so that a record's info stands at its position
    infos = sections.words[1:]
    end, last = len(infos) + 1, len(infos) - 1
    found: list[int] = []
    seen: list[int] = []
    note, mark = found.append, seen.append
    # a kernel has 126,000 records, but few different info words
    steps: dict[int, int] = {}
    position = 0
    while position < last:
        note(position)
        info = infos[position]
        mark(info)
        try:
            position += steps[info]
        except KeyError:
            kind = info >> 24 & 0x1F
            if not 1 <= kind <= ENUM64:
                raise FormatError(sections.what, f"type kind {kind} is unknown", sections.types_start + 4 * position) from None
            steps[info] = step = 3 + FIXED_WORDS[kind] + ITEM_WORDS[kind] * (info & 0xFFFF)
            position += step
    if position != end and sections.words:
        raise FormatError(sections.what, "the last type is cut off", sections.types_start + 4 * (found[-1] if found else 0))
    if len(found) > MAX_TYPES:
        raise FormatError(sections.what, f"{len(found)} types, at most {MAX_TYPES} are possible", sections.types_start)
    kinds = {info: info >> 24 & 0x1F for info in steps}
    return array("I", found), bytes(map(kinds.__getitem__, seen))


def name_offsets(sections: Sections, positions: Sequence[int]) -> bytes:
    """The name offsets of records (the first words of them) as a column of u32.

    Args:
        positions: where the records start, as ``walk`` says.
    """
    if not sections.swapped:
        from ..native.btf import words_at

        known = words_at(sections.data, sections.types_start, len(sections.words), positions)
        if known is not None:
            return known.tobytes()
    from array import array

    words = sections.words
    return array("I", [words[position] for position in positions]).tobytes()


def for_native(sections: Sections, positions: Sequence[int], kinds: bytes, strings: bytes) -> Types | None:
    """What the accelerator needs to look for names; None where it cannot read the section.

    Args:
        positions, kinds: what ``walk`` found.
        strings: all that names are offsets into.
    """
    if sections.swapped:
        return None
    from ..native.btf import Types

    try:
        return Types(sections.data, sections.types_start, len(sections.words), bytes(FIXED_WORDS), positions, kinds, strings)
    except TypeError:
        return None


def string_at(sections: Sections, offset: int) -> bytes:
    """The NUL-terminated string at ``offset`` of the string section; raises FormatError."""
    if offset >= sections.strings_length:
        raise FormatError(sections.what, f"string offset {offset:#x} lies outside of the string section", sections.strings_start)
    start = sections.strings_start + offset
    end = sections.strings_start + sections.strings_length
    for size in (48, MAX_NAME + 1):
        chunk = bytes(sections.data[start : min(start + size, end)])
        stop = chunk.find(0)
        if stop >= 0:
            return chunk[:stop]
    raise FormatError(sections.what, f"a name is longer than {MAX_NAME} bytes", start)
