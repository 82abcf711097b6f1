"""How a function of C is run: decided per attachment (``languages.c.compile``), and kept in the cache apart from the text (``bcc``)."""

from __future__ import annotations

from ..base.record import Record
from ..formats.spec import AttachSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Context",)


class Context(Record):
    """How a program will run: what ``languages.c.compile.context_of`` makes of a plan, or what network programs and the like need.

    ``type`` and ``expected_attach_type`` are BPF_PROG_TYPE_* and BPF_* numbers; ``context`` as in ``ir.Program``, or any other
    word ("skb", "xdp") where the context is simply handed on; ``returns``: the program runs where the traced function returns.
    """

    type: int
    context: str
    attach: tuple[AttachSpec, ...] = ()
    expected_attach_type: int = 0
    attach_function: str = ""
    arity: int = -1
    flags: int = 0
    returns: bool = False

    @property
    def code(self) -> tuple[Any, ...]:
        """What decides about the instructions: all but the places, of which it only matters whether they are in user space."""
        user = any(["uprobe" in place.mechanism for place in self.attach])
        return user, self.type, self.context, self.expected_attach_type, self.attach_function, self.arity, self.flags, self.returns

    def to_plain(self) -> tuple[Any, ...]:
        return (self.type, self.context, tuple([(a.probe, a.mechanism, a.target) for a in self.attach]), *self.code[3:])

    @staticmethod
    def from_plain(plain: tuple[Any, ...]) -> Context:
        kind, context, attach, *rest = plain
        return Context(kind, context, tuple([AttachSpec(*place) for place in attach]), *rest)
