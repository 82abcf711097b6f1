"""Which functions of a binary a pattern means: by name, wildcard, regular expression, or C++ and Rust names as their authors wrote them.

=====================  ======================================================================================
``read*``              ``*`` is any run of characters
``/^read(line)?$/``    a regular expression of Python; it may match any part of the name unless it has ^ and $
``cpp:"A::b"``         every overload of a C++ function, every function of that path in Rust
``cpp:"A::b(int)"``    the one overload (blanks do not matter)
``cpp:"/^A::/"``       names as demangled, with parameters, that match a regular expression
=====================  ======================================================================================

Demangled names are those of the library ``demangle`` (``symbols.demangle``); without it, names that are made of plain identifiers are
understood all the same.  Template arguments may be left out: ``std::vector::push_back`` is that of every vector, and ``std::string`` is
what it stands for.
"""

from __future__ import annotations

from ...base.glob import compiled
from .base import fail, is_glob, matcher, matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...base.diagnostics import Span

__all__ = ("choose", "is_pattern", "is_regex", "mangled", "without_templates")

#: Longer names are not matched against regular expressions, whose time may grow fast with them.
_LONGEST = 2048
#: What compilers append to the names of parts of functions that are no functions of their own.
_PARTS = (".cold", ".part.")
#: Namespaces of the two C++ libraries that names need not have, and what std::string is short for.
_INLINE = ("::__cxx11::", "::__1::")
_STRING = "std::basic_string<char,std::char_traits<char>,std::allocator<char>>"


def is_regex(word: str) -> bool:
    """Whether a word is ``/.../``.

    >>> is_regex("/^a/"), is_regex("a/b"), is_regex("/")
    (True, False, False)
    """
    return len(word) > 2 and word[0] == word[-1] == "/"


def is_pattern(word: str) -> bool:
    """Whether a word can stand for several functions."""
    return is_glob(word) or is_regex(word)


def choose(elf: Any, target: str, cpp: bool, span: Span | None) -> list[tuple[str, int, int]]:
    """(name, address, size) of the functions that ``target`` means; raises SourceError for a regular expression that is none."""
    functions: list[tuple[str, int, int]] = elf.functions()
    regex = _regex(target, span) if is_regex(target) else None
    if cpp:
        return _demangled(functions, target, regex)
    if regex is not None:
        return [entry for entry in functions if regex(entry[0])]
    if target == "*":
        return functions
    names = set(matcher(target, dict.fromkeys(name for name, _, _ in functions)))
    return [entry for entry in functions if entry[0] in names]


def _regex(word: str, span: Span | None) -> Callable[[str], object]:
    import re

    try:
        search = re.compile(word[1:-1]).search
    except (re.error, RecursionError, OverflowError) as error:
        fail(f"the regular expression {word} is wrong: {error}", span, "it has Python's syntax: /^(read|write)$/")
    return lambda name: len(name) <= _LONGEST and search(name)


def _demangled(functions: list[tuple[str, int, int]], target: str, regex: Callable[[str], object] | None) -> list[tuple[str, int, int]]:
    from ...symbols.demangle import available, demangle, without_parameters

    if not available():
        return [entry for entry in functions if mangled(entry[0], target)]
    head, parameters = _split(_uniform(target))
    fits = compiled(head)
    # names that lack the last plain word of the target cannot match: few are left to demangle, which takes 10 us each
    word = "" if regex is not None else _word(head)
    found = []
    for entry in functions:
        name = entry[0]
        if not name.startswith(("_Z", "_R", "__Z")) or word not in name or any(part in name for part in _PARTS):
            continue
        text = demangle(_base(name))
        if text.startswith(("_Z", "_R", "__Z")):
            continue
        if regex is not None:
            if regex(text):
                found.append(entry)
            continue
        short = without_parameters(text)
        if parameters:
            # a return type stands before the name, "const" behind the parameters
            place = text.find(short)
            if not _uniform(text[place + len(short) :]).startswith(parameters):
                continue
        short = _uniform(short)
        if fits(short) or ("<" in short and fits(without_templates(short))):
            found.append(entry)
    return found


