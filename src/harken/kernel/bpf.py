"""Live BPF objects: maps and programs.

Every object owns one file descriptor, is a context manager and has ``close()``; nothing lives longer than its process unless it is
pinned.  The functions here take a ``Kernel`` first.  Maps are in ``kernel.bpf_map``, attachments in ``kernel.link``, what the kernel
tells about objects in ``kernel.bpf_info``, loading of a whole Spec in ``kernel.loader``, ring buffers in ``kernel.ring``; this module
has the programs, and gives all that one needs for BPF objects under one name.

Facts: ``kernel/bpf/syscall.c``, ``include/uapi/linux/bpf.h``.
"""

from __future__ import annotations

import errno

from ..abi import bpf as abi
from .bpf_map import Map, create_map, try_create_map
from .bpf_object import BpfObject, attr, bpf, bpf_with_memlock, field, object_name, open_pinned, pin, refusal, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .bpf_info import ProgramInfo
    from .kernel import Kernel, Memory

__all__ = (
    "BpfObject", "Map", "Program", "RunResult", "attr", "bpf", "create_map", "field", "load_btf", "load_program", "load_with_log",
    "object_name", "open_pinned", "pin", "try_create_map", "try_load_program",
)  # fmt: skip


class RunResult:
    """What BPF_PROG_TEST_RUN gives: the program's return value, mean duration in ns, changed packet data and context."""

    __slots__ = ("retval", "duration", "data", "ctx")

    def __init__(self, retval: int, duration: int, data: bytes, ctx: bytes) -> None:
        self.retval = retval
        self.duration = duration
        self.data = data
        self.ctx = ctx


class Program(BpfObject):
    """A loaded program."""

    __slots__ = ("type", "_id")

    def __init__(self, kernel: Kernel, fd: int, name: str, type: int) -> None:
        super().__init__(kernel, fd, name)
        self.type = type
        self._id = 0

    @classmethod
    def from_fd(cls, kernel: Kernel, fd: int) -> Program:
        """Takes over a descriptor; closes it if the kernel does not say what it is."""
        from .bpf_info import program_info

        try:
            info = program_info(kernel, fd)
        except BaseException:
            kernel.close(fd)
            raise
        return cls(kernel, fd, info.name, info.type)

    @property
    def id(self) -> int:
        """The kernel's number of the program."""
        if not self._id:
            self._id = self.info().id
        return self._id

    def info(self) -> ProgramInfo:
        """Run count, run time (with statistics enabled), recursion misses, sizes."""
        from .bpf_info import program_info

        return program_info(self.kernel, self.fd)

    def run(self, ctx: bytes = b"") -> int:
        """Runs the program once by BPF_PROG_TEST_RUN; returns its return value (u32).

        Kernels offer this for syscall (5.14), raw tracepoint (5.10), socket filter and other networking programs.
        """
        return self.test_run(ctx).retval

    def test_run(self, ctx: bytes = b"", data: bytes = b"", repeat: int = 0, cpu: int = -1) -> RunResult:
        """Runs the program by BPF_PROG_TEST_RUN.

        Args:
            ctx: the context (syscall: any struct, changed in place; raw tracepoint: u64 arguments).
            data: a packet (networking programs; at least 14 bytes).
            repeat: how often (networking programs; the duration is the mean in ns).
            cpu: run there (raw tracepoint programs), -1: on the current one.
        """
        context = bytearray(ctx)
        out = bytearray(len(data) + 256 if data else 0)
        # syscall and raw tracepoint programs refuse a ctx_out pointer: syscall writes to ctx_in itself
        packet = bool(data)
        attribute = attr(
            abi.PROG_TEST_RUN,
            abi.PROG_TEST_RUN_SIZE,
            prog_fd=self.fd,
            data_in=data,
            data_size_in=len(data),
            data_out=out,
            data_size_out=len(out),
            repeat=repeat,
            ctx_in=context,
            ctx_size_in=len(context),
            ctx_out=context if packet else None,
            ctx_size_out=len(context) if packet else 0,
            flags=abi.BPF_F_TEST_RUN_ON_CPU if cpu >= 0 else 0,
            cpu=max(cpu, 0),
        )
        result = bpf(self.kernel, abi.BPF_PROG_TEST_RUN, attribute)
        if result < 0:
            raise refusal("prog_test_run", -result, f"program {self.name!r}")
        size = field(abi.PROG_TEST_RUN, "data_size_out", attribute.data)
        return RunResult(
            field(abi.PROG_TEST_RUN, "retval", attribute.data),
            field(abi.PROG_TEST_RUN, "duration", attribute.data),
            bytes(out[:size]),
            bytes(context),
        )


