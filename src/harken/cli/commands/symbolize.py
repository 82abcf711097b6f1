"""``harken symbolize``: names for addresses of the kernel, of a process or of a file, given as arguments or as lines of standard input.

The first word of a line is the address, in hex with or without 0x; lines that begin with something else pass unchanged, so that whole stack
traces can be sent through.  Lines are answered as they come: a program may ask through a pipe.
"""

from __future__ import annotations

import os
import sys

from ...base.errors import ProbeError, UsageError
from ..guarded import guarded, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from ...symbols.model import Frame
    from ...symbols.symbolizer import Symbolizer

    Resolve = Callable[[list[int]], list[tuple[Frame, ...]]]

__all__ = ("NAME", "HELP", "run")

NAME = "symbolize"
HELP = "turn addresses into names (and with --name, names into addresses)"

_EPILOG = """\
addresses are hexadecimal, with or without 0x; without any, they are the first words of lines of standard input.

  harken symbolize -k ffffffff816b8230           a function of the kernel
  harken symbolize -p 1234 7f3a2c0451b0          whatever a process has mapped there: libraries, [vdso], generated code
  harken symbolize -e /bin/ls -li 4b10           an address of a file, with source lines and inlined functions
  harken symbolize -k --name vfs_read            the address of a symbol
  harken symbolize --recording perf.data         every sample of a recording, as 'perf script -F ip,sym,dso --no-inline' prints it
  harken symbolize -e a.out --format addr2line -fi < addresses
"""


def run(argv: list[str]) -> int:
    """Runs the command with the arguments after its name; returns the exit status: 1 if an address of the arguments has no name."""
    if any([word.partition("=")[0] == "--recording" for word in argv]):
        return guarded(NAME, lambda: _run_recording(argv))
    import argparse

    parser = argparse.ArgumentParser(
        prog=f"harken {NAME}", description=f"{HELP}.", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-p", "--pid", type=int, metavar="PID", help="addresses of this process (those of the kernel may be among them)")
    where.add_argument("-k", "--kernel", action="store_true", help="addresses of the running kernel (the default)")
    where.add_argument("-e", "--exe", metavar="FILE", help="addresses of this ELF file, as it was linked")
    where.add_argument("--recording", metavar="FILE", help="all samples of a recording of perf (--recording FILE --help tells more)")
    parser.add_argument("address", nargs="*", help="addresses in hex")
    parser.add_argument("-n", "--name", action="store_true", help="the arguments are symbols: print their addresses")
    parser.add_argument("-l", "--lines", action="store_true", help="show source lines (from DWARF)")
    parser.add_argument("-i", "--inlines", action="store_true", help="show inlined functions too; implies -l")
    parser.add_argument("-f", "--functions", action="store_true", help="with --format addr2line: print functions too")
    parser.add_argument("-s", "--basenames", action="store_true", help="show source files without their folders")
    parser.add_argument("-a", "--addresses", action="store_true", help="with --format addr2line: print addresses too")
    parser.add_argument("-C", "--demangle", action=argparse.BooleanOptionalAction, default=None, help="show C++ and Rust names as written")
    parser.add_argument("--format", choices=("text", "json", "addr2line"), default="text", help="how to print (default: text)")
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="short for --format json")
    parser.add_argument("--kallsyms", metavar="FILE", help="the kernel's symbols from a copy of /proc/kallsyms")
    parser.add_argument("--debuginfod", action="store_true", help="ask the servers of DEBUGINFOD_URLS for debug information")
    options = parser.parse_args(argv)
    return guarded(NAME, lambda: _run(options))


def _run_recording(argv: list[str]) -> int:
    from .symbolize_recording import run

    return run(argv)


def _run(options: argparse.Namespace) -> int:
    from ...kernel.kernel import live
    from ...symbols.kernel_symbols import KernelSymbols
    from ...symbols.symbolizer import Symbolizer

    as_addr2line = options.format == "addr2line"
    kernel = live()
    recorded = None
    if options.kallsyms:
        try:
            recorded = KernelSymbols(None, kernel.read(options.kallsyms, 256 << 20))
        except OSError as error:
            raise UsageError(f"cannot read {options.kallsyms}: {error.strerror}") from None
        if recorded.hidden:
            raise UsageError(f"{options.kallsyms} is no copy of /proc/kallsyms, or one that was made without the right to see addresses")
    if options.debuginfod and not os.environ.get("DEBUGINFOD_URLS", "").split():
        raise UsageError(
            "--debuginfod asks the servers that DEBUGINFOD_URLS names, which is not set", "see https://debuginfod.elfutils.org"
        )
    demangled = options.demangle if options.demangle is not None else not as_addr2line
    symbolizer = Symbolizer(
        kernel,
        demangle=demangled,
        lines=options.lines or as_addr2line,
        inlines=options.inlines or as_addr2line,
        debuginfod=options.debuginfod,
        kernel_symbols=recorded,
    )
    with symbolizer:
        resolve = _resolver(symbolizer, options)
        if options.name:
            return _names(symbolizer, options)
        show = _printer(options)
        if options.address:
            addresses = [_address(word) for word in options.address]
            frames = resolve(addresses)
            sys.stdout.write("".join([show(group) for group in frames]))
            status = 0 if all([group[-1].name or (as_addr2line and group[-1].file) for group in frames]) else 1
        else:
            _stream(resolve, show)
            status = 0
        sys.stdout.flush()
        if options.format == "text":
            for path, problem in symbolizer.problems.items():
                print(f"harken {NAME}: {_said_of(path, problem)}", file=sys.stderr)
        return status


