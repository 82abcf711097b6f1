"""class BPF: a C program, its tables, and what it is attached to.

::

    b = BPF(text=program)                                   # or src_file="trace_open.c"
    b.attach_kprobe(event="do_sys_openat2", fn_name="trace_open")
    b["events"].open_perf_buffer(print_event)
    while True:
        b.perf_buffer_poll()

Everything is translation onto harken's own objects: ``languages.c`` compiles, ``kernel.loader`` loads, the planner of ``probes`` chooses
how a probe is attached, ``symbols`` names addresses.
"""

from __future__ import annotations

import atexit
import os
import sys

from ..abi.bpf import BPF_PROG_TYPE_KPROBE
from ..base.diagnostics import Source
from ..base.errors import HarkenError
from ..compiler.context import Context
from . import constants as _constants
from .attach_user import Function, Probes, context_of_type
from .constants import DEBUG_BPF, DEBUG_BPF_REGISTER_STATE, DEBUG_LLVM_IR, DEBUG_PREPROCESSOR, DEBUG_SOURCE
from .errors import BPFError, NoTableError, compile_error, load_error, no_offload, say
from .maps import create_maps
from .names import catalogue, kernel
from .polling import Polling
from .program import Program
from .trace_pipe import TracePipe
from .utils import as_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Self

__all__ = ("BPF",)