def load_btf(kernel: Kernel, data: bytes) -> BpfObject:
    """Hands type information to the kernel (BPF_BTF_LOAD).

    Raises:
        KernelError: with the last line of the kernel's log.
    """
    attribute = attr(abi.BTF_LOAD, abi.BTF_LOAD_SIZE, btf=data, btf_size=len(data))
    fd = bpf_with_memlock(kernel, abi.BPF_BTF_LOAD, attribute)
    if fd < 0:
        log = bytearray(1 << 16)
        attribute = attr(
            abi.BTF_LOAD, abi.BTF_LOAD_SIZE, btf=data, btf_size=len(data), btf_log_buf=log, btf_log_size=len(log), btf_log_level=1
        )
        again = bpf(kernel, abi.BPF_BTF_LOAD, attribute)
        if again < 0:
            raise refusal("btf_load", -fd, "the program's type information", text_of(log))
        fd = again
    return BpfObject(kernel, fd, "btf")


def _program_attr(
    type: int,
    insns: bytes,
    *,
    name: str = "",
    license: str = "GPL",
    expected_attach_type: int = 0,
    flags: int = 0,
    attach_btf_id: int = 0,
    attach_btf_obj_fd: int = 0,
    btf_fd: int = 0,
    func_info: bytes = b"",
    line_info: bytes = b"",
    fd_array: bytes = b"",
    log: bytearray | None = None,
    log_level: int = 0,
) -> Memory:
    """The attributes of BPF_PROG_LOAD; ``log`` takes the verifier's text (NUL-terminated) if ``log_level`` is not 0."""
    return attr(
        abi.PROG_LOAD,
        abi.PROG_LOAD_SIZE,
        prog_type=type,
        insn_cnt=len(insns) // 8,
        insns=insns,
        license=license.encode() + b"\0",
        log_level=log_level,
        log_size=len(log) if log is not None and log_level else 0,
        log_buf=log if log_level else None,
        prog_flags=flags,
        prog_name=object_name(name),
        expected_attach_type=expected_attach_type,
        prog_btf_fd=btf_fd,
        func_info_rec_size=8 if func_info else 0,
        func_info=func_info,
        func_info_cnt=len(func_info) // 8,
        line_info_rec_size=16 if line_info else 0,
        line_info=line_info,
        line_info_cnt=len(line_info) // 16,
        attach_btf_id=attach_btf_id,
        attach_btf_obj_fd=attach_btf_obj_fd,
        fd_array=fd_array,
    )


def _load(kernel: Kernel, attribute: Memory) -> int:
    for _ in range(5):
        fd = bpf_with_memlock(kernel, abi.BPF_PROG_LOAD, attribute)
        # the verifier gives up with EAGAIN when a signal is pending (commit c3494801cd17)
        if fd != -errno.EAGAIN:
            break
    return fd


def try_load_program(kernel: Kernel, type: int, insns: bytes, **options: Any) -> int:
    """BPF_PROG_LOAD: a descriptor or ``-errno``.

    Args:
        type: BPF_PROG_TYPE_* number.
        insns: the instructions.
        options: name, license ("GPL"), expected_attach_type, flags, attach_btf_id, attach_btf_obj_fd, btf_fd, func_info, line_info,
            fd_array (descriptors of modules' BTF as bytes), log and log_level.
    """
    return _load(kernel, _program_attr(type, insns, **options))


def load_program(kernel: Kernel, type: int, insns: bytes, *, name: str = "", **options: Any) -> Program:
    """Loads a program: first without a log, then, if refused, again with one.

    Args:
        type: BPF_PROG_TYPE_* number.
        insns: the instructions.
        options: as for ``try_load_program``.

    Raises:
        VerifierError: the verifier refused it; the log is explained by ``kernel.verifier``.
        KernelError: the kernel refused before the verifier looked at it.
    """
    from .loader import refused_program

    fd = try_load_program(kernel, type, insns, name=name, **options)
    if fd < 0:
        retried, log = load_with_log(kernel, type, insns, name=name, **options)
        if retried < 0:
            raise refused_program(-retried, log, name=name, type=type)
        fd = retried
    return Program(kernel, fd, name, type)


def load_with_log(kernel: Kernel, type: int, insns: bytes, *, log_level: int = 1, **options: Any) -> tuple[int, str]:
    """Loads with a log: (descriptor or ``-errno``, log).

    Verifying a program that is too complex takes seconds each time, so this tries twice at most.  Kernels since 6.4 tell how large the
    log would be, and keep its end if it does not fit (commits 47a71c1f9af0, 121664093803); a log beyond 16 MiB comes without
    its beginning, and the errno then is ENOSPC.
    """
    most = 1 << 24
    log = bytearray(1 << 20)
    attribute = _program_attr(type, insns, log=log, log_level=log_level, **options)
    fd = _load(kernel, attribute)
    if fd == -errno.ENOSPC:
        size = field(abi.PROG_LOAD, "log_true_size", attribute.data)
        if size <= most:
            log = bytearray(size or most)
            fd = _load(kernel, _program_attr(type, insns, log=log, log_level=log_level, **options))
    return fd, text_of(log)
