"""C++ and Rust names as their authors wrote them, by the library ``demangle`` (``pip install harken[demangle]``).

The library is loaded at the first mangled name.  It reads the Itanium C++ ABI and both Rust schemes, drops Rust's hashes, and bounds
depth and size of what it makes: names come from files that may be hostile (LLVM's demangler aborts the process for a name of 700 bytes that
expands to 2**60 bytes).  Without the library, and for names that it refuses, the mangled name stays.

Example:
    >>> demangle("main"), demangle("_Znope")
    ('main', '_Znope')
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("demangle", "short", "known", "available", "mangled", "operator_at", "save", "without_parameters")

_LONGEST = 1 << 14
_CACHED = 1 << 16
_cache: dict[str, str] = {}
_library: Callable[[str], str] | None = None
_looked, _loaded = False, False
_new = 0
#: Under what names are kept between runs (the number changes with the library's output).
_KEY = "demangle-3"


def mangled(name: str) -> bool:
    """Whether a name looks like one that ``demangle`` can read (Itanium C++, legacy Rust: _Z; Rust v0: _R)."""
    return name.startswith(("_Z", "_R", "__Z"))


def short(name: str) -> str:
    """The readable form of a symbol without parameters, as perf prints it; other names stay.

    Example:
        >>> short("main"), short("printf@plt")
        ('main', 'printf@plt')
    """
    global _new
    if not name.startswith(("_Z", "_R", "__Z")):
        return name
    if not _looked:
        _restore()
    key = " " + name
    text = _cache.get(key)
    if text is None:
        base, at, suffix = name.partition("@")
        text = demangle(base)
        if text == base:
            return name
        text = _cache[key] = without_parameters(text) + at + suffix
        _new += 1
    return text


def known(names: list[str]) -> list[str | None]:
    """What ``short`` gives for mangled names, of those that were asked for before, now or by an earlier run; None for others.

    Example:
        >>> _ = short("_ZN1a1bEi")
        >>> known(["main"])
        [None]
    """
    if not _looked:
        _restore()
    return [_cache.get(" " + name) for name in names]


def available() -> bool:
    """Whether the library is installed."""
    return _load() is not None


def demangle(name: str) -> str:
    """The readable form of a symbol, or the symbol itself.  Suffixes of the linker ("@plt") and of clones ("(.cold)") stay."""
    if not name.startswith(("_Z", "_R", "__Z")):
        return name
    global _new
    if not _looked:
        _restore()
    found = _cache.get(name)
    if found is not None:
        return found
    library = _load()
    if library is None or len(name) > _LONGEST:
        return name
    base, at, suffix = name.partition("@")
    try:
        text = library(base) + at + suffix
    except (ValueError, RecursionError, MemoryError):
        text = name
    if len(_cache) >= _CACHED:
        _cache.clear()
    _cache[name] = text
    _new += 1
    return text


def save() -> None:
    """Keeps what was demangled for the next run, be it one name: to load the library for it takes 50 ms."""
    global _new
    if _new:
        import marshal

        from ..base import cache

        _new = 0
        cache.store("demangled", _KEY, marshal.dumps(_cache))


def without_parameters(text: str) -> str:
    """A demangled C++ function without its parameters and return type, as perf prints it.

    Example:
        >>> without_parameters("std::vector<int, std::allocator<int>>::push_back(int const&)")
        'std::vector<int, std::allocator<int>>::push_back'
        >>> without_parameters("void f<int>(int)::{lambda(int)#1}::operator()(int) const")
        'f<int>(int)::{lambda(int)#1}::operator()'
        >>> without_parameters("comparison_operator(int)"), without_parameters("a::operator()(int)")
        ('comparison_operator', 'a::operator()')
        >>> without_parameters("a<b, c>::operator<(a<b, c> const&) const"), without_parameters("bool operator< <int>(d<int> const&)")
        ('a<b, c>::operator<', 'operator< <int>')
    """
    depth, end = 0, -1
    for place in range(len(text) - 1, -1, -1):
        letter = text[place]
        if letter in ")]}>" and not (letter == ">" and text[place - 1 : place] in ("-", "=")):
            depth += 1
        elif letter in "([{<":
            depth -= 1
            if not depth and letter == "(" and text[place : place + 2] != "(." and text[place : place + 11] != "(anonymous ":
                end = place
                break
    if end <= 0 or (text[:end].endswith("operator") and not (text[end - 9 : end - 8].isalnum() or text[end - 9 : end - 8] == "_")):
        return text
    text = text[:end]
    # the return type of a template function: up to the last blank outside of brackets, of which operator< and such are none
    depth, special = 0, operator_at(text)
    for place in range((special if special >= 0 else len(text)) - 1, -1, -1):
        letter = text[place]
        if letter in ")]}>" and not (letter == ">" and text[place - 1 : place] in ("-", "=")):
            depth += 1
        elif letter in "([{<":
            depth -= 1
        elif letter == " " and not depth and "operator" not in text[:place].rpartition("::")[2]:
            return text[place + 1 :]
    return text


def operator_at(text: str) -> int:
    """Where a function's name without parameters ends in an operator of symbols, -1 if it does not.

    Example:
        >>> operator_at("a<b>::operator<"), operator_at("operator<< <char>"), operator_at("a::operator bool"), operator_at("my_operator<a>")
        (6, 0, -1, -1)
    """
    place = text.rfind("operator")
    before, behind = text[place - 1 : place], text[place + 8 :]
    symbols = len(behind) - len(behind.lstrip("<>=!+-*/%&|^~,()[]"))
    if place < 0 or not symbols or before.isalnum() or before == "_" or (symbols < len(behind) and behind[symbols] != " "):
        return -1
    return place


def _restore() -> None:
    """Reads what earlier runs have demangled."""
    global _looked
    _looked = True
    import marshal

    from ..base import cache

    data = cache.load("demangled", _KEY)
    if data is not None:
        try:
            _cache.update(marshal.loads(data))
        except (EOFError, TypeError, ValueError):
            cache.remove("demangled", _KEY)


def _load() -> Callable[[str], str] | None:
    global _library, _loaded
    if not _loaded:
        _loaded = True
        try:
            from demangle import demangle as read
        except ImportError:
            return None

        def library(name: str) -> str:
            return str(read(name, language=("itanium", "rust")))

        _library = library
    return _library
