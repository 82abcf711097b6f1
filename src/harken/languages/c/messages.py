"""What clang says of a program, at the program's lines, and what can be done about it.

The messages are clang's own, with two exceptions: what follows from an error at the same place is left out (clang says one missing
comma in a ``BPF_HASH(...)`` ten times, since that macro has a dozen functions), and hints are added where harken knows more than clang
does: the kernel's types, the dialect's macros and methods, what a BPF program cannot have.
"""

from __future__ import annotations

import re

from ...base.diagnostics import Diagnostic, Source, Span, nearest
from ...base.errors import HarkenError
from . import headers, helpers, macros

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .libclang import Note
    from .parse import Preparation

__all__ = ("INCOMPLETE", "NO_MEMBER", "UNKNOWN", "Messages")

INCOMPLETE = re.compile(r"incomplete (?:definition of )?type '(?:const |volatile )*(?:struct|union) (\w+)")
NO_MEMBER = re.compile(r"no member named '(\w+)'(?: in '(?:struct|union) (\w+)')?")
UNKNOWN = re.compile(r"(?:use of undeclared identifier|unknown type name|undeclared function) '(\w+)'")
_WORD = re.compile(r"[A-Za-z_]\w*")
#: that the arguments of a macro are wrong
_SYNTAX = re.compile(r"expected |type name requires |too (few|many) |use of undeclared identifier '_HARKEN|'\w+' declared as an array with")
#: a macro that declares a table, and its arguments
_TABLE_USE = re.compile(r"\bBPF_[A-Z_0-9]+\s*\(")
_HASH = "name, type of keys = u64, type of values = u64, most entries = 10240"
_ARRAY = "name, type of values = u64, entries = 10240"
_USAGE = {
    **dict.fromkeys(("BPF_HASH", "BPF_PERCPU_HASH", "BPF_LRU_HASH", "BPF_LRU_PERCPU_HASH", "BPF_LPM_TRIE"), _HASH),
    **dict.fromkeys(("BPF_ARRAY", "BPF_PERCPU_ARRAY"), _ARRAY),
    "BPF_HISTOGRAM": "name, type of keys = int, slots = 64",
    **dict.fromkeys(("BPF_STACK_TRACE", "BPF_STACK_TRACE_BUILDID", "BPF_PROG_ARRAY"), "name, entries"),
    **dict.fromkeys(("BPF_PERF_ARRAY", "BPF_CGROUP_ARRAY", "BPF_DEVMAP", "BPF_CPUMAP", "BPF_SOCKMAP", "BPF_XSKMAP"), "name, entries"),
    "BPF_PERF_OUTPUT": "name",
    "BPF_RINGBUF_OUTPUT": "name, pages",
    **dict.fromkeys(("BPF_QUEUE", "BPF_STACK"), "name, type of values, most entries, flags = 0"),
    "BPF_TABLE": '"hash" or another kind, type of keys, type of values, name, most entries',
    "BPF_ARRAY_OF_MAPS": "name, name of the inner table, entries",
    "BPF_HASH_OF_MAPS": "name, type of keys, name of the inner table, most entries",
}  # fmt: skip
#: functions of C's library -> what serves in their place
_LIBRARY = {
    **dict.fromkeys(("printf", "puts", "fprintf", "putchar", "printk"), "bpf_trace_printk() writes a line, perf_submit() sends data"),
    **dict.fromkeys(("strcmp", "strncmp", "strcasecmp", "strstr", "strchr"), "compare the characters in a loop with a constant bound"),
    **dict.fromkeys(("strcpy", "strncpy", "strlcpy", "strscpy", "strcat"), "bpf_probe_read_kernel_str() and ..._user_str() copy strings"),
    **dict.fromkeys(("strlen", "strnlen"), "bpf_probe_read_kernel_str() and bpf_probe_read_user_str() return the length, with the zero"),
    **dict.fromkeys(("sprintf", "snprintf", "vsnprintf"), "send the numbers, and let Python make the text of them"),
    **dict.fromkeys(("malloc", "calloc", "realloc", "free", "kmalloc", "kfree", "kzalloc"), "an element of a table is memory that lasts"),
    **dict.fromkeys(("time", "gettimeofday", "clock_gettime", "ktime_get_ns", "ktime_get", "jiffies"), "bpf_ktime_get_ns() tells the time"),
    **dict.fromkeys(("getpid", "gettid"), "bpf_get_current_pid_tgid() has both the process and the thread"),
    **dict.fromkeys(("sleep", "usleep", "msleep", "nanosleep", "exit", "abort", "assert"), "a probe cannot wait, nor end a process"),
    **dict.fromkeys(("copy_from_user", "get_user", "strncpy_from_user"), "bpf_probe_read_user() reads a process's memory"),
    **dict.fromkeys(("atoi", "strtol", "strtoul", "rand", "random", "qsort"), "compute it in Python"),
}  # fmt: skip
#: what methods are called elsewhere -> what BCC calls them
_METHODS = {
    "remove": "delete", "erase": "delete", "del": "delete", "get": "lookup", "find": "lookup", "contains": "lookup", "has": "lookup",
    "set": "update", "put": "update", "store": "update", "add": "increment", "inc": "increment", "submit": "perf_submit",
    "output": "perf_submit", "send": "perf_submit", "emit": "perf_submit", "reserve": "ringbuf_reserve", "clear": "delete",
    "lookup_or_create": "lookup_or_try_init", "get_or_init": "lookup_or_try_init", "stackid": "get_stackid", "read": "perf_read",
}  # fmt: skip


