"""Results to verdicts, to the table of docs/bcc_tools.md and to a list of failures."""

from __future__ import annotations

import re
import shlex
from typing import Any

from .cases import RUNTIMES
from .data import line_of_data
from .reasons import ELSEWHERE, NOWHERE, VARIANTS

__all__ = ("failures", "page", "verdict")

#: by rank: the best of several variants speaks for a tool
VERDICTS = ("works", "attaches", "refused", "fails", "not installed")

#: tools that only look
_NO_PROBES = frozenset(("bpflist", "tplist", "reset-trace"))
_OURS = re.compile(
    r"Failed to compile|Failed to load|verifier|AttributeError|TypeError|NameError|KeyError|IndexError|AssertionError|NotImplemented|"
    r"internal error|ImportError|ModuleNotFound|RecursionError|UnboundLocal|ctypes.ArgumentError|struct.error|killed"
)


def verdict(result: dict[str, Any]) -> tuple[str, str]:
    """(one of VERDICTS, reason or the line of data)."""
    if "broken" in result:
        return "fails", result["broken"]
    if "missing" in result:
        return "not installed", result["missing"]
    text = result["stderr"] + "\n" + (result["stdout"] if not line_of_data(result["tool"], result["stdout"]) else "")
    reason = _reason(result)
    if result["status"] is not None and result["status"] < 0 and result["status"] != -2:
        return "fails", f"killed by signal {-result['status']}: {reason}"
    if re.search(r"no member named|incomplete definition of type", text) and not result["attached"]:
        wrong = re.search(r"[^:\n]*(no member named|incomplete definition of type)[^\n]*", text)
        return "refused", f"the tool's C does not fit this kernel's types:{wrong[0] if wrong else ''}"
    if "does not let programs replace what functions return" in text or "bpf_override_return() is not offered" in text:
        return "refused", "this kernel does not let programs replace what functions return"
    traceback = "Traceback (most recent call last)" in result["stderr"] and not reason.startswith("KeyboardInterrupt")
    if traceback and _OURS.search(text):
        return "fails", reason
    data = line_of_data(result["tool"], result["stdout"])
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


