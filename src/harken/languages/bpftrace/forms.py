"""Forms that belong to the language's own syntax: actions, operations on maps, aggregations.

Their checks are in ``check`` (``_form_NAME``), their lowering in ``lower``; this table gives signatures, counts of arguments and
documentation, and is what "did you mean" looks through.
"""

from __future__ import annotations

from ...base.record import Record

__all__ = ("Form", "FORMS", "AGGREGATIONS")


class Form(Record):
    """``least``/``most`` bound the number of arguments (-1: any); ``unsafe`` needs the ``--unsafe`` option."""

    name: str
    signature: str
    doc: str
    least: int
    most: int
    unsafe: bool = False


_ROWS = (
    Form("printf", "printf(format, ...)", "Prints like C's printf.", 1, -1),
    Form("print", "print(@map[, top[, div]]) | print(value)", "Prints a map or a value.", 1, 3),
    Form("clear", "clear(@map)", "Deletes all keys of a map.", 1, 1),
    Form("zero", "zero(@map)", "Sets all values of a map to zero.", 1, 1),
    Form("delete", "delete(@map, key)", "Deletes one key.", 1, 2),
    Form("has_key", "has_key(@map, key)", "Whether a map has a key.", 2, 2),
    Form("len", "len(@map)", "Number of keys of a map.", 1, 1),
    Form("exit", "exit([code])", "Ends tracing.", 0, 1),
    Form("time", "time([format])", "Prints the time of day.", 0, 1),
    Form("join", "join(array[, separator])", "Prints an array of strings (an argv).", 1, 2),
    Form("cat", "cat(format, ...)", "Prints a file.", 1, -1),
    Form("system", "system(format, ...)", "Runs a command.", 1, -1, unsafe=True),
    Form("errorf", "errorf(format, ...)", "Prints like printf, marked as an error.", 1, -1),
    Form("warnf", "warnf(format, ...)", "Prints like printf, marked as a warning.", 1, -1),
    Form("static_assert", "static_assert(condition, message)", "Stops the compilation unless a condition holds.", 1, 2),
)

FORMS: dict[str, Form] = {row.name: row for row in _ROWS}

#: name -> (least, most) arguments
AGGREGATIONS: dict[str, tuple[int, int]] = {
    "count": (0, 0),
    "sum": (1, 1),
    "min": (1, 1),
    "max": (1, 1),
    "avg": (1, 1),
    "stats": (1, 1),
    "hist": (1, 2),
    "lhist": (4, 4),
}