class Messages:
    """Makes diagnostics of clang's notes on one program."""

    def __init__(self, program: Preparation) -> None:
        self.program, self.source = program, program.source

    def errors(self, notes: Iterable[Note]) -> tuple[Diagnostic, ...]:
        """What to tell of all that clang noted, the first error first."""
        notes = list(notes)
        found: list[tuple[Note, Diagnostic]] = []
        places: dict[object, int] = {}
        for note in notes:
            if note.severity not in ("error", "fatal"):
                continue
            diagnostic = self.diagnostic(note)
            place = self._place(diagnostic)
            at = places.setdefault(place, len(found))
            if at == len(found):
                found.append((note, diagnostic))
            elif "_table_t'" in found[at][1].message and "_table_t'" not in diagnostic.message:
                found[at] = note, diagnostic  # the program's own name says more than the one that harken made of it
        told = [self._with_warnings(note, diagnostic, notes) for note, diagnostic in found]
        return (self._with_includes(told[0]), *told[1:])

    def _place(self, diagnostic: Diagnostic) -> object:
        """What the messages have in common of which only the first one says anything."""
        if diagnostic.span is None:
            return diagnostic.message
        use = self._table_use(diagnostic.span) if diagnostic.span.source is self.source else None
        return ("table", use[1]) if use is not None else (diagnostic.span.source.name, diagnostic.span.start)

    def _table_use(self, span: Span) -> tuple[str, int] | None:
        """(macro, where) of the declaration of a table that a place lies in."""
        text = self.source.text
        start = max(text.rfind(";", 0, span.start), text.rfind("}", 0, span.start)) + 1
        found = None
        for found in _TABLE_USE.finditer(text, start, min(len(text), span.start + 80)):
            if found.start() <= span.start and text.count("(", found.start(), span.start) >= text.count(")", found.start(), span.start):
                return found.group().rstrip("( \t\n"), found.start()
        return None

    def _with_warnings(self, error: Note, diagnostic: Diagnostic, notes: Iterable[Note]) -> Diagnostic:
        """An error with what clang warned of in the same line: often the cause."""
        related = [
            (span, note.message)
            for note in notes
            if note.severity == "warning" and (note.file, note.line) == (error.file, error.line) and note.offset <= error.offset
            if (span := self.span(note)) is not None
        ]  # fmt: skip
        return diagnostic.replace(related=(*related, *diagnostic.related)) if related else diagnostic

    def _with_includes(self, diagnostic: Diagnostic) -> Diagnostic:
        """An error about something unknown with the program's own headers that were not found."""
        message = diagnostic.message
        if not (INCOMPLETE.search(message) or UNKNOWN.search(message) or NO_MEMBER.search(message)):
            return diagnostic
        missing = [(start, end, name) for quote, name, start, end in self.program.unanswered if quote == '"' and "/" not in name]
        related = tuple(
            (self.source.span(start, end), f"{name} was found neither beside the program nor in the folders of -I")
            for start, end, name in missing
        )
        return diagnostic.replace(related=(*diagnostic.related, *related)) if related else diagnostic

    def warnings(self, notes: Iterable[Note]) -> tuple[tuple[Span | None, str], ...]:
        """(place, text) of what clang warns of in the program, once each."""
        return tuple(dict.fromkeys((self.span(note), note.message) for note in notes if note.severity == "warning" and self.mine(note)))

    # -- places
    def mine(self, note: Note) -> bool:
        """Whether a note is about the program, and not about what harken wrote before it."""
        return note.file != self.program.PRELUDE or note.expanded[0] not in ("", self.program.PRELUDE)

    def offset(self, byte: int) -> int:
        """The character at a byte of the program."""
        text = self.source.text
        return byte if text.isascii() else len(text.encode("utf-8", "surrogateescape")[:byte].decode("utf-8", "ignore"))

    def span(self, note: Note) -> Span | None:
        """Where the message points to, in the program."""
        file, start, end = note.file, note.offset, note.end
        if file != self.source.name and note.expanded[0] == self.source.name:
            file, start = note.expanded
            end = start
        if file == self.source.name:
            first, last = self.offset(start), self.offset(end)
            if last <= first:
                word = re.compile(r"\w+").match(self.source.text, first)
                last = word.end() if word else first
            return self.source.span(first, last)
        data = self.program.files.get(file)
        if data is None:
            return None
        text = data.decode("utf-8", "surrogateescape")
        return Source(file, text).span(start, end)

    # -- one message
    def diagnostic(self, note: Note) -> Diagnostic:
        """A message with its place and what to do."""
        related = tuple(
            (span, child.message) for child in note.children if (span := self.span(child)) is not None and child.severity == "note"
        )
        where = self.span(note)
        if where is None and not note.file:
            return Diagnostic("error", note.message, None, "it is among the flags (cflags)" if self.program.cflags else "")
        hint = self._hint(note, where)
        if not hint and where is None and note.file == self.program.PRELUDE:
            line = self.program.prelude.split("\n")[note.line - 1][:200] if note.line else ""
            hint = f"in what harken wrote before the program: {line}"
        return Diagnostic("error", note.message, where if where is not None else self.source.span(0, 0), hint, related)

    def _hint(self, note: Note, where: Span | None) -> str:
        message = note.message
        if found := INCOMPLETE.search(message):
            if found.group(1).startswith("tracepoint__"):
                event = found.group(1)[len("tracepoint__") :].replace("__", ":", 1)
                return f"this kernel has no event {event}"
            return self._absent()
        if found := NO_MEMBER.search(message):
            name, tag = found.group(1), found.group(2) or ""
            return self._methods(name) if tag.endswith("_table_t") else self._near_member(name, tag)
        own = where is not None and where.source is self.source
        if where is not None and own and _SYNTAX.match(message) and (use := self._table_use(where)) is not None and use[0] in _USAGE:
            return f"{use[0]}({_USAGE[use[0]]})" + (": what has a = may be left out" if "=" in _USAGE[use[0]] else "")
        if (found := UNKNOWN.search(message)) and "did you mean" not in message:
            return self._unknown(found.group(1), "undeclared function" in message, where if own else None)
        if where is not None and own and message.startswith("expected") and re.match(r"%[sdu(]", self.source.text[where.start :]):
            return "this looks like a place for a value that the script did not fill in"
        return ""

    def _unknown(self, name: str, function: bool, where: Span | None) -> str:
        """What to do about a name that nobody knows."""
        if function and name in _LIBRARY:
            return f"BPF programs have no C library: {_LIBRARY[name].format(name=name)}"
        btf = self.program.catalogue.btf
        if function and btf is not None and btf.function(name) is not None:
            return "this is a function of the kernel's, which a BPF program cannot call: read what it reads"
        if where is not None and re.match(r"\s*(\.|->)\s*\w+\s*\(", self.source.text[where.end :]):
            near = nearest(name, re.findall(r"\bBPF_\w+\((?:\"\w+\",\s*)?(\w+)", self.source.text))
            return f"did you mean {' or '.join(near)}?" if near else f"no table is called so; BPF_HASH({name}, ...) would declare one"
        known = {f"bpf_{helper}" for helper in helpers.PROTOTYPES} if name.startswith("bpf") else set()
        if function:
            known.update(word for word, text in macros.MACROS.items() if text.startswith(f"{word}("))
            known.update(re.findall(r"#define (\w+)\(", headers.COMMON + headers.registers(self.program.machine)))
            known.update(re.findall(r"(\w+)\(", self.source.text))
        else:
            known.update(_WORD.findall(self.source.text))
            known.update(headers.BASE_NAMES)
            # constants have much in common that means nothing
            known.update(nearest(name, macros.MACROS, closeness=0.8))
        if re.search(rf"#\s*define\s+{name}\b", self.source.text):
            return ""
        near = nearest(name, sorted(known - {name}))
        if near:
            return f"did you mean {' or '.join(near)}?"
        if re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            return "this kernel's types have no such constant: define it; if it stands for what the script puts in, the script did not"
        return ""

    def _methods(self, name: str) -> str:
        """What a table's methods are called."""
        from .lower_methods import MethodCode

        names = sorted(word[2:] for word in dir(MethodCode) if word.startswith("m_"))
        near = [_METHODS[name]] if name in _METHODS else nearest(name, names)
        if near:
            return f"did you mean {' or '.join(near)}()?"
        return "tables have lookup(), lookup_or_try_init(), update(), insert(), delete() and increment(), outputs perf_submit()"

    def _absent(self) -> str:
        """Why a struct is not known."""
        if self.program.catalogue.btf is None:
            return "this kernel carries no types (BTF), so its structs are not known"
        return "neither this kernel nor a module that is loaded has it; a module's types are there when it is loaded"

    def _near_member(self, name: str, tag: str) -> str:
        """Members that are called much like the one that is not there."""
        known = next((struct for struct in self.program.written.structs if struct.name == tag), None)
        names: list[str] = []
        if known is not None:
            names = sorted(set(known.names()))
        elif tag.startswith("tracepoint__"):
            category, _, event = tag[len("tracepoint__") :].partition("__")
            try:
                own = self.program.catalogue.tracepoint(category, event).own
            except HarkenError:
                own = ()
            names = [("data_loc_" if field.data_loc else "") + field.name for field in own]
        elif found := re.search(rf"\b(?:struct|union)\s+{re.escape(tag)}\s*\{{(.*?)\}}", self.source.text, re.S) if tag else None:
            names = re.findall(r"(\w+)\s*(?:\[[^]]*\]\s*)*(?::[^;,]*)?[;,]", found.group(1))
        near = nearest(name, names)
        return f"did you mean {' or '.join(near)}?" if near else ""
