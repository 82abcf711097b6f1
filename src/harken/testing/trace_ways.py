"""All ways to read a recording of ftrace, each of which must end in bounds, with a result or a clear error, with and without accelerator.

A way gives something to compare: what was printed and the exit status, or values.  Errors of harken are part of it.
"""

from __future__ import annotations

import contextlib
import io
import os

from .. import native
from ..base.errors import HarkenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Way = Callable[[str], Any]

__all__ = ("WAYS", "PRINTED", "differing", "outcome", "plain_python")

_MOST = 3000  # records whose objects and texts are asked for

#: Command lines of ``report`` whose options are other code.
PRINTED = tuple(
    [
        line.split()
        for line in """\
        -l
        -R
        -R --layout 3.4
        -l --layout 3.4
        -l --layout kernel
        -t --ts-diff
        -w
        -N --layout 3.4
        -F .*:value>0||a<5
        -F .*:COMM=~"a"&&path=~"^b"
        -F sched_switch:prev_pid&3 -v -F test:d!=0
        -O parent=1 -O indent=0 -O offset=1
        -O tailprint=1 -O depth=1 -O retval-dec=1 --layout 3.4
        -O retval-hex=1 -O retaddr=1 --layout 3.4
        --layout kernel -O funcgraph-proc -O funcgraph-abstime -O funcgraph-tail -O funcgraph-retval -O funcgraph-args -O nofuncgraph-irqs
        --layout kernel -O nofuncgraph-duration -O funcgraph-cpu=0 -O funcgraph-retaddr -O max_graph_depth=2 -O sleep-time=0
        --ts-check --boundary
        --align-ts --raw-ts
        --cpu 0 -I -S
        --comm task-1 --pid 1,2
        --ts-offset -2000000000
        --ts2secs 3
        --nodate -r funcgraph_entry -n sched_switch
        --stat
        --profile
        --events --check-events
        -e -E
        -f
        --kallsyms -P
        --uname --version --cpus
        --first-event --last-event
        """.splitlines()
        if line.strip()
    ]
)


def _command(*words: str) -> dict[str, Any]:
    """What a command line prints, and its status."""
    from ..cli.main import main

    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape", newline="\n") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status: Any = main(words)
        out.flush()
        err.flush()
    told = err.buffer.getvalue()
    if b"internal error" in told or b"Traceback" in told:
        raise AssertionError(told.decode("utf-8", "replace"))
    if status and not told.strip():
        raise AssertionError(f"status {status} without a word")
    return {"status": status, "out": out.buffer.getvalue(), "err": told}


def _written(*words: str) -> Way:
    """A command that writes a file."""

    def run(path: str) -> Any:
        target = path + ".out"
        try:
            found = _command("trace-cmd", words[0], "-i", path, "-o", target, *words[1:])
            folder, name = os.path.split(target)
            for made in sorted(entry for entry in os.listdir(folder) if entry.startswith(name)):
                with open(os.path.join(folder, made), "rb") as file:
                    found[made[len(name) :]] = file.read()
            return found
        finally:
            folder, name = os.path.split(target)
            for made in os.listdir(folder):
                if made.startswith(name):
                    os.unlink(os.path.join(folder, made))

    return run


def _values(column: Any) -> list[Any]:
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _rows(value: Any) -> Any:
    return [list(row) for row in value] if value and isinstance(value[0], (tuple, list)) else value


def _columns(load: bool) -> Way:
    def run(path: str) -> Any:
        from ..ftrace import read

        with read(path) as recording:
            found: dict[str, list[Any]] = {}
            for name, columns in recording.columns(load).items():
                found[name] = [_values(columns.times), _values(columns.cpus)]
                found[name] += [(field, _rows(_values(columns[field]))) for field in columns.names]
            return found

    return run


def _records(path: str) -> Any:
    from ..ftrace import read

    found = []
    with read(path) as recording:
        for record in recording.records():
            found.append((record.time, record.cpu, record.event.name, record.data))
            if len(found) < _MOST:
                found.append(recording.text(record))  # type: ignore[arg-type]
                if len(found) % 8 == 0:
                    found += [(name, repr(record[name])) for name in record.fields]  # type: ignore[misc]
        return found, recording.lost, recording.unknown, recording.problems


def _calls(path: str) -> Any:
    from ..ftrace import read

    with read(path) as recording:
        steps = [(step.time, step.cpu, step.kind, step.func, step.depth, step.args, recording.comment(step)) for step in recording.steps()]
        tops = [(call.func, call.duration, call.self_time, recording.symbol(call.func)) for call in recording.calls()]
        return steps, tops, [(key, len(calls)) for key, calls in recording.graph().items()]


#: Name -> what is done with a file.
WAYS: dict[str, Way] = {
    "report": lambda path: _command("trace-cmd", "report", path),
    "report 3.4": lambda path: _command("report", path),
    "report kernel": lambda path: _command("trace-cmd", "report", "--layout", "kernel", path),
    "columns": _columns(True),
    "columns one by one": _columns(False),
    "records": _records,
    "calls": _calls,
    "json": lambda path: _command("report", "--json", path),
    "split": _written("split", "-e", "100", "-r"),
    "split pages": _written("split", "-p", "1", "-c"),
    "convert": _written("convert", "--compression", "zlib"),
    "convert to 6": _written("convert", "--file-version", "6"),
    "dump": lambda path: _command("trace-cmd", "dump", "--all", "-i", path),
    "hist": lambda path: _command("trace-cmd", "hist", "-i", path),
    "graph summary": lambda path: _command("graph", "-i", path, "--summary"),
    "graph": lambda path: _command("graph", "-i", path),
    "mem": lambda path: _command("trace-cmd", "mem", "-i", path),
}
for _words in PRINTED:
    WAYS[f"report {' '.join(_words)}"] = lambda path, words=_words: _command("trace-cmd", "report", "-i", path, *words)  # type: ignore[misc]


@contextlib.contextmanager
def plain_python(numpy: bool = True) -> Iterator[None]:
    """Without the accelerator, and without numpy if that is said."""
    import sys

    kept, native._found[:] = native._found[:], [None]
    module = sys.modules.get("numpy")
    if not numpy:
        sys.modules["numpy"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        native._found[:] = kept
        if not numpy:
            del sys.modules["numpy"]
            if module is not None:
                sys.modules["numpy"] = module


def outcome(way: str, path: str) -> Any:
    """What a way gives, or the error that it ends with."""
    try:
        return WAYS[way](path)
    except HarkenError as error:
        return f"{type(error).__name__}: {error}"


def differing(one: Any, two: Any) -> str:
    """Where two outcomes differ first; "" if they do not."""
    if one == two:
        return ""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        for key, value in one.items():
            if value != two[key]:
                return f"{key}: {differing(value, two[key])}"
    if isinstance(one, bytes) and isinstance(two, bytes):
        lines = zip([*one.splitlines(), None], [*two.splitlines(), None])
        return next((f"line {number}: {a!r} != {b!r}" for number, (a, b) in enumerate(lines) if a != b), "line ends")
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        for number, (a, b) in enumerate(zip(one, two)):
            if a != b:
                return f"[{number}] {differing(a, b)}"
        return f"{len(one)} != {len(two)} of them"
    return f"{one!r:.300} != {two!r:.300}"
