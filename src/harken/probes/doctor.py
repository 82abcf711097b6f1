"""What this machine allows a tracer to do, why not more, and how to get more: the data behind ``harken doctor``.

``examine`` tries every mechanism (``kernel.features``) and looks at configuration, settings, limits and mounts; the result is a
``Report`` of plain records.  ``render.doctor`` makes text or JSON of it.

Example::

    report = examine(live())
    report.finding("fentry").fix
"""

from __future__ import annotations

from ..base.record import Record
from ..kernel import procfs
from ..kernel.config import config_of
from ..kernel.features import Answer, Features, all_names
from ..kernel.mounts import errno_name, mount_list, mount_of
from .doctor_fixes import Patient, fix
from .doctor_tables import CONFIG, LIMITS, MOUNTS, SECTIONS, SYSCTLS, TITLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

__all__ = ("Finding", "Section", "Report", "examine")


class Finding(Record):
    """One line of the report.

    ``state`` is "yes", "no", "unknown", or "info" for what is neither good nor bad.  ``detail`` says what it is for, or the
    value.  ``reason``, ``errno`` (its name), ``call`` and ``cause`` explain a "no"; ``fix`` is what to do about it.
    """

    name: str
    title: str
    state: str
    detail: str = ""
    reason: str = ""
    errno: str = ""
    call: str = ""
    cause: str = ""
    fix: str = ""


class Section(Record):
    """Findings that belong together."""

    key: str
    title: str
    findings: tuple[Finding, ...]


class Report(Record):
    """The whole examination; ``verdict`` has one finding for each class of event source."""

    kernel: str
    machine: str
    verdict: tuple[Finding, ...]
    sections: tuple[Section, ...]

    def finding(self, name: str) -> Finding:
        """A finding by its name; raises KeyError."""
        for section in self.sections:
            for finding in section.findings:
                if finding.name == name:
                    return finding
        raise KeyError(name)


def examine(kernel: Kernel, features: Features | None = None) -> Report:
    """Examines a machine; takes half a second, most of it waiting for the kernel to detach probes.

    Args:
        features: answers to use; by default everything is tried anew (and remembered for the next start of a program).
    """
    known = features is not None
    asked = features or Features(kernel)
    answers = asked.answers(all_names(), fresh=not known)
    patient = Patient(kernel, answers)
    own = procfs.uname(kernel)
    sections = [_machine(kernel, patient)]
    for key, title, names in SECTIONS:
        findings = [_feature(name, answers[name], patient) for name in names]
        if key == "hardware":
            findings.append(_pmus(kernel))
        if key == "tracers":
            findings[:1] = [findings[0], *_tracers(kernel)]
        sections.append(Section(key, title, tuple(findings)))
    for key, title, family in (("programs", "BPF program types", "program:"), ("maps", "BPF map types", "map:")):
        found = tuple(_feature(name, answer, patient) for name, answer in answers.items() if name.startswith(family))
        sections.append(Section(key, title, found))
    sections += [_config(kernel), _settings(kernel, patient), _mounts(kernel)]
    return Report(
        f"{own.system} {own.release}".strip() or "Linux", own.machine or kernel.machine, _verdict(answers, patient), tuple(sections)
    )


def _feature(name: str, answer: Answer, patient: Patient) -> Finding:
    title, purpose = TITLES.get(name, (name.partition(":")[2] or name, ""))
    detail = f"{purpose}; {answer.reason}" if answer.state == "yes" and answer.reason and purpose else purpose
    reason = "" if answer.state == "yes" else answer.reason
    number = errno_name(answer.errno) if answer.errno else ""
    return Finding(name, title, answer.state, detail, reason, number, answer.tried, answer.cause, fix(name, answer, patient))


def _info(name: str, title: str, detail: str, state: str = "info", reason: str = "", advice: str = "") -> Finding:
    return Finding(name, title, state, detail, reason, fix=advice)


# -- the machine


def _machine(kernel: Kernel, patient: Patient) -> Section:
    own = procfs.uname(kernel)
    online, possible = procfs.cpus_online(kernel), procfs.cpus_possible(kernel)
    cpus = f"{len(online)} online" + (f" of {len(possible)} possible" if len(possible) != len(online) else "")
    build = procfs.build_id(kernel)
    findings = [
        _info("kernel", "kernel", f"{own.system} {own.release} {own.version}".strip()),
        _info("machine", "architecture", own.machine or kernel.machine),
        _info("cpus", "CPUs", cpus),
        _info("build_id", "build-id", build or "not known"),
        _user(kernel, patient),
        _capabilities(patient),
    ]
    if patient.container:
        findings.append(_info("container", "container", patient.container))
    if not patient.initial:
        findings.append(
            _info(
                "user_namespace",
                "user namespace",
                "not the initial one",
                "no",
                "capabilities in it do not count for bpf(2), perf events and tracefs",
                "run harken outside of the container, or in one that does not remap users",
            )
        )
    if patient.seccomp:
        state = {1: "strict", 2: "a filter is in force"}.get(patient.seccomp, str(patient.seccomp))
        findings.append(_info("seccomp", "seccomp", state))
    findings += _lockdown(patient)
    return Section("machine", "This machine", tuple(findings))


