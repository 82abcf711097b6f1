"""The tables of built-ins: every row is whole, and every built-in can be used or says why not."""

from __future__ import annotations

import sys

import pytest

sys.path.insert(0, __file__.rsplit("/", 1)[0])

from language_machine import problems, unit  # noqa: E402

from harken.compiler.builtins import functions, values  # noqa: E402
from harken.languages.bpftrace.check import Checker  # noqa: E402
from harken.languages.bpftrace.forms import AGGREGATIONS, FORMS  # noqa: E402
from harken.languages.bpftrace.lower import Lowerer  # noqa: E402

#: One use of each function that is not an aggregation or a form.
USES = {
    "str": "str(0)",
    "strncmp": 'strncmp("a", "b", 1)',
    "strlen": 'strlen("a")',
    "strcontains": 'strcontains("a", "b")',
    "buf": "buf(0, 4)",
    "ksym": "ksym(0)",
    "usym": "usym(0)",
    "ntop": "ntop(0)",
    "macaddr": "macaddr((uint8[6])buf(0, 6))",
    "bswap": "bswap(1)",
    "strftime": 'strftime("%H", nsecs)',
    "kptr": "kptr(0)",
    "uptr": "uptr(0)",
}
ELSEWHERE = {"retval", "func", "kaddr", "uaddr", "reg", "cpid"}


@pytest.mark.parametrize("row", [*values.VALUES.values(), *functions.FUNCTIONS.values()], ids=lambda row: row.name)
def test_row(row: object) -> None:
    name = row.name  # type: ignore[attr-defined]
    assert row.doc and row.signature.startswith(name)  # type: ignore[attr-defined]
    if name in ELSEWHERE:
        return
    unsafe = row.unsafe  # type: ignore[attr-defined]
    text = USES.get(name, name if name in values.VALUES else f"{name}(1)")
    if unsafe:
        assert "unsafe" in problems(f"BEGIN {{ {text}; }}")[0].message
        return
    try:
        assert unit(f"BEGIN {{ print({text}); }}").events
    except Exception as error:
        assert "not yet available" in str(error) and error.hint  # type: ignore[attr-defined]


def test_forms_have_checks_and_lowering() -> None:
    for name in FORMS:
        assert hasattr(Checker, "form_" + name) and hasattr(Lowerer, "form_" + name), name


def test_names_are_unique() -> None:
    assert not set(FORMS) & set(functions.FUNCTIONS) and not set(AGGREGATIONS) & (set(FORMS) | set(functions.FUNCTIONS))


@pytest.mark.parametrize("number", [0, 5])
def test_positional_arguments(number: int) -> None:
    row = values.find(f"arg{number}")
    assert row is not None and row.name == f"arg{number}"
    assert values.find("argx") is None and values.find("arg") is None
