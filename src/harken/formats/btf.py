"""BTF, the kernel's own description of its types and functions, as ``base.ctype`` values.

``Btf`` reads what /sys/kernel/btf/vmlinux holds, the split BTF of modules (with the kernel's as base), raw files and the ``.BTF``
section of an ELF file, of either byte order.  Nothing is converted before it is asked for: a pointer's target and a struct's members
are built when they are looked at, so the kernel's cyclic graph of types costs only what one visits.

Qualifiers (const, volatile, restrict) are dropped; the type tags "user", "percpu" and "rcu" become ``Ptr.space``.

The blob is not trusted: names, ids and sizes are checked where they are used, chains of typedefs and arrays and structs inside structs are
bounded (cycles among them cannot be laid out), and whatever is wrong raises FormatError with the byte offset.

Reference: Documentation/bpf/btf.rst, include/uapi/linux/btf.h.

Example:
    >>> from harken.testing.btf_builder import BtfBuilder
    >>> b = BtfBuilder()
    >>> u32 = b.integer("unsigned int", 4)
    >>> _ = b.struct("point", 8, [("x", u32, 0), ("y", u32, 32)])
    >>> btf = Btf(b.build())
    >>> print(btf.struct("point").declaration())
    struct point {
        unsigned int x; /* 0 4 */
        unsigned int y; /* 4 4 */
    };
"""

from __future__ import annotations

from ..base.ctype import VOID, Array, CType, Enum, Float, Func, Fwd, Int, Member, Ptr, Struct, Typedef
from ..base.errors import FormatError
from . import btf_layout as layout
from .btf_layout import KINDS
from .btf_nesting import COMPOSITE, MODIFIERS, Nesting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .btf_index import Index
    from .btf_layout import Buffer
    from .btf_scan import Scan

__all__ = ("Btf", "from_file")

#: The order of C's integer words, as DWARF and so BTF spell them ("long unsigned int").
_INT_WORDS = ("long", "short", "signed", "unsigned", "char", "int", "__int128", "_Bool", "bool")


