"""Links: a program attached somewhere; closing the link detaches it.

Every function either returns a ``BpfLink`` or raises KernelError; ``try_link`` returns ``-errno`` for probes of features.

Facts: BPF_LINK_CREATE and BPF_RAW_TRACEPOINT_OPEN of ``kernel/bpf/syscall.c``; ``kernel/trace/bpf_trace.c`` for the multi links.
"""

from __future__ import annotations

from struct import pack

from ..abi import bpf as abi
from .bpf_errors import refusal
from .bpf_object import BpfObject, attr, bpf
from .kernel import Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bpf import Program
    from .bpf_info import LinkInfo
    from .kernel import Buffer, Kernel

__all__ = (
    "BpfLink", "iter_create", "iter_link", "kprobe_multi_link", "link_create", "perf_event_link", "raw_tracepoint_open", "tracing_link",
    "try_link", "try_raw_tracepoint", "uprobe_multi_link",
)  # fmt: skip


class BpfLink(BpfObject):
    """An attachment that ends when it is closed."""

    __slots__ = ()

    def info(self) -> LinkInfo:
        """What the kernel knows of the link."""
        from .bpf_info import link_info

        return link_info(self.kernel, self.fd)

    def missed(self) -> int | None:
        """Events that the probe could not deliver; None where the kernel does not count them."""
        try:
            return self.info().missed
        except Exception:
            # a raw tracepoint descriptor of an old kernel is no link; nothing counts there
            return None


def try_link(kernel: Kernel, program_fd: int, attach_type: int, target_fd: int = 0, flags: int = 0, **union: int | Buffer | None) -> int:
    """BPF_LINK_CREATE: a descriptor or ``-errno``.

    Args:
        union: fields that belong to the attach type, named as in ``abi.bpf.LINK_CREATE`` ("perf_event_bpf_cookie",
            "kprobe_multi_syms", "target_btf_id", ...).
    """
    attribute = attr(
        abi.LINK_CREATE,
        abi.LINK_CREATE_SIZE,
        prog_fd=program_fd,
        target_fd=target_fd,
        attach_type=attach_type,
        flags=flags,
        **union,
    )
    return bpf(kernel, abi.BPF_LINK_CREATE, attribute)


def link_create(
    kernel: Kernel, program: Program, attach_type: int, target_fd: int = 0, flags: int = 0, *, what: str = "", **union: int | Buffer | None
) -> BpfLink:
    """BPF_LINK_CREATE; ``what`` names the place for the error message."""
    fd = try_link(kernel, program.fd, attach_type, target_fd, flags, **union)
    if fd < 0:
        raise refusal("link_create", -fd, f"program {program.name!r}" + (f" to {what}" if what else ""))
    return BpfLink(kernel, fd, program.name)


def perf_event_link(kernel: Kernel, program: Program, perf_fd: int, cookie: int = 0, what: str = "a perf event") -> BpfLink:
    """Attaches to a perf event's descriptor (Linux 5.15); ``cookie`` is what bpf_get_attach_cookie gives to the program."""
    return link_create(kernel, program, abi.BPF_PERF_EVENT, perf_fd, what=what, perf_event_bpf_cookie=cookie)


def kprobe_multi_link(
    kernel: Kernel,
    program: Program,
    symbols: Sequence[str] = (),
    addresses: Sequence[int] = (),
    cookies: Sequence[int] = (),
    retprobe: bool = False,
    session: bool = False,
) -> BpfLink:
    """One attachment to many kernel functions through fprobe (Linux 5.18; by session since 6.10).

    Args:
        symbols: functions by name, or
        addresses: by address; exactly one of the two.
        cookies: one per function, or none.
        retprobe: run at the functions' return.
        session: run at entry and return; the program's return value at entry decides about the return.
    """
    count = len(symbols) or len(addresses)
    return link_create(
        kernel,
        program,
        abi.BPF_TRACE_KPROBE_SESSION if session else abi.BPF_TRACE_KPROBE_MULTI,
        what=symbols[0] if count == 1 and symbols else f"{count} kernel functions",
        kprobe_multi_flags=abi.BPF_F_KPROBE_MULTI_RETURN if retprobe else 0,
        kprobe_multi_cnt=count,
        kprobe_multi_syms=Memory.array([symbol.encode() + b"\0" for symbol in symbols]) if symbols else None,
        kprobe_multi_addrs=_u64s(addresses),
        kprobe_multi_cookies=_u64s(cookies),
    )


