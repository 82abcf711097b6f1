"""One C function to IR.

``Lowerer`` is put together from layers, each of which builds on those before it: ``lower_memory`` (objects, conversions),
``lower_arithmetic``, ``lower_conditions``, ``lower_expressions``, ``lower_statements``, ``lower_builtins`` (calls that need no kernel),
``lower_methods`` and ``lower_calls`` (BCC's map methods and helpers).  A function's parameters are those of C; what makes a program of it
(the context, a probe's arguments) is put round it by ``compile.program``.
"""

from __future__ import annotations

from ...compiler.ir import I64, NONE, Const, Param, Type, verify
from .lower_calls import CallCode
from .lower_memory import Place, Result, is_aggregate, is_wide

__all__ = ("Lowerer",)


class Lowerer(CallCode):
    """Builds the code of one function."""

    def build(self, params: list[Param]) -> None:
        """Lowers the body; ``params`` are those of the IR that stand for the function's own."""
        function, b = self.function, self.b
        self.prepare()
        b.span = function.span
        for parameter, given in zip(function.params, params):
            kind = parameter.type
            if is_aggregate(kind) or is_wide(kind):
                self.places[parameter] = Place(given, kind)
            else:
                place = self.places[parameter] = self.new_place(kind, parameter.name)
                b.store(place.pointer, given)
        assert function.body is not None
        self.statement(function.body)
        if not b.ended:
            b.ret(Const(0, self._result()))
        verify(self.code.function)

    def _result(self) -> Type:
        kind = self.code.function.result
        return I64 if kind is NONE or kind.pointer else kind

    def leave(self, value: Result | None) -> None:
        b, function = self.b, self.function
        result = function.type.returns
        if value is None or not result.size:
            b.ret(Const(0, self._result()))
        elif is_aggregate(result) or is_wide(result):
            self.store(Place(self.code.function.params[0], result), value)
            b.ret(Const(0))
        else:
            b.ret(self.value(value))