class BPF(Probes, Polling, TracePipe):
    """A compiled C program.

    Args:
        src_file: a file with the program; looked for beside the script, too.
        hdr_file: a file that stands before it.
        text: instead: the program itself.
        debug: DEBUG_* flags.
        cflags: flags for clang (-D, -I, -W).
        usdt_contexts: ``USDT`` objects; their enabled markers are attached.
        allow_rlimit: for compatibility; the limit of locked memory is only raised where the kernel asks for it.
        device: a network device that programs shall be offloaded to; not possible here.
        attach_usdt_ignore_pid: attach the markers in all processes.

    Attributes:
        funcs: name -> ``BPF.Function`` of what is loaded.
        tables: name -> table of what was asked for.

    Raises:
        Exception: the program does not compile, or a function named ``kprobe__...`` and the like cannot be attached.
    """

    def __init__(
        self,
        src_file: Any = b"",
        hdr_file: Any = b"",
        text: Any = None,
        debug: int = 0,
        cflags: Sequence[Any] = (),
        usdt_contexts: Sequence[Any] = (),
        allow_rlimit: bool = True,
        device: Any = None,
        attach_usdt_ignore_pid: bool = False,
    ) -> None:
        assert not (text and src_file)
        self.kprobe_fds: dict[bytes, dict[bytes, Any]] = {}
        self.uprobe_fds: dict[bytes, Any] = {}
        self.tracepoint_fds: dict[bytes, Any] = {}
        self.raw_tracepoint_fds: dict[bytes, Any] = {}
        self.kfunc_entry_fds: dict[bytes, Any] = {}
        self.kfunc_exit_fds: dict[bytes, Any] = {}
        self.fmod_ret_fds: dict[bytes, Any] = {}
        self.lsm_fds: dict[bytes, Any] = {}
        self.perf_buffers: dict[Any, Any] = {}
        self.open_perf_events: dict[tuple[int, int], dict[int, Any]] = {}
        self.debug = debug
        self.funcs: dict[bytes, Any] = {}
        self.tables: dict[Any, Any] = {}
        #: the same under the names as scripts write them: callbacks ask for every record
        self._quick: dict[Any, Any] = {}
        self._rings: dict[int, Any] = {}
        self._loaded: list[Any] = []
        self._programs: dict[tuple[Any, ...], Any] = {}
        self._own_maps: list[Any] = []
        self._closed = False
        self._owner = os.getpid()

        if device is not None:
            raise BPFError(f"Failed to compile BPF module {as_bytes(src_file) or '<text>'}: {no_offload(device)}")
        name, source = self._source(as_bytes(src_file), as_bytes(hdr_file), text)
        flags = [os.fsdecode(bytes(flag) if not isinstance(flag, str) else flag) for flag in cflags]
        usdt = tuple([context.plain() for context in usdt_contexts])
        if debug & DEBUG_PREPROCESSOR:
            say(source)
        try:
            self._program = Program(Source(name, source), flags, usdt, kernel(), catalogue, True, self._observer())
        except Exception as error:
            raise compile_error(error, repr(as_bytes(src_file)) if src_file else "<text>") from None
        self.module = self._program
        for position, message, hint in self._program.warnings:
            from ..render.diagnostic import warning_text

            say(warning_text(position, message, hint, (name, source)))
        self._maps, self._own_maps = create_maps(kernel(), self._program)
        self._program.maps_live = self._maps
        atexit.register(self._at_exit)
        try:
            for context in usdt_contexts:
                context.attach_uprobes(self, attach_usdt_ignore_pid)
            self._trace_autoload()
        except BaseException:
            self.cleanup()
            raise

    # -- source

    @staticmethod
    def _source(src_file: bytes, hdr_file: bytes, text: Any) -> tuple[str, str]:
        """(name for messages, text) of the program."""
        parts = []
        for file in (hdr_file, src_file):
            if file:
                path = BPF._find_file(file)
                with open(path, encoding="utf-8", errors="surrogateescape") as opened:
                    parts.append(opened.read())
        if text is not None and not src_file:
            parts.append(text if isinstance(text, str) else os.fsdecode(bytes(text)))
        return (os.fsdecode(src_file) if src_file else "<text>"), "\n".join(parts)

    @staticmethod
    def _find_file(filename: Any) -> bytes:
        """A file by its path, or in the folder of the script."""
        path: bytes = as_bytes(filename)
        if path and not os.path.isfile(path):
            script = getattr(sys.modules.get("__main__"), "__file__", None) or ""
            beside = os.path.join(os.path.dirname(os.path.abspath(os.fsencode(script))), path)
            if not os.path.isfile(beside):
                raise Exception(f"Could not find file {path!r}")
            path = beside
        return path

    def _observer(self) -> Any:
        """Shows the compiler's stages that ``debug`` asks for."""
        if not self.debug & DEBUG_LLVM_IR:
            return None

        def show(stage: str, what: object) -> None:
            if stage == "ir":
                say(str(what))

        return show

    # -- programs

    def load_funcs(self, prog_type: int = BPF_PROG_TYPE_KPROBE) -> list[Any]:
        """Loads all functions as programs of one type."""
        return [self.load_func(name.encode(), prog_type) for name in self._program.functions]

    def load_func(self, func_name: Any, prog_type: int, device: Any = None, attach_type: int = -1) -> Any:
        """Loads a function as a program.

        Args:
            prog_type: ``BPF.KPROBE`` and so on.
            device: a network device to offload it to; not possible here.
            attach_type: expected attach type (``BPFAttachType``), -1 for the type's own.

        Raises:
            Exception: there is no such function, or the kernel refuses it.
        """
        name: bytes = as_bytes(func_name)
        found = self.funcs.get(name)
        if found is not None:
            return found
        function = self._known(name)
        if device is not None:
            raise BPFError(f"Failed to load BPF program {name!r}: {no_offload(device)}")
        info = self._program.functions[function]
        self._live(function, context_of_type(prog_type, attach_type, info.target, info.kind))
        return self.funcs[name]

    def _live(self, function: str, context: Context) -> Any:
        """The loaded program of a function that runs as ``context`` says; raises BPFError."""
        try:
            return self._load(function, context)
        except HarkenError as error:
            raise self._refused(error, function) from None

    def _refused(self, error: HarkenError, function: str) -> BPFError:
        return load_error(error, function, bool(self.debug & (DEBUG_BPF | DEBUG_BPF_REGISTER_STATE)))

    def _load(self, function: str, context: Context) -> Any:
        """The same; raises harken's errors."""
        key = (function, *context.code)
        program = self._programs.get(key)
        if program is not None:
            return program
        from ..kernel.loader import load

        level = 2 if self.debug & DEBUG_BPF_REGISTER_STATE else 1 if self.debug & DEBUG_BPF else 0
        try:
            spec = self._program.spec(function, context)
        except HarkenError:
            raise
        except Exception as error:
            raise compile_error(error, f"<text>: {function}()") from None
        loaded = load(kernel(), spec, maps=self._maps, log_level=level)
        self._loaded.append(loaded)
        program = self._programs[key] = next(iter(loaded.programs.values()))
        name = function.encode()
        self.funcs.setdefault(name, Function(self, name, program.fd))
        if level:
            say(f"{function}():\n" + "\n".join(loaded.logs.values()))
        if self.debug & DEBUG_SOURCE:
            say(self.disassemble_func(name))
        return program

    def _instructions(self, func_name: Any) -> bytes:
        function = self._known(func_name)
        key = next((key for key in self._programs if key[0] == function), None)
        if key is None:
            self.load_func(func_name, BPF_PROG_TYPE_KPROBE)
            key = next(key for key in self._programs if key[0] == function)
        context = Context(key[2], key[3], (), *key[4:])
        insns: bytes = self._program.spec(function, context).programs[0].insns
        return insns

    def dump_func(self, func_name: Any) -> bytes:
        """A function's instructions, before the kernel's own changes."""
        return self._instructions(func_name)

    def disassemble_func(self, func_name: Any) -> str:
        """A function's instructions as text."""
        from .disassembler import disassemble_prog

        return disassemble_prog(os.fsdecode(as_bytes(func_name)), self._instructions(func_name))

    def decode_table(self, table_name: Any, sizeinfo: bool = False) -> str:
        """The layout of a table's keys and values as text."""
        from .disassembler import decode_map

        table = self[table_name]
        return decode_map(os.fsdecode(as_bytes(table_name)), table, table.ttype, sizeinfo)

    # -- tables

    def get_table(self, name: Any, keytype: Any = None, leaftype: Any = None, reducer: Any = None) -> Any:
        """A table of the program.

        Args:
            keytype, leaftype: ctypes classes to use instead of those made from the C types.
            reducer: makes one of two values, for tables with a value per CPU.

        Raises:
            NoTableError: there is no such table; a ``KeyError``.
        """
        from .table import Table
        from .types import ctypes_class

        text = os.fsdecode(as_bytes(name))
        if (info := self._program.tables.get(text)) is None:
            raise NoTableError(text, tuple(self._program.tables))
        if keytype is None:
            keytype = ctypes_class(info.key if info.key is not None else ("s", 4))
        if leaftype is None:
            leaftype = ctypes_class(info.value if info.value is not None else ("u", 4))
        number = list(self._program.tables).index(text)
        return Table(self, info, self._maps[text], keytype, leaftype, number, reducer)

    def __getitem__(self, key: Any) -> Any:
        found = self._quick.get(key)
        if found is None:
            name = as_bytes(key)
            if name not in self.tables:
                self.tables[name] = self.get_table(name)
            found = self._quick[key] = self.tables[name]
        return found

    def __setitem__(self, key: Any, leaf: Any) -> None:
        self._quick.clear()
        self.tables[as_bytes(key)] = leaf

    def __len__(self) -> int:
        return len(self.tables)

    def __delitem__(self, key: Any) -> None:
        self._quick.clear()
        del self.tables[as_bytes(key)]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tables)

    # -- autoload

    def _trace_autoload(self) -> None:
        """Attaches the functions whose names say where they belong."""
        for name, info in self._program.functions.items():
            function = name.encode()
            if info.kind == "kprobe":
                self.attach_kprobe(event=self.fix_syscall_fnname(info.target), fn_name=function)
            elif info.kind == "kretprobe":
                self.attach_kretprobe(event=self.fix_syscall_fnname(info.target), fn_name=function)
            elif info.kind == "tracepoint":
                self.attach_tracepoint(tp=info.target, fn_name=function)
            elif info.kind == "raw_tracepoint":
                self.attach_raw_tracepoint(tp=info.target, fn_name=function)
            elif info.kind in ("kfunc", "kretfunc", "fmod_ret", "lsm"):
                getattr(self, f"attach_{info.kind}")(fn_name=function)

    def free_bcc_memory(self) -> int:
        """Gives back what only compiling needs; 0."""
        self._program._unit = None
        return 0

    def donothing(self) -> None:
        """Nothing."""

    # -- end

    def close(self) -> None:
        """Closes the programs' descriptors; what is attached stays so."""
        loaded, self._loaded = self._loaded, []
        for one in loaded:
            one.close()
        self._programs.clear()
        self.funcs.clear()

    def cleanup(self) -> None:
        """Detaches everything and gives back all descriptors; more than once does no harm."""
        atexit.unregister(self._at_exit)
        if self._closed:
            return
        self._closed = True
        for links in list(self.kprobe_fds.values()):
            for link in list(links.values()):
                link.close()
        groups: list[dict[Any, Any]] = [
            self.uprobe_fds, self.tracepoint_fds, self.raw_tracepoint_fds, self.kfunc_entry_fds, self.kfunc_exit_fds, self.fmod_ret_fds,
            self.lsm_fds, *self.open_perf_events.values(),
        ]  # fmt: skip
        for group in groups:
            for link in list(group.values()):
                link.close()
            group.clear()
        self.kprobe_fds.clear()
        self.open_perf_events.clear()
        for table in list(self.tables.values()):
            if hasattr(table, "close"):
                table.close()
        for reader in (*list(self.perf_buffers.values()), *self._rings.values()):
            reader.close()
        self.perf_buffers.clear()
        self._rings.clear()
        self.tables.clear()
        self._quick.clear()
        tracefile, self.tracefile = self.tracefile, None
        if tracefile is not None:
            tracefile.close()
        self.close()
        maps, self._own_maps = self._own_maps, []
        for map in maps:
            map.close()

    def _at_exit(self) -> None:
        """Cleans up; a second Ctrl-C leaves the rest to the kernel, which closes what a process had open."""
        if os.getpid() != self._owner:
            return  # a child that was forked: what is attached is its parent's
        try:
            self.cleanup()
        except KeyboardInterrupt:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.cleanup()


def _constants_of_old() -> None:
    """BPF.KPROBE, BPF.XDP_PASS and the like."""
    for holder, prefix in ((_constants.BPFProgType, ""), (_constants.XDPAction, ""), (_constants.XDPFlags, "XDP_FLAGS_")):
        for name, value in vars(holder).items():
            if not name.startswith("_"):
                setattr(BPF, prefix + name, value)


_constants_of_old()
