"""One built-in is one record: its signature, its check, its lowering and its documentation.

``values`` holds those that are written as bare words (pid, comm, args), ``functions`` those that are called (str, ntop).  Both are
shared by all front ends; forms that need a language's own syntax (``printf``, ``@x = count()``) live with that language but
use the same record.
"""

from __future__ import annotations

from ...base.record import Record
from .types import Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from ...base.diagnostics import Span
    from ...probes.model import View
    from .code import Code, Val

    class Scope(Protocol):
        """What a check may ask about the place where a built-in is used."""

        catalogue: Any
        #: names that ``reg()`` knows
        registers: tuple[str, ...]

        @property
        def view(self) -> View: ...
        @property
        def kind(self) -> str: ...
        @property
        def context(self) -> str: ...
        @property
        def max_strlen(self) -> int: ...
        @property
        def stack_mode(self) -> str: ...
        @property
        def user_stack_bytes(self) -> int: ...
        def texts(self, what: str) -> tuple[str, ...]: ...
        @property
        def probed(self) -> tuple[str, int]: ...

        def error(self, message: str, span: Span, hint: str = "") -> None: ...
        def warn(self, message: str, span: Span, hint: str = "") -> None: ...
        def use(self, what: str) -> None: ...


__all__ = ("Argument", "Builtin")


class Argument(Record):
    """One argument at check time: its type, where it stands, its value if it is a literal."""

    type: Type
    span: Span
    value: int | str | None = None


class Builtin(Record):
    """One built-in.

    ``check(scope, arguments, span)`` reports problems to the scope and returns the result's type; ``lower(code, type,
    values, arguments, site)`` builds it: ``site`` is the language's own object that knows the probe at hand.
    ``least``/``most`` bound the number of arguments (``most`` -1: any).  ``uses`` are the planner's words for what depends on the
    single probe ("args", "func", "probe", "retval").  ``words`` are bare words that may be arguments (``kstack(perf)``): they reach
    ``check`` as the text that they are and are never evaluated.
    """

    name: str
    signature: str
    doc: str
    check: Callable[[Scope, tuple[Argument, ...], Span], Type]
    lower: Callable[[Code, Type, list[Val], tuple[Argument, ...], Any], Val]
    least: int = 0
    most: int = 0
    uses: tuple[str, ...] = ()
    unsafe: bool = False
    aliases: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
