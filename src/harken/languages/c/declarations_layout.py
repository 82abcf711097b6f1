"""Pieces of C declarations: integer types as C words, members at given offsets, records of tracepoints."""

from __future__ import annotations

from ...base.ctype import Array, CType, Enum, Fwd, Int, Ptr, Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.event_format import EventFormat

__all__ = ("Pieces", "event", "plain")

_INT_WORDS = frozenset(("long", "short", "signed", "unsigned", "char", "int", "__int128", "_Bool"))


def event(name: str, found: EventFormat) -> str:
    """The struct of a tracepoint's record as BCC programs see it: ``args->pid``, ``args->data_loc_name``, and eight unusable bytes."""
    pieces = Pieces()
    used = {"__do_not_use__"}
    members = [("unsigned long long __do_not_use__", 0, 8)]
    for field in found.own:
        title = ("data_loc_" if field.data_loc else "rel_loc_" if field.rel_loc else "") + field.name
        if field.offset < 8 or not title.isidentifier() or title in used:
            continue
        used.add(title)
        if field.data_loc or field.rel_loc:
            members.append((f"int {title}", field.offset, 4))
            continue
        text = _event_field(field.type, field.ctype, title, field.size)
        members.append((text, field.offset, field.size))
    for text, offset, size in sorted(members, key=lambda row: row[1]):
        pieces.add(text, 8 * offset, 8 * size, 0)
    return f"struct {name} {{ {pieces.text()} }} __attribute__((packed, aligned(8)));\n"


def _event_field(text: str, kind: CType, name: str, size: int) -> str:
    bare = kind.strip()
    if isinstance(bare, Ptr):
        target = bare.target
        return f"struct {target.name} *{name}" if isinstance(target, (Struct, Fwd)) and target.name else f"void *{name}" \
            if not isinstance(target.strip(), Int) else f"{plain(target)} *{name}"  # fmt: skip
    if isinstance(bare, Array) and isinstance(bare.element.strip(), Int) and bare.size == size:
        return f"{plain(bare.element)} {name}[{bare.count}]"
    if isinstance(bare, (Int, Enum)) and bare.size == size:
        return f"{plain(bare)} {name}"
    return f"unsigned char {name}[{size}]"


def plain(kind: CType) -> str:
    """An integer type without typedefs, as C words."""
    bare = kind.strip()
    if isinstance(bare, Int):
        if bare.name and all(word in _INT_WORDS for word in bare.name.split()):
            return bare.name
        if bare.encoding == "bool" and bare.size == 1:
            return "_Bool"
        signed = bare.signed
    else:
        signed = isinstance(bare, Enum) and bare.signed
    names = {1: "char", 2: "short", 4: "int", 8: "long long", 16: "__int128"}
    return ("signed " if signed and bare.size == 1 else "" if signed else "unsigned ") + names.get(bare.size, "int")


class Pieces:
    """The members of a packed struct, with padding up to each."""

    _pads = 0

    @classmethod
    def blank(cls, size: int) -> str:
        """An unnamed-by-intent member of ``size`` bytes."""
        cls._pads += 1
        return f"char __pad_{cls._pads}[{size}];"

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.position = 0

    def add(self, text: str, offset: int, bits: int, width: int) -> None:
        """A member at a bit offset; overlapping ones (hostile or odd type data) are left out."""
        if offset < self.position:
            return
        self.pad(offset)
        self.parts.append(f"{text} : {width};" if width else f"{text};")
        self.position = offset + (width or bits)

    def pad(self, offset: int) -> None:
        gap = offset - self.position
        if gap <= 0:
            return
        if self.position % 8 == 0 and gap >= 64:
            self.parts.append(self.blank(gap // 8))
            gap %= 8
        while gap > 0:
            step = min(gap, 64)
            self.parts.append(f"unsigned long long : {step};")
            gap -= step
        self.position = offset

    def text(self) -> str:
        return " ".join(self.parts)
