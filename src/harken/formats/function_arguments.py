"""The arguments of traced functions as text: what the options ``func-args`` and ``funcgraph-args`` record (Linux 6.15).

A record has the registers that hold a function's first arguments; names and types are in the kernel's BTF.  Integers with a sign are shown
in decimal, others and pointers in hexadecimal, enumerations in decimal, and whatever is passed by value in pieces of a long
(kernel/trace/trace_output.c, ``print_function_args``)::

    vfs_read(file=0xffff888003aa8f00, buf=0x7ffe9b7a2e10, count=0x340, pos=0xffffc900003e7ef0)

``template`` is such a text with a mark in place of each value, so that it is made once per function; ``Arguments`` fills it in.
"""

from __future__ import annotations

from ..base.ctype import Enum, Float, Func, Int, Ptr, Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("HEX", "MOST", "SIGNED", "Arguments", "template")

#: Arguments that are looked at: more than any machine passes in registers.
MOST = 16

#: Marks in a template: the next value in hexadecimal, in decimal with its sign.
HEX, SIGNED = "\x01", "\x02"


def template(function: Func, count: int, long_size: int = 8) -> str:
    """The text between the parentheses, with marks for values.

    Args:
        count: values that a record has.

    Example:
        >>> short = Int("int", 4, True)
        >>> template(Func("f", short, (("a", Ptr(short)), ("b", short))), 6)
        'a=0x\\x01, b=\\x02'
    """
    parts: list[str] = []
    at = 0
    for name, kind in function.params:
        if at >= count:
            parts.append("...")
            break
        kind = kind.strip()
        text = f"{name.replace(HEX, '').replace(SIGNED, '')}=" if name else ""
        if isinstance(kind, Ptr) or (isinstance(kind, Int) and not kind.signed):
            text += f"0x{HEX}"
        elif isinstance(kind, Int) or (isinstance(kind, Enum) and kind.size <= 4):
            text += SIGNED
        else:
            pieces = [f"0x{HEX}"]
            while len(pieces) * long_size < kind.size:
                at += 1
                if at >= count:
                    return ", ".join([*parts, f"{text}({_kind(kind)})[{':'.join(pieces)}:...]"])
                pieces.append(f"0x{HEX}")
            text += f"({_kind(kind)})[{':'.join(pieces)}]"
        at += 1
        parts.append(text)
    return ", ".join(parts)


def _kind(kind: object) -> str:
    if isinstance(kind, Struct):
        return kind.kind.upper()
    return "ENUM64" if isinstance(kind, Enum) else "FLOAT" if isinstance(kind, Float) else "?"


class Arguments:
    """Function and values -> text between the parentheses.

    Args:
        function: a function's name -> its type, None if BTF does not know it.
        long_size: of the traced kernel.
        unknown: whether values of functions without a type are shown (trace-cmd does, the kernel does not).
    """

    def __init__(self, function: Callable[[str], Func | None], long_size: int = 8, unknown: bool = False) -> None:
        self._function, self._long_size, self._unknown = function, long_size, unknown
        self._known: dict[tuple[str, int], tuple[str, tuple[str, ...]]] = {}

    def template(self, name: str, count: int) -> str:
        """As the function ``template``, by name."""
        kind = self._function(name) if name else None
        if kind is not None:
            return template(kind, count, self._long_size)
        return ", ".join([f"0x{HEX}"] * count) if self._unknown else ""

    def __call__(self, name: str, values: Sequence[int]) -> str:
        found = self._known.get((name, len(values)))
        if found is None:
            text = self.template(name, len(values))
            marks = tuple([letter for letter in text if letter in (HEX, SIGNED)])
            found = text.replace("%", "%%").replace(HEX, "%x").replace(SIGNED, "%d"), marks
            if len(self._known) < 200_000:
                self._known[name, len(values)] = found
        form, marks = found
        limit = 1 << 8 * self._long_size
        return form % tuple([value - limit if mark == SIGNED and value >= limit >> 1 else value for value, mark in zip(values, marks)])
