"""What the names of a C program stand for: variables, parameters, functions, tables.

Unlike the nodes of the ``tree`` they are compared by identity: two variables of one name and type in two scopes are two variables.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...base.ctype import CType, Func
    from ...base.diagnostics import Span
    from .tree import Compound, Expr

__all__ = ("Declaration", "Function", "Parameter", "Table", "Variable")


class Declaration:
    """Something with a name; ``type`` is its C type."""

    __slots__ = ("name", "span", "type")
    name: str
    type: CType
    span: Span | None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.type.declare(self.name)}>"


class Variable(Declaration):
    """A variable.  ``storage`` is "local" (automatic), "static" (function scope or file scope with ``static``), "global", or "extern"
    (a variable of the kernel).  ``const``: declared const at the top level."""

    __slots__ = ("const", "init", "storage")

    def __init__(
        self, name: str, type: CType, span: Span | None = None, init: Expr | None = None, storage: str = "local", const: bool = False
    ) -> None:
        self.name, self.type, self.span, self.init, self.storage, self.const = name, type, span, init, storage, const


class Parameter(Declaration):
    """A parameter; arrays and functions have decayed to pointers."""

    __slots__ = ("index",)

    def __init__(self, name: str, type: CType, span: Span | None = None, index: int = 0) -> None:
        self.name, self.type, self.span, self.index = name, type, span, index


class Function(Declaration):
    """A function.

    ``kind``: "user" (defined in the program; ``body`` is set), "helper" (a BPF helper; the name is without ``bpf_``), "builtin"
    (``__builtin_memcpy``, ``__sync_fetch_and_add``, ...: name as written), "dialect" (BCC's own: ``bpf_usdt_readarg``,
    ``bpf_num_cpus``, ...: name as written), "undefined" (declared only).
    ``attributes`` are the texts of ``annotate`` and "noinline", "always_inline", "section:...".
    """

    __slots__ = ("attributes", "body", "inline", "kind", "params", "static")
    type: Func

    def __init__(
        self,
        name: str,
        type: Func,
        span: Span | None = None,
        params: tuple[Parameter, ...] = (),
        static: bool = False,
        inline: bool = False,
        kind: str = "user",
        attributes: frozenset[str] = frozenset(),
    ) -> None:
        self.name, self.type, self.span, self.params, self.kind = name, type, span, params, kind
        self.static, self.inline, self.attributes = static, inline, attributes
        self.body: Compound | None = None


class Table(Declaration):
    """A map, declared by one of the ``BPF_...`` macros.

    ``kind`` is BCC's name of its type ("hash", "percpu_array", "perf_output", "stacktrace", ...), ``key`` and ``value`` are the C
    types (None where the map has none), ``event`` the type of what the program submits through it, ``inner`` the name of the template
    of a map of maps, ``pinned`` a path under bpffs, ``scope`` "" (of this program), "public", "shared" or "extern".
    """

    __slots__ = ("event", "flags", "inner", "key", "kind", "max_entries", "pinned", "scope", "value")

    def __init__(
        self,
        name: str,
        type: CType,
        span: Span | None = None,
        kind: str = "hash",
        key: CType | None = None,
        value: CType | None = None,
        max_entries: int = 0,
        flags: int = 0,
        inner: str = "",
        pinned: str = "",
        scope: str = "",
    ) -> None:
        self.name, self.type, self.span, self.kind, self.key, self.value = name, type, span, kind, key, value
        self.max_entries, self.flags, self.inner, self.pinned, self.scope = max_entries, flags, inner, pinned, scope
        self.event: CType | None = None
