"""What ``harken map`` and ``harken prog`` share: their first word is a command, and objects are named as bpftool has it."""

from __future__ import annotations

import sys

from ..base.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..kernel.kernel import Kernel

    Action = Callable[[Kernel, list[str], bool], int]

__all__ = ("dispatch", "named")


def dispatch(name: str, usage: str, commands: Mapping[str, Action], argv: Sequence[str]) -> int:
    """Runs one of the commands; returns the exit status.

    Args:
        name: "map" or "prog".
        commands: word -> function of the kernel, the words behind it, and whether JSON is wanted.
        argv: the words behind the name.
    """
    words = [word for word in argv if word not in ("--json", "-j", "-p", "--pretty")]
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage, end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    action = commands.get(words[0])
    if action is None:
        from ..base.diagnostics import nearest

        near = nearest(words[0], list(commands), 1)
        raise UsageError(f"{name}: there is no command {words[0]!r}", f"did you mean {near[0]}?" if near else f"harken {name} --help")
    from ..kernel.kernel import live

    return action(live(), words[1:], len(words) < len(argv))


def named(name: str, what: str, hows: tuple[str, ...], words: list[str]) -> tuple[str, str, list[str]]:
    """How the words name an object ("id", "name", "pinned", ...), the value of that, and the words behind it.

    Args:
        name: the command, for messages.
        what: the kind of object in the user's words.
        hows: the ways there are.

    Example:
        >>> named("map", "map", ("id", "name"), ["id", "7", "key"]), named("map", "map", ("id", "name"), ["7", "key"])
        (('id', '7', ['key']), ('id', '7', ['key']))
    """
    if not words:
        kinds = [f"{how} {'FILE' if how == 'pinned' else 'N' if how == 'id' else how.upper()}" for how in hows]
        raise UsageError(f"{name}: which {what}?", f"{', '.join(kinds[:-1])} or {kinds[-1]}")
    if words[0] in hows:
        if len(words) < 2:
            raise UsageError(f"{name}: {words[0]} needs a value")
        return words[0], words[1], words[2:]
    how = "id" if words[0].isdecimal() else "pinned" if "/" in words[0] else "name"
    return how, words[0], words[1:]
