"""The ``format`` files of tracefs: what a tracepoint records, as fields with C types.

A file looks like this (kernel/trace/trace_events.c, ``f_show``)::

    name: sched_switch
    ID: 316
    format:
            field:unsigned short common_type;       offset:0;       size:2; signed:0;

            field:char prev_comm[16];       offset:8;       size:16;        signed:0;
            field:__data_loc char[] name;   offset:24;      size:4; signed:0;

    print fmt: "prev_comm=%s ...", REC->prev_comm, ...

A ``__data_loc`` field holds a u32, ``length << 16 | offset`` from the start of the record; ``__rel_loc`` counts from the end of
the field itself.

Example:
    >>> event = parse("name: x\\nID: 7\\nformat:\\n\\tfield:pid_t pid;\\toffset:8;\\tsize:4;\\tsigned:1;\\n\\nprint fmt: \\"\\"\\n")
    >>> event.id, event.fields[0].name, event.fields[0].ctype
    (7, 'pid', <Typedef pid_t>)
"""

from __future__ import annotations

from ..base.ctype import VOID, Array, CType, Enum, Fwd, Int, Ptr, Struct, Typedef
from ..base.errors import FormatError
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Resolve = Callable[[str], "CType | None"]

__all__ = ("FormatField", "EventFormat", "parse")

_MAX_TEXT = 1 << 20
_MAX_FIELDS = 4096
_MAX_DECLARATION = 1000
_MAX_RECORD = 1 << 16  # the places of dynamic arrays have 16 bits
_QUALIFIERS = frozenset(("const", "volatile", "restrict", "__restrict", "__user", "__rcu", "__percpu", "__seg_gs", "static"))

#: C's own integers and the kernel's short names whose size never depends on the machine: name -> (size, signed, encoding).
_FIXED = {
    "char": (1, True, "char"),
    "signed char": (1, True, "int"),
    "unsigned char": (1, False, "int"),
    "short": (2, True, "int"),
    "unsigned short": (2, False, "int"),
    "int": (4, True, "int"),
    "unsigned int": (4, False, "int"),
    "long long": (8, True, "int"),
    "unsigned long long": (8, False, "int"),
    "bool": (1, False, "bool"),
    "_Bool": (1, False, "bool"),
    "u8": (1, False, "int"),
    "u16": (2, False, "int"),
    "u32": (4, False, "int"),
    "u64": (8, False, "int"),
    "s8": (1, True, "int"),
    "s16": (2, True, "int"),
    "s32": (4, True, "int"),
    "s64": (8, True, "int"),
}


class FormatField(Record):
    """One field.

    ``type`` is the C type as text ("const char *", "char[16]"); ``declaration`` the whole of it as the kernel prints it.  ``offset`` and
    ``size`` are in bytes.  ``array`` is the number of elements (0 for a plain value or an array of changing length).
    ``data_loc`` and ``rel_loc`` mark u32 references to an array of changing length, whose type then is ``ctype``.
    """

    name: str
    type: str
    ctype: CType
    offset: int
    size: int
    signed: bool
    data_loc: bool = False
    array: int = 0
    rel_loc: bool = False
    declaration: str = ""

    @property
    def common(self) -> bool:
        """Whether every event has it (``common_pid``, ...)."""
        return self.name.startswith("common_")

    @property
    def number(self) -> bool:
        """Whether it is one number of 1, 2, 4 or 8 bytes."""
        return self.size in (1, 2, 4, 8) and not (self.array or self.data_loc or self.rel_loc)


class EventFormat(Record):
    """One event.  ``print_fmt`` is the kernel's text, a C format string and C expressions over ``REC``."""

    name: str
    id: int
    fields: tuple[FormatField, ...]
    print_fmt: str
    category: str = ""

    @property
    def own(self) -> tuple[FormatField, ...]:
        """The fields that are not common to all events."""
        return tuple(field for field in self.fields if not field.common)

    @property
    def named(self) -> tuple[FormatField, ...]:
        """The fields that are found by their names: of several of a name the first one, as no kernel has them."""
        first: dict[str, FormatField] = {}
        for field in self.fields:
            first.setdefault(field.name, field)
        return tuple(first.values())

    @property
    def size(self) -> int:
        """Bytes of the fixed part."""
        return max((field.offset + field.size for field in self.fields), default=0)

    def field(self, name: str) -> FormatField | None:
        return next((field for field in self.fields if field.name == name), None)


