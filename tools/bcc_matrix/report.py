"""Results to verdicts, to the table of docs/bcc_tools.md and to a list of failures."""

from __future__ import annotations

import re
import shlex
from typing import Any

__all__ = ("failures", "page", "verdict")

#: by rank: the best of several variants speaks for a tool
VERDICTS = ("works", "attaches", "refused", "fails")

#: tools that only look
_NO_PROBES = frozenset(("bpflist", "tplist", "reset-trace"))
_OURS = re.compile(
    r"Failed to compile|Failed to load|verifier|AttributeError|TypeError|NameError|KeyError|IndexError|AssertionError|NotImplemented|"
    r"internal error|ImportError|ModuleNotFound|RecursionError|UnboundLocal|ctypes.ArgumentError|struct.error|killed"
)


#: lines that were taken for data and are none: of tracebacks, headings, notices, times without anything below
_NO_DATA = re.compile(
    r'File "|Considering |\[\d\d/\d\d/\d\d [\d:]+\]$|Display kvm exit|LAddrPort|\x1b\[H\x1b\[J[\d:]+ loadavg|\[[\d:]+\] Top '
)


def verdict(result: dict[str, Any]) -> tuple[str, str]:
    """(one of VERDICTS, reason or the line of data)."""
    if "broken" in result:
        return "fails", result["broken"]
    text = result["stderr"] + "\n" + (result["stdout"] if not result["data"] else "")
    reason = _reason(result)
    if result["status"] is not None and result["status"] < 0 and result["status"] != -2:
        return "fails", f"killed by signal {-result['status']}: {reason}"
    if re.search(r"no member named|incomplete definition of type", text) and not result["attached"]:
        wrong = re.search(r"[^:\n]*(no member named|incomplete definition of type)[^\n]*", text)
        return "refused", f"the tool's C does not fit this kernel's types:{wrong[0] if wrong else ''}"
    traceback = "Traceback (most recent call last)" in result["stderr"] and not reason.startswith("KeyboardInterrupt")
    if traceback and _OURS.search(text):
        return "fails", reason
    data = result["data"] if not _NO_DATA.match(result["data"].strip()) else ""
    if data and (result["attached"] or result["tool"] in _NO_PROBES) and not traceback:
        return "works", data
    if result["attached"] and not traceback:
        return "attaches", reason if result["status"] not in (0, None, -2) else "nothing to show in this test"
    if not result["interrupted"] and (result["status"] or reason):
        return ("fails" if _OURS.search(text) else "refused"), reason
    return "fails", reason or "nothing was attached"


def _reason(result: dict[str, Any]) -> str:
    """The line that says why: the exception's, else the first one on standard error, else the last one of output."""
    errors = [line.strip() for line in result["stderr"].splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in errors):
        named = [line for line in errors if re.match(r"[A-Za-z_.]*(Error|Exception|Interrupt|Exit)\b", line)]
        if named:
            return named[-1][:300]
    for line in errors:
        if re.search(r"error:|ERROR|Error|no such|not |cannot", line):
            return line[:300]
    if errors:
        return errors[-1][:300]
    output = [line.strip() for line in result["stdout"].splitlines() if line.strip()]
    if result["stdout"].count("\n") > 1 and output and output[-1].startswith("Detaching"):
        return "it found no process that it could watch"
    return output[-1][:300] if output else ""


