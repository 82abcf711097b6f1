"""The one C type model.

BTF, DWARF, tracefs formats, C source and Python annotations are converted to these classes at once, and only these cross
package borders.  Sizes and offsets are in bytes unless the name says bits.

Kernel types form cyclic graphs of tens of thousands of nodes, so ``Ptr.target`` and ``Struct.members`` may be given as a
function of no arguments: it is called on first use, once.

Example:
    >>> u32 = Int("unsigned int", 4, signed=False)
    >>> point = Struct("point", 8, (Member("x", u32, 0), Member("y", u32, 32)))
    >>> str(Ptr(point)), point.member("y").bit_offset // 8
    ('struct point *', 4)
    >>> print(point.declaration())
    struct point {
        unsigned int x; /* 0 4 */
        unsigned int y; /* 4 4 */
    };
"""

from __future__ import annotations

from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Lazy = Callable[[], "CType"]
    LazyMembers = Callable[[], "tuple[Member, ...]"]

__all__ = ("CType", "Void", "Int", "Float", "Ptr", "Array", "Member", "Struct", "Enum", "Typedef", "Func", "Fwd", "VOID")


#: How deep anonymous structs may nest: kernel headers stay below ten, hostile type data may form cycles.
NESTING = 32


class CType:
    """Base of all C types.  ``size`` is 0 for types without one (void, functions, forward declarations)."""

    __slots__ = ("name", "size")
    name: str
    size: int

    def strip(self) -> CType:
        """The type without typedefs."""
        return self

    @property
    def align(self) -> int:
        return max(1, self.size)

    def declare(self, declarator: str = "") -> str:
        """A C declaration of ``declarator`` with this type: ``Ptr(x).declare("p")`` is ``"x *p"``."""
        return f"{self.name} {declarator}".rstrip()

    def __str__(self) -> str:
        return self.declare()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.declare()}>"


class Void(CType):
    """``void``."""

    __slots__ = ()

    def __init__(self) -> None:
        self.name, self.size = "void", 0


VOID = Void()


class Int(CType):
    """An integer, ``char`` or ``bool``; ``encoding`` is "int", "char" or "bool"."""

    __slots__ = ("encoding", "signed")

    def __init__(self, name: str, size: int, signed: bool, encoding: str = "int") -> None:
        self.name, self.size, self.signed, self.encoding = name, size, signed, encoding


class Float(CType):
    """A floating point type (BPF cannot compute with it; layouts contain it)."""

    __slots__ = ()

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size


class Ptr(CType):
    """A pointer.

    ``space`` says whose memory it points to: "kernel", "user" (``__user``, btf_type_tag "user"), "percpu", or "" where unknown.
    """

    __slots__ = ("_target", "space")

    def __init__(self, target: CType | Lazy, size: int = 8, space: str = "") -> None:
        self.name, self.size = "", size
        self._target: CType | Lazy = target
        self.space = space

    @property
    def target(self) -> CType:
        if not isinstance(self._target, CType):
            self._target = self._target()
        return self._target

    def declare(self, declarator: str = "") -> str:
        inner = self.target
        if isinstance(inner.strip() if not isinstance(inner, Typedef) else inner, (Array, Func)):
            return inner.declare(f"(*{declarator})")
        return inner.declare(f"*{declarator}")


class Array(CType):
    """``count`` elements; ``count == 0`` is a flexible array member."""

    __slots__ = ("count", "element")

    def __init__(self, element: CType, count: int) -> None:
        self.name, self.element, self.count = "", element, count
        self.size = element.size * count

    @property
    def align(self) -> int:
        return self.element.align

    def declare(self, declarator: str = "") -> str:
        return self.element.declare(f"{declarator}[{self.count or ''}]")


class Member(Record):
    """One member of a struct or union; ``name`` is "" for anonymous structs and unions; ``bit_size`` is 0 unless a bitfield."""

    name: str
    type: CType
    bit_offset: int
    bit_size: int = 0


