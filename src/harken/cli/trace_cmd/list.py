"""``trace-cmd list``: what there is to trace and to choose.

Events (-e), their fields (-F), filters (-l) and triggers (-R), systems (-s), tracers (-t), options (-o), functions (-f), buffers (-B),
clocks (-C), compressions (-c), report's plugins (-P) and their options (-O).
"""

from __future__ import annotations

import sys

from ...base.errors import UsageError
from ...kernel.tracefs_instances import instance_names
from .setup import open_tracefs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...kernel.tracefs import Tracefs

__all__ = ("finder", "run")

USAGE = """\
usage:
  harken trace-cmd list [OPTIONS]

   -e [REGEX]   events; of a system or event, or SYSTEM:EVENT, that is found
      -F        with their fields; --full: and their print fmt
      -l        with their filters
      -R        with their triggers
   -s           systems
   -t           tracers
   -o           trace options
   -f [REGEX]   functions; --proto: with their parameters
   -B           buffers
   -C           clocks
   -c           compressions
   -O           options of 'report -O'
   -P           files of plugins: none, they are built in
   (none: systems, events, tracers, options and compressions)

 Examples:
   harken trace-cmd list -e sched_switch -F
   harken trace-cmd list -e '^net$:rx'
   harken trace-cmd list -f '^vfs_'
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    wanted: list[tuple[str, str | None]] = []
    flags: set[str] = set()
    for at, word in enumerate(argv):
        if not word.startswith("-"):
            continue
        value = argv[at + 1] if at + 1 < len(argv) and not argv[at + 1].startswith("-") else None
        letter = word[1:2]
        if word in ("--full", "--proto"):
            flags.add(word[2:])
        elif word == "--help" or letter == "h":
            print(USAGE, end="")
            return 0
        elif len(word) > 1 and not set(word[1:]) - set("FlR"):
            flags.update(word[1:])
        elif len(word) == 2 and letter in "estpofBCcPO":
            wanted.append((letter, value))
        else:
            raise UsageError(f"list: unknown option {word}")
    if flags and not any(letter == "e" and value for letter, value in wanted) and flags & set("FlR"):
        raise UsageError("-F, -l and -R need an event", "list -e sched_switch -F")
    if [letter for letter, _ in wanted] == ["c"]:
        _compressions()
        return 0
    root = open_tracefs()
    if not wanted:
        print("event systems:")
        _systems(root)
        print("events:")
        sys.stdout.write(root.read("available_events"))
        print("\ntracers:")
        sys.stdout.write(root.read("available_tracers"))
        print("\noptions:")
        _options(root)
        _compressions()
        return 0
    order = "etoPOfBCsc"  # as trace-cmd prints them, whatever the order of the options
    for letter, value in sorted(wanted, key=lambda pair: order.index(pair[0].replace("p", "t"))):
        _list(root, letter, value, flags)
    return 0


def _list(root: Tracefs, letter: str, value: str | None, flags: set[str]) -> None:
    if letter == "e":
        _events(root, value, flags)
    elif letter in "tp":
        sys.stdout.write(root.read("available_tracers"))
    elif letter == "o":
        _options(root)
    elif letter == "f":
        _functions(root, value, "proto" in flags)
    elif letter == "B":
        names = instance_names(root)
        print("\n".join(names) if names else "No buffer instances defined")
    elif letter == "C":
        print(root.read("trace_clock").rstrip("\n") + (" tsc2nsec" if _tsc(root) else ""))
    elif letter == "s":
        _systems(root)
    elif letter == "c":
        _compressions()
    elif letter == "O":
        from .options import text

        sys.stdout.write(text())
    # -P: what trace-cmd has in plugin files is built in here, so there are none to list


def _options(root: Tracefs) -> None:
    from .buffers import existing, option_lines

    print("\n".join(option_lines(existing(root, ""))))


def _tsc(root: Tracefs) -> bool:
    """Whether the time stamp counter is a clock here and perf tells how to convert it."""
    from ...base.errors import KernelError
    from ...session.recorder_ftrace_parts import tsc_option

    try:
        return "x86-tsc" in root.read("trace_clock") and bool(tsc_option(root.kernel))
    except KernelError:
        return False


def _compressions() -> None:
    from ...formats.trace_dat_compress import available

    print("Supported compression algorithms:")
    for codec in available():
        print(f"\t{codec.name}, {codec.version}")


def _systems(root: Tracefs) -> None:
    for name in root.kernel.listdir(root.path("events")):
        if root.kernel.exists(root.path(f"events/{name}/enable")) or name == "ftrace":
            print(name)
    print()


def _compile(pattern: str) -> object:
    import re

    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}") from None


def finder(pattern: str) -> Callable[[str, str], bool]:
    """Whether a regular expression finds an event's system or its name, or both ("SYSTEM:NAME"); "" finds all.

    Raises:
        UsageError: it is no regular expression.
    """
    system_text, colon, event_text = pattern.partition(":")
    system_found = _compile(system_text).search  # type: ignore[attr-defined]
    event_found = _compile(event_text).search  # type: ignore[attr-defined]
    if colon:
        return lambda system, event: bool(system_found(system) and event_found(event))
    return lambda system, event: bool(system_found(system) or system_found(event))


def _matching(root: Tracefs, pattern: str) -> Iterator[tuple[str, str]]:
    """The events that a pattern finds, those of a system together."""
    wanted = finder(pattern)
    by_system: dict[str, list[str]] = {}
    for system, event in root.events():
        by_system.setdefault(system, []).append(event)
    for system, events in by_system.items():
        yield from ((system, event) for event in events if wanted(system, event))


def _events(root: Tracefs, pattern: str | None, flags: set[str]) -> None:
    if not pattern:
        sys.stdout.write(root.read("available_events"))
        return
    for system, event in _matching(root, pattern):
        base = f"events/{system}/{event}"
        if "F" in flags:
            print(f"system: {system}")
            text = root.read(f"{base}/format")
            if "full" not in flags:
                text = text[: text.find("print fmt")] if "print fmt" in text else text
            sys.stdout.write(text)
        elif "l" in flags or "R" in flags:
            print(f"{system}:{event}")
            sys.stdout.write(root.read(f"{base}/{'filter' if 'l' in flags else 'trigger'}"))
            print()
        else:
            print(f"{system}:{event}")


def _functions(root: Tracefs, pattern: str | None, prototypes: bool) -> None:
    text = root.read("available_filter_functions", 64 << 20)
    if pattern:
        found = _compile(pattern).search  # type: ignore[attr-defined]
        lines = [line for line in text.split("\n") if line and found(line)]
    else:
        lines = text.rstrip("\n").split("\n")
    if prototypes:
        lines = _with_prototypes(root, lines)
    sys.stdout.write("".join([line + "\n" for line in lines]))


def _with_prototypes(root: Tracefs, lines: list[str]) -> list[str]:
    """The same with the parameters that BTF knows."""
    from ...probes.catalogue import Catalogue

    catalogue = Catalogue(root.kernel, tracefs=root)
    out = []
    for line in lines:
        name, _, module = line.partition(" ")
        function = catalogue.function(name, module.strip("[] "))
        if function is None:
            out.append(line)
            continue
        out.append(function.declare() + (f" {module}" if module else ""))
    return out
