"""What /proc and /sys tell about the machine and about this process's rights.

Every function takes a ``Kernel`` and reads bounded amounts; what cannot be read is None or empty, so that callers can say "could not
tell" instead of guessing.  Other processes are looked at in ``kernel.procfs_process``.
"""

from __future__ import annotations

from ..base.record import Record
from .cpus import cpus_online, cpus_possible, parse_cpu_list
from .identity import Uname, namespace_number, read_link, uname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .kernel import Kernel

__all__ = (
    "CAPABILITIES",
    "Uname",
    "Status",
    "Lockdown",
    "Module",
    "parse_cpu_list",
    "cpus_online",
    "cpus_possible",
    "uname",
    "boot_id",
    "build_id",
    "status",
    "capabilities",
    "initial_user_namespace",
    "namespace_number",
    "container",
    "lockdown",
    "limits",
    "sysctl",
    "modules",
    "kallsyms",
    "symbol_addresses",
    "read_link",
    "read_text",
)

#: Names of the capabilities by bit (include/uapi/linux/capability.h).
CAPABILITIES = tuple(
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service net_broadcast "
    "net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice "
    "sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm "
    "block_suspend audit_read perfmon bpf checkpoint_restore".split()
)

_KALLSYMS_LIMIT = 256 << 20
_INITIAL_USER, _INITIAL_PID = 0xEFFFFFFD, 0xEFFFFFFC  # PROC_USER_INIT_INO, PROC_PID_INIT_INO in include/linux/proc_ns.h


class Status(Record):
    """The part of ``/proc/PID/status`` that decides what a process may do.

    ``seccomp``: 0 none, 1 strict, 2 filter; None when the kernel does not say.  ``ns_pids`` are the process's numbers from the outer
    PID namespace (that of the reader) to its own.
    """

    uid: int = -1
    euid: int = -1
    tgid: int = -1
    effective: int = 0
    permitted: int = 0
    bounding: int = 0
    seccomp: int | None = None
    no_new_privs: bool = False
    ns_pids: tuple[int, ...] = ()


class Lockdown(Record):
    """Kernel lockdown and the security modules in force.

    ``state`` is "none", "integrity", "confidentiality", "absent" (the kernel has no lockdown) or "" (could not tell, ``how`` says why).
    ``modules`` are the active LSMs in order; None if not known.
    """

    state: str
    how: str
    modules: tuple[str, ...] | None = None


class Module(Record):
    """One line of ``/proc/modules``; ``address`` is 0 when hidden (kptr_restrict)."""

    name: str
    size: int
    address: int


def read_text(kernel: Kernel, path: str, limit: int = 1 << 20) -> str | None:
    """A file's text (bytes that are not UTF-8 as surrogates), or None if it cannot be read."""
    try:
        return kernel.read(path, limit).decode("utf-8", "surrogateescape")
    except OSError:
        return None


def boot_id(kernel: Kernel) -> str:
    """A random name of this boot; "" if unreadable."""
    return (read_text(kernel, "/proc/sys/kernel/random/boot_id", 64) or "").strip()


def build_id(kernel: Kernel) -> str:
    """The GNU build-id of the kernel image in hex, from ``/sys/kernel/notes``; "" if it has none."""
    try:
        data = kernel.read("/sys/kernel/notes", 1 << 16)
    except OSError:
        return ""
    order = "little" if sys_little(kernel) else "big"
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = (int.from_bytes(data[at + k : at + k + 4], order) for k in (0, 4, 8))  # type: ignore[arg-type]
        name_at = at + 12
        body = name_at + (name_size + 3 & ~3)
        if kind == 3 and data[name_at : name_at + name_size] == b"GNU\0":  # NT_GNU_BUILD_ID
            return data[body : body + size].hex()
        at = body + (size + 3 & ~3)
    return ""