def page(results: dict[str, list[dict[str, Any]]], versions: dict[str, str], total: int = 0) -> str:
    """docs/bcc_tools.md.

    Args:
        results: by kernel.
        versions: of the package and of the kernels.
        total: how many commands there are to be run; 0: it is not told.
    """
    kernels = list(results)
    tools: dict[str, dict[str, list[tuple[str, str, tuple[str, ...]]]]] = {}
    for kernel, found in results.items():
        for result in found:
            tools.setdefault(result["tool"], {}).setdefault(kernel, []).append((*verdict(result), tuple(result["args"])))
    best = {tool: min((kind for ran in runs.values() for kind, *_ in ran), key=VERDICTS.index) for tool, runs in tools.items()}
    rows, elsewhere = [], []
    no_probes = []
    for tool in sorted(tools):
        cells, notes = [], {}
        shown: dict[tuple[str, ...], bool] = {}
        for kernel in kernels:
            runs = tools[tool].get(kernel, [])
            if not runs:
                cells.append("-")
                continue
            kind = min((k for k, *_ in runs), key=VERDICTS.index)
            good = sum(k == "works" for k, *_ in runs)
            cells.append(kind + (f" {good}/{len(runs)}" if len(runs) > 1 else ""))
            if kind != "works":
                notes[kernel] = next(reason for k, reason, _ in runs if k == kind)
            for k, _, args in runs:
                shown[args] = shown.get(args, False) or k == "works"
        # the kernel that offers most speaks last
        note = "" if best[tool] == "works" else NOWHERE.get(tool) or _plain(list(notes.values())[-1])
        rows.append(f"| {tool} | {' | '.join(cells)} | {sum(shown.values())}/{len(shown)} | {_cell(note)} |")
        for kernel, reason in notes.items() if best[tool] == "works" else ():
            if (tool, kernel) not in ELSEWHERE and kernel == "native" and any(words in reason for words in _NO_FUNCTIONS):
                no_probes.append(tool)
            else:
                elsewhere.append(f"| {tool} | {kernel} | {_cell(ELSEWHERE.get((tool, kernel)) or _plain(reason))} |")
    runtime = [tool for tool in best if tool.startswith(RUNTIMES)]
    stand_ins = _stand_ins(results)
    count = _counted({tool: kind for tool, kind in best.items() if tool not in runtime}, stand_ins)
    others = _counted({tool: best[tool] for tool in runtime}, stand_ins)
    head = [
        "# BCC's tools under harken",
        "",
        "Made by `python -m tools.bcc_matrix`; do not edit.",
        "",
        f"Every script of Debian's bpfcc-tools {versions.get('bpfcc-tools', '')}, unchanged, under `python -m harken.bcc`, on kernels "
        + ", ".join(f"{k} ({versions[k]})" if k in versions else k for k in kernels)
        + ". Arguments come from the manual pages' examples (pids, disks and functions replaced by ones that exist).",
        "",
        f"Best result on any of these kernels, of {len(best) - len(runtime)} tools: {count}.",
        "",
        f"{len(runtime)} more scripts watch runtimes of languages and databases, through static markers that these must have: {others}.",
        "",
        *([_commands(tools, total), ""] if total else []),
        *_ABOUT_RUNTIMES,
        *(_ABOUT_MODULE if any(run.get("stand_in") == "module" for ran in results.values() for run in ran) else ()),
        *([f"With a stand-in only ({len(stand_ins)}): {', '.join(stand_ins)}.", ""] if stand_ins else []),
        "- *works*: attached, and printed lines of data of the tool's own kind while the workload ran",
        "- *attaches*: everything was attached; this test's workload gave it nothing to show",
        "- *refused*: ended with a reason",
        "- *fails*: harken's fault",
        "",
        "A cell's `n/m`: of m variants of arguments that were run on this kernel n showed data. The column of variants counts those that",
        "showed data on any kernel, of all that were run on any; what one kernel has shown need not be run on another. "
        + _partly({kernel: sum(kernel in runs for runs in tools.values()) for kernel in kernels}, len(tools)),
        "",
        f"| tool | {' | '.join(kernels)} | variants | where it does not work anywhere, why |",
        "|---|" + "---|" * (len(kernels) + 2),
    ]
    tail = ["", "## Where a tool works on another kernel only", "", "| tool | kernel | why |", "|---|---|---|", *elsewhere]
    tail += _variants(tools, best)
    if no_probes:
        tail += ["", f"The native kernel has no kprobes and refuses fentry, which these {len(no_probes)} need: {', '.join(no_probes)}."]
    return "\n".join([*head, *rows, *tail]) + "\n"


_NATIVELY = "was run on the native kernel only, which has no kprobes"
_NO_FUNCTIONS = ("cannot be attached on this kernel: f", "0 functions traced", "No functions matched")


def _commands(tools: dict[str, dict[str, list[tuple[str, str, tuple[str, ...]]]]], total: int) -> str:
    """How many commands (tools with their arguments) were run."""
    ran = {(tool, args): False for tool, runs in tools.items() for found in runs.values() for _, _, args in found}
    ran.update(
        {(tool, args): True for tool, runs in tools.items() for found in runs.values() for kind, _, args in found if kind == "works"}
    )
    return f"Of {total} commands, {len(ran)} were run on at least one kernel; {sum(ran.values())} of them printed data on at least one."


