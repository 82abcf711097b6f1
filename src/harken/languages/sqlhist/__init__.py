"""SQL to histograms and synthetic events, as libtracefs's ``tracefs_sql`` and ``trace-cmd sqlhist`` have it.

    SELECT end.next_pid AS pid, (end.TIMESTAMP_USECS - start.TIMESTAMP_USECS) AS lat
      FROM sched_waking AS start JOIN sched_switch AS end ON start.pid = end.next_pid WHERE start.prio < 100

Events are tables.  Two that are joined become a synthetic event with one histogram trigger at each of them; one alone becomes a
histogram.  ``parse`` reads the text, ``build`` makes the kernel's definitions of it.
"""
