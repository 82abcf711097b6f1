"""C format strings as Python code: ``"%s flags=%#x" % (...)``.

A conversion with its argument becomes one conversion of Python's ``%`` operator, which C runs through in one call; that is twice as fast
as an f-string with format specifications. Pointer extensions (``%pS``, ``%pI4``, ...) become ``%s`` with a call.  See
Documentation/core-api/printk-formats.rst in the kernel's sources.
"""

from __future__ import annotations

import re

from . import print_fmt_helpers as helpers
from .print_fmt_values import Unsupported, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .print_fmt_code import Coder
    from .print_fmt_parse import Tree

__all__ = ("Printf", "CONVERSION", "letters")

CONVERSION = re.compile(
    r"%(?P<flags>[-+ #0]*)(?P<width>\d+|\*)?(?:\.(?P<precision>-?\d+|\*)?(?P<dot>))?(?P<length>hh|h|ll|l|L|q|j|z|Z|t)?"
    r"(?:(?P<pointer>p[A-Za-z0-9]*)|(?P<kind>[a-zA-Z%]))"
)
#: The kernel takes widths and precisions of up to 8388607 and 32767, of lines that have no room for them.
_WIDEST = 1 << 10
_MOST_VALUES = 64  # the events of Linux 6.18 have up to 25
_LENGTHS = {"hh": 1, "h": 2, "": 4, "ll": 8, "L": 8, "q": 8, "j": 8}


def letters(digits: str, star: Value | None) -> int:
    """What a width or precision may add to a text."""
    if star is not None:
        return _WIDEST if star.const is None else min(abs(star.const), _WIDEST)
    return int(digits) if digits.isdecimal() and len(digits) < 10 else _WIDEST << 10 if digits.isdecimal() else 0


def _bounded(star: Value) -> str:
    return f"max(-{_WIDEST}, min({_WIDEST}, {star.code}))" if star.const is None else str(max(-_WIDEST, min(_WIDEST, star.const)))


