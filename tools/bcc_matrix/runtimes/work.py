"""Calls functions, allocates and collects garbage, over and over.

CPython 3.11 fires function__entry only while a trace or profile function is set, function__return always.
"""

import gc
import sys
import time


def inner(n: int) -> list[object]:
    return [object() for _ in range(n)]


sys.setprofile(lambda *_: None)
print("ready", flush=True)
while True:
    inner(100)
    gc.collect()
    time.sleep(0.05)
