"""The arguments of traced functions as text: what the options ``func-args`` and ``funcgraph-args`` record (Linux 6.15).

A record has the registers that hold a function's first arguments; names and types are in the kernel's BTF.  Integers with a sign are shown
in decimal, others and pointers in hexadecimal, enumerations in decimal, and whatever is passed by value in pieces of a long
(kernel/trace/trace_output.c, ``print_function_args``, as of Linux 6.18)::

    vfs_read(file=0xffff888003aa8f00, buf=0x7ffe9b7a2e10, count=0x340, pos=0xffffc900003e7ef0)

trace-cmd 3.4 (libtraceevent 1.9) shows as much of a register as an integer's type has, without its sign, and all registers of functions
that BTF does not know.

``template`` is such a text with a mark in place of each value, so that it is made once per function; ``Arguments`` fills it in.
"""

from __future__ import annotations

from ..base.ctype import Enum, Float, Func, Int, Ptr, Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("HEX", "MARKS", "MOST", "SIGNED", "Arguments", "template")

#: Arguments that are looked at: more than any machine passes in registers.
MOST = 16
#: Marks in a template: a value in hexadecimal, in decimal with its sign.
HEX, SIGNED = "\x01", "\x02"
_HEX_OF, _DECIMAL_OF = {1: "\x03", 2: "\x04", 4: "\x05"}, {1: "\x06", 2: "\x07", 4: "\x0e"}
#: Mark -> (``%`` conversion, bits that count; 0 for all).
MARKS = {
    HEX: ("x", 0), SIGNED: ("d", 0), "\x03": ("x", 8), "\x04": ("x", 16), "\x05": ("x", 32), "\x06": ("d", 8), "\x07": ("d", 16),
    "\x0e": ("d", 32),
}  # fmt: skip
_NO_MARKS = {ord(mark): None for mark in MARKS}


def template(function: Func, count: int, long_size: int = 8, sized: bool = False) -> str:
    """The text between the parentheses, with marks for values.

    Args:
        count: values that a record has.
        sized: as trace-cmd shows them.

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
            return ", ".join(parts)
        kind = kind.strip()
        text = f"{name.translate(_NO_MARKS)}="
        if isinstance(kind, Int) and sized and kind.size in _HEX_OF:
            text += _DECIMAL_OF[kind.size] if kind.signed else f"0x{_HEX_OF[kind.size]}"
        elif isinstance(kind, Ptr) or (isinstance(kind, Int) and not kind.signed):
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
    if function.variadic:
        parts.append("..." if at >= count else "=" if sized else f"=?0x{HEX}")
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
        trace_cmd: whether the text is trace-cmd's.
    """

    def __init__(self, function: Callable[[str], Func | None], long_size: int = 8, trace_cmd: bool = False) -> None:
        self._function, self._long_size, self._trace_cmd = function, long_size, trace_cmd
        self._known: dict[tuple[str, int], tuple[str, tuple[tuple[str, int], ...]]] = {}

    def template(self, name: str, count: int) -> str:
        """As the function ``template``, by name."""
        kind = self._function(name) if name else None
        if kind is not None:
            return template(kind, count, self._long_size, self._trace_cmd)
        return ", ".join([HEX] * count) if self._trace_cmd else ""

    def __call__(self, name: str, values: Sequence[int]) -> str:
        found = self._known.get((name, len(values)))
        if found is None:
            text = self.template(name, len(values))
            marks = tuple([MARKS[letter] for letter in text if letter in MARKS])
            form = text.replace("%", "%%")
            for letter, (conversion, _) in MARKS.items():
                form = form.replace(letter, f"%{conversion}")
            found = form, marks
            if len(self._known) < 200_000:
                self._known[name, len(values)] = found
        form, marks = found
        limit = 1 << 8 * self._long_size
        shown = []
        for value, (conversion, bits) in zip(values, marks):
            if bits:
                value &= (1 << bits) - 1
            elif conversion == "d" and value >= limit >> 1:
                value -= limit
            shown.append(value)
        return form % tuple(shown)