def _uniform(text: str) -> str:
    """A name without blanks and without what authors do not write: inline namespaces of libraries, what std::string stands for.

    >>> _uniform("f(std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> > const&)")
    'f(std::stringconst&)'
    >>> _uniform("f(std::string const &)")
    'f(std::stringconst&)'
    """
    text = "".join(text.split())
    for namespace in _INLINE:
        text = text.replace(namespace, "::")
    return text.replace(_STRING, "std::string")


def _split(target: str) -> tuple[str, str]:
    """A target without its parameters, and the parameters with their parentheses ("" for any); "*" is a wildcard only in the former.

    >>> _split("A::b(char*)const"), _split("A::operator()"), _split("(anonymousnamespace)::f(int)"), _split("A::b")
    (('A::b', '(char*)const'), ('A::operator()', ''), ('(anonymousnamespace)::f', '(int)'), ('A::b', ''))
    """
    start = 0
    for special in ("operator()", "(anonymousnamespace)"):
        found = target.rfind(special)
        if found >= 0:
            start = max(start, found + len(special))
    place = target.find("(", start)
    return (target[:place], target[place:]) if place > 0 else (target, "")


def _base(name: str) -> str:
    """A symbol without the suffixes of clones (".isra.0", ".constprop.1", ".llvm.123")."""
    for suffix in (".isra.", ".constprop.", ".llvm.", ".lto_priv."):
        name = name.partition(suffix)[0]
    return name


def _word(target: str) -> str:
    """The last plain identifier of a target, if it must stand in the mangled name as it is.

    >>> _word("std::vector<int>::push_back"), _word("A::A"), _word("A::~A"), _word("A::operator+"), _word("A::g*t")
    ('push_back', '', '', '', '')
    """
    parts = without_templates(target).split("::")
    last = parts[-1]
    plain = last.replace("_", "a").isalnum() and last.isascii()
    return last if plain and last not in parts[:-1] and len(last) > 1 else ""


def without_templates(text: str) -> str:
    """A name without what stands in angle brackets.

    >>> without_templates("std::vector<int,std::allocator<int>>::push_back"), without_templates("A::operator<<")
    ('std::vector::push_back', 'A::operator<<')
    """
    from ...symbols.demangle import operator_at

    kept, depth, special = [], 0, operator_at(text)
    head, tail = (text[:special], text[special:]) if special >= 0 else (text, "")
    for char in head:
        depth += char == "<"
        if not depth:
            kept.append(char)
        depth -= char == ">" and depth > 0
    return "".join(kept) + tail


def mangled(symbol: str, name: str) -> bool:
    """Whether a symbol is an overload of a C++ function, or a Rust function of that path.

    Args:
        symbol: as in the file.
        name: with namespaces, without parameters, ``*`` allowed in a component.

    >>> mangled("_ZN3foo3barEi", "foo::bar"), mangled("_Z3bari", "bar"), mangled("_ZN3foo3bazEv", "foo::bar")
    (True, True, False)
    """
    if not symbol.startswith("_Z"):
        return False
    wanted = name.partition("(")[0].split("::")
    at, parts = 2, []
    nested = symbol.startswith("N", at)
    if nested:
        at += 1
        while symbol[at : at + 1] in ("K", "V", "r", "R", "O") and symbol[at : at + 1]:
            at += 1
    if symbol.startswith("St", at):
        parts.append("std")
        at += 2
    elif symbol.startswith("L", at):
        at += 1
    while symbol[at : at + 1].isdigit() and len(parts) < 64:
        end = at
        while symbol[end : end + 1].isdigit():
            end += 1
        length = int(symbol[at : min(end, at + 6)])
        parts.append(symbol[end : end + length])
        at = end + length
        if not nested:
            break
    if len(parts) == len(wanted) + 1 and len(parts[-1]) == 17 and parts[-1][0] == "h":
        parts.pop()  # Rust's hash
    return len(parts) == len(wanted) and (not nested or symbol.startswith("E", at)) and all(map(matches, wanted, parts))