class Btf(Nesting):
    """One blob of BTF.

    Args:
        data: raw BTF; referred to, not copied.
        what: what the user calls it, for messages.
        base: the BTF that this one continues (a module's base is the kernel's).
        index: a ready index (``btf_index.build``, ``btf_scan``); made on first need otherwise.

    Raises:
        FormatError: not BTF.  Wrong records are found when they are looked at.
    """

    def __init__(self, data: Buffer, what: str = "BTF", base: Btf | None = None, index: Index | Scan | None = None) -> None:
        super().__init__(data, what, base, index)
        self.base = base
        self._types: dict[int, CType] = {}
        self._pointer_size = 0

    @property
    def pointer_size(self) -> int:
        """Bytes of a pointer: BTF does not say, but it equals that of ``long``."""
        if not self._pointer_size:
            self._pointer_size = 8
            if self.base is not None:
                self._pointer_size = self.base.pointer_size
            for name in ("long unsigned int", "long int", "unsigned long", "long"):
                found = self.id_of(name, "int")
                if found is not None and self._words(found)[2] in (4, 8):
                    self._pointer_size = self._words(found)[2]
                    break
        return self._pointer_size

    # -- lookups

    def struct(self, name: str) -> Struct | None:
        """``struct name``, or None.  Of several definitions (two kernel files may each have their own) the first one."""
        return self._lookup(name, "struct")  # type: ignore[return-value]

    def union(self, name: str) -> Struct | None:
        """``union name``, or None."""
        return self._lookup(name, "union")  # type: ignore[return-value]

    def enum(self, name: str) -> Enum | None:
        """``enum name``, or None."""
        return self._lookup(name, "enum")  # type: ignore[return-value]

    def typedef(self, name: str) -> Typedef | None:
        """The typedef ``name``, or None."""
        return self._lookup(name, "typedef")  # type: ignore[return-value]

    def integer(self, name: str) -> Int | None:
        """The integer type ``name`` exactly as BTF spells it ("long unsigned int"), or None."""
        return self._lookup(name, "int")  # type: ignore[return-value]

    def function(self, name: str) -> Func | None:
        """The function ``name`` with its parameters' names and types, or None."""
        return self._lookup(name, "func")  # type: ignore[return-value]

    def variable(self, name: str) -> CType | None:
        """The type of the (per-CPU) variable ``name``, or None."""
        return self._lookup(name, "var")

    def datasec(self, name: str) -> Struct | None:
        """The variables of a data section (".data..percpu") as members of a struct, or None."""
        return self._lookup(name, "datasec")  # type: ignore[return-value]

    def find(self, spelling: str) -> CType | None:
        """A type as C spells it: "struct x", "union x", "enum x", a typedef, or integer words in any order ("unsigned long").

        Pointers and arrays are the caller's business.
        """
        words = spelling.split()
        if len(words) == 2 and words[0] in ("struct", "union", "enum"):
            return self._lookup(words[1], words[0])
        if words == ["void"]:
            return VOID
        if words and all(word in _INT_WORDS for word in words):
            return self._find_int(words)
        if len(words) == 1:
            return self.typedef(words[0]) or self.integer(words[0]) or self._lookup(words[0], "float")
        return None

    def enumerator(self, name: str) -> tuple[Enum, int] | None:
        """The enum that has the enumerator ``name`` and its value, or None."""
        raw = name.encode("utf-8", "surrogateescape")
        for number in self.index.enumerators(raw) if raw else ():
            kind = self.type(number)
            if isinstance(kind, Enum) and name in kind.values:
                return kind, kind.values[name]
        return self.base.enumerator(name) if self.base else None

    def enum_value(self, name: str) -> int | None:
        """The value of the enumerator ``name`` (of whatever enum), or None."""
        found = self.enumerator(name)
        return None if found is None else found[1]

    # -- conversion

    def type(self, number: int) -> CType:
        """The type with this id; functions give ``Func``, variables their type; raises FormatError."""
        if number == 0:
            return VOID
        known = self._types.get(number)
        if known is not None:
            return known
        if number < self._first and self.base is not None:
            return self.base.type(number)
        made = self._make(number)
        self._types[number] = made
        return made

    def _make(self, number: int) -> CType:
        name_off, info, last = self._words(number)
        kind, flag = info >> 24 & 0x1F, info >> 31
        if kind == layout.PTR:
            space = self._space(last)
            self._depth(number, spelling=True)
            return Ptr(lambda: self.type(last), self.pointer_size, space)
        name = self._string(name_off)
        if kind in COMPOSITE:
            return Struct(name, last, lambda: self._members(number), KINDS[kind])
        if kind == layout.TYPEDEF:
            self._settled(number)
            return Typedef(name, lambda: self.type(last))
        if kind in MODIFIERS:
            return self.type(self._unqualified(number))
        if kind == layout.INT:
            (encoding,) = self._tail(number, 0, 1)
            bits = encoding >> 24 & 0xF
            if not last or last > 16:
                raise self._wrong(number, f"an integer of {last} bytes")
            text = "bool" if bits & 4 else "char" if bits & 2 or last == 1 and name == "char" else "int"
            return Int(name, last, bool(bits & 1), text)
        if kind == layout.ARRAY:
            element, _, count = self._tail(number, 0, 3)
            self._settled(number)
            return Array(self.type(element), count)
        if kind in (layout.ENUM, layout.ENUM64):
            return Enum(name, last, self._enumerators(number), bool(flag))
        if kind == layout.FUNC:
            if self._kind(last) != layout.FUNC_PROTO:
                raise self._wrong(number, "a function without a prototype")
            proto = self.type(last)
            assert isinstance(proto, Func)
            return Func(name, proto.returns, proto.params, proto.variadic)
        if kind == layout.FUNC_PROTO:
            self._depth(number, spelling=True)
            return self._prototype(number)
        if kind == layout.FWD:
            return Fwd(name, "union" if flag else "struct")
        if kind == layout.FLOAT:
            return Float(name, last)
        if kind == layout.VAR:
            if self._kind(self._unqualified(last)) in (layout.VAR, layout.DATASEC, layout.FUNC, layout.DECL_TAG):
                raise self._wrong(number, "a variable without a type")
            return self.type(last)
        if kind == layout.DATASEC:
            return Struct(name, last, lambda: self._variables(number), "section", 1)
        raise self._wrong(number, f"a {KINDS[kind]} is not a type")

    def _members(self, number: int) -> tuple[Member, ...]:
        self._depth(number)
        bitfields = self._words(number)[1] >> 31
        members = []
        for name, kind, offset in self.items(number):
            size = 0
            if bitfields:
                offset, size = offset & 0xFFFFFF, offset >> 24
            inner = self.type(kind)
            if isinstance(inner, Func):
                raise self._wrong(number, "a member cannot be a function")
            if not bitfields:
                bare = self._unqualified(kind, typedefs=True)
                if self._kind(bare) == layout.INT:  # before kind_flag the integer type itself carried the width
                    (encoding,) = self._tail(bare, 0, 1)
                    if encoding & 0xFF and encoding & 0xFF != 8 * self._words(bare)[2]:
                        offset, size = offset + (encoding >> 16 & 0xFF), encoding & 0xFF
            members.append(Member(self._string(name), inner, offset, size))
        return tuple(members)

    def _variables(self, number: int) -> tuple[Member, ...]:
        members = []
        for variable, offset, _ in self.items(number):
            if self._kind(variable) != layout.VAR:
                raise self._wrong(number, "a data section may hold only variables")
            members.append(Member(self.name(variable), self.type(variable), 8 * offset))
        return tuple(members)

    def _enumerators(self, number: int) -> dict[str, int]:
        _, info, size = self._words(number)
        if size not in (1, 2, 4, 8):
            raise self._wrong(number, f"an enum of {size} bytes")
        signed = info >> 31
        values = {}
        for name, low, *high in self.items(number):
            value = low | high[0] << 32 if high else low
            top = 63 if high else 31
            if signed and value >> top:
                value -= 2 << top
            values[self._string(name)] = value
        return values

    def _prototype(self, number: int) -> Func:
        params, items = [], self.items(number)
        variadic = bool(items) and items[-1] == (0, 0)
        returns = self._words(number)[2]
        for name, kind in (*(items[:-1] if variadic else items), (0, returns)):
            if self._kind(self._unqualified(kind)) in (layout.FUNC, layout.FUNC_PROTO, layout.VAR, layout.DATASEC, layout.DECL_TAG):
                raise self._wrong(number, "a parameter or result that is not a value")
            params.append((self._string(name), self.type(kind)))
        _, result = params.pop()
        return Func("", result, tuple(params), variadic)

    def _lookup(self, name: str, kind: str) -> CType | None:
        number = self.id_of(name, kind)
        return None if number is None else self.type(number)

    def _find_int(self, words: list[str]) -> CType | None:
        unsigned, shorts, longs = "unsigned" in words, words.count("short"), words.count("long")
        if "bool" in words or "_Bool" in words:
            return self.integer("_Bool") or self.typedef("bool") or self.integer("bool")
        if "char" in words:
            names = ["unsigned char" if unsigned else "signed char" if "signed" in words else "char"]
        elif "__int128" in words:
            names = ["__int128 unsigned", "unsigned __int128"] if unsigned else ["__int128"]
        else:
            length = "short" if shorts else " ".join(["long"] * longs)
            names = (
                [f"{length} unsigned int".strip(), f"unsigned {length}".strip()] if unsigned else [f"{length} int".strip(), length or "int"]
            )
        for name in names:  # gcc's spelling, then clang's
            found = self.integer(name)
            if found is not None:
                return found
        return None


def from_file(data: Buffer, what: str = "BTF", base: Btf | None = None) -> Btf:
    """The BTF of a file's contents: raw BTF, or the ``.BTF`` section of an ELF file (an object, a kernel module, vmlinux).

    Raises:
        FormatError: neither, or no such section.
    """
    if bytes(data[:4]) == b"\x7fELF":
        from .elf import Elf

        section = Elf(data, what).section(".BTF")
        if section is None:
            raise FormatError(what, "this ELF file has no .BTF section", hint="it was built without -g for BPF, or stripped of it")
        return Btf(section.data, f"{what}, section .BTF", base)
    return Btf(data, what, base)
