"""Recordings in an emulated guest, beside trace-cmd: what they cost the host, and what they lose.

    python bench/ftrace_record_guest.py [RELEASE] [ROUNDS]        (default: 6.1 7)

The CPU seconds that a guest counts for a command depend on what its host does meanwhile.  The processor time of QEMU does not: it is read
when the guest says that a command begins and that it has ended.  In turns are run, and in each round in the same order:

    python                       an interpreter that does nothing
    harken, trace-cmd            a recording of ``true``: all that a recording costs without events
    harken --top, trace-cmd -B   the same where harken makes no instance, and where trace-cmd makes one
    each with 64, 1408 KB        20,000 events of ``dd`` recorded with buffers of that size; those of them that were lost
    plain 64                     harken without the accelerator

Medians, with the lowest and highest value.  Needs QEMU, a kernel (see harken.testing.kernels) and trace-cmd; takes ten minutes.
"""

import os
import sys
import time

from harken.testing import vm

EVENTS = 20_000  # two of each of dd's reads and writes; the few dozen of its start count as well
SCRIPT = """
cd /tmp
words="-q --compression none -e raw_syscalls -F -c"
dd="dd if=/dev/zero of=/dev/null bs=1 count=5000"
measure() { name=$1; shift; echo "BEGIN $name"; "$@" > log 2>&1; status=$?; echo "END $name"; [ $status = 0 ] || tail -n 3 log; }
kept() { trace-cmd report -i trace.dat 2> /dev/null | grep -cE " sys_(enter|exit):"; }
recorded() { row=$1; measure "$@" $words -o trace.dat $dd; echo "KEPT $row $(kept)"; }
harken trace-cmd record $words -o trace.dat true > /dev/null 2>&1
trace-cmd record $words -o trace.dat true > /dev/null 2>&1
for round in $(seq ROUNDS); do
    measure python python3 -c pass
    measure harken harken trace-cmd record $words -o trace.dat true
    measure trace-cmd trace-cmd record $words -o trace.dat true
    measure harken_--top harken trace-cmd record --top $words -o trace.dat true
    measure trace-cmd_-B trace-cmd record -B bench $words -o trace.dat true
    for size in 64 1408; do
        recorded harken_$size harken trace-cmd record -b $size
        recorded trace-cmd_-B_$size trace-cmd record -B bench -b $size
        recorded harken_--top_$size harken trace-cmd record --top -b $size
        recorded trace-cmd_$size trace-cmd record -b $size
    done
    recorded plain_64 env HARKEN_NATIVE=0 harken trace-cmd record -b 64
done
"""


class Watched(vm.Guest):
    """A guest whose processor time can be asked for."""

    pid = 0
    last = 0.0

    def start(self):
        super().start()
        Watched.pid = self._process.pid

    @staticmethod
    def seconds():
        total = 0
        try:
            for task in os.listdir(f"/proc/{Watched.pid}/task"):
                with open(f"/proc/{Watched.pid}/task/{task}/schedstat") as file:
                    total += int(file.read().split()[0])
        except OSError:  # it has ended; what it said last is still being read
            return Watched.last
        Watched.last = total / 1e9
        return Watched.last


def shown(values, form):
    ordered = sorted(values)
    return f"{format(ordered[len(ordered) // 2], form)} [{format(ordered[0], form)}..{format(ordered[-1], form)}]"


def main(argv):
    release, rounds = (argv + ["6.1", "7"][len(argv) :])[:2]
    vm.Guest = Watched
    spent, lost, begun, rest = {}, {}, {}, ""

    def output(_stream, text):
        nonlocal rest
        *lines, rest = (rest + text).split("\n")
        now = Watched.seconds()
        for line in lines:
            word, _, name = line.partition(" ")
            if word == "BEGIN":
                begun[name] = now
            elif word == "END":
                spent.setdefault(name, []).append(now - begun[name])
            elif word == "KEPT":
                name, _, number = name.partition(" ")
                lost.setdefault(name, []).append(max(0, EVENTS - int(number)))
            else:
                print(line)

    guest = vm.Vm(release, programs=["trace-cmd"])
    outcome = guest.run("sh", "-c", SCRIPT.replace("ROUNDS", rounds), timeout=3000.0, on_output=output)
    print(f"{release}, {rounds} rounds, {time.strftime('%Y-%m-%d')}, status {outcome.status}; seconds of QEMU's processor time")
    for name, values in spent.items():
        extra = f"   lost {shown([number * 100 / EVENTS for number in lost[name]], '.1f')} %" if name in lost else ""
        print(f"    {name.replace('_', ' '):17} {shown(values, '.2f')}{extra}")


main(sys.argv[1:])
