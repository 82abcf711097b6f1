"""``harken report``: a recording as text, one line per record, or as JSON.

::

    harken report                               # trace.dat, with the flags of each record (irqs off, preemption, ...)
    harken report -i other.dat -F 'sched_switch: prev_prio < 100'
    harken report --json | jq ...               # one object per line: time, cpu, pid, comm, event, fields
    harken report --profile                     # what each task did and how long it took

The options are those of ``harken trace-cmd report``; the lines are those of trace-cmd 3.4 (``--layout 3.1`` prints the older ones).
"""

from __future__ import annotations

__all__ = ("NAME", "HELP", "run")

NAME = "report"
HELP = "show a recording of the kernel's events as text or JSON"


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    from ..trace_cmd import report

    if any(word in ("-h", "--help") for word in argv):
        text = report.USAGE.replace("harken trace-cmd report", "harken report").replace("(3.1)", "(3.4)")
        print(text + "\n As data:\n   --json          one JSON object per record")
        return 0
    if "--json" in argv:
        from ..trace_cmd.report_json import run as run_json

        return run_json([word for word in argv if word != "--json"])
    return report.run(["--layout", "3.4", *argv])