def parse(text: str | bytes, category: str = "", resolve: Resolve | None = None) -> EventFormat:
    """Reads a format file.

    Args:
        text: its contents.
        category: the event's directory, which the text does not name.  Pointers of events ``syscalls:sys_enter_*`` are user space's.
        resolve: finds a type by its C spelling ("struct sock", "gfp_t"), such as ``Btf.find``; types that it does not know are
            made from the size and sign that the file states.

    Raises:
        FormatError: the text is not a format file.
    """
    what = f"event format {category}" if category else "event format"
    if len(text) > _MAX_TEXT:
        raise FormatError(what, f"longer than {_MAX_TEXT} bytes", _MAX_TEXT)
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    name, number, print_fmt = "", -1, ""
    fields: list[FormatField] = []
    user = category == "syscalls"
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[position:end].strip()
        if line.startswith("field:"):
            if len(fields) >= _MAX_FIELDS:
                raise FormatError(what, f"more than {_MAX_FIELDS} fields", position)
            fields.append(_field(line, what, position, "user" if user and name.startswith("sys_enter_") else "", resolve))
        elif line.startswith("name:"):
            name = line[5:].strip()
            what = f"event format {category}:{name}" if category else f"event format {name}"
        elif line.startswith("ID:"):
            number = _number(line[3:], what, position)
        elif line.startswith("print fmt:"):
            print_fmt = text[position:].split("print fmt:", 1)[1].strip()
            break
        elif line and line != "format:":
            raise FormatError(what, f"unexpected line {line[:60]!r}", position)
        position = end + 1
    if not name or number < 0:
        raise FormatError(what, "no name or no ID", 0)
    return EventFormat(name, number, tuple(fields), print_fmt, category)


def _number(text: str, what: str, position: int) -> int:
    text = text.strip()
    if not 0 < len(text) <= 10 or not text.isascii() or not text.isdigit():
        raise FormatError(what, f"{text[:20]!r} is not a number", position)
    return int(text)


