"""symbols.demangle: what the library reads, what is kept, what happens without it."""

from __future__ import annotations

import builtins

import pytest

from harken.symbols import demangle as module
from harken.symbols.demangle import available, demangle, save, without_parameters

PUSH = "_ZNSt6vectorIiSaIiEE9push_backERKi"
needs_library = pytest.mark.skipif(not available(), reason="the library demangle is not installed")


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("HARKEN_CACHE", str(tmp_path))
    for name, value in (("_cache", {}), ("_looked", False), ("_new", 0)):
        monkeypatch.setattr(module, name, value)


@needs_library
@pytest.mark.parametrize(
    ("symbol", "text"),
    [
        (PUSH, "std::vector<int, std::allocator<int>>::push_back(int const&)"),
        ("_Z3foov@plt", "foo()@plt"),
        ("_ZN3foo3barEi.cold", "foo::bar(int) (.cold)"),
        ("_ZN4core3ptr13drop_in_place17h9b2b3a0e5b4d1b31E", "core::ptr::drop_in_place"),
        ("_RNvXs1g_NtCs8NwYtU1Mohg_4core3fmtRNtNtCsbEht8wFNRx7_5alloc6string6StringNtB6_5Debug3fmtCsh2dHm0eaZts_12gix_protocol",
         "<&alloc::string::String as core::fmt::Debug>::fmt"),
        ("main", "main"), ("_Znope", "_Znope"), ("_Z", "_Z"), ("_R", "_R"), ("_ZN", "_ZN"),
    ],
)  # fmt: skip
def test_names(symbol, text):
    assert demangle(symbol) == text
    assert demangle(symbol) == text, "from memory"


@needs_library
def test_names_that_would_fill_the_memory_stay():
    """Every level doubles: 1B<S_,S_> of 1B<S_,S_> ...; written out that is 2**60 names."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    name, last = "_Z1f1A", "S_"
    for level in range(60):
        name += f"1BI{last}{last}E"
        number = 2 * level + 1
        last = f"S{digits[number // 36] if number > 35 else ''}{digits[number % 36]}_"
    assert demangle(name) == name
    assert demangle("_Z1f" + "P" * 100_000 + "i").startswith("_Z1fPPP")


def test_without_the_library_names_stay(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "demangle":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(module, "_loaded", False)
    monkeypatch.setattr(module, "_library", None)
    monkeypatch.setattr(builtins, "__import__", without)
    assert demangle(PUSH) == PUSH and not available()


@needs_library
def test_what_was_demangled_serves_the_next_run(monkeypatch):
    names = [f"_Z{len(name)}{name}v" for name in (f"f{number}" for number in range(40))]
    texts = [demangle(name) for name in names]
    save()
    monkeypatch.setattr(module, "_cache", {})
    monkeypatch.setattr(module, "_looked", False)
    monkeypatch.setattr(module, "_load", lambda: pytest.fail("the library was not needed"))
    assert [demangle(name) for name in names] == texts


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("f(int)", "f"), ("a::b() const", "a::b"), ("void f<int>(int)", "f<int>"), ("operator new(unsigned long)", "operator new"),
        ("main", "main"), ("a::operator()(int)", "a::operator()"), ("(anonymous namespace)::f(int)", "(anonymous namespace)::f"),
        ("typeinfo for a::b", "typeinfo for a::b"), ("x::operator->() const", "x::operator->"),
        ("std::ostream::operator<<(int)", "std::ostream::operator<<"), ("std::ostream& std::endl<char>(std::ostream&)", "std::endl<char>"),
    ],
)  # fmt: skip
def test_without_parameters(text, short):
    assert without_parameters(text) == short