class Struct(CType):
    """A struct or union; ``name`` is the tag, "" if anonymous."""

    __slots__ = ("_align", "_members", "kind")

    def __init__(self, name: str, size: int, members: tuple[Member, ...] | LazyMembers, kind: str = "struct", align: int = 0) -> None:
        self.name, self.size, self.kind = name, size, kind
        self._members: tuple[Member, ...] | LazyMembers = members
        self._align = align

    @property
    def members(self) -> tuple[Member, ...]:
        if not isinstance(self._members, tuple):
            self._members = self._members()
        return self._members

    @property
    def align(self) -> int:
        return self._align or max((member.type.align for member in self.members), default=1)

    def member(self, name: str, depth: int = 0) -> Member | None:
        """The member called ``name``, also inside anonymous members (nested at most ``NESTING`` deep); its offset is from the
        start of this struct."""
        for member in self.members:
            if member.name == name:
                return member
        for member in self.members:
            inner = member.type.strip()
            if not member.name and isinstance(inner, Struct) and depth < NESTING:
                found = inner.member(name, depth + 1)
                if found is not None:
                    return found.replace(bit_offset=found.bit_offset + member.bit_offset)
        return None

    def names(self, depth: int = 0) -> Iterator[str]:
        """Every name that ``member`` accepts."""
        for member in self.members:
            inner = member.type.strip()
            if member.name:
                yield member.name
            elif isinstance(inner, Struct) and depth < NESTING:
                yield from inner.names(depth + 1)

    def declare(self, declarator: str = "") -> str:
        if not self.name:
            # a pointer inside may lead back here, so only ``declaration`` spells out what a nameless struct holds
            return f"{self.kind} {{ ... }} {declarator}".rstrip()
        return f"{self.kind} {self.name} {declarator}".rstrip()

    def _body(self, indent: str, base: int = 0) -> str:
        head = f"{self.kind} {self.name}".rstrip()
        return f"{head} {{\n" + "".join(self._lines(indent + "    ", base)) + f"{indent}}}"

    def _lines(self, indent: str, base: int) -> Iterator[str]:
        for member in self.members:
            offset = base + member.bit_offset // 8
            inner = member.type
            counts = ""
            core: CType = inner
            while isinstance(core, Array):
                counts += f"[{core.count or ''}]"
                core = core.element
            if isinstance(core, Struct) and not core.name and len(indent) <= 4 * NESTING:
                text = f"{core._body(indent, offset)} {member.name}{counts}".rstrip()
            else:
                text = inner.declare(member.name)
            if member.bit_size:
                text += f":{member.bit_size}"
            yield f"{indent}{text}; /* {offset} {inner.size} */\n"

    def declaration(self) -> str:
        """The whole definition as C, with offset and size of each member."""
        return self._body("") + ";"


class Enum(CType):
    """An enumeration; ``values`` maps names to numbers."""

    __slots__ = ("signed", "values")

    def __init__(self, name: str, size: int, values: dict[str, int], signed: bool = False) -> None:
        self.name, self.size, self.values, self.signed = name, size, values, signed

    def declare(self, declarator: str = "") -> str:
        return f"enum {self.name} {declarator}".replace("  ", " ").rstrip()

    def declaration(self) -> str:
        inner = "".join(f"    {name} = {value},\n" for name, value in self.values.items())
        return f"enum {self.name} {{\n{inner}}};"


class Typedef(CType):
    """A typedef; ``strip`` follows it."""

    __slots__ = ("_target",)

    def __init__(self, name: str, target: CType | Lazy) -> None:
        self.name = name
        self._target: CType | Lazy = target

    @property
    def target(self) -> CType:
        if not isinstance(self._target, CType):
            self._target = self._target()
        return self._target

    @property
    def size(self) -> int:  # type: ignore[override]
        return self.target.size

    @property
    def align(self) -> int:
        return self.target.align

    def strip(self) -> CType:
        return self.target.strip()


class Func(CType):
    """A function: ``params`` are (name, type) pairs; ``returns`` is ``VOID`` for none."""

    __slots__ = ("params", "returns", "variadic")

    def __init__(self, name: str, returns: CType, params: tuple[tuple[str, CType], ...], variadic: bool = False) -> None:
        self.name, self.size, self.returns, self.params, self.variadic = name, 0, returns, params, variadic

    @property
    def align(self) -> int:
        return 1

    def declare(self, declarator: str = "") -> str:
        params = [kind.declare(name) for name, kind in self.params] + (["..."] if self.variadic else [])
        return self.returns.declare(f"{declarator or self.name}({', '.join(params) or 'void'})")


class Fwd(CType):
    """A declared but undefined struct or union."""

    __slots__ = ("kind",)

    def __init__(self, name: str, kind: str = "struct") -> None:
        self.name, self.size, self.kind = name, 0, kind

    def declare(self, declarator: str = "") -> str:
        return f"{self.kind} {self.name} {declarator}".rstrip()