def _user(kernel: Kernel, patient: Patient) -> Finding:
    own = procfs.status(kernel)
    uid = own.euid if own else -1
    if uid == 0:
        return _info("user", "user", "root", "yes")
    if patient.privileged:
        return _info("user", "user", f"uid {uid} with capabilities", "yes")
    return _info(
        "user", "user", f"uid {uid}", "no", "tracing the kernel or other users' processes needs privileges", patient.privilege_fix()
    )


def _capabilities(patient: Patient) -> Finding:
    have = patient.capabilities
    everything = procfs.CAPABILITIES
    missing = [name for name in everything if name not in have]
    wanted = [name for name in ("bpf", "perfmon", "sys_admin", "sys_resource", "syslog", "sys_ptrace", "ipc_lock") if name not in have]
    if not missing:
        return _info("capabilities", "capabilities", "all", "yes")
    if not have:
        return _info("capabilities", "capabilities", "none", "no", "", "")
    if len(missing) < len(have):
        text = "all but " + ", ".join(f"CAP_{name.upper()}" for name in missing)
    else:
        text = ", ".join(f"CAP_{name.upper()}" for name in everything if name in have)
    enough = patient.privileged
    reason = "CAP_BPF and CAP_PERFMON are what tracing needs (CAP_SYS_ADMIN stands for both)" if not enough else ""
    if "sys_resource" in wanted and enough:
        reason = "without CAP_SYS_RESOURCE limits cannot be raised; that matters before Linux 5.11 only"
    return _info("capabilities", "capabilities", text, "yes" if enough else "no", reason)


def _lockdown(patient: Patient) -> list[Finding]:
    found = patient.lockdown
    state = found.state
    if state == "confidentiality":
        lock = _info(
            "lockdown",
            "lockdown",
            state,
            "no",
            "programs may not read kernel memory, tracefs and kprobes are closed",
            "boot with lockdown=integrity (or without Secure Boot); it cannot be lowered while the kernel runs",
        )
    elif state == "integrity":
        lock = _info("lockdown", "lockdown", "integrity (tracing is allowed, writing to user memory is not)")
    elif state in ("none", "absent"):
        lock = _info("lockdown", "lockdown", "none" if state == "none" else "not built in")
    else:
        lock = _info(
            "lockdown",
            "lockdown",
            "could not tell",
            "unknown",
            found.how,
            patient.privilege_fix("sys_admin"),
        )
    modules = "could not tell" if found.modules is None else ", ".join(found.modules) or "none"
    return [lock, _info("lsm_modules", "security modules", modules, "info" if found.modules is not None else "unknown")]


# -- what stands beside the mechanisms


def _pmus(kernel: Kernel) -> Finding:
    from ..kernel.perf_event_pmu import pmus

    units = pmus(kernel)
    text = ", ".join(f"{unit.name} ({len(unit.events)} events)" if unit.events else unit.name for unit in units)
    return _info("pmus", "PMUs", text or "none are listed in /sys/bus/event_source/devices", "info" if units else "unknown")


def _tracers(kernel: Kernel) -> list[Finding]:
    from ..base.errors import KernelError
    from ..kernel.tracefs import find

    try:
        tracefs = find(kernel, mount=False)
        names = tracefs.tracers()
    except KernelError:
        return []
    return [_info("available_tracers", "available", ", ".join(names))]


def _config(kernel: Kernel) -> Section:
    config = config_of(kernel)
    if not config.source:
        where = "neither /proc/config.gz nor /boot/config-RELEASE can be read"
        advice = "modprobe configs, or install the package of the running kernel; it only makes explanations better"
        return Section("config", "Kernel configuration", (_info("config", "configuration", "could not tell", "unknown", where, advice),))
    findings = [_info("config", "source", config.source)]
    for name, purpose in CONFIG:
        value = config.value(name) or "n"
        if name == "CONFIG_HW_PERF_EVENTS" and kernel.machine not in ("aarch64", "armv7l"):
            continue
        state = "yes" if value in ("y", "m") else "no"
        advice = "" if state == "yes" else "build the kernel with the option set to y, if you need what it is for"
        findings.append(Finding(name, name, state, purpose, "" if state == "yes" else "not set", "", config.source, "", advice))
    return Section("config", "Kernel configuration", tuple(findings))


