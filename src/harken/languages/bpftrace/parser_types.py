"""Written types."""

from __future__ import annotations

from ...base.diagnostics import nearest
from . import ast as A
from .lexer import fail
from .parser_tokens import Tokens

__all__ = (
    "Types",
    "TYPE_NAMES",
    "KEYWORDS",
)

TYPE_NAMES = frozenset(
    "bool char int8 int16 int32 int64 uint8 uint16 uint32 uint64 int uint void string buffer inet mac_address timestamp "
    "ksym_t usym_t kstack_t ustack_t username cgroup_path_t macaddr_t strerror_t "
    "count_t sum_t min_t max_t avg_t stats_t hist_t lhist_t tseries_t".split()
)
KEYWORDS = frozenset(
    "break comptime config continue else fn for if import let macro offsetof return sizeof typeof typeinfo unroll while".split()
)
_MAX_TYPE_DEPTH = 8


class Types(Tokens):
    """Types as in casts and declarations."""

    # -- types
    def type_name(self) -> A.TypeName:
        kind = self.try_type()
        if kind is None:
            known = nearest(self.token.text, TYPE_NAMES) if self.token.kind == "word" else []
            fail(
                f"syntax: expected a type, found '{self.token.text}'",
                self.here(),
                f"did you mean {known[0]}?" if known else "types look like uint32, string, struct task_struct * or uint8[16]",
            )
        return kind

    def try_type(self, depth: int = 0) -> A.TypeName | None:
        """A type if there is one here; the position is undefined when there is none."""
        if depth > _MAX_TYPE_DEPTH:
            return None
        start = self.token.start
        parts: tuple[A.TypeName, ...] = ()
        if self.at("("):
            self.advance()
            inner = []
            while not self.at(")"):
                one = self.try_type(depth + 1)
                if one is None:
                    return None
                inner.append(one)
                if not self.accept(","):
                    break
            if not self.at(")") or not inner:
                return None
            self.advance()
            name, parts = "tuple", tuple(inner)
        elif self.token.kind == "word" and self.token.text not in KEYWORDS:
            name = self.advance().text
            if name in ("struct", "union", "enum"):
                if self.token.kind != "word":
                    return None
                name += " " + self.advance().text
            elif name in ("unsigned", "signed", "long", "short", "char", "int"):
                words = [name]
                while self.token.kind == "word" and self.token.text in ("unsigned", "signed", "long", "short", "char", "int"):
                    words.append(self.advance().text)
                name = _c_integer(words)
            elif name == "const" and self.token.kind == "word":
                return self.try_type(depth + 1)
        else:
            return None
        stars = 0
        dims: list[int | None] = []
        while True:
            if self.at("*") and not dims:
                self.advance()
                stars += 1
            elif self.at("["):
                self.advance()
                if self.token.kind == "int":
                    dims.append(self.advance().value)
                else:
                    dims.append(None)
                if not self.at("]"):
                    return None
                self.advance()
            else:
                break
        return A.TypeName(self.from_(start), name, stars, tuple(dims), parts)


def _c_integer(words: list[str]) -> str:
    """``unsigned long long`` as a sized type."""
    if words in (["int"], ["char"]):
        return words[0]
    sign = "u" if "unsigned" in words else ""
    bits = 8 if "char" in words else 16 if "short" in words else 64 if "long" in words else 32
    return f"{sign}int{bits}"
