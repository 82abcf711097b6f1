"""libtraceevent's reading of C expressions, which is not C's.

Operators of equal precedence group to the right (``a - b + 1`` is ``a - (b + 1)``), parentheses on the right do not hold an operator of
lower precedence (``a & (b | c)`` is ``(a & b) | c``), and what follows the last part of a ``?:`` belongs to the whole of it.  Real
formats contain such expressions (timer_start, mm_page_alloc_extfrag, raid56_write), so a report that shall equal trace-cmd's has to make
the same trees: ``process_op`` in libtraceevent's event-parse.c.

Example:
    >>> parse('"%d", REC->a - REC->b + 1')[1]
    [('binary', '-', ('field', 'a'), ('binary', '+', ('field', 'b'), ('num', 1, 4, True)))]
    >>> parse('"%d", REC->a & (REC->b | 4)')[1]
    [('binary', '|', ('binary', '&', ('field', 'a'), ('field', 'b')), ('num', 4, 4, True))]
"""

from __future__ import annotations

from .print_fmt_parse import Parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .print_fmt_parse import Tree

__all__ = ("parse",)

_PRIORITY = {"~": 4, "!": 4, "*": 6, "/": 6, "%": 6, "+": 7, "-": 7, "<<": 8, ">>": 8, "<": 9, ">": 9, "<=": 9, ">=": 9}
_PRIORITY |= {"==": 10, "!=": 10, "&": 11, "^": 12, "|": 13, "&&": 14, "||": 15, "?": 16}
_BINARY = frozenset(_PRIORITY) - {"~", "!", "?"}
_NOTHING: Tree = ("num", 0, 8, False)


class _Node:
    """An argument that may still become part of another one: a leaf (``tree``), or an operator with its sides."""

    __slots__ = ("left", "operator", "other", "priority", "right", "tree")

    def __init__(self, tree: Tree | None = None) -> None:
        self.tree = tree
        self.operator = ""
        self.priority = 0
        self.left: _Node | None = None
        self.right: _Node | None = None
        self.other: _Node | None = None  # of "?:": what follows the colon

    def copy(self) -> _Node:
        made = _Node()
        made.take(self)
        return made

    def take(self, other: _Node) -> None:
        self.tree, self.operator, self.priority = other.tree, other.operator, other.priority
        self.left, self.right, self.other = other.left, other.right, other.other

    def finished(self) -> Tree:
        if self.tree is not None:
            return self.tree
        right = self.right.finished() if self.right else _NOTHING
        if self.operator == "?":
            other = self.other.finished() if self.other else _NOTHING
            return ("cond", self.left.finished() if self.left else _NOTHING, right, other)
        if self.left is None:
            return ("unary", self.operator, right)
        return ("binary", self.operator, self.left.finished(), right)


class _TepParser(Parser):
    def conditional(self) -> Tree:
        self.enter()
        node = self.operand()
        while self.kind == "op" and self.text in _PRIORITY:
            self.process(node)
        self.depth -= 1
        return node.finished()

    def operand(self) -> _Node:
        """``process_arg_token``: a sign takes what follows it with all its operators."""
        self.enter()
        if self.kind == "op" and self.text in ("~", "!", "+", "-"):
            node = _Node()
            node.operator = self.next()
            node.right = self.operand()
            self.more(node, None)
        elif self.at("("):
            words = self.type_in_parentheses()
            if words:
                node = _Node(("cast", words, self.operand().finished()))
            elif self.peek() == ("op", "{") or (self.peek() == ("name", "REC") and self.peek(2) == ("op", ")")):
                node = _Node(self.postfix())
            else:
                node = self.parentheses()
        elif self.kind == "op" and self.text in ("&", "*"):
            node = _Node(("unary", self.next(), self.operand().finished()))
        else:
            node = _Node(self.postfix())
        self.depth -= 1
        return node

    def parentheses(self) -> _Node:
        """What is in parentheses stays open to operators outside, unless something is done with it."""
        start = self.place
        self.next()
        node = self.operand()
        while self.kind == "op" and self.text in _PRIORITY:
            self.process(node)
        self.expect(")")
        if self.at("[") or self.at("->") or self.at("."):
            self.go_to(start)
            return _Node(self.postfix())
        return node

    def process(self, node: _Node) -> None:
        """``process_op``: makes ``node`` the left side of the operator here and reads the right side."""
        self.enter()
        operator = self.next()
        left = node.copy()
        made = _Node()
        made.operator, made.left = operator, left
        right: _Node | None = None
        if operator == "?":
            then = self.operand()
            while self.kind == "op" and self.text in _PRIORITY:
                self.process(then)
            self.expect(":")
            made.right, made.other = then, self.operand()
            node.take(made)
        elif operator not in _BINARY:
            self.fail(f"operator {operator} between two values")
        else:
            made.priority = _PRIORITY[operator]
            right = self.operand()
            made.right = right
            if right.tree is None and _PRIORITY[operator] < _PRIORITY[right.operator]:
                outer = right.copy()
                made.right = right.left or _Node(_NOTHING)
                right.take(made)
                outer.left = right
                node.take(outer)
            else:
                node.take(made)
        self.more(node, right)
        self.depth -= 1

    def more(self, node: _Node, right: _Node | None) -> None:
        """The end of ``process_op``: a following operator takes the whole, or what is right of the last one."""
        if self.kind == "op" and self.text in _PRIORITY:
            self.process(node if right is None or _PRIORITY[self.text] > node.priority else right)


def parse(text: str) -> tuple[str, list[Tree]]:
    """As ``print_fmt_parse.parse``, with libtraceevent's trees."""
    return _TepParser(text).whole()