class Printf:
    """Compiles format strings with the arguments' trees; ``coder`` knows the types."""

    def __init__(self, coder: Coder) -> None:
        self.coder = coder

    def code(self, fmt: str, arguments: list[Tree]) -> str:
        """One expression whose value is the text."""
        text, values = self.parts(fmt, arguments)
        if not values:
            return repr(text % ())
        return f"({text!r} % ({', '.join(values)},))"

    def parts(self, fmt: str, arguments: list[Tree]) -> tuple[str, list[str]]:
        """Python's format string and the code of its values.

        Raises:
            Unsupported: there are too few values, or it is longer than any that a kernel has.
        """
        self.coder.spend(len(fmt))
        out: list[str] = []
        values: list[str] = []
        rest = list(arguments)
        position = 0
        for match in CONVERSION.finditer(fmt):
            out.append(fmt[position : match.start()].replace("%", "%%"))
            position = match.end()
            if match.group("kind") == "%":
                out.append("%%")
                continue
            out.append(self.conversion(match, rest, values))
        out.append(fmt[position:].replace("%", "%%"))
        if len(values) > _MOST_VALUES:
            raise Unsupported(f"texts of more than {_MOST_VALUES} values")
        return "".join(out), values

    def take(self, rest: list[Tree]) -> Tree:
        if not rest:
            raise Unsupported("fewer arguments than conversions")
        return rest.pop(0)

    def conversion(self, match: re.Match[str], rest: list[Tree], values: list[str]) -> str:
        """One conversion; where its argument cannot be known outside of the kernel, "?" stands in its place."""
        star = self.take(rest) if match.group("width") == "*" else None
        limit = self.take(rest) if match.group("precision") == "*" else None
        tree = self.take(rest)
        before = len(values)
        try:
            return self.known(match, star, limit, tree, values)
        except Unsupported as error:
            self.coder.unknown.append(error.problem)
            del values[before:]
            return "?"

    def known(self, match: re.Match[str], star_tree: Tree | None, limit_tree: Tree | None, tree: Tree, values: list[str]) -> str:
        coder = self.coder
        flags, width, precision = match.group("flags"), match.group("width") or "", match.group("precision") or ""
        has_precision = match.group("dot") is not None
        star = coder.convert(coder.integer(star_tree), 4, True) if star_tree else None
        limit = coder.convert(coder.integer(limit_tree), 4, True) if limit_tree else None
        pointer = match.group("pointer")
        coder.spend(letters(width, None if pointer else star))
        if match.group("kind") != "s":
            coder.spend(letters(precision, limit))
        if pointer:
            return self.pointer(pointer, flags, width, star, tree, values)
        head = "%" + flags
        if star is not None:
            values.append(_bounded(star))
            head += "*"
        else:
            head += width
        kind = match.group("kind")
        if kind == "s":
            value = coder.string(tree)
            if limit is not None:
                values.append(f"{value.code}[:{limit.code}]" if limit.const is None or limit.const >= 0 else value.code)
                return self.without_zero(head, flags) + "s"
            values.append(value.code)
            return self.without_zero(head, flags) + self.shortened(match)
        if kind == "n":
            raise Unsupported("%n")
        size = self.length(match.group("length") or "")
        if has_precision:
            if limit is not None:
                values.append(f"max(0, {_bounded(limit)})")
                head += ".*"
            else:
                head += f".{max(0, int(precision or 0))}"
        if kind == "c":
            value = coder.convert(coder.integer(tree), 1, False)
            values.append(f"chr({value.code})" if value.const is None else repr(chr(value.const)))
            return self.without_zero(head, flags) + "s"
        return self.integer(kind, head, flags, size, tree, values)

    @staticmethod
    def shortened(match: re.Match[str]) -> str:
        """The end of a text's conversion; Python takes no precision that is beyond an int's."""
        return f".{letters(match.group('precision') or '', None)}s" if match.group("dot") is not None else "s"

    @staticmethod
    def without_zero(head: str, flags: str) -> str:
        """Texts are padded with blanks, whatever the flags say."""
        return "%" + "".join(c for c in flags if c == "-") + head[1 + len(flags) :]

    def length(self, text: str) -> int:
        return _LENGTHS.get(text, self.coder.env.long_size)

    def integer(self, kind: str, head: str, flags: str, size: int, tree: Tree, values: list[str]) -> str:
        if kind in "di":
            values.append(self.argument(tree, size, True).code)
            return head + "d"
        if kind not in "uxXo":
            raise Unsupported(f"conversion %{kind}")
        value = self.argument(tree, size, False)
        if kind == "u":
            head = "%" + flags.replace("+", "").replace(" ", "").replace("#", "") + head[1 + len(flags) :]
            values.append(value.code)
            return head + "d"
        if kind == "o" and "#" in flags:
            values.append(f"_h.octal({value.code}, True)")
            return head.replace("#", "") + "s"
        return self.hexadecimal(kind, head, flags, value, values)

    def hexadecimal(self, kind: str, head: str, flags: str, value: Value, values: list[str]) -> str:
        """Python's and the kernel's ``%#x`` agree: the prefix is there for zero too, and counts for the width."""
        values.append(value.code)
        if kind == "X" and "#" in flags:  # the kernel's prefix is lower case
            values[-1] = f'("%{"".join(c for c in head[1:] if c != "*")}X" % {value.code}).replace("0X", "0x", 1)'
            return "%s"
        return head + kind

    def number(self, tree: Tree) -> Value:
        """An argument that is printed as a number."""
        value = self.coder.value(tree)
        if value.kind == "mem":
            raise Unsupported("the address of what is in the record")
        return self.coder.number(value)

    def argument(self, tree: Tree, size: int, signed: bool) -> Value:
        """An argument as the conversion sees it: the low ``size`` bytes of what was passed."""
        coder = self.coder
        value = self.number(tree)
        if value.size < 4:
            value = coder.convert(value, 4, True)
        return coder.convert(value, size, signed)

    # ---- %p and its extensions

    def pointer(self, form: str, flags: str, width: str, star: Value | None, tree: Tree, values: list[str]) -> str:
        coder = self.coder
        letter, more = form[1:2], form[2:]
        tail = ""
        known = "SsBfFRrbhMmIiEUVKNadCgGtxekODdv"
        if letter and letter not in known:  # "%pfoo": not an extension, the letters are text
            letter, more, tail = "", "", form[1:]
        if letter in ("S", "s", "B", "F", "f"):
            used = re.match(r"[Rb]*", more)
            tail = more[used.end() :] if used else more
            values.append(self.symbol(letter, tree))
        elif letter == "h":
            tail = more[1:] if more[:1] in ("C", "D", "N") else more
            separator = {"C": ":", "D": "-", "N": ""}.get(more[:1], " ")
            length = star if star is not None else Value(width or "1", const=int(width or 1))
            memory = coder.memory(tree, coder.convert(length, 4, True))
            values.append(f"_h.hex_bytes({memory}[:64], {separator!r})")
            return self.escape("%s", tail)
        elif letter == "b":
            listed = more[:1] == "l"
            tail = more[1:] if listed else more
            bits = star if star is not None else Value(width or "0", const=int(width or 0))
            memory = self.memory_of(tree, Value(f"(({bits.code} + 7) // 8)"))
            name = "bit_list" if listed else "bitmask"
            values.append(f"_h.{name}({memory}, {coder.order!r}, {coder.env.long_size})")
            return self.escape("%s", tail)
        elif letter in ("I", "i"):
            used = re.match(r"4[hnbl]?|6c?|S[pfsc]*[hnbl]?c?", more)
            code = used.group() if used else ""
            tail = more[len(code) :]
            values.append(self.address(letter, code, tree))
        elif letter in ("M", "m"):
            used = re.match(r"[FR]", more)
            code = letter + (used.group() if used else "")
            tail = more[len(code) - 1 :]
            values.append(f"_h.mac({self.memory_of(tree)}, {code!r})")
        elif letter == "U":
            code = more[:1] if more[:1] in ("b", "B", "l", "L") else ""
            tail = more[len(code) :]
            values.append(f"_h.uuid({self.memory_of(tree)}, {code!r})")
        elif letter == "E":
            tail = more.lstrip("achnops")
            length = star if star is not None else Value(width or "1", const=int(width or 1))
            values.append(f"_h.escaped({coder.memory(tree, coder.convert(length, 4, True))})")
            return self.escape("%s", tail)
        elif letter in ("x", "K", ""):
            tail = more if letter else tail
            return self.escape(self.plain(flags, width, tree, values), tail)
        elif letter in ("a", "d") and more[:1] in ("", "d", "p"):  # %pad, %pap: an address behind a pointer
            if letter == "a":
                tail = more[1:]
                values.append(self.load_address(tree))
                return self.escape("0x%016x", tail)
            raise Unsupported(f"%{form} follows a pointer of the kernel")
        else:
            raise Unsupported(f"%{form} follows a pointer of the kernel")
        pad = "".join(c for c in flags if c == "-") + (width if width != "*" else "")
        return self.escape(f"%{pad}s", tail)

    @staticmethod
    def escape(head: str, tail: str) -> str:
        return head + tail.replace("%", "%%")

    def load_address(self, tree: Tree) -> str:
        value = self.coder.value(tree)
        return (self.coder.load(value, "0") if value.kind == "mem" else self.coder.number(value)).code

    def memory_of(self, tree: Tree, length: Value | None = None) -> str:
        """Bytes at the address that an argument holds; an integer is taken where it is in the record."""
        if tree[0] == "field":
            field = self.coder.event.field(tree[1])
            if field is not None and field.number:
                from ..base.ctype import Ptr

                if isinstance(field.ctype.strip(), Ptr):
                    raise Unsupported(f"{field.name} is a pointer of the kernel")
                return f"b[s+{field.offset}:s+{field.offset + field.size}]"
        return self.coder.memory(tree, length)

    def symbol(self, letter: str, tree: Tree) -> str:
        """``%pS`` is name+offset/size, ``%ps`` the name, both as the kernel's kallsyms has it."""
        coder = self.coder
        env = coder.env
        with_offset = letter in ("S", "B", "F")

        def text(address: int) -> str:
            found = env.symbol(address - (letter == "B" and address > 0)) if env.symbol else None
            if found is None:
                return f"0x{address:x}"
            name, start, size = found[0], found[1], found[2]
            if not with_offset:
                return name
            name, bracket, module = name.partition(" [")
            offset = f"+0x{address - start:x}" + (f"/0x{size:x}" if size else "")
            return f"{name}{offset}{bracket}{module}"

        value = coder.convert(self.number(tree), env.long_size, False)
        return f"{coder.keep(helpers.Memo(text))}[{value.code}]"

    def address(self, letter: str, code: str, tree: Tree) -> str:
        coder = self.coder
        if code[:1] == "4":
            form = ("i" if letter == "i" else "") + ("r" if code[1:] == "l" or (code[1:] == "h" and coder.order == "<") else "")
            return f"_h.ip4({self.memory_of(tree)}, {form!r})"
        if code[:1] == "6":
            memory = self.memory_of(tree)
            if code[1:] == "c" and letter == "I":
                return f"_h.ip6c({memory})"
            return f"_h.ip6({memory}, {letter == 'I'})"
        if code[:1] == "S":
            return f"_h.sockaddr({self.memory_of(tree)}, {coder.order!r}, {code[1:]!r})"
        raise Unsupported(f"%p{letter}{code}")

    def plain(self, flags: str, width: str, tree: Tree, values: list[str]) -> str:
        """``%p`` as the kernel prints it with the option hash-ptr off (``%px``): all digits, no prefix."""
        number = self.coder.convert(self.number(tree), self.coder.env.long_size, False)
        values.append(number.code)
        digits = f"%0{2 * self.coder.env.long_size}x"
        if width.isdecimal() and int(width) > 2 * self.coder.env.long_size:
            values[-1] = f"({digits!r} % {number.code})"
            return f"%{'-' if '-' in flags else ''}{width}s"
        return digits
