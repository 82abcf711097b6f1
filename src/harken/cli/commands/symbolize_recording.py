"""``harken symbolize --recording FILE``: names for all samples of a recording of perf, printed as ``perf script --no-inline`` does.

A parser of its own: ``argparse`` takes a tenth of the time of 100,000 samples to import.
"""

from __future__ import annotations

import sys

from ...base.errors import FormatError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...formats.perf_data import PerfData
    from ...formats.perf_data_batch import Batch

__all__ = ("run",)

_USAGE = """\
usage: harken symbolize --recording FILE [-F FIELDS] [-G] [--no-demangle] [--parameters] [--kallsyms FILE]

names for the samples of a recording of perf, as 'perf script --no-inline' prints them.

  --recording FILE    what perf record has written; -: standard input ('perf record -o - ... | harken symbolize --recording -')
  -F, --fields LIST   what to print, with commas: comm,pid,tid,cpu,time,period,event,ip,sym,symoff,dso (default: ip,sym,dso)
  -G, --hide-call-graph   only the address of each sample, not its call chain
  --no-demangle       C++ and Rust names as the files have them
  --parameters        C++ names with their parameters
  --kallsyms FILE     the kernel's symbols from a copy of /proc/kallsyms
"""
#: What -F knows besides what stands before the address (``render.perf_script.HEADS``).
_OF_ADDRESS = ("ip", "sym", "symoff", "dso")
_DEFAULT = ("ip", "sym", "dso")
_FLAGS = {
    "-G": "hide", "--hide-call-graph": "hide", "--no-demangle": "mangled", "--parameters": "parameters", "-h": "help", "--help": "help",
}  # fmt: skip
_VALUES = {"--recording": "file", "-F": "fields", "--fields": "fields", "--kallsyms": "kallsyms"}


def run(argv: list[str]) -> int:
    """Runs the command with the arguments after "symbolize"; returns the exit status."""
    options = _parse(argv)
    if "help" in options:
        sys.stdout.write(_USAGE)
        return 0
    fields = _fields(options.get("fields", ""))
    import gc

    gc.disable()  # hundreds of thousands of numbers and texts, no cycles
    from ...formats.perf_data import open_perf_data
    from ...kernel.kernel import live
    from ...symbols.kernel_symbols import KernelSymbols
    from ...symbols.symbolizer_recording import RecordingSymbolizer

    kernel = live()
    symbols = None
    if "kallsyms" in options:
        try:
            symbols = KernelSymbols(None, kernel.read(options["kallsyms"], 256 << 20))
        except OSError as error:
            raise UsageError(f"cannot read {options['kallsyms']}: {error.strerror}") from None
    try:
        recording = open_perf_data(options["file"])
    except OSError as error:
        raise UsageError(f"cannot open {options['file']}: {error.strerror}") from None
    symbolizer = RecordingSymbolizer(
        kernel,
        recording,
        symbol="sym" in fields,
        offset="symoff" in fields,
        module="dso" in fields,
        demangle="mangled" not in options,
        parameters="parameters" in options,
        kernel_symbols=symbols,
    )
    chains = "hide" not in options
    wanted = any([field not in _OF_ADDRESS for field in fields])
    out = sys.stdout.buffer
    try:
        for batch in recording.batches(threads="comm" in fields):
            heads = _heads(recording, batch, fields) if wanted else None
            if "ip" in fields:
                for block in symbolizer.blocks(batch, chains, heads):
                    out.write(block)
            elif heads is not None:
                out.write(b"".join([head + b"\n" for head in symbolizer.heads(batch, heads)]))
        sys.stdout.flush()
    except FormatError as error:
        sys.stdout.flush()
        raise FormatError(options["file"], error.message, hint=error.hint) from None
    finally:
        symbolizer.close()
    for problem in recording.problems:
        print(f"harken symbolize: {options['file']}: {problem}", file=sys.stderr)
    if recording.lost or recording.lost_samples:
        lost = f"{recording.lost} records and {recording.lost_samples} samples were lost while recording"
        print(f"harken symbolize: {options['file']}: {lost}", file=sys.stderr)
    for path, problem in symbolizer.problems.items():
        print(f"harken symbolize: {problem if path in problem else f'{path}: {problem}'}", file=sys.stderr)
    return 0


def _heads(recording: PerfData, batch: Batch, fields: tuple[str, ...]) -> Callable[[bool, list[str]], list[str]]:
    """What gives the beginnings of samples, when the names of their threads are known."""
    from ...render.perf_script import HEADS, heads

    def make(chains: bool, comms: list[str]) -> list[str]:
        columns: dict[str, list[Any]] = {"comm": comms}
        for field in HEADS[1:-1]:
            if field in fields:
                values = batch.times if field == "time" else batch.column(field)
                if field == "period" and values is None:  # all samples have the same
                    periods = [0 if "freq" in event.flags else event.fields["sample_period"] for event in recording.events]
                    values = [periods[number] for number in batch.events()] if all(periods) else None
                if not values and len(batch):
                    raise UsageError(f"the recording has no {field} of its samples", "leave it out of -F")
                if values and field in ("pid", "tid"):  # -1 is a thread that has ended
                    values = [value - (1 << 32) if value >> 31 else value for value in values]
                columns[field] = values or []
        if "event" in fields:
            names = [event.name or f"type {event.fields['type']} config {event.fields['config']:#x}" for event in recording.events]
            width = max([len(name) for name in names], default=0)
            columns["event"] = [names[number].rjust(width) for number in batch.events()]
        return heads(fields, columns, chains)

    return make


def _fields(text: str) -> tuple[str, ...]:
    names = tuple([name.strip() for name in text.split(",") if name.strip()])
    if not names:
        return _DEFAULT
    from ...render.perf_script import HEADS

    for name in names:
        if name not in HEADS and name not in _OF_ADDRESS:
            raise UsageError(f"-F: there is no field {name}", f"use some of: {','.join([*HEADS, *_OF_ADDRESS])}")
    if "ip" not in names and any([name in names for name in ("sym", "symoff", "dso")]):
        raise UsageError("-F: sym, symoff and dso belong to ip", "add ip to -F")
    return names


def _parse(argv: list[str]) -> dict[str, str]:
    """Options by name.

    Raises:
        UsageError: unknown ones, or a value is missing.
    """
    found: dict[str, str] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if word in _FLAGS:
            found[_FLAGS[word]] = "yes"
            continue
        if word.startswith("-F") and len(word) > 2 and word[2] != "=":
            name, equals, value = "-F", "=", word[2:]
        if name not in _VALUES:
            raise UsageError(f"with --recording there is no option or argument {word}", "harken symbolize --recording FILE --help")
        if not equals:
            if not words:
                raise UsageError(f"option {name} needs a value")
            value = words.pop(0)
        found[_VALUES[name]] = value
    return found