def sys_little(kernel: Kernel) -> bool:
    """Whether the kernel's machine is little-endian (all that harken runs on but s390x and old POWER)."""
    return kernel.machine not in ("s390x", "ppc64", "ppc", "sparc64", "m68k", "mips", "mips64", "parisc64")


def status(kernel: Kernel, pid: int | str = "self") -> Status | None:
    """Identity and privileges of a process; None if it is gone or hidden."""
    try:
        data = kernel.read(f"/proc/{pid}/status", 1 << 16)
    except OSError:
        return None
    # The command's name comes first and the kernel escapes newlines in it, so a line's start cannot be forged.
    found: dict[bytes, bytes] = {}
    for line in data.split(b"\n"):
        key, colon, value = line.partition(b":\t")
        if colon:
            found[key] = value
    try:
        uids = found.get(b"Uid", b"-1\t-1").split()
        return Status(
            uid=int(uids[0]),
            euid=int(uids[1]),
            tgid=int(found.get(b"Tgid", b"-1")),
            effective=int(found.get(b"CapEff", b"0"), 16),
            permitted=int(found.get(b"CapPrm", b"0"), 16),
            bounding=int(found.get(b"CapBnd", b"0"), 16),
            seccomp=int(found[b"Seccomp"]) if b"Seccomp" in found else None,
            no_new_privs=found.get(b"NoNewPrivs", b"0") == b"1",
            ns_pids=tuple(int(word) for word in found.get(b"NSpid", b"").split()),
        )
    except (ValueError, IndexError):
        return None


def capabilities(kernel: Kernel) -> frozenset[str]:
    """Names ("bpf", "sys_admin") of this process's effective capabilities."""
    own = status(kernel)
    mask = own.effective if own else 0
    return frozenset(name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1)


def initial_user_namespace(kernel: Kernel) -> bool:
    """Whether this process is in the initial user namespace.

    In any other, capabilities count only for what the namespace owns: bpf(2), perf events and tracefs are the initial one's.
    """
    number = namespace_number(kernel, "user")
    if number:
        return number == _INITIAL_USER
    text = read_text(kernel, "/proc/self/uid_map", 4096)
    return text is None or text.split() == ["0", "0", "4294967295"]


def container(kernel: Kernel) -> str:
    """What kind of container this process seems to run in ("docker", "podman", "kubernetes", ...); "" for none.

    A marker file alone proves nothing (disk images are made from container images): the root must be an overlay, or the PID
    namespace must not be the initial one.
    """
    from .mounts import mount_list

    inner = namespace_number(kernel, "pid") not in (0, _INITIAL_PID)
    roots = [mount for mount in mount_list(kernel) if mount.target == "/"]
    if not inner and not (roots and roots[-1].fstype in ("overlay", "fuse-overlayfs", "aufs")):
        return "" if initial_user_namespace(kernel) else "a user namespace"
    if kernel.exists("/run/secrets/kubernetes.io"):
        return "kubernetes"
    if kernel.exists("/run/.containerenv"):
        return "podman"
    if kernel.exists("/.dockerenv"):
        return "docker"
    kind = (read_text(kernel, "/run/systemd/container", 256) or "").strip()
    if kind:
        return kind[:40]
    for entry in (read_text(kernel, "/proc/1/environ", 1 << 16) or "").split("\0"):
        if entry.startswith("container="):
            return entry[10:50]
    return "a PID namespace" if inner else ""


def lockdown(kernel: Kernel) -> Lockdown:
    """The lockdown state and the active security modules.

    securityfs holds both; where it is not mounted, it is looked at through a detached mount (``kernel.mounts.detached``), which needs
    CAP_SYS_ADMIN; without that the answer is "could not tell".
    """
    from .mounts import detached, errno_name, mount_list, mount_of

    mounted = mount_of(mount_list(kernel), "securityfs")
    if mounted is not None:
        return _lockdown(kernel, mounted.target, f"{mounted.target}/lockdown")
    from ..base.errors import KernelError

    try:
        with detached(kernel, "securityfs") as place:
            return _lockdown(kernel, place.path, "securityfs (not mounted; looked at privately)")
    except KernelError as error:
        how = (
            f"securityfs is not mounted ({error.call} = {errno_name(error.errno)}); mount -t securityfs nodev /sys/kernel/security shows it"
        )
        return Lockdown("", how)