def failures(results: dict[str, list[dict[str, Any]]]) -> str:
    """One line per failing case: tool, arguments, kernel, reason; and counts."""
    lines = []
    for kernel, found in results.items():
        counts = dict.fromkeys(VERDICTS, 0)
        for result in found:
            kind, reason = verdict(result)
            counts[kind] += 1
            if kind in ("fails", "refused") or (kind == "attaches"):
                lines.append(f"{kind:8} {kernel:7} {shlex.join([result['tool'], *result['args']])}: {reason}")
        lines.insert(0, f"# {kernel}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    return "\n".join(sorted(lines, key=lambda line: (line[0] != "#", line.split()[0] == "attaches", line.split()[0] == "refused"))) + "\n"


def page(results: dict[str, list[dict[str, Any]]], versions: dict[str, str]) -> str:
    """docs/bcc_tools.md."""
    kernels = list(results)
    tools: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for kernel, found in results.items():
        for result in found:
            tools.setdefault(result["tool"], {}).setdefault(kernel, []).append(result)
    best: dict[str, str] = {}
    rows = []
    for tool in sorted(tools):
        cells, notes = [], []
        for kernel in kernels:
            runs = tools[tool].get(kernel, [])
            if not runs:
                cells.append("-")
                continue
            judged = [verdict(run) for run in runs]
            kind = min((k for k, _ in judged), key=VERDICTS.index)
            good = sum(k in ("works", "attaches") for k, _ in judged)
            cells.append(kind + (f" {good}/{len(runs)}" if len(runs) > 1 else ""))
            if VERDICTS.index(kind) < VERDICTS.index(best.get(tool, "fails")):
                best[tool] = kind
            if kind != "works":
                notes.append(next((reason for k, reason in judged if k == kind), ""))
        best.setdefault(tool, "fails")
        # the kernel that offers most speaks last
        note = "" if best[tool] == "works" else _plain(notes[-1])
        rows.append(f"| {tool} | {' | '.join(cells)} | {_cell(note)} |")
    runtime = [tool for tool in best if tool.startswith(_RUNTIMES)]
    count = _counted([kind for tool, kind in best.items() if tool not in runtime])
    others = _counted([best[tool] for tool in runtime])
    head = [
        "# BCC's tools under harken",
        "",
        "Made by `python -m tools.bcc_matrix`; do not edit.",
        "",
        f"Every script of Debian's bpfcc-tools {versions.get('bpfcc-tools', '')}, unchanged, under `python -m harken.bcc`, on kernels "
        + ", ".join(f"{k} ({versions[k]})" if k in versions else k for k in kernels)
        + ". Arguments come from the manual pages' examples (pids, disks and functions replaced by ones that exist); "
        "`n/m` counts the variants that attached.",
        "",
        f"Best result on any of these kernels, of {len(best) - len(runtime)} tools: {count}.",
        "",
        f"{len(runtime)} more scripts watch runtimes of languages, which must have static markers (Debian's Python has): {others}.",
        "",
        "- *works*: attached, and printed lines of data while the workload ran",
        "- *attaches*: everything was attached; this test's workload gave it nothing to show",
        "- *refused*: ended with the reason in the last column",
        "- *fails*: harken's fault",
        "",
        f"| tool | {' | '.join(kernels)} | where it does not work anywhere, why |",
        "|---|" + "---|" * (len(kernels) + 1),
    ]
    return "\n".join([*head, *rows]) + "\n"


def _counted(kinds: list[str]) -> str:
    return ", ".join(f"{kinds.count(kind)} {_WORDS[kind]}" for kind in VERDICTS if kind in kinds)


def _plain(reason: str) -> str:
    """A reason without what is the same in all of them."""
    reason = re.sub(r"^[a-z.]*\.?(BPFError|Exception|USDTException): ", "", reason)
    reason = re.sub(r"process \d+ ", "the process ", reason)
    reason = re.sub(r"it's not traceable \(either[^)]*\): ", "", reason)
    return re.sub(r"Failed to attach BPF program b'\w+' to (\w+) b'([^']+)', ", r"\1 \2: ", reason)


#: scripts for the runtimes of languages
_RUNTIMES = ("java", "node", "perl", "php", "ruby", "tcl", "python", "ucalls", "uflow", "ugc", "uobjnew", "ustat", "uthreads")
_WORDS = {
    "works": "work",
    "attaches": "attach",
    "refused": "are refused with a reason (most lie outside of harken; not each was looked into)",
    "fails": "fail",
}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "\\<")[:220]