def _settings(kernel: Kernel, patient: Patient) -> Section:
    findings = []
    for name, fine, meaning, advised in SYSCTLS:
        value = procfs.sysctl(kernel, name)
        if value is None:
            continue
        if not fine:
            findings.append(_info(name, name, f"{value} {meaning}"))
        elif value in fine:
            findings.append(_info(name, name, value, "yes"))
        else:
            needless = patient.privileged and name in ("kernel.perf_event_paranoid", "kernel.unprivileged_bpf_disabled")
            harmless = needless or not advised
            text = f"{value} ({meaning})"
            if needless:
                text = f"{value} (restricts processes without privileges only)"
            advice = "" if harmless else f"sysctl -w {name}={advised}"
            findings.append(_info(name, name, text, "info" if harmless else "no", "", advice))
    limits = procfs.limits(kernel)
    for key, command, meaning in LIMITS:
        if key in limits:
            soft, hard = limits[key]
            text = "unlimited" if soft is None else f"{soft:,}"
            if soft != hard:
                text += " (can be raised)" if hard is None else f" (up to {hard:,})"
            findings.append(_info(f"limit:{command[7:]}", command, f"{text}: {meaning}"))
    return Section("settings", "Settings and limits", tuple(findings))


def _mounts(kernel: Kernel) -> Section:
    mounts = mount_list(kernel)
    findings = []
    for types, place, purpose in MOUNTS:
        found = mount_of(mounts, *types)
        name = types[0]
        if found is not None:
            findings.append(_info(f"mount:{name}", name, f"{found.target}{' (read-only)' if found.read_only else ''}", "yes"))
            continue
        advice = f"mount -t {name} nodev {place}"
        if name == "tracefs":
            advice += " (harken does it by itself when it is needed and permitted)"
        findings.append(_info(f"mount:{name}", name, purpose, "no", "not mounted", advice))
    return Section("mounts", "Mounts", tuple(findings))


# -- in short


def _verdict(answers: dict[str, Answer], patient: Patient) -> tuple[Finding, ...]:
    def has(*names: str) -> bool:
        return any(answers[name].state == "yes" for name in names)

    def finding(name: str, title: str, parts: list[tuple[str, bool]]) -> Finding:
        able = [text for text, there in parts if there]
        lacking = [text for text, there in parts if not there]
        if not able:
            return _info(name, title, "nothing" if patient.privileged else f"nothing: {patient.privilege_fix()}", "no")
        text = ", ".join(able)
        if lacking:
            text += "; not " + ", ".join(lacking)
        return _info(name, title, text, "yes" if not lacking else "some")

    instead = "use software:cpu-clock or profile:hz:99" if has("perf_software") else ""
    hardware = finding(
        "hardware",
        "hardware events",
        [("CPU counters", has("perf_hardware")), ("cache counters", has("perf_cache")), ("breakpoints", has("breakpoint"))],
    )
    if instead and not has("perf_hardware"):
        hardware = hardware.replace(detail=f"{hardware.detail} ({instead})")
    static = finding(
        "static",
        "static probes",
        [
            ("tracepoints", has("tracepoint_perf")),
            ("raw tracepoints", has("raw_tracepoint", "tp_btf")),
            ("software events", has("perf_software")),
            ("USDT", has("usdt_refcount")),
        ],
    )
    dynamic = finding(
        "dynamic",
        "dynamic probes",
        [
            ("kernel functions", has("kprobe_multi", "kprobe_perf", "kprobe_tracefs", "fentry")),
            ("user functions", has("uprobe_multi", "uprobe_perf", "uprobe_tracefs")),
        ],
    )
    why = []
    if not has("kprobe_multi", "kprobe_perf", "kprobe_tracefs"):
        why.append(f"kprobes: {_short(answers['kprobe_perf'])}")
    if not has("fentry"):
        why.append(f"fentry: {_short(answers['fentry'])}")
    if len(why) == 2 and patient.privileged:
        dynamic = dynamic.replace(detail=f"{dynamic.detail} ({'; '.join(why)})")
    return hardware, static, dynamic


def _short(answer: Answer) -> str:
    """A cause in a few words."""
    cause, _, detail = answer.cause.partition(":")
    return {
        "config": f"{detail.partition(',')[0]} is not set",
        "capability": "needs privileges",
        "sysctl": "needs privileges",
        "policy": "refused by policy",
        "lockdown": "the kernel is locked down",
        "seccomp": "a seccomp filter",
        "kernel": "not in this kernel",
    }.get(cause, "not here" if answer.state == "no" else "could not tell")
