"""The part of libclang's C interface that reading a program needs, by ctypes.

libclang comes from PyPI as one wheel (``libclang-ng``, or ``libclang``): the library alone, no compiler, no headers.  Its own Python
binding is not used: importing it costs as much as parsing a program does, and it lacks what is asked here most (kinds of unary
operators, evaluation of constants).  The C interface is stable; the numbers below are those of ``clang-c/Index.h``.

Everything here belongs to one ``Parsed`` and is valid as long as that is alive.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_char_p, c_uint, c_void_p

from ...base.errors import HarkenError, UsageError
from ...base.record import Record
from .libclang_abi import FIELD_VISITOR, INCLUSION_VISITOR, NEWER, PROTOTYPES, VISITOR, Cursor, File, String, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ("Cursor", "Type", "Note", "Parsed", "library", "parse", "version")

# enum CXCursorKind
STRUCT_DECL, UNION_DECL, ENUM_DECL, FIELD_DECL, ENUM_CONSTANT, FUNCTION_DECL, VAR_DECL, PARM_DECL, TYPEDEF_DECL = (
    2,
    3,
    5,
    6,
    7,
    8,
    9,
    10,
    20,
)
TYPE_REF, MEMBER_REF = 43, 47
INVALID_FIRST, INVALID_LAST = 70, 74
UNEXPOSED_EXPR, DECL_REF, MEMBER_EXPR, CALL, INTEGER, FLOATING, STRING, CHARACTER, PAREN = 100, 101, 102, 103, 106, 107, 109, 110, 111
UNARY, SUBSCRIPT, BINARY, COMPOUND_ASSIGN, CONDITIONAL, CAST, COMPOUND_LITERAL, INIT_LIST, ADDR_LABEL, STATEMENT_EXPR, GENERIC = range(
    112, 123
)
SIZEOF = 136
UNEXPOSED_STMT, LABEL, COMPOUND, CASE, DEFAULT, IF, SWITCH, WHILE, DO, FOR, GOTO, INDIRECT_GOTO, CONTINUE, BREAK, RETURN, ASM = range(
    200, 216
)
NULL_STMT, DECL_STMT = 230, 231
ATTRIBUTES = range(400, 500)
UNEXPOSED_ATTR, ANNOTATE, PACKED, ALIGNED = 400, 406, 408, 441

# enum CXTypeKind
T_VOID, T_BOOL, T_CHAR_U, T_UCHAR, T_CHAR16, T_CHAR32, T_USHORT, T_UINT, T_ULONG, T_ULONGLONG, T_UINT128 = range(2, 13)
T_CHAR_S, T_SCHAR, T_WCHAR, T_SHORT, T_INT, T_LONG, T_LONGLONG, T_INT128, T_FLOAT, T_DOUBLE, T_LONGDOUBLE = range(13, 24)
T_POINTER, T_RECORD, T_ENUM, T_TYPEDEF, T_FUNCTION_NO_PROTO, T_FUNCTION, T_CONSTANT_ARRAY, T_INCOMPLETE_ARRAY, T_VARIABLE_ARRAY = (
    101, 105, 106, 107, 110, 111, 112, 114, 115,
)  # fmt: skip

#: until LLVM 21: a type with its keyword or as it was written
T_ELABORATED = 119

#: enum CXBinaryOperatorKind, and the same list ordered as enum CX_BinaryOperatorKind
BINARY_OPERATORS = (
    "", ".*", "->*", "*", "/", "%", "+", "-", "<<", ">>", "<=>", "<", ">", "<=", ">=", "==", "!=", "&", "^", "|", "&&", "||",
    "=", "*=", "/=", "%=", "+=", "-=", "<<=", ">>=", "&=", "^=", "|=", ",",
)  # fmt: skip
#: enum CXUnaryOperatorKind
UNARY_OPERATORS = ("", "x++", "x--", "++x", "--x", "&", "*", "+", "-", "~", "!", "__real", "__imag", "__extension__", "co_await")

_SEVERITIES = ("ignored", "note", "warning", "error", "fatal")
_KEEP_GOING = 0x200
_MOST_NOTES = 200


_library: Any = None


def library() -> Any:
    """The loaded library with its functions typed.

    Raises:
        UsageError: it is not installed, with what to install.
        HarkenError: it is there but cannot be loaded, or is older than LLVM 17.
    """
    global _library
    if _library is None:
        found = ctypes.CDLL(_path())
        for name, (result, arguments) in PROTOTYPES.items():
            try:
                function = getattr(found, name)
            except AttributeError:
                raise HarkenError(f"libclang lacks {name}: it is older than LLVM 17", "pip install -U libclang-ng") from None
            function.restype, function.argtypes = result, arguments
        for name, (result, arguments) in NEWER.items():
            function = getattr(found, name, None)
            if function is not None:
                function.restype, function.argtypes = result, arguments
        _library = found
    return _library


def _path() -> str:
    from importlib.util import find_spec

    spec = find_spec("clang")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = os.path.join(folder, "native", "libclang.so")
        if os.path.exists(path):
            return path
    raise UsageError("programs in C need libclang, which is not installed", "pip install 'harken[c]'")


def version() -> str:
    """What the library calls itself ("clang version 22.1.4")."""
    return text(library().clang_getClangVersion())


def operand(getter: Any, cursor: Cursor, number: int) -> tuple[str, Cursor]:
    """(constraint, expression) of an operand of inline assembly; ``getter`` is ``clang_Cursor_getGCCAssemblyOutput`` or ``...Input``."""
    constraint, expression = String(), Cursor()
    getter(cursor, number, byref(constraint), byref(expression))
    return text(constraint), expression


def text(string: String) -> str:
    """The text of a CXString, which is disposed of."""
    data = library().clang_getCString(string)
    result = data.decode("utf-8", "replace") if data is not None else ""
    library().clang_disposeString(string)
    return result


class Note(Record):
    """One diagnostic: ``severity`` is "note", "warning", "error" or "fatal"; ``file`` "" if it has no place; offsets are in bytes.

    ``expanded`` is the place of the outermost macro use when ``offset`` lies inside a macro's definition."""

    severity: str
    message: str
    file: str
    line: int
    offset: int
    end: int
    children: tuple[Note, ...] = ()
    expanded: tuple[str, int] = ("", 0)


