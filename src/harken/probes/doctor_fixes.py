"""From the cause of a "no" to what to do about it: a command, an option, a boot parameter, or what to choose instead."""

from __future__ import annotations

from ..kernel import procfs
from .doctor_tables import INSTEAD, brought_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.features import Answer
    from ..kernel.kernel import Kernel

__all__ = ("Patient", "fix")


class Patient:
    """What the fixes depend on: who asks, from where, and what works."""

    def __init__(self, kernel: Kernel, answers: dict[str, Answer]) -> None:
        own = procfs.status(kernel)
        self.answers = answers
        self.machine = kernel.machine
        self.capabilities = procfs.capabilities(kernel)
        self.initial = procfs.initial_user_namespace(kernel)
        self.container = procfs.container(kernel)
        self.lockdown = procfs.lockdown(kernel)
        self.seccomp = (own.seccomp or 0) if own else 0
        self.bounding = own.bounding if own else 0
        self.root = own is not None and own.euid == 0

    @property
    def privileged(self) -> bool:
        """Whether capabilities suffice for bpf(2) and perf events."""
        have = self.capabilities
        return self.initial and ("sys_admin" in have or {"bpf", "perfmon"} <= have)

    def privilege_fix(self, names: str = "") -> str:
        """How to get privileges from here."""
        wanted = [name for name in names.split(",") if name] or ["bpf", "perfmon"]
        if wanted == ["dac_read_search"] and not self.root:
            return "run it as root: sudo harken ..., or let root open it: mount -o remount,gid=GROUP /sys/kernel/tracing"
        listed = " and ".join(f"CAP_{name.upper()}" for name in wanted)
        if self.container not in ("", "a user namespace") and (not self.initial or self.root):
            flags = " ".join(f"--cap-add {name.upper()}" for name in wanted)
            return (
                f"give the container {listed} (docker run {flags}; Kubernetes: securityContext.capabilities.add) in the initial "
                "user namespace, or start it with --privileged"
            )
        if not self.initial:
            return "run it outside of the user namespace (privileges inside of one do not count for the kernel)"
        if self.root:
            return f"this root is confined: run it outside of the sandbox or service that drops {listed}"
        return "run it as root: sudo harken ..."


def fix(name: str, answer: Answer, patient: Patient) -> str:
    """What to do about an answer that is no; "" for any other.

    The last words name what serves meanwhile, out of what works on this machine.
    """
    if answer.state == "yes":
        return ""
    cause, _, detail = answer.cause.partition(":")
    instead = _instead(name, patient)
    if cause == "moment" or answer.state == "unknown":
        return "try again" if cause == "moment" and answer.errno else ""
    if cause == "config":
        options = detail.split(",")
        wanted = " and ".join([f"{option}=y" for option in options])
        text = f"build the kernel with {wanted}, or boot one that has {'them' if options[1:] else 'it'}"
        return f"{text}; from here choose {instead}" if instead else text
    if cause == "capability":
        return patient.privilege_fix(detail)
    if cause == "sysctl":
        if detail == "kernel.perf_event_paranoid":
            level = "2" if name in ("perf_self", "breakpoint") else "-1"
            return f"{patient.privilege_fix('perfmon')}, or let root allow it to all: sysctl -w {detail}={level}"
        return f"sysctl -w {detail}=1"
    if cause == "policy":
        return (
            f"cannot be changed from here: choose {instead}"
            if instead
            else "cannot be changed from here: ask whoever sets this machine's policy"
        )
    if cause == "lockdown":
        text = "boot with lockdown=integrity or without Secure Boot; it cannot be lowered while the kernel runs"
        return f"{text}; from here choose {instead}" if instead else text
    if cause == "seccomp":
        return "let the container's seccomp profile allow the call (docker run --security-opt seccomp=unconfined)"
    if cause == "hardware":
        text = (
            "cannot be changed from here"
            if patient.container
            else "in a virtual machine: let the host pass the PMU through (QEMU: -cpu host,pmu=on)"
        )
        return f"{text}; from here choose {instead}" if instead else text
    if cause == "bootparam":
        modules = ",".join([*(patient.lockdown.modules or ()), "bpf"])
        return f"boot with {detail}{modules}"
    if cause == "mount":
        return f"mount -t {detail} nodev /sys/fs/cgroup"
    if cause == "needs":
        return f"see {detail}"
    since = brought_by(name, patient.machine)
    text = f"boot a kernel of Linux {since} or later" if since else "boot a newer kernel"
    return f"{text}; from here choose {instead}" if instead else text


def _instead(name: str, patient: Patient) -> str:
    for other, words in INSTEAD.get(name, ()):
        if other != name and patient.answers[other].state == "yes":
            return words
    return ""
