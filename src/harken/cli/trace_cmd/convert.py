"""``trace-cmd convert``: the same recording in another version of the format, or with another compression.

It also makes a compact file of a recording whose recorder was killed.
"""

from __future__ import annotations

import os

from ...base.errors import UsageError
from ...formats.trace_dat import open_trace
from ...formats.trace_dat_parts import Parts, sources_of
from ...formats.trace_dat_writer import write_trace
from .arguments import parse
from .naming import naming

__all__ = ("run", "rewrite")

USAGE = """\
usage:
  harken trace-cmd convert [-i FILE] [--file-version 6|7] [--compression any|none|zlib|zstd] [-o] FILE

   -i FILE      the recording, trace.dat if there is none
   -o FILE      what is written; it may be the same file
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, rest = parse(argv, "i:o:h", ("compression=", "file-version=", "help", "verbose?"))
    values = dict(pairs)
    if "h" in values or "help" in values:
        print(USAGE, end="")
        return 0
    target = values.get("o") or (rest.pop(0) if rest else "")
    if rest or not target:
        raise UsageError("convert needs an output file" if not rest else f"convert takes no {rest[0]!r}")
    version = values.get("file-version", "7")
    if version not in ("6", "7"):
        raise UsageError(f"there is no file version {version!r}", "6 and 7 are known")
    compression = values.get("compression", "any")
    if version == "6":
        if compression not in ("any", "none"):
            raise UsageError("version 6 of the file format knows no compression")
        compression = "none"
    rewrite(values.get("i", "trace.dat"), target, int(version), compression)
    return 0


def rewrite(source: str, target: str, version: int, compression: str) -> None:
    """Writes a recording anew.

    Raises:
        FormatError: the source is damaged beyond reading.
        OSError: the target cannot be written.
    """
    from .record import usable_compression

    compression = usable_compression(compression)
    partial = f"{target}.new"
    with open_trace(source) as trace:
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            with naming(target):
                write_trace(fd, Parts.of(trace), [sources_of(trace, buffer.name) for buffer in trace.buffers], version, compression)
        except BaseException:
            os.unlink(partial)
            raise
        finally:
            os.close(fd)
    os.rename(partial, target)
