"""Small helpers that BCC's scripts import (``bcc.utils``): bytes on standard output, CPU lists, string comparison in filters.

Example:
    >>> bytes(ArgString("tcp")), str(ArgString("tcp"))
    (b'tcp', 'tcp')
    >>> done = StrcmpRewrite.rewrite_expr('STRCMP("ls", arg1)', False, True, [], "", 0)
    >>> done["expr"], done["probeid"]
    ('streq_0("ls", arg1)', 1)
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = (
    "ArgString", "FILESYSTEMENCODING", "StrcmpRewrite", "as_bytes", "detect_language", "get_online_cpus", "get_possible_cpus", "printb",
)  # fmt: skip

FILESYSTEMENCODING = sys.getfilesystemencoding()

#: words in a process's program or libraries that tell its language's runtime, as BCC names languages
_LANGUAGES = ("java", "node", "perl", "php", "python", "ruby")


def get_online_cpus() -> list[int]:
    """Numbers of the CPUs that are online."""
    from ..kernel.kernel import live
    from ..kernel.procfs import cpus_online

    return list(cpus_online(live()))


def get_possible_cpus() -> list[int]:
    """Numbers of the CPUs that there may ever be: a per-CPU map has a value for each."""
    from ..kernel.kernel import live
    from ..kernel.procfs import cpus_possible

    return list(cpus_possible(live()))


def detect_language(candidates: Iterable[str], pid: int) -> str | None:
    """The language whose runtime a process is or has loaded, if it is among the candidates.

    The program's name is looked at first, then the names of mapped files: an embedded interpreter counts.
    """
    try:
        program = os.path.basename(os.readlink(f"/proc/{int(pid)}/exe")).lower()
    except OSError:
        return None
    found = next((name for name in _LANGUAGES if program.startswith(name)), None)
    if found is None:
        try:
            with open(f"/proc/{int(pid)}/maps", encoding="utf-8", errors="replace") as file:
                files = {os.path.basename(line.split(maxsplit=5)[5].strip()) for line in file if "/" in line}
        except OSError:
            return None
        libraries = {"libjvm.so": "java", "libnode": "node", "libperl": "perl", "libphp": "php", "libpython": "python", "libruby": "ruby"}
        found = next((name for start, name in libraries.items() if any(file.startswith(start) for file in files)), None)
    return found if found is not None and found in candidates else None


def printb(s: bytes, file: Any = None, nl: int = 1) -> None:
    """Writes bytes (and a newline) to a text stream, standard output by default, and flushes it."""
    stream = sys.stdout if file is None else file
    raw = getattr(stream, "buffer", None)
    if raw is not None:
        stream.flush()
        raw.write(s + b"\n" if nl else s)
        stream.flush()
        return
    try:
        stream.write(s + b"\n" if nl else s)  # type: ignore[arg-type]
    except TypeError:
        # a text stream without bytes below it, such as io.StringIO
        stream.write((s + b"\n" if nl else s).decode(FILESYSTEMENCODING, "surrogateescape"))
    stream.flush()


class ArgString:
    """An argument of the command line as text and, for comparison with what probes deliver, as bytes."""

    def __init__(self, arg: str) -> None:
        self.s = arg

    def __bytes__(self) -> bytes:
        return os.fsencode(self.s)

    def __str__(self) -> str:
        return self.s


def as_bytes(value: Any) -> Any:
    """Names as bytes: scripts give either; None stays None."""
    if value is None or type(value) is bytes:
        return value
    if isinstance(value, str):
        return os.fsencode(value)
    return bytes(value)


class StrcmpRewrite:
    """``STRCMP("text", expression)`` in the filters of ``trace`` and ``argdist``."""

    @staticmethod
    def _generate_streq_function(string: str, probe_read_func: str, streq_functions: str, probeid: int) -> tuple[str, str]:
        name = f"streq_{probeid}"
        function = (
            f"\nstatic inline bool {name}(char const *unused, uintptr_t text) {{\n"
            f"    char wanted[] = {string};\n"
            "    char found[sizeof(wanted)];\n"
            f"    {probe_read_func}(&found, sizeof(found), (void *)text);\n"
            "    for (int i = 0; i < sizeof(wanted) - 1; ++i) {\n"
            "        if (wanted[i] != found[i])\n"
            "            return false;\n"
            "    }\n"
            "    return true;\n"
            "}\n"
        )
        return name, streq_functions + function

    @staticmethod
    def rewrite_expr(
        expr: str, bin_cmp: bool, is_user: bool, probe_user_list: Iterable[str], streq_functions: str, probeid: int
    ) -> dict[str, Any]:
        """Replaces each STRCMP by a call of a function of its own.

        Args:
            bin_cmp: the text between the quotes is an initialiser (``{0x1, 0x2}``), not a string.
            is_user: strings are in user memory.
            probe_user_list: expressions that are in user memory in any case.
            streq_functions: C functions made so far; the new ones are appended.
            probeid: number of the next function.

        Returns:
            ``expr``, ``streq_functions`` and ``probeid`` as they are afterwards.
        """
        import re

        pattern = 'STRCMP\\("([^"]+)",(.+?)\\)' if bin_cmp else 'STRCMP\\(("[^"]+"),(.+?)\\)'
        for match in re.finditer(pattern, expr):
            user = is_user or match.group(2).strip() in probe_user_list
            reader = "bpf_probe_read_user" if user else "bpf_probe_read"
            name, streq_functions = StrcmpRewrite._generate_streq_function(match.group(1), reader, streq_functions, probeid)
            probeid += 1
            expr = expr.replace("STRCMP", name, 1)
        return {"expr": expr, "streq_functions": streq_functions, "probeid": probeid}
