"""Structs and functions of libclang's C interface (``clang-c/Index.h``), which is stable across its versions."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_longlong, c_uint, c_ulong, c_ulonglong, c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Cursor", "Type", "String", "Location", "Range", "File", "VISITOR", "FIELD_VISITOR", "INCLUSION_VISITOR", "PROTOTYPES", "NEWER")


class Cursor(ctypes.Structure):
    """CXCursor: a node of clang's tree.  Of a declaration ``data0`` is the declaration itself, so it identifies it."""

    _fields_ = (("kind", c_int), ("xdata", c_int), ("data0", c_void_p), ("data1", c_void_p), ("data2", c_void_p))
    kind: int
    data0: int | None


class Type(ctypes.Structure):
    """CXType; ``data0`` identifies the type with its qualifiers and typedefs."""

    _fields_ = (("kind", c_int), ("data0", c_void_p), ("data1", c_void_p))
    kind: int
    data0: int | None


class String(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("flags", c_uint))


class Location(ctypes.Structure):
    _fields_ = (("data0", c_void_p), ("data1", c_void_p), ("offset", c_uint))


class Range(ctypes.Structure):
    _fields_ = (("data0", c_void_p), ("data1", c_void_p), ("begin", c_uint), ("end", c_uint))


class File(ctypes.Structure):
    _fields_ = (("name", c_char_p), ("contents", c_char_p), ("length", c_ulong))


VISITOR = ctypes.CFUNCTYPE(c_int, Cursor, Cursor, c_void_p)
FIELD_VISITOR = ctypes.CFUNCTYPE(c_int, Cursor, c_void_p)
INCLUSION_VISITOR = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_uint, c_void_p)

