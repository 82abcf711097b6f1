"""``--help`` of the commands that share record's options."""

from __future__ import annotations

__all__ = ("usage",)

_TRACING = """\
 What to trace:
   -e EVENT             SYSTEM:EVENT, a system, an event, with * and ?, or all (several)
   -f FILTER            only if this holds, for the -e before it: 'prev_prio < 100 && prev_comm ~ "ls*"'
   -R TRIGGER           a trigger of the -e before it: stacktrace, 'traceoff if pid == 1', 'hist:keys=...'
   -v                   leave out the events, and delete the buffers (-B), that stand behind it
   -i                   no error if an event does not exist
   -p TRACER            function, function_graph, wakeup, ...; 'harken trace-cmd list -t' shows those of this kernel
   -l FUNCTION          trace only this function; a name with * and ?, or a regular expression with ^ or $ (several)
   -n FUNCTION          do not trace this one (several)
   -g FUNCTION          graph this one and all that it calls (several)
   --module MODULE      only functions of this module
   --max-graph-depth N  so many levels of calls; 1: what the kernel was entered for
   -T                   a stack at each event
   --func-stack         a stack at each function, with -l
   -d, -D               no functions, for tracers of latencies that trace them, too
   -O OPTION            a trace option, noOPTION clears it; 'harken trace-cmd list -o' shows them

 Whom to trace:
   -F                   only the command
   -P PID[,PID]         only these tasks
   -c                   with -F or -P: their children, too
   -M CPUMASK           only these CPUs, in hexadecimal; -1: all
   --user NAME          run the command as this user
   --no-filter          harken itself, too

 Buffers:
   -B BUFFER            what stands behind it is about a buffer of this name; it goes at the end if it did not exist
   -b KB                size of the buffer of each CPU
   --subbuf-size KB     size of its pages (Linux 6.8)
   -C CLOCK             'harken trace-cmd list -C' shows them
   --cmdlines-size N    the kernel keeps so many names of tasks
   -q, --quiet          say nothing but errors
"""

_RECORDING = """\
   --top                the top buffer, which has trace_printk and trace_marker, instead of a private one
   -k                   leave everything as it is at the end
   -K                   leave what is in the buffer before, and record it, too
   -m KB                keep only the last records: so many kilobytes per CPU
   --buffer-percent N   wake up when so much of the buffer is full (Linux 4.20)
   -r PRIORITY          real-time priority of the recorder (1 to 99)
   -s MICROSECONDS      how often to look for records

 The file:
   -o FILE              trace.dat if there is none
   --date               show times of the day
   --ts-offset N        add this to the times that are shown
   --tsc2nsec           show times of the clock x86-tsc as nanoseconds
   -a                   describe all events and symbols, also those that this command does not trace
   --proc-map           keep the memory map of the command, or of -P
   --compression NAME   any, none, zlib, zstd
   --file-version N     6 or 7
   --temp DIRECTORY     where the file grows until it is finished
   --daemonize          go on in the background once all is traced; the PID is in /var/run/trace-cmd-record.pid
   -N HOST:PORT         send all to 'trace-cmd listen' there instead; -t: over TCP

 For 'report --profile':
   --profile            trace what it needs
   -S                   only what -e and -p say
   -G                   interrupts belong to their CPU
   -H START/END         join two events: [SYSTEM:]EVENT,FIELD[,PID]/[SYSTEM:]EVENT,FIELD[,FLAGS]
"""

_EXAMPLES = {
    "record": (
        "-e sched_switch -e 'irq:*' sleep 1",
        "-p function_graph -g do_sys_openat2 -O funcgraph-proc ls",
        "-e kmem:kmalloc -f 'bytes_req > 4096' -T -P 4711",
    ),
    "start": ("-e sched_switch", "-p function_graph -g vfs_read"),
    "set": ("-e sched_switch -f 'prev_pid > 0'", "-b 4096"),
    "stream": ("-e sched_process_exec", "-e raw_syscalls -F ls"),
}


def usage(name: str) -> str:
    """What ``harken trace-cmd NAME --help`` prints."""
    text = f"usage:\n  harken trace-cmd {name} [OPTIONS] [COMMAND ...]\n\n{_TRACING}"
    if name == "record":
        text += _RECORDING
    elif name in ("start", "set"):
        text += "   --fork               do not wait for the end of the command\n"
    return text + "\n Examples:\n" + "".join([f"   harken trace-cmd {name} {words}\n" for words in _EXAMPLES[name]])
