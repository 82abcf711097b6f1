"""What to say when no function of a binary is the one that a uprobe names: names like it, or why there cannot be one.

A file that was stripped, a C++ name in the place of a symbol's, a function that the file takes from one of its libraries, a wildcard
that is none: each of them has another remedy, and "did you mean" is none of them.
"""

from __future__ import annotations

from ...base.errors import FormatError, HarkenError
from .base import fail, is_glob, near_names
from .binary import open_elf, paths_of
from .functions import is_regex, without_templates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..model import Pattern

__all__ = ("near",)

_MOST_FILES = 16
#: C++ and Rust names that are made readable for a comparison, which takes some 30 us each.
_MOST_READABLE = 20000
_SHT_SYMTAB = 2


def near(pattern: Pattern, catalogue: Any) -> list[str]:
    """Probes that a pattern without matches may have meant; raises SourceError where something else is wrong than the spelling."""
    target, cpp = pattern.words[-1], len(pattern.words) == 3
    elfs = [elf for path in paths_of(pattern, catalogue)[:_MOST_FILES] if (elf := open_elf(path, pattern, catalogue, True)) is not None]
    names: dict[str, None] = {}
    for elf in elfs:
        names.update(dict.fromkeys(name for name, _, _ in elf.functions()))
    prefix = f"{pattern.kind}:{pattern.words[0]}:"
    if cpp:
        return [f'{prefix}cpp:"{name}"' for name in _near_readable(target, names)]
    if is_regex(target):
        return []
    if is_glob(target):
        if "[" in target and "]" in target:
            _fail(pattern, f'the only wildcard is "*": a regular expression can say more, {prefix}/^{target.replace("*", ".*")}$/')
    elif "::" in target or "(" in target:
        _fail(pattern, f'C++ and Rust names are written {prefix}cpp:"{target}"')
    elif len(elfs) == 1:
        home = _home(elfs[0], target, catalogue)
        if home:
            _fail(pattern, f"it takes {target} from a library: {pattern.kind}:{home}:{target}")
    found = near_names(target.rpartition("+")[0] or target, names)
    if not found and elfs and all(map(_is_stripped, elfs)):
        _fail(
            pattern,
            "it was stripped of its symbols: install them (packages NAME-dbgsym, NAME-dbg or NAME-debuginfo), "
            f"or probe an address, {prefix}0x1234",
        )
    return [prefix + name for name in found]


def _fail(pattern: Pattern, hint: str) -> None:
    fail(f"No matches for {pattern.kind} {':'.join(pattern.words)}.", pattern.span, hint)


def _near_readable(target: str, names: dict[str, None]) -> list[str]:
    """C++ and Rust functions that may be meant: first those that are called so in another namespace or class."""
    from ...symbols.demangle import demangle, without_parameters

    mangled = [name for name in names if name.startswith(("_Z", "_R"))][:_MOST_READABLE]
    readable = dict.fromkeys(without_parameters(demangle(name)) for name in mangled)
    wanted = "::" + "".join(without_templates(target.partition("(")[0]).split())
    inside = [name for name in readable if "".join(without_templates(name).split()).endswith(wanted)]
    return sorted(inside, key=lambda name: (len(name), name))[:3] or near_names(target, readable)


def _home(elf: Any, name: str, catalogue: Any) -> str:
    """The library that a file takes a function from, "" if it takes none of that name from anywhere."""
    from ...formats.elf_dynamic import needed

    try:
        if not any(symbol.name == name and not symbol.section for symbol in elf.symbols(".dynsym")):
            return ""
        for library in needed(elf):
            for path in catalogue.libraries(library)[:1]:
                if catalogue.binary(path).symbol(name) is not None:
                    return library
    except (FormatError, HarkenError, OSError):
        pass
    return ""


def _is_stripped(elf: Any) -> bool:
    return all(section.type != _SHT_SYMTAB for section in elf.sections) and elf.debug is None