class Parsed:
    """A parsed translation unit.

    Attributes:
        root: its cursor.
        notes: diagnostics, at most 200.
    """

    def __init__(self, index: int, unit: int) -> None:
        self._index, self._unit = index, unit
        self._lib = library()
        self._files: dict[int, str] = {}
        self.root: Cursor = self._lib.clang_getTranslationUnitCursor(unit)
        self._found: list[Cursor] = []
        self._visit = VISITOR(self._note_child)
        self._visit_field = FIELD_VISITOR(self._note_field)
        self._place = (c_void_p(), c_uint(), c_uint(), c_uint())
        self._places = tuple(byref(item) for item in self._place)
        count = min(self._lib.clang_getNumDiagnostics(unit), _MOST_NOTES)
        self.notes = tuple(self._note(self._lib.clang_getDiagnostic(unit, number)) for number in range(count))

    def close(self) -> None:
        if self._unit:
            self._lib.clang_disposeTranslationUnit(self._unit)
            self._lib.clang_disposeIndex(self._index)
            self._unit = 0

    def __enter__(self) -> Parsed:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def inclusions(self) -> list[str]:
        """The files that were read, the main one first."""
        found: list[str] = []
        self._lib.clang_getInclusions(self._unit, INCLUSION_VISITOR(lambda file, *_: found.append(self._file(file))), None)
        return found

    # -- the tree

    def _note_child(self, child: Cursor, _parent: Cursor, _data: int | None) -> int:
        self._found.append(child)
        return 1  # CXChildVisit_Continue

    def children(self, cursor: Cursor) -> list[Cursor]:
        """The cursors directly below."""
        found: list[Cursor] = []
        self._found = found
        self._lib.clang_visitChildren(cursor, self._visit, None)
        return found

    def _note_field(self, field: Cursor, _data: int | None) -> int:
        self._found.append(field)
        return 1

    def fields(self, kind: Type) -> list[Cursor]:
        """The fields of a struct or union, nameless ones too."""
        found: list[Cursor] = []
        self._found = found
        self._lib.clang_Type_visitFields(kind, self._visit_field, None)
        return found

    def spelling(self, cursor: Cursor) -> str:
        return text(self._lib.clang_getCursorSpelling(cursor))

    def type(self, cursor: Cursor) -> Type:
        return self._lib.clang_getCursorType(cursor)  # type: ignore[no-any-return]

    def referenced(self, cursor: Cursor) -> Cursor:
        return self._lib.clang_getCursorReferenced(cursor)  # type: ignore[no-any-return]

    def place(self, location: Any) -> tuple[str, int, int]:
        """(file, byte offset, line) of a location; macros count as the place where they are used."""
        self._lib.clang_getExpansionLocation(location, *self._places)
        file, line, _column, offset = self._place
        return self._file(file.value), offset.value, line.value

    def extent(self, cursor: Cursor) -> tuple[str, int, int]:
        """(file, first byte, byte after the last); of something inside a macro the macro's use."""
        lib = self._lib
        area = lib.clang_getCursorExtent(cursor)
        file, start, _line = self.place(lib.clang_getRangeStart(area))
        other, end, _line = self.place(lib.clang_getRangeEnd(area))
        return file, start, end if other == file and end >= start else start

    def in_macro(self, cursor: Cursor) -> bool:
        """Whether the cursor begins inside of a macro's text."""
        lib = self._lib
        start = lib.clang_getRangeStart(lib.clang_getCursorExtent(cursor))
        used = self.place(start)
        lib.clang_getFileLocation(start, *self._places)
        file, _line, _column, offset = self._place
        return (self._file(file.value), offset.value) != used[:2]

    def evaluate(self, cursor: Cursor) -> int | float | None:
        """The value of a constant expression, None if it is none."""
        lib = self._lib
        result = lib.clang_Cursor_Evaluate(cursor)
        if not result:
            return None
        value: int | float | None = None
        kind = lib.clang_EvalResult_getKind(result)
        if kind == 1:
            unsigned = lib.clang_EvalResult_isUnsignedInt(result)
            value = lib.clang_EvalResult_getAsUnsigned(result) if unsigned else lib.clang_EvalResult_getAsLongLong(result)
        elif kind == 2:
            value = lib.clang_EvalResult_getAsDouble(result)
        lib.clang_EvalResult_dispose(result)
        return value

    # -- diagnostics

    def _file(self, handle: int | None) -> str:
        if not handle:
            return ""
        name = self._files.get(handle)
        if name is None:
            name = self._files[handle] = text(self._lib.clang_getFileName(handle))
        return name

    def _note(self, handle: int, depth: int = 0) -> Note:
        lib = self._lib
        location = lib.clang_getDiagnosticLocation(handle)
        expanded, expanded_offset, _line = self.place(location)
        lib.clang_getFileLocation(location, *self._places)
        file, line, _column, place = self._place
        name, line_number, offset = self._file(file.value), line.value, place.value
        end = offset
        if lib.clang_getDiagnosticNumRanges(handle):
            area = lib.clang_getDiagnosticRange(handle, 0)
            start_file, start, _line = self.place(lib.clang_getRangeStart(area))
            end_file, stop, _line = self.place(lib.clang_getRangeEnd(area))
            if start_file == end_file == name and start <= offset <= stop:
                end = stop
        children: list[Note] = []
        if depth == 0:
            inner = lib.clang_getChildDiagnostics(handle)
            count = min(lib.clang_getNumDiagnosticsInSet(inner), 8) if inner else 0
            children = [self._note(lib.clang_getDiagnosticInSet(inner, number), 1) for number in range(count)]
        note = Note(
            _SEVERITIES[lib.clang_getDiagnosticSeverity(handle)],
            text(lib.clang_getDiagnosticSpelling(handle)),
            name,
            line_number,
            offset,
            end,
            tuple(children),
            (expanded, expanded_offset),
        )
        lib.clang_disposeDiagnostic(handle)
        return note


def parse(name: str, files: dict[str, bytes], arguments: Sequence[str]) -> Parsed:
    """Parses the file ``name``.

    Args:
        files: contents by path; what is not in it is read from disk.
        arguments: of clang's command line ("-DX=1").

    Raises:
        UsageError: libclang is not installed.
        HarkenError: libclang itself failed.
    """
    lib = library()
    index = lib.clang_createIndex(0, 0)
    unsaved = (File * max(1, len(files)))()
    for slot, (path, contents) in zip(unsaved, files.items()):
        slot.name, slot.contents, slot.length = os.fsencode(path), contents, len(contents)
    words = [os.fsencode(word) for word in arguments]
    array = (c_char_p * max(1, len(words)))(*words)
    unit = c_void_p()
    status = lib.clang_parseTranslationUnit2(
        index, os.fsencode(name), array, len(words), unsaved, len(files), _KEEP_GOING, byref(unit)
    )  # fmt: skip
    if status or not unit.value:
        lib.clang_disposeIndex(index)
        reason = {1: "it failed", 2: "it crashed", 3: "the arguments are wrong"}.get(status, f"it failed ({status})")
        raise HarkenError(f"libclang cannot read {name}: {reason}")
    return Parsed(index, unit.value)
