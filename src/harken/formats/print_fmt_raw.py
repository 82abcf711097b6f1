"""``report -R``: fields as ``name=value``, each as the event's print format prints it, if it prints it at all.

libtraceevent 1.7 (``tep_print_field``) goes through the conversions of the print format with the fields: a plain field, also behind
casts, is printed with its conversion ("target_cpu=%03d" gives ``target_cpu=000``); the next field is looked for behind that place first.
``0x`` before a conversion belongs to it.  Arrays, texts and fields that no conversion prints are printed by their type.

Example:
    >>> from harken.formats.event_format import parse
    >>> from harken.formats.print_fmt import Env
    >>> head = 'name: x\\nID: 7\\nformat:\\n\\tfield:u8 a;\\toffset:8;\\tsize:1;\\tsigned:0;\\n'
    >>> event = parse(head + '\\tfield:u8 b;\\toffset:9;\\tsize:1;\\tsigned:0;\\n\\nprint fmt: "0x%02x %d", (int)REC->a, REC->b + 1')
    >>> raw_renderer(event, Env(dialect="trace-cmd-3.1"))(bytes(8) + b"A\\x05")
    ' a=0x41 b=5'
"""

from __future__ import annotations

import struct

from ..base.errors import FormatError
from .print_fmt import Renderer, _assemble, plain_renderer
from .print_fmt_fields import field_text, fields_text, is_array
from .print_fmt_printf import CONVERSION
from .print_fmt_tep import TepCoder, TepPrintf
from .print_fmt_tep_parse import parse
from .print_fmt_values import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .event_format import EventFormat, FormatField
    from .print_fmt import Env
    from .print_fmt_parse import Tree

__all__ = ("raw_renderer",)

_MOST_OPEN = 64  # the events of Linux 6.18 have up to 4


def raw_renderer(event: EventFormat, env: Env) -> Renderer:
    """The renderer of an event's raw fields."""
    try:
        fmt, arguments = parse(event.print_fmt)
        _check(event)
        coder = TepCoder(event, env)
        pieces = _pieces(fmt, arguments, TepPrintf(coder))
        texts: list[str] = []
        values: list[str] = []
        place = 0 if pieces else -1
        for field in event.own:
            texts.append(f" {field.name}=".replace("%", "%%"))
            coder.spend(len(texts[-1]))
            found = -1 if place < 0 or is_array(field) else _find(pieces, place, field.name)
            if found < 0:
                one = coder.keep(field_text(field, env))
                texts.append("%s")
                values.append(f"{one}(b[s:e])")
                continue
            piece = pieces[found]
            texts += ["0x" if found and pieces[found - 1].prefix else "", piece.text]
            values += piece.values
            place = found + 1 if found + 1 < len(pieces) else -1  # behind the last one nothing is looked up any more
        return _assemble(event, coder, "".join(texts), values)
    except (FormatError, RecursionError, struct.error, SyntaxError, MemoryError):
        return plain_renderer(event, fields_text(event, env))


def _check(event: EventFormat) -> None:
    """Whether all fields together may be as large as their record.

    Raises:
        Unsupported: they lie in each other; no kernel's do.
    """
    if sum([field.size for field in event.fields]) > 2 * event.size or len([field for field in event.own if _open(field)]) > _MOST_OPEN:
        raise Unsupported("fields that lie in others")


def _open(field: FormatField) -> bool:
    """Whether its size is known by the record only."""
    return field.data_loc or field.rel_loc or not field.size


class _Piece:
    """A conversion, or (``name`` is "") the text between two; ``prefix``: it ends with "0x"."""

    def __init__(self, name: str = "", text: str = "", values: list[str] | None = None, prefix: bool = False) -> None:
        self.name, self.text, self.values, self.prefix = name, text, values or [], prefix


def _pieces(fmt: str, arguments: list[Tree], printf: TepPrintf) -> list[_Piece]:
    found: list[_Piece] = []
    rest = list(arguments)
    between, position = "", 0
    for match in CONVERSION.finditer(fmt):
        between += fmt[position : match.start()]
        position = match.end()
        if match.group("kind") == "%":
            between += "%"
            continue
        if between:
            found.append(_Piece(prefix=len(between) > 1 and between.endswith("0x")))
            between = ""
        stars = (match.group("width") == "*") + (match.group("precision") == "*")
        name = _field_name(rest[stars]) if len(rest) > stars else ""
        values: list[str] = []
        text = printf.conversion(match, rest, values)
        found.append(_Piece(name, text, values))
    if between + fmt[position:]:
        found.append(_Piece())
    return found


def _field_name(tree: Tree) -> str:
    """The field that an argument is, "" if it is more than that."""
    while tree[0] == "cast":
        tree = tree[2]
    return str(tree[1]) if tree[0] == "field" else ""


def _find(pieces: list[_Piece], place: int, name: str) -> int:
    """Where a field is printed, from a place on and around; -1 if nowhere."""
    for step in range(len(pieces)):
        at = (place + step) % len(pieces)
        if pieces[at].name == name:
            return at
    return -1
