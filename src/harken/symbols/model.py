"""What symbolisation gives and takes: frames, mappings, spans of addresses.

A ``Frame`` is one line of a stack: where an address lies and what it is called.  ``name`` is "" when nothing is known; it is then shown as
a hexadecimal address.  ``module`` is the file ("/usr/lib/x86_64-linux-gnu/libc.so.6"), "[kernel.kallsyms]" for the kernel's own image,
"[ext4]" for a kernel module, "[vdso]", "[bpf]", or "/tmp/perf-42.map" for code that a run-time compiler made.

A ``Mapping`` is a part of a file in a process's address space, as /proc/PID/maps or a PERF_RECORD_MMAP2 states it.

Example:
    >>> Frame(0x401004, "main", 4, "/usr/bin/true").label
    'main+0x4'
    >>> Frame(0x401004).label
    '0x401004'
    >>> Mapping(0x7f0000001000, 0x7f0000003000, 0x1000, "/usr/lib/libc.so.6").file_offset(0x7f0000001010) == 0x1010
    True
"""

from __future__ import annotations

from ..base.record import Record

__all__ = ("Frame", "Mapping", "Span", "preference", "NATIVE", "KERNEL", "PYTHON", "JIT", "UNKNOWN", "KERNEL_MODULE")

#: Values of ``Frame.kind``.
NATIVE, KERNEL, PYTHON, JIT, UNKNOWN = "native", "kernel", "python", "jit", "unknown"
#: ``Frame.module`` of symbols of the kernel image itself, as perf writes it.
KERNEL_MODULE = "[kernel.kallsyms]"


class Frame(Record):
    """One frame.

    Attributes:
        address: the address that was asked for (for callers: the return address as the stack holds it).
        name: the symbol, demangled if that was asked for; "" if there is none.
        offset: from the symbol's start, in bytes.
        module: the file or area that holds the address; "" if unknown.
        file, line: source position; "" and 0 if unknown or not asked for.
        inlined: whether this function was inlined into the frame that follows.
        kind: "native", "kernel", "python", "jit" or "unknown".
        build_id: of the file, in hex; "" if unknown.
        start: the symbol's address in the same address space as ``address``; 0 if there is no symbol.
    """

    address: int
    name: str = ""
    offset: int = 0
    module: str = ""
    file: str = ""
    line: int = 0
    inlined: bool = False
    kind: str = NATIVE
    build_id: str = ""
    start: int = 0

    # The general constructor of records takes three times as long, and there may be 100,000 frames.
    def __init__(
        self,
        address: int,
        name: str = "",
        offset: int = 0,
        module: str = "",
        file: str = "",
        line: int = 0,
        inlined: bool = False,
        kind: str = NATIVE,
        build_id: str = "",
        start: int = 0,
    ) -> None:
        _address(self, address)
        _name(self, name)
        _offset(self, offset)
        _module(self, module)
        _file(self, file)
        _line(self, line)
        _inlined(self, inlined)
        _kind(self, kind)
        _build_id(self, build_id)
        _start(self, start)

    @property
    def label(self) -> str:
        """The name and offset, or the address in hex."""
        if not self.name:
            return f"{self.address:#x}"
        return f"{self.name}+{self.offset:#x}" if self.offset else self.name


_address, _name, _offset, _module, _file, _line, _inlined, _kind, _build_id, _start = (
    getattr(Frame, field).__set__ for field in Frame._fields
)


class Mapping(Record):
    """A range of a process's addresses, [start, end), that shows ``path`` from byte ``offset`` on.

    ``path`` is as the process sees it (/proc/PID/maps): "[vdso]", "[heap]", "//anon" and "" are no files.  ``device`` is "MAJ:MIN"
    in hex as in /proc/PID/maps; ``build_id`` is in hex, "" if the source of the mapping does not tell.
    """

    start: int
    end: int
    offset: int
    path: str
    inode: int = 0
    device: str = ""
    build_id: str = ""
    executable: bool = True

    # As for frames: a recording of a build has tens of thousands of mappings.
    def __init__(
        self,
        start: int,
        end: int,
        offset: int,
        path: str,
        inode: int = 0,
        device: str = "",
        build_id: str = "",
        executable: bool = True,
    ) -> None:
        _m_start(self, start)
        _m_end(self, end)
        _m_offset(self, offset)
        _m_path(self, path)
        _m_inode(self, inode)
        _m_device(self, device)
        _m_build_id(self, build_id)
        _m_executable(self, executable)

    def file_offset(self, address: int) -> int:
        """Where in the file an address of the mapping lies."""
        return address - self.start + self.offset


_m_start, _m_end, _m_offset, _m_path, _m_inode, _m_device, _m_build_id, _m_executable = (
    getattr(Mapping, field).__set__ for field in Mapping._fields
)


class Span:
    """A range of addresses with one answer: [start, end) lies in the symbol that begins at ``base``, or in none (``name`` is "").

    What a name costs is paid once for all addresses of a symbol; ``frame`` makes the frame of one of them.
    """

    __slots__ = ("start", "end", "base", "name", "module", "kind", "build_id")

    def __init__(
        self, start: int, end: int, base: int = 0, name: str = "", module: str = "", kind: str = NATIVE, build_id: str = ""
    ) -> None:
        self.start = start
        self.end = end
        self.base = base
        self.name = name
        self.module = module
        self.kind = kind
        self.build_id = build_id

    def frame(self, address: int) -> Frame:
        """The frame of an address of the span."""
        base = self.base
        return Frame(address, self.name, address - base if base else 0, self.module, "", 0, False, self.kind, self.build_id, base)

    def __repr__(self) -> str:
        return f"Span({self.start:#x}, {self.end:#x}, {self.base:#x}, {self.name!r}, {self.module!r}, {self.kind!r})"


def preference(name: str | bytes, sized: bool, weak: bool, exported: bool) -> tuple[bool, bool, bool, int, int]:
    """How well a symbol names its address among aliases: the greatest wins, the first of equals.

    The order is perf's (tools/perf/util/symbol.c, choose_best_symbol), so that reports agree: symbols with a size, then strong before weak,
    global before local, fewer leading underscores, longer names.

    Example:
        >>> max(("__memcpy", "memcpy"), key=lambda name: preference(name, True, False, True))
        'memcpy'
    """
    underscores = len(name) - len(name.lstrip("_") if isinstance(name, str) else name.lstrip(b"_"))
    return sized, not weak, exported, -underscores, len(name)
