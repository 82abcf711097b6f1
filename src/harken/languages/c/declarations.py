"""C declarations of the kernel types that a program mentions, written from BTF.

A kernel has 10,000 structs and a program needs five.  What is written is the closure of what the program's own words name: the structs,
typedefs and enumerators that it mentions, the structs that these hold by value, and those that a mentioned pointer member
leads to (``task->mm->exe_file`` needs three).  Of a large struct only the mentioned members are written; the bytes between are padding,
so that offsets and sizes are the kernel's.  Parsing then takes 5 ms instead of the 500 ms of a whole ``vmlinux.h``.

The program's own definitions win: a type that it defines is left out, and a kernel struct that holds a type of that name by value holds
a renamed copy.  The parser asks again with more words when clang misses something (a member name made by ``##``).
"""

from __future__ import annotations

from ...base.ctype import Array, CType, Enum, Float, Func, Fwd, Int, Member, Ptr, Struct, Typedef, Void
from ...base.errors import FormatError
from ...base.record import Record
from .declarations_layout import Pieces, plain
from .headers import BASE_NAMES
from .macros import ALIASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ...formats.btf import Btf

__all__ = ("Request", "Written", "write")

#: A struct with at most so many members (those of nameless parts counted) is written whole.
WHOLE = 48
_MAX_STRUCTS = 3000


class Request(Record):
    """What to write.

    Attributes:
        words: every identifier of the program, and of the macros it uses.
        tags: names that follow ``struct``, ``union`` or ``enum`` in it.
        owned: names that the program defines itself: "struct x", "typedef y", "enumerator Z".
        complete: structs whose definition is needed although nothing in ``tags`` says so.
    """

    words: frozenset[str]
    tags: frozenset[str]
    owned: frozenset[str] = frozenset()
    complete: frozenset[str] = frozenset()


class Written(Record):
    """``text``, and the tags of structs and unions in it that are the kernel's."""

    text: str
    tags: frozenset[str]
    structs: tuple[Struct, ...] = ()


def write(request: Request, types: Sequence[Btf], more: Callable[[], Sequence[Btf]] | None = None) -> Written:
    """The declarations.

    Args:
        types: the kernel's BTF (or nothing: then there are none).
        more: BTF of modules, asked for when a tag of ``complete`` is not in ``types``.

    Raises:
        FormatError: the BTF is damaged.
    """
    writer = _Writer(request, types, more)
    for btf in types:
        btf.expect(request.words | request.tags | request.complete)
    for word in sorted(request.words):
        writer.word(word)
    for tag in sorted(request.tags | request.complete):
        writer.tag(tag)
    writer.run()
    return Written("\n".join(writer.lines) + "\n", frozenset(writer.written), tuple(writer.written.values()))


