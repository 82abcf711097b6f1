"""Prints a recording as KernelShark's library reads it, one line per record, for tests/oracle/test_kernelshark.py."""

from __future__ import annotations

import ctypes
import sys


def main(path: str) -> int:
    library = ctypes.CDLL("libkshark.so.2")
    context, rows = ctypes.c_void_p(), ctypes.POINTER(ctypes.c_void_p)()
    library.kshark_instance.argtypes = [ctypes.c_void_p]
    library.kshark_open.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.kshark_tep_init_all_buffers.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.kshark_load_all_entries.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.kshark_load_all_entries.restype = ctypes.c_ssize_t
    library.kshark_dump_entry.argtypes = [ctypes.c_void_p]
    library.kshark_dump_entry.restype = ctypes.c_void_p
    library.kshark_instance(ctypes.byref(context))
    stream = library.kshark_open(context, path.encode())
    if stream < 0 or library.kshark_tep_init_all_buffers(context, stream) < 0:
        return 1
    count = library.kshark_load_all_entries(context, ctypes.byref(rows))
    for index in range(count):
        sys.stdout.buffer.write(ctypes.string_at(library.kshark_dump_entry(rows[index])) + b"\n")
    return 0 if count >= 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