def _field(line: str, what: str, position: int, space: str, resolve: Resolve | None) -> FormatField:
    parts = [part.strip() for part in line.split(";")]
    numbers: dict[str, int] = {}
    for part in parts[1:]:
        key, colon, value = part.partition(":")
        if colon:
            numbers[key] = _number(value, what, position)
    if "offset" not in numbers or "size" not in numbers:
        raise FormatError(what, f"a field without offset or size: {line[:60]!r}", position)
    offset, size, signed = numbers["offset"], numbers["size"], bool(numbers.get("signed", 0))
    if offset + size > _MAX_RECORD:
        raise FormatError(what, f"a field at {offset} with {size} bytes, beyond the end of any record", position)
    declaration = parts[0][len("field:") :].strip()
    if len(declaration) > _MAX_DECLARATION:
        raise FormatError(what, f"a declaration of {len(declaration)} letters: {line[:60]!r}", position)
    words, name, count = _declarator(declaration)
    if not name:
        raise FormatError(what, f"a field without a name: {line[:60]!r}", position)
    data_loc, rel_loc = "__data_loc" in words[:1], "__rel_loc" in words[:1]
    if data_loc or rel_loc:
        words = words[1:]
    type_text = " ".join(words)
    if data_loc or rel_loc:
        element = _ctype(words, 0, signed, space, resolve)
        return FormatField(name, type_text + "[]", Array(element, 0), offset, size, signed, data_loc, 0, rel_loc, declaration)
    if count is None:
        return FormatField(name, type_text, _ctype(words, size, signed, space, resolve), offset, size, signed, declaration=declaration)
    element = _ctype(words, 0, signed, space, resolve)
    if count > 0 and size % count == 0 and element.size * count != size:
        element = _ctype(words, size // count, signed, space, None)
    elif element.size:
        count = size // element.size
    kind: CType = Array(element, count)
    return FormatField(name, f"{type_text}[{count or ''}]", kind, offset, size, signed, False, count, declaration=declaration)


def _declarator(declaration: str) -> tuple[list[str], str, int | None]:
    """(words of the type, name, number of elements or None if it is no array): "char prev_comm[16]" -> (["char"], "prev_comm", 16).

    Arrays are written on either side of the name ("char[16] x" came with old dynamic events); an unknown length is 0.
    """
    count: int | None = None
    text = declaration
    bracket = text.find("[")
    if bracket >= 0:
        close = text.find("]", bracket)
        inner = text[bracket + 1 : close] if close >= 0 else ""
        inner = inner.strip("() ")
        count = int(inner) if inner.isascii() and inner.isdigit() and len(inner) < 10 else 0
        rest = text[close + 1 :] if close >= 0 else ""
        while rest.lstrip().startswith("["):  # further dimensions: one array of all elements
            inner, _, rest = rest.partition("]")
            inner = inner.strip("[() ")
            count = count * int(inner) if inner.isascii() and inner.isdigit() and len(inner) < 10 else 0
        text = text[:bracket] + " " + rest
    words = text.replace("*", " * ").split()
    if words and words[-1] != "*":
        return words[:-1], words[-1], count
    return words, "", count


def _ctype(words: list[str], size: int, signed: bool, space: str, resolve: Resolve | None) -> CType:
    """A type from its words; ``size`` 0 means that the file does not state it."""
    bare = [word for word in words if word not in _QUALIFIERS]
    if "__user" in words:
        space = "user"
    if "*" in bare:
        last = len(bare) - 1 - bare[::-1].index("*")
        inner = bare[:last]
        return Ptr(lambda: _ctype(inner, 0, False, space, resolve), size or 8, space)
    spelling = " ".join(bare)
    if spelling == "void":
        return VOID
    if bare[:1] in (["struct"], ["union"]):
        found = resolve(spelling) if resolve else None
        if found is not None and (not size or found.size == size):
            return found
        tag = " ".join(bare[1:])
        return Struct(tag, size, (), bare[0]) if size else Fwd(tag, bare[0])
    plain = _plain_int(bare)
    known = _FIXED.get(plain)
    if plain in ("long", "unsigned long"):
        return Int(plain, size or 8, plain == "long")
    if known is not None and (not size or size == known[0]):
        return Int(plain, known[0], known[1], known[2])
    if not size or bare[:1] == ["enum"]:
        found = resolve(spelling) if resolve else None
        if found is not None and (not size or found.size == size):
            return found
        if bare[:1] == ["enum"]:
            return Enum(" ".join(bare[1:]), size or 4, {}, signed)
    if size in (1, 2, 4, 8, 16):
        if known is not None:  # a system call's int arrives in a register's 8 bytes
            signed = known[1]
        integer = Int(f"{'s' if signed else 'u'}{8 * size}", size, signed)
        return Typedef(spelling, integer) if spelling and spelling != integer.name else integer
    if size:
        return Struct(spelling, size, ())
    base = _guess(spelling)
    return Typedef(spelling, base) if spelling else base


def _guess(spelling: str) -> Int:
    """An integer for a name of unknown size: those with a width in the name say it, others are ``int``."""
    for width in (8, 16, 32, 64):
        if spelling.rstrip("_t").endswith(str(width)):
            signed = spelling.lstrip("_").startswith(("s", "i"))
            return Int(f"{'s' if signed else 'u'}{width}", width // 8, signed)
    return Int("int", 4, True)


def _plain_int(words: list[str]) -> str:
    """C's integer words in one order: "long unsigned int" -> "unsigned long"."""
    if not words or not all(word in ("unsigned", "signed", "long", "short", "int", "char") for word in words):
        text = " ".join(words)
        return text[2:] if text.startswith("__") and text[2:] in _FIXED else text
    longs = words.count("long")
    base = "char" if "char" in words else "short" if "short" in words else "long long" if longs > 1 else "long" if longs else "int"
    if "unsigned" in words:
        return f"unsigned {base}"
    return "signed char" if base == "char" and "signed" in words else base