class _Writer:
    def __init__(self, request: Request, types: Sequence[Btf], more: Callable[[], Sequence[Btf]] | None) -> None:
        self.request, self.types, self.more = request, list(types), more
        self.words, self.owned = request.words, request.owned
        self.lines: list[str] = []
        self.written: dict[str, Struct] = {}  # structs by tag
        self.done: set[str] = set()
        self.enumerators: set[str] = set()
        self.alignment: dict[int, int] = {}
        self.active: set[str] = set()
        self.forward: set[str] = set()
        self.todo: list[Struct] = []
        self.keeping: dict[int, tuple[Member, ...]] = {}

    # -- what the program names

    def word(self, word: str) -> None:
        for btf in self.types:
            if word not in BASE_NAMES and f"typedef {word}" not in self.owned:
                typedef = btf.typedef(word)
                if typedef is not None:
                    self.typedef(typedef)
            if word not in self.enumerators and f"enumerator {word}" not in self.owned:
                found = btf.enumerator(word)
                if found is not None:
                    self.enum(found[0], word)

    def tag(self, tag: str) -> None:
        if self._tag(tag, self.types):
            return
        if tag not in self.request.complete:
            return  # a name that is only pointed to needs no definition
        if self.more is not None and not self.owned.intersection((f"struct {tag}", f"enum {tag}")):
            modules, self.more = self.more(), None
            self.types += modules
        self._tag(tag, self.types)

    def _tag(self, tag: str, types: Sequence[Btf]) -> bool:
        for btf in types:
            for kind in ("struct", "union"):
                found = btf.struct(tag) if kind == "struct" else btf.union(tag)
                if found is not None:
                    if f"struct {tag}" not in self.owned:
                        self.todo.append(found)
                    return True
            enum = btf.enum(tag)
            if enum is not None:
                if f"enum {tag}" not in self.owned:
                    self.enum(enum)
                return True
        return False

    def run(self) -> None:
        while self.todo:
            self.struct(self.todo.pop())

    # -- enums and typedefs

    def enum(self, enum: Enum, word: str = "") -> None:
        """An enum with those of its enumerators that the program mentions."""
        key = f"enum {enum.name}" if enum.name else f"enum of {next(iter(enum.values), '')}"
        if key in self.done:
            return
        self.done.add(key)
        values = {
            name: value
            for name, value in enum.values.items()
            if name in self.words
            and name not in self.enumerators
            and f"enumerator {name}" not in self.owned
            and name not in ("true", "false")
        }
        self.enumerators.update(values)
        title = enum.name if f"enum {enum.name}" not in self.owned else ""
        if not values and not title:
            return
        inner = ", ".join(f"{name} = {_constant(value)}" for name, value in values.items()) or f"{title}___any = 0"
        width = f" : {plain(enum)}" if enum.size != 4 else ""
        self.lines.append(f"enum {title}{width} {{ {inner} }};".replace("  ", " "))

    def typedef(self, typedef: Typedef) -> None:
        key = f"typedef {typedef.name}"
        if key in self.done or typedef.name in BASE_NAMES or key in self.owned:
            return
        self.done.add(key)
        target = typedef.target
        if isinstance(target, Struct) and target.name:
            self.todo.append(target)
        else:
            self.need(target)
        self.lines.append(f"typedef {self.declare(target, typedef.name)};")

    # -- structs

    def need(self, kind: CType) -> None:
        """Writes what must be defined before a value of this type can be declared."""
        while isinstance(kind, Array):
            kind = kind.element
        if isinstance(kind, Typedef):
            if self.transparent(kind):
                self.need(kind.strip())
            else:
                self.typedef(kind)
                bare = kind.strip()
                if isinstance(bare, Struct) and bare.name:
                    self.struct(bare)
        elif isinstance(kind, Struct):
            if kind.name:
                self.struct(kind)
            else:
                for member in self.kept(kind):
                    self.need(member.type)
        elif isinstance(kind, Enum) and kind.name and kind.name in self.request.tags:
            self.enum(kind)

    @staticmethod
    def transparent(typedef: Typedef) -> bool:
        """Whether the typedef's target is written in its place: everything but names of nameless structs."""
        bare = typedef.strip()
        return not (isinstance(bare, Struct) and not bare.name)

    def struct(self, struct: Struct) -> None:
        """The definition of a named struct or union, after what it holds."""
        key = f"struct {struct.name}"
        if key in self.done or len(self.done) > _MAX_STRUCTS:
            return
        self.done.add(key)
        members = self.kept(struct)
        self.active.add(struct.name)
        for member in members:
            self.need(member.type)
        self.active.discard(struct.name)
        title = self.title(struct)
        body, attributes, align = self.body(struct, members)
        self.alignment[id(struct)] = align
        self.lines.append(f"{title} {{ {body} }}{attributes};")
        if key not in self.owned:
            self.written[struct.name] = struct

    def title(self, struct: Struct | Fwd) -> str:
        owned = f"struct {struct.name}" in self.owned and struct.name in self.copies
        return f"{struct.kind} {struct.name}{'___kernel' if owned else ''}"

    @property
    def copies(self) -> frozenset[str]:
        return frozenset(key[7:] for key in self.done if key.startswith("struct "))

    def kept(self, struct: Struct) -> tuple[Member, ...]:
        """The members that are written: all of a small struct, else those that the program mentions; pointers lead on from those."""
        known = self.keeping.get(id(struct))
        if known is not None:
            return known
        try:
            members = struct.members
        except FormatError:
            members = ()
        whole = _count(members, WHOLE + 1) <= WHOLE
        wanted = {path.split(".")[0] for name, path in ALIASES.get(struct.name, {}).items() if name in self.words}
        kept = []
        for member in members:
            mentioned = member.name in self.words or member.name in wanted
            if not member.name:
                inner = member.type.strip()
                mentioned = isinstance(inner, Struct) and any(name in self.words for name in inner.names())
            if mentioned or whole:
                kept.append(member)
            if mentioned and member.name:
                self.follow(member.type)
        self.keeping[id(struct)] = tuple(kept)
        return self.keeping[id(struct)]

    def follow(self, kind: CType) -> None:
        """A mentioned member's pointer target is needed as well."""
        while isinstance(kind, (Array, Typedef, Ptr)):
            kind = kind.element if isinstance(kind, Array) else kind.target
        if isinstance(kind, Struct) and kind.name and f"struct {kind.name}" not in self.owned:
            self.todo.append(kind)
        elif isinstance(kind, Fwd) and f"struct {kind.name}" not in self.owned:
            self._tag(kind.name, self.types)

    def body(self, struct: Struct, members: tuple[Member, ...]) -> tuple[str, str, int]:
        """(members, attributes, alignment)."""
        whole = len(members) == len(struct.members)
        text, attributes, align = self._natural(struct, members) if whole else ("", "", 0)
        if not align:
            text, attributes, align = self._packed(struct, members)
        aliases = [(name, self._path(struct, path)) for name, path in ALIASES.get(struct.name, {}).items() if name in self.words]
        views = []
        for name, found in aliases:
            if found is None or struct.member(name) is not None:
                continue
            self.need(found.type)
            pieces = Pieces()
            pieces.add(self.declare(found.type, name), found.bit_offset, 8 * found.type.size, found.bit_size)
            views.append(f"struct {{ {pieces.text()} }} __attribute__((packed));")
        if views:
            own = f"struct {{ {text} }}{attributes};" if struct.kind == "struct" else text
            text, attributes = f"union {{ {own} {' '.join(views)} }};", f" __attribute__((aligned({align})))"
        return text, attributes, align

    def _path(self, struct: Struct, path: str) -> Member | None:
        """The member at the end of a dotted path, its offset from the start of ``struct``."""
        offset, kind = 0, struct
        found: Member | None = None
        for name in path.split("."):
            if not isinstance(kind, Struct):
                return None
            found = kind.member(name)
            if found is None:
                return None
            offset += found.bit_offset
            kind = found.type.strip()  # type: ignore[assignment]
        return None if found is None else found.replace(bit_offset=offset)

    def _natural(self, struct: Struct, members: tuple[Member, ...]) -> tuple[str, str, int]:
        """The struct as one would write it, if a compiler then lays it out as the kernel has it; alignment 0 otherwise."""
        position, align, parts = 0, 1, []
        for member in members:
            if member.bit_size or member.bit_offset % 8:
                return "", "", 0
            own = self.align(member.type)
            align = max(align, own)
            offset = -(-position // own) * own if struct.kind == "struct" else 0
            if 8 * offset != member.bit_offset:
                return "", "", 0
            position = offset + member.type.size if struct.kind == "struct" else max(position, member.type.size)
            parts.append(f"{self.declare(member.type, member.name)};")
        if -(-position // align) * align != struct.size:
            return "", "", 0
        return " ".join(parts), "", align

    def _packed(self, struct: Struct, members: tuple[Member, ...]) -> tuple[str, str, int]:
        align = next(power for power in (8, 4, 2, 1) if struct.size % power == 0)
        attributes = f" __attribute__((packed, aligned({align})))"
        if struct.kind != "struct":
            parts = [f"{self.declare(m.type, m.name)}{f' : {m.bit_size}' if m.bit_size else ''};" for m in members]
            parts.append(Pieces.blank(struct.size))
            return " ".join(parts), attributes, align
        pieces = Pieces()
        for member in sorted(members, key=lambda item: item.bit_offset):
            pieces.add(self.declare(member.type, member.name), member.bit_offset, 8 * member.type.size, member.bit_size)
        pieces.pad(8 * struct.size)
        return pieces.text(), attributes, align

    def align(self, kind: CType) -> int:
        bare = kind.strip()
        while isinstance(bare, Array):
            bare = bare.element.strip()
        if isinstance(bare, Struct):
            if id(bare) not in self.alignment:
                self.alignment[id(bare)] = self.body(bare, self.kept(bare))[2]
            return self.alignment[id(bare)]
        if isinstance(bare, Int) and bare.size == 16:
            return 16
        return max(1, bare.size)

    # -- declarators

    def declare(self, kind: CType, name: str, depth: int = 0) -> str:
        """A declaration without typedefs that need not be there, with nameless structs written out."""
        if isinstance(kind, Typedef):
            if self.transparent(kind) or depth > 60:
                return self.declare(kind.strip(), name, depth + 1)
            self.typedef(kind)
            return f"{kind.name} {name}".rstrip()
        if isinstance(kind, Ptr):
            target = kind.target
            bare = target.strip()
            if isinstance(bare, (Func, Void)):
                return f"void (*{name})(void)" if isinstance(bare, Func) else f"void *{name}"
            if isinstance(bare, Struct) and not bare.name and not (isinstance(target, Typedef) and target.name in self.request.words):
                return f"void *{name}"  # nobody can name what it points to
            if isinstance(bare, Array):
                return self.declare(bare, f"(*{name})", depth + 1)
            return self.declare(target, f"*{name}", depth + 1)
        if isinstance(kind, Array):
            return self.declare(kind.element, f"{name}[{kind.count}]", depth + 1)
        if isinstance(kind, Struct):
            if kind.name:
                return f"{self._reference(kind)} {name}".rstrip()
            members = self.kept(kind)
            text, attributes, align = self.body(kind, members)
            self.alignment[id(kind)] = align
            return f"{kind.kind} {{ {text} }}{attributes} {name}".rstrip()
        if isinstance(kind, Fwd):
            return f"{kind.kind} {kind.name} {name}".rstrip()
        if isinstance(kind, Enum):
            known = kind.name and f"enum {kind.name}" in self.done and f"enum {kind.name}" not in self.owned
            return f"{f'enum {kind.name}' if known else plain(kind)} {name}".rstrip()
        if isinstance(kind, Int):
            return f"{plain(kind)} {name}".rstrip()
        if isinstance(kind, Float):
            return f"{'float' if kind.size == 4 else 'double' if kind.size == 8 else 'long double'} {name}".rstrip()
        return f"void {name}".rstrip()

    def _reference(self, struct: Struct) -> str:
        return self.title(struct)


def _constant(value: int) -> str:
    return (
        str(value) if -(1 << 31) <= value < 1 << 31 else f"{value:#x}{'U' if value < 1 << 32 else 'ULL'}" if value > 0 else f"({value}LL)"
    )


def _count(members: Iterable[Member], limit: int) -> int:
    """How many members there are, those of nameless structs inside counted each; stops at ``limit``."""
    count = 0
    for member in members:
        count += 1
        inner = member.type.strip() if not member.name else None
        if isinstance(inner, Struct):
            count += _count(inner.members, limit - count)
        if count >= limit:
            break
    return count
