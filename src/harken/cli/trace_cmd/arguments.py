"""Command lines in getopt's manner: options in order, several letters in one word, values glued or apart, ``--long=value``.

trace-cmd's options mean something by their order (``-f`` belongs to the ``-e`` before it), so parsing gives a list of pairs.

Example:
    >>> parse(["-esched", "-f", "pid>1", "--date", "ls", "-l"], "e:f:", ("date",), command=True)
    ([('e', 'sched'), ('f', 'pid>1'), ('date', '')], ['ls', '-l'])
    >>> parse(["x.dat", "-t"], "t", ())
    ([('t', '')], ['x.dat'])
"""

from __future__ import annotations

from ...base.errors import UsageError

__all__ = ("parse", "number", "optional")


def parse(words: list[str], letters: str, names: tuple[str, ...] = (), command: bool = False) -> tuple[list[tuple[str, str]], list[str]]:
    """Splits a command line.

    Args:
        letters: as for getopt(3): a colon behind those with a value, two behind those that may have one in the same word.
        names: long options, a "=" behind those with a value, a "?" behind those that may have one (``--name=value``).
        command: the first word that is no option ends the options.

    Returns:
        ((option without dashes, value), ...) in order, and the other words.

    Raises:
        UsageError: an unknown option, or one without its value.
    """
    found: list[tuple[str, str]] = []
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--":
            return found, rest + words[at:]
        if not word.startswith("-") or word == "-":
            if command:
                return found, words[at - 1 :]
            rest.append(word)
            continue
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            kind = _long(name, names)
            if kind.endswith("=") and not equals:
                if at >= len(words):
                    raise UsageError(f"--{kind[:-1]} needs a value")
                value = words[at]
                at += 1
            elif equals and not kind.endswith(("=", "?")):
                raise UsageError(f"--{kind} takes no value")
            found.append((kind.rstrip("=?"), value))
            continue
        place = 1
        while place < len(word):
            letter = word[place]
            place += 1
            index = letters.find(letter)
            if index < 0 or letter == ":":
                raise UsageError(f"unknown option -{letter}")
            if letters[index + 1 : index + 2] != ":":
                found.append((letter, ""))
                continue
            value = word[place:]
            if not value and letters[index + 2 : index + 3] != ":":
                if at >= len(words):
                    raise UsageError(f"-{letter} needs a value")
                value = words[at]
                at += 1
            found.append((letter, value))
            break
    return found, rest


def _long(name: str, names: tuple[str, ...]) -> str:
    """The long option that a name means: exactly, or as the only one that it begins."""
    plain = {entry.rstrip("=?"): entry for entry in names}
    if name in plain:
        return plain[name]
    begun = [entry for key, entry in plain.items() if key.startswith(name)] if name else []
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise UsageError(f"--{name} may mean {' or '.join('--' + entry.rstrip('=?') for entry in begun)}")
    from ...kernel.ftrace_events import near_names

    near = near_names(plain, name)
    raise UsageError(f"unknown option --{name}", f"did you mean --{near[0]}?" if near else "")


def optional(words: list[str], flag: str) -> list[str]:
    """Gives an option whose value is optional (``list -e [REGEX]``) a value of its own: an empty word if none follows."""
    out = []
    for at, word in enumerate(words):
        out.append(word)
        if word == flag and (at + 1 >= len(words) or words[at + 1].startswith("-")):
            out.append("")
    return out


def number(text: str, what: str, base: int = 10) -> int:
    """A number of the command line.

    Raises:
        UsageError: it is none.
    """
    try:
        return int(text, base)
    except ValueError:
        raise UsageError(f"{what}: {text!r} is not a number") from None
