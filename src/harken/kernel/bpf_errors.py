"""What the kernel means when bpf(2) says no: errno and log tail -> one sentence, and what to do.

Example:
    >>> refusal("map_create", 22, "map 'x' (hash)").message
    "cannot create map 'x' (hash): the kernel does not know this type, or a size or flag is out of its range (EINVAL)"
"""

from __future__ import annotations

import errno as _errno

from ..base.errors import KernelError

__all__ = ("refusal", "errno_name")

#: ENOTSUPP is not part of the user API, yet bpf(2) returns it (include/linux/errno.h)
ENOTSUPP = 524

_CAPABILITY = "run as root, or with the capabilities CAP_BPF and CAP_PERFMON"
_VERBS = {
    "map_create": "create",
    "map_elem": "use",
    "map_batch": "use",
    "map_freeze": "freeze",
    "prog_load": "load",
    "btf_load": "load",
    "link_create": "attach",
    "raw_tracepoint_open": "attach",
    "prog_test_run": "run",
    "obj_pin": "pin",
    "obj_get": "open",
    "info": "ask about",
    "enable_stats": "enable",
    "iter_create": "start",
    # of any kind of object
    "get_next_id": "list",
    "get_fd_by_id": "open",
}


def errno_name(number: int) -> str:
    """ "EPERM" for 1; "ENOTSUPP" for 524, which C libraries do not know; "errno N" for what nobody knows."""
    return "ENOTSUPP" if number == ENOTSUPP else _errno.errorcode.get(number, f"errno {number}")


def refusal(command: str, number: int, what: str, log: str = "") -> KernelError:
    """The error for a refused bpf(2) command.

    Args:
        command: the command in lower case without BPF_ ("map_create", "prog_load", "link_create", ...).
        number: the positive errno.
        what: the thing in the user's terms ("map '@reads' (percpu_hash)", "program 'kprobe:vfs_read'").
        log: the verifier's or BTF checker's text, if any; its last line decides some cases.
    """
    reason, hint = _reason(command, number, log, what)
    verb = _VERBS.get(command) or _VERBS.get(command.partition("_")[2], command)
    return KernelError(
        f"cannot {verb} {what}: {reason} ({errno_name(number)})", call=f"bpf(BPF_{command.upper()})", errno=number, hint=hint
    )


def _reason(command: str, number: int, log: str, what: str = "") -> tuple[str, str]:
    """(why, what to do): the one place where errno becomes advice."""
    last = log.rstrip().rpartition("\n")[2]
    if number == _errno.EPERM:
        if command == "prog_load" and log.strip():
            return "the verifier did not let it pass", "see the verifier's log"
        if command in ("map_create", "btf_load"):
            return (
                "the kernel does not allow it to this user",
                f"{_CAPABILITY}; on kernels before 5.11 the locked memory limit (ulimit -l) may be too low",
            )
        return (
            "the kernel does not allow it, to this user or by policy",
            f"{_CAPABILITY}; if that is so already, a security policy (lockdown, an LSM) forbids this kind: 'harken doctor' shows which",
        )
    if number == _errno.EACCES:
        return "access was refused, or the verifier did not let it pass", f"{_CAPABILITY}; see the verifier's log if there is one"
    if number == _errno.ENOMEM:
        if command == "map_create":
            return "not enough memory for a map of this size", "make the map smaller (fewer entries, smaller keys or values)"
        return "not enough memory", "close other programs, or make maps and buffers smaller"
    if number == _errno.E2BIG:
        if command == "prog_load":
            return "the program has more instructions than this kernel takes", "split it, unroll less, or trace fewer probes at once"
        if command == "map_create":
            return "the map is larger than the kernel can make it", "make the map smaller (fewer entries, smaller keys or values)"
        return "something is too large, or newer than this kernel", "a full map, or a feature that this kernel does not have yet"
    if number == _errno.EINVAL:
        if command == "map_create":
            return (
                "the kernel does not know this type, or a size or flag is out of its range",
                "'harken doctor' lists the map types of this kernel",
            )
        if command == "prog_load":
            if last:
                return f"the kernel says: {last.strip()}", "see the verifier's log"
            return (
                "the kernel does not know this program type, attach type or flag",
                "'harken doctor' lists the program types of this kernel",
            )
        if command == "raw_tracepoint_open" and " raw tracepoint " in what:
            # kernel/trace/bpf_trace.c, __bpf_probe_register: prog->aux->max_ctx_offset against the tracepoint's number of arguments
            return "it reads more arguments than this kernel's tracepoint has", "'harken list -v rawtracepoint:NAME' shows them"
        if command in ("link_create", "raw_tracepoint_open"):
            return "this kernel cannot attach the program this way", "'harken doctor' lists the ways to attach that work here"
        if command == "btf_load":
            return f"the type information is not valid for this kernel{': ' + last.strip() if last else ''}", ""
        return "the kernel does not take one of the values", ""
    if number == _errno.ENOSPC:
        return "the log buffer was too small" if command in ("prog_load", "btf_load") else "there is no space left", ""
    if number == _errno.ENOENT:
        if command == "raw_tracepoint_open":
            return "there is no such tracepoint", "'harken list rawtracepoint:*' shows those that exist"
        return "there is no such thing", ""
    if number == _errno.EBUSY:
        return "it is in use already", "another tool may hold it"
    if number == _errno.EEXIST:
        return "it exists already", ""
    if number == _errno.ENOSYS:
        return "this kernel has no bpf(2)", "it needs a kernel with CONFIG_BPF_SYSCALL=y"
    if number in (_errno.EOPNOTSUPP, ENOTSUPP):
        return "this kernel was built without it", "'harken doctor' shows which configuration option is missing"
    if number == _errno.ESRCH:
        return "no such function or process", "the name may be inlined, in an unloaded module, or not traceable"
    if number == _errno.EBADF:
        return "a file descriptor that it needs is closed or of another kind", ""
    if number == _errno.EMFILE:
        return "too many open files", "raise the limit with ulimit -n"
    return _errno_text(number), ""


def _errno_text(number: int) -> str:
    import os

    return os.strerror(number).lower() if number in _errno.errorcode else "the kernel refused"