#: function -> (result, arguments)
PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "clang_createIndex": (c_void_p, (c_int, c_int)),
    "clang_disposeIndex": (None, (c_void_p,)),
    "clang_parseTranslationUnit2": (
        c_int, (c_void_p, c_char_p, POINTER(c_char_p), c_int, POINTER(File), c_uint, c_uint, POINTER(c_void_p)),
    ),
    "clang_disposeTranslationUnit": (None, (c_void_p,)),
    "clang_getInclusions": (None, (c_void_p, INCLUSION_VISITOR, c_void_p)),
    "clang_getTranslationUnitCursor": (Cursor, (c_void_p,)),
    "clang_visitChildren": (c_uint, (Cursor, VISITOR, c_void_p)),
    "clang_Type_visitFields": (c_uint, (Type, FIELD_VISITOR, c_void_p)),
    "clang_getCString": (c_char_p, (String,)),
    "clang_disposeString": (None, (String,)),
    "clang_getClangVersion": (String, ()),
    "clang_getCursorSpelling": (String, (Cursor,)),
    "clang_getCursorReferenced": (Cursor, (Cursor,)),
    "clang_getCursorType": (Type, (Cursor,)),
    "clang_getCursorExtent": (Range, (Cursor,)),
    "clang_getCursorLocation": (Location, (Cursor,)),
    "clang_getCanonicalCursor": (Cursor, (Cursor,)),
    "clang_getCursorDefinition": (Cursor, (Cursor,)),
    "clang_isCursorDefinition": (c_uint, (Cursor,)),
    "clang_getCursorBinaryOperatorKind": (c_int, (Cursor,)),
    "clang_getCursorUnaryOperatorKind": (c_int, (Cursor,)),
    "clang_Cursor_Evaluate": (c_void_p, (Cursor,)),
    "clang_EvalResult_getKind": (c_int, (c_void_p,)),
    "clang_EvalResult_isUnsignedInt": (c_uint, (c_void_p,)),
    "clang_EvalResult_getAsLongLong": (c_longlong, (c_void_p,)),
    "clang_EvalResult_getAsUnsigned": (c_ulonglong, (c_void_p,)),
    "clang_EvalResult_getAsDouble": (ctypes.c_double, (c_void_p,)),
    "clang_EvalResult_dispose": (None, (c_void_p,)),
    "clang_Cursor_getVarDeclInitializer": (Cursor, (Cursor,)),
    "clang_Cursor_getStorageClass": (c_int, (Cursor,)),
    "clang_Cursor_getNumArguments": (c_int, (Cursor,)),
    "clang_Cursor_getArgument": (Cursor, (Cursor, c_uint)),
    "clang_Cursor_isAnonymous": (c_uint, (Cursor,)),
    "clang_Cursor_isAnonymousRecordDecl": (c_uint, (Cursor,)),
    "clang_Cursor_isFunctionInlined": (c_uint, (Cursor,)),
    "clang_Cursor_getOffsetOfField": (c_longlong, (Cursor,)),
    "clang_Cursor_isBitField": (c_uint, (Cursor,)),
    "clang_getFieldDeclBitWidth": (c_int, (Cursor,)),
    "clang_getEnumConstantDeclValue": (c_longlong, (Cursor,)),
    "clang_getEnumDeclIntegerType": (Type, (Cursor,)),
    "clang_getTypedefDeclUnderlyingType": (Type, (Cursor,)),
    "clang_getCanonicalType": (Type, (Type,)),
    "clang_getPointeeType": (Type, (Type,)),
    "clang_getTypeDeclaration": (Cursor, (Type,)),
    "clang_getTypeSpelling": (String, (Type,)),
    "clang_getTypedefName": (String, (Type,)),
    "clang_Type_getNamedType": (Type, (Type,)),
    "clang_getArrayElementType": (Type, (Type,)),
    "clang_getArraySize": (c_longlong, (Type,)),
    "clang_getResultType": (Type, (Type,)),
    "clang_getNumArgTypes": (c_int, (Type,)),
    "clang_getArgType": (Type, (Type, c_uint)),
    "clang_isFunctionTypeVariadic": (c_uint, (Type,)),
    "clang_isConstQualifiedType": (c_uint, (Type,)),
    "clang_Type_getSizeOf": (c_longlong, (Type,)),
    "clang_Type_getAlignOf": (c_longlong, (Type,)),
    "clang_getRangeStart": (Location, (Range,)),
    "clang_getRangeEnd": (Location, (Range,)),
    "clang_getExpansionLocation": (None, (Location, POINTER(c_void_p), POINTER(c_uint), POINTER(c_uint), POINTER(c_uint))),
    "clang_getFileLocation": (None, (Location, POINTER(c_void_p), POINTER(c_uint), POINTER(c_uint), POINTER(c_uint))),
    "clang_getFileName": (String, (c_void_p,)),
    "clang_getNumDiagnostics": (c_uint, (c_void_p,)),
    "clang_getDiagnostic": (c_void_p, (c_void_p, c_uint)),
    "clang_disposeDiagnostic": (None, (c_void_p,)),
    "clang_getDiagnosticSeverity": (c_int, (c_void_p,)),
    "clang_getDiagnosticSpelling": (String, (c_void_p,)),
    "clang_getDiagnosticOption": (String, (c_void_p, POINTER(String))),
    "clang_getDiagnosticLocation": (Location, (c_void_p,)),
    "clang_getDiagnosticNumRanges": (c_uint, (c_void_p,)),
    "clang_getDiagnosticRange": (Range, (c_void_p, c_uint)),
    "clang_getChildDiagnostics": (c_void_p, (c_void_p,)),
    "clang_getNumDiagnosticsInSet": (c_uint, (c_void_p,)),
    "clang_getDiagnosticInSet": (c_void_p, (c_void_p, c_uint)),
}  # fmt: skip
#: of LLVM 21 and later only
NEWER: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "clang_Cursor_getGCCAssemblyTemplate": (String, (Cursor,)),
    "clang_Cursor_isGCCAssemblyVolatile": (c_uint, (Cursor,)),
    "clang_Cursor_isGCCAssemblyHasGoto": (c_uint, (Cursor,)),
    "clang_Cursor_getGCCAssemblyNumOutputs": (c_uint, (Cursor,)),
    "clang_Cursor_getGCCAssemblyNumInputs": (c_uint, (Cursor,)),
    "clang_Cursor_getGCCAssemblyNumClobbers": (c_uint, (Cursor,)),
    "clang_Cursor_getGCCAssemblyOutput": (c_uint, (Cursor, c_uint, POINTER(String), POINTER(Cursor))),
    "clang_Cursor_getGCCAssemblyInput": (c_uint, (Cursor, c_uint, POINTER(String), POINTER(Cursor))),
    "clang_Cursor_getGCCAssemblyClobber": (String, (Cursor, c_uint)),
}