def _variants(tools: dict[str, dict[str, list[tuple[str, str, tuple[str, ...]]]]], best: dict[str, str]) -> list[str]:
    """Variants of arguments of tools that work, which showed nothing on any kernel, with the reasons."""
    rows = []
    for tool in sorted(tool for tool in tools if best[tool] == "works"):
        reasons: dict[tuple[str, ...], str] = {}
        works = {args for runs in tools[tool].values() for kind, _, args in runs if kind == "works"}
        for kernel, runs in tools[tool].items():  # the kernel that offers most speaks last
            for _, reason, args in runs:
                if args not in works:
                    without = kernel == "native" and any(words in reason for words in _NO_FUNCTIONS)
                    reasons[args] = _NATIVELY if without else reason
        for args, reason in reasons.items():
            name = shlex.join((tool, *args))
            rows.append(f"| {_cell(name)} | {_cell(VARIANTS.get(name) or _plain(reason))} |")
    if not rows:
        return []
    return ["", "## Variants of arguments that showed nothing on any kernel", "", "| command | why |", "|---|---|", *rows]


def _partly(ran: dict[str, int], tools: int) -> str:
    """Which kernels did not run everything."""
    few = [kernel for kernel, number in ran.items() if number < tools / 4]
    return f"On {' and '.join(few)} only those tools were run that need an older kernel than the others, and a few more." if few else ""


def _counted(best: dict[str, str], stand_ins: list[str]) -> str:
    kinds = list(best.values())
    few = sum(tool in best for tool in stand_ins)
    more = f" ({few} of them with a stand-in only)" if few else ""
    return ", ".join(f"{kinds.count(kind)} {_WORDS[kind]}{more if kind == 'works' else ''}" for kind in VERDICTS if kind in kinds)


def _stand_ins(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The tools that work with nothing but a stand-in."""
    runs = [run for ran in results.values() for run in ran if verdict(run)[0] == "works"]
    real = {run["tool"] for run in runs if not run.get("stand_in")}
    return sorted({run["tool"] for run in runs} - real)


def _plain(reason: str) -> str:
    """A reason without what is the same in all of them."""
    reason = re.sub(r"^[a-z.]*\.?(BPFError|Exception|USDTException): ", "", reason)
    reason = re.sub(r"process \d+ ", "the process ", reason)
    reason = re.sub(r"it's not traceable \(either[^)]*\): ", "", reason)
    return re.sub(r"Failed to attach BPF program b'\w+' to (\w+) b'([^']+)', ", r"\1 \2: ", reason)


_ABOUT_RUNTIMES = (
    "Debian builds Java (libjvm), PHP, Ruby, Python and PostgreSQL with markers; Perl, Tcl, Node.js, MariaDB and the C library without. "
    "Where there are none the tool is refused, which is what the user of such a system sees, and it was run a second time against a "
    "stand-in: a small C program that fires the markers which the runtime's own sources define (for threads: a preloaded library in a "
    "real process). That shows the tool and harken, not the runtime. mysqld_qslower was given a process of PostgreSQL, whose markers "
    "have the same names.",
    "",
    "Some markers must be asked for, and the workloads do: PHP fires its own only with `USE_ZEND_DTRACE=1` in the environment, Java "
    "those of methods and objects only with `-XX:+ExtendedDTraceProbes`, Python 3.11 `function__entry` only while a profile or trace "
    "function is set (`function__return` always), Ruby 3.1 `method__entry` and `method__return` only while a TracePoint is enabled. "
    "rubycalls counts one method several times: the tool takes 80 bytes for a name, and behind the end of Ruby's strings others follow.",
    "",
)
_ABOUT_MODULE = (
    "What the test kernels do not have at all was stood in for in the guest with 6.1 by a module (`tools/bcc_matrix/kernel_stand_in`): "
    "functions with the names and arguments that the ZFS module's had before 0.7, the kernel's own tracepoints of critical sections, "
    "PowerPC's of hypervisor calls, and counters of cache references and misses that overflow every millisecond. That shows that the "
    "tool's program is compiled, accepted, attached and read, not what such a kernel would do.",
    "",
)

_WORDS = {
    "works": "work",
    "attaches": "attach",
    "refused": "are refused",
    "fails": "fail",
    "not installed": "not run here",
}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "\\<")
