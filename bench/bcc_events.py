"""A script for BCC, run by ``bench/bcc_pairs.py`` under BCC and under harken: counts what arrives of N events in a Python callback.

bcc_events.py N PAGES MODE [ring] [filled] [burst]      MODE: "event" decodes each record by b["events"].event(), "raw" only counts

With ``ring``, records come through a ring buffer instead of a perf buffer.  With ``filled``, reading begins when all have been written
(PAGES must hold them): what the reader alone can do.  With ``burst``, each system call writes 16 records, so that it is the reader that
sets the pace, and not the writer.
"""

import os
import sys
import time

from bcc import BPF

count, pages, mode = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
ring, filled, burst = ["ring" in sys.argv[4:], "filled" in sys.argv[4:], 16 if "burst" in sys.argv[4:] else 1]
got = lost = total = 0
read, write = os.pipe()
child = os.fork()
if child == 0:
    os.close(write)
    os.read(read, 1)  # until everything is attached
    for _ in range(count // burst):
        os.getppid()
    os._exit(0)

text = """
struct data_t { u32 pid; u64 ts; char comm[16]; u64 number; };
BPF_PERF_OUTPUT(events);
TRACEPOINT_PROBE(syscalls, sys_enter_getppid) {
    struct data_t data = {};
    data.pid = bpf_get_current_pid_tgid() >> 32;
    if (data.pid != CHILD) return 0;
    data.ts = bpf_ktime_get_ns();
    bpf_get_current_comm(&data.comm, sizeof(data.comm));
    for (int i = 0; i < BURST; i++) {
        data.number = i;
        events.perf_submit(args, &data, sizeof(data));
    }
    return 0;
}
"""
if ring:
    text = text.replace("BPF_PERF_OUTPUT(events)", f"BPF_RINGBUF_OUTPUT(events, {pages})")
    text = text.replace("perf_submit(args, &data, sizeof(data))", "ringbuf_output(&data, sizeof(data), 0)")
b = BPF(text=text.replace("CHILD", str(child)).replace("BURST", str(burst)))


def show(cpu, data, size):
    global got, total
    if mode == "event":
        total += b["events"].event(data).pid
    got += 1


def missing(number):
    global lost
    lost += number


if ring:
    b["events"].open_ring_buffer(show)
    poll = b.ring_buffer_poll
else:
    b["events"].open_perf_buffer(show, page_cnt=pages, lost_cb=missing)
    poll = b.perf_buffer_poll
start = last = time.monotonic()
os.write(write, b"x")
ended, writer = False, 0.0
if filled:
    os.waitpid(child, 0)
    ended, start = True, time.monotonic()
used = time.process_time()
while True:
    before = got + lost
    poll(200)
    if not ended:
        ended, _, usage = os.wait4(child, os.WNOHANG)
        writer = usage.ru_utime + usage.ru_stime
    elif got + lost == before:
        break
    last = time.monotonic()
# the last poll has only waited
print(f"events {got} lost {lost} seconds {last - start:.3f} cpu {time.process_time() - used:.3f} writer {writer:.3f}")
