"""Keys and values as text and back: ``key_sprintf``, ``leaf_scanf`` and their like.

Numbers are hexadecimal, structs ``{ 0x1 0x2 }``, arrays ``[ 0x1 0x2 ]``, arrays of char ``"text"``.

Example:
    >>> class Point(ct.Structure):
    ...     _fields_ = [("x", ct.c_int), ("name", ct.c_char * 8)]
    >>> write(Point(26, b"ab"))
    b'{ 0x1a "ab" }'
    >>> read(b'{ 0x1a "ab" }', Point, "leaf").x
    26
"""

from __future__ import annotations

import ctypes as ct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("read", "write")


def write(value: Any) -> bytes:
    """A ctypes object as text."""
    return _text(value, type(value))


def _text(value: Any, kind: Any) -> bytes:
    if issubclass(kind, (ct.Structure, ct.Union)):
        fields = [field for field in kind._fields_ if not field[0].startswith("__pad_")]
        if issubclass(kind, ct.Union):
            fields = fields[:1]
        return b"{ " + b" ".join([_text(getattr(value, name), member) for name, member, *_ in fields]) + b" }"
    if issubclass(kind, ct.Array):
        if kind._type_ is ct.c_char:
            return b'"' + (value if isinstance(value, bytes) else value.value) + b'"'
        return b"[ " + b" ".join([_text(item, kind._type_) for item in value]) + b" ]"
    plain = getattr(value, "value", value)
    if isinstance(plain, bytes):
        plain = plain[0] if plain else 0
    if isinstance(plain, float):
        return str(plain).encode()
    bits = 8 * ct.sizeof(kind)
    return b"0x%x" % (int(plain or 0) & ((1 << bits) - 1))


def read(text: bytes | str, kind: Any, what: str) -> Any:
    """The object that a text describes.

    Raises:
        Exception: the text is not of that form.
    """
    data = text if isinstance(text, bytes) else text.encode()
    made = kind()
    try:
        words = _words(data)
        _fill(made, kind, iter(words))
    except (StopIteration, ValueError, TypeError, IndexError):
        raise Exception(f"Could not scanf {what}") from None
    return made


def _words(data: bytes) -> list[bytes]:
    words: list[bytes] = []
    place = 0
    while place < len(data):
        byte = data[place : place + 1]
        if byte.isspace():
            place += 1
        elif byte == b'"':
            end = data.index(b'"', place + 1)
            words.append(data[place:end])
            place = end + 1
        else:
            end = place
            while end < len(data) and not data[end : end + 1].isspace():
                end += 1
            words.append(data[place:end])
            place = end
    return words


def _fill(target: Any, kind: Any, words: Any) -> None:
    if issubclass(kind, (ct.Structure, ct.Union)):
        _expect(words, b"{")
        fields = [field for field in kind._fields_ if not field[0].startswith("__pad_")]
        for name, member, *_ in fields[:1] if issubclass(kind, ct.Union) else fields:
            if issubclass(member, (ct.Structure, ct.Union, ct.Array)) and not _is_text(member):
                _fill(getattr(target, name), member, words)
            else:
                setattr(target, name, _scalar(member, next(words)))
        _expect(words, b"}")
    elif _is_text(kind):
        target.value = _scalar(kind, next(words))
    elif issubclass(kind, ct.Array):
        _expect(words, b"[")
        for index in range(kind._length_):
            if issubclass(kind._type_, (ct.Structure, ct.Union, ct.Array)):
                _fill(target[index], kind._type_, words)
            else:
                target[index] = _scalar(kind._type_, next(words))
        _expect(words, b"]")
    else:
        target.value = _scalar(kind, next(words))


def _is_text(kind: Any) -> bool:
    return issubclass(kind, ct.Array) and kind._type_ is ct.c_char


def _scalar(kind: Any, word: bytes) -> Any:
    if _is_text(kind):
        if word[:1] != b'"':
            raise ValueError
        return word[1:]
    if kind in (ct.c_float, ct.c_double):
        return float(word)
    number = int(word, 0)
    return bytes([number & 0xFF]) if kind is ct.c_char else number


def _expect(words: Any, mark: bytes) -> None:
    if next(words) != mark:
        raise ValueError