def _lockdown(kernel: Kernel, root: str, how: str) -> Lockdown:
    listed = read_text(kernel, f"{root}/lsm", 4096)
    names = tuple(word for word in listed.strip().split(",") if word) if listed is not None else None
    try:
        text = kernel.read(f"{root}/lockdown", 256).decode("ascii", "replace")
    except FileNotFoundError:
        return Lockdown("absent", f"no {how}", names)
    except OSError as error:
        return Lockdown("", f"cannot read {root}/lockdown: {error.strerror}", names)
    start, end = text.find("["), text.find("]")
    return Lockdown(text[start + 1 : end] if 0 <= start < end else "", how, names)


def limits(kernel: Kernel) -> dict[str, tuple[int | None, int | None]]:
    """This process's resource limits by the kernel's name ("Max locked memory"): (soft, hard), None for unlimited."""
    found: dict[str, tuple[int | None, int | None]] = {}
    for line in (read_text(kernel, "/proc/self/limits", 1 << 14) or "").split("\n")[1:]:
        words = line[26:].split()
        if len(words) >= 2:
            try:
                soft, hard = (None if word == "unlimited" else int(word) for word in words[:2])
            except ValueError:
                continue
            found[line[:26].strip()] = (soft, hard)
    return found


def sysctl(kernel: Kernel, name: str) -> str | None:
    """A sysctl by its dotted name ("kernel.perf_event_paranoid"); None if it does not exist or may not be read."""
    text = read_text(kernel, "/proc/sys/" + name.replace(".", "/"), 4096)
    return None if text is None else text.strip()


def modules(kernel: Kernel) -> list[Module]:
    """Loaded modules; empty when the kernel has none or was built without them."""
    found = []
    for line in (read_text(kernel, "/proc/modules", 4 << 20) or "").split("\n"):
        words = line.split()
        if len(words) >= 6:
            try:
                found.append(Module(words[0], int(words[1]), int(words[5], 16)))
            except ValueError:
                continue
    return found


def kallsyms(kernel: Kernel) -> bytes:
    """The whole of ``/proc/kallsyms`` (6 to 20 MB, 0.1 s); lines "ADDRESS TYPE NAME[\\t[MODULE]]".  b"" if it may not be read."""
    try:
        return kernel.read("/proc/kallsyms", _KALLSYMS_LIMIT)
    except OSError:
        return b""


def symbol_addresses(kernel: Kernel, names: Iterable[str], text: bytes | None = None) -> dict[str, tuple[int, ...]]:
    """Addresses of kernel symbols, all of each name (static functions may share one); names that do not exist are left out.

    Args:
        names: without module; symbols of modules are found too.
        text: what ``kallsyms`` returned, to be searched; read anew if None.

    Returns:
        Addresses in the order of the file.  They are all 0 when hidden from this user (kptr_restrict, no CAP_SYSLOG).
    """
    data = kallsyms(kernel) if text is None else text
    found: dict[str, tuple[int, ...]] = {}
    for name in names:
        word = b" " + name.encode("utf-8", "surrogateescape")
        places = []
        at = data.find(word)
        while at >= 0:
            after = data[at + len(word) : at + len(word) + 1]
            if after in (b"\n", b"\t", b""):
                start = data.rfind(b"\n", 0, at) + 1
                try:
                    places.append(int(data[start : at - 2], 16))
                except ValueError:
                    pass
            at = data.find(word, at + 1)
        if places:
            found[name] = tuple(places)
    return found