def _said_of(path: str, problem: str) -> str:
    """What is wrong with a file; most problems name it already."""
    return problem if path in problem else f"{path}: {problem}"


def _resolver(symbolizer: Symbolizer, options: argparse.Namespace) -> Resolve:
    """A function from addresses to groups of frames, after the target was found to exist."""
    if options.exe is not None:
        path = os.path.abspath(options.exe)
        symbolizer.file(path, 0)
        if not os.path.isfile(path) or path in symbolizer.problems:
            raise ProbeError(_said_of(options.exe, symbolizer.problems.get(path, "not a file")))
        return lambda addresses: [symbolizer.file(path, address) for address in addresses]
    if options.pid is not None:
        pid = options.pid
        if pid <= 0 or not symbolizer.processes.mappings(pid):
            raise ProbeError(
                f"process {pid} is not there, is a kernel thread, or may not be looked at", "ps -e lists processes; other users' need root"
            )
        if options.inlines or options.format == "addr2line":
            return lambda addresses: [
                (symbolizer.kernel(address),) if address >> 63 else symbolizer.user(pid, address) for address in addresses
            ]
        return lambda addresses: [(frame,) for frame in symbolizer.many(pid, addresses)]
    if symbolizer.kernel_symbols.hidden:
        raise ProbeError(
            "the kernel hides its addresses from this user",
            "run as root, grant CAP_SYSLOG, or let root set kernel.kptr_restrict to 0 or 1",
        )
    return lambda addresses: [(frame,) for frame in symbolizer.kernel_symbols.resolve_many(addresses)]


def _names(symbolizer: Symbolizer, options: argparse.Namespace) -> int:
    """Prints the addresses of symbols; status 1 if there is one that has none."""
    status = 0
    for name in options.address:
        base, offset = _with_offset(name)
        hint = ""
        try:
            if options.exe is not None:
                places, hint = _names_of_file(os.path.abspath(options.exe), base)
            elif options.pid is not None:
                places = symbolizer.addresses(base, pid=options.pid)
            else:
                places = [symbolizer.kernel_symbols.address(base)]
            if not places:
                raise ProbeError(f"there is no symbol {base}", hint)
        except ProbeError as error:  # the others may have addresses
            tell(NAME, error)
            status = 1
            continue
        for place in places:
            print(f"{place + offset:#x} {name}")
    return status


def _with_offset(name: str) -> tuple[str, int]:
    """A symbol and the distance behind it: "main+1c"; "A::operator+" has none."""
    base, plus, distance = name.rpartition("+")
    if not plus or not base or base.endswith("operator") or distance.startswith("="):
        return name, 0
    return base, _address(distance)


def _names_of_file(path: str, name: str) -> tuple[list[int], str]:
    """All addresses of a symbol of a file, of C++ and Rust also by its readable name; without any, what may have been meant."""
    from ...kernel.kernel import live
    from ...probes.providers.base import either, near_names
    from ...probes.providers.functions import choose
    from ...symbols.binaries import open_elf

    elf = open_elf(live(), path)
    found = elf.symbols_named(name) or (elf.debug.symbols_named(name) if elf.debug is not None else [])
    places = {symbol.value for symbol in found} or {address for _, address, _ in choose(elf, name, True, None)}
    if places:
        return sorted(places), ""
    near = near_names(name, dict.fromkeys(other for other, _, _ in elf.functions()))
    return [], f"did you mean {either(near)}?" if near else ""


def _address(word: str) -> int:
    try:
        value = int(word, 16)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64 or "_" in word:
        raise UsageError(f"not an address in hexadecimal: {word}", "--name takes symbols instead")
    return value


def _printer(options: argparse.Namespace) -> Callable[[tuple[Frame, ...]], str]:
    from ...render import frames as render

    def short(frame: Frame) -> Frame:
        return frame.replace(file=frame.file.rpartition("/")[2]) if options.basenames else frame

    if options.format == "addr2line":

        def lines(group: tuple[Frame, ...]) -> str:
            # without -i, addr2line shows the innermost of inlined functions
            group = group if options.inlines else group[:1]
            head = [f"{group[0].address:#018x}"] if options.addresses else []
            return (
                "\n".join(head + [line for frame in group for line in render.addr2line(frame, options.functions, options.basenames)]) + "\n"
            )

        return lines
    show = render.json if options.format == "json" else render.text
    return lambda group: "".join([show(short(frame)) + "\n" for frame in group])


def _stream(resolve: Resolve, show: Callable[[tuple[Frame, ...]], str]) -> None:
    """Answers the lines of standard input, all that have arrived at once."""
    for lines in _batches():
        addresses: list[int] = []
        places: list[int] = []
        answers = list(lines)
        for place, line in enumerate(lines):
            words = line.split(None, 1)
            try:
                addresses.append(_address(words[0]) if words else -1)
                places.append(place)
            except UsageError:
                continue
            if not words:
                addresses.pop()
                places.pop()
        for place, group in zip(places, resolve(addresses)):
            answers[place] = show(group)[:-1]
        sys.stdout.write("\n".join(answers) + "\n")
        sys.stdout.flush()


def _batches() -> Iterator[list[str]]:
    rest = b""
    while True:
        part = os.read(0, 1 << 20)
        if not part:
            break
        whole, newline, rest = (rest + part).rpartition(b"\n")
        if newline:
            yield whole.decode("utf-8", "backslashreplace").split("\n")
        if len(rest) > 1 << 22:
            raise UsageError("a line of standard input is longer than 4 MiB")
    if rest:
        yield [rest.decode("utf-8", "backslashreplace")]