def uprobe_multi_link(
    kernel: Kernel,
    program: Program,
    path: str,
    offsets: Sequence[int],
    ref_ctr_offsets: Sequence[int] = (),
    cookies: Sequence[int] = (),
    pid: int = 0,
    retprobe: bool = False,
    session: bool = False,
) -> BpfLink:
    """One attachment to many places of a file (Linux 6.6; by session since 6.13).

    Args:
        path: the executable or library.
        offsets: file offsets of instructions.
        ref_ctr_offsets: file offsets of USDT semaphores (0: none), one per place, or none at all.
        cookies: one per place, or none.
        pid: only in that process, 0: everywhere.
        retprobe, session: as for ``kprobe_multi_link``.
    """
    return link_create(
        kernel,
        program,
        abi.BPF_TRACE_UPROBE_SESSION if session else abi.BPF_TRACE_UPROBE_MULTI,
        what=f"{len(offsets)} places in {path}",
        uprobe_multi_path=path.encode() + b"\0",
        uprobe_multi_offsets=_u64s(offsets),
        uprobe_multi_ref_ctr_offsets=_u64s(ref_ctr_offsets),
        uprobe_multi_cookies=_u64s(cookies),
        uprobe_multi_cnt=len(offsets),
        uprobe_multi_flags=abi.BPF_F_UPROBE_MULTI_RETURN if retprobe else 0,
        uprobe_multi_pid=pid,
    )


def tracing_link(kernel: Kernel, program: Program, attach_type: int, cookie: int = 0, what: str = "") -> BpfLink:
    """Attaches a program that was bound to its target at load: fentry, fexit, fmod_ret, tp_btf, LSM.

    Without a cookie this goes through BPF_RAW_TRACEPOINT_OPEN, which every kernel with such programs has; BPF_LINK_CREATE takes
    these types only since Linux 5.19.
    """
    if cookie:
        return link_create(kernel, program, attach_type, what=what, tracing_cookie=cookie)
    return raw_tracepoint_open(kernel, program, "", what=what)


def iter_link(kernel: Kernel, program: Program, info: bytes = b"") -> BpfLink:
    """Attaches an iterator program; ``info`` is a ``union bpf_iter_link_info`` (which map, which task), empty for all."""
    return link_create(kernel, program, abi.BPF_TRACE_ITER, what="an iterator", iter_info=info, iter_info_len=len(info))


def iter_create(kernel: Kernel, link: BpfLink) -> int:
    """A descriptor from which one reads what the iterator prints; the caller closes it."""
    fd = bpf(kernel, abi.BPF_ITER_CREATE, attr(abi.ITER_CREATE, abi.ITER_CREATE_SIZE, link_fd=link.fd))
    if fd < 0:
        raise refusal("iter_create", -fd, f"the iterator {link.name!r}")
    return fd


def try_raw_tracepoint(kernel: Kernel, program_fd: int, name: str = "", cookie: int = 0) -> int:
    """BPF_RAW_TRACEPOINT_OPEN: a descriptor or ``-errno``."""
    text = name.encode() + b"\0" if name else None
    attribute = attr(abi.RAW_TRACEPOINT, abi.RAW_TRACEPOINT_SIZE, name=text, prog_fd=program_fd, cookie=cookie)
    return bpf(kernel, abi.BPF_RAW_TRACEPOINT_OPEN, attribute)


def raw_tracepoint_open(kernel: Kernel, program: Program, name: str, cookie: int = 0, what: str = "") -> BpfLink:
    """Attaches a raw tracepoint program to the tracepoint ``name`` (no category); with an empty name a program that is bound already.

    Args:
        cookie: for bpf_get_attach_cookie (Linux 6.10); 0: none.
    """
    fd = try_raw_tracepoint(kernel, program.fd, name, cookie)
    if fd < 0:
        place = what or (f"raw tracepoint {name}" if name else "")
        raise refusal("raw_tracepoint_open", -fd, f"program {program.name!r}" + (f" to {place}" if place else ""))
    return BpfLink(kernel, fd, program.name)


def _u64s(values: Sequence[int]) -> bytes | None:
    return pack(f"={len(values)}Q", *values) if values else None
