"""C's binary operators, by how tightly they bind: what parsers of C-like expressions climb by."""

__all__ = ("BINARY_LEVELS",)

#: Operator -> level; a higher one binds tighter, equal ones group to the left.
BINARY_LEVELS: dict[str, int] = {
    "||": 1,
    "&&": 2,
    "|": 3,
    "^": 4,
    "&": 5,
    "==": 6,
    "!=": 6,
    "<": 7,
    ">": 7,
    "<=": 7,
    ">=": 7,
    "<<": 8,
    ">>": 8,
    "+": 9,
    "-": 9,
    "*": 10,
    "/": 10,
    "%": 10,
}
