"""The kernel's user ABI as numbers: generated modules (see ``tools/generate_abi.py``), nothing that runs.

========================  ====================================================================================
``abi.bpf``               commands, types, flags, layouts of ``union bpf_attr`` and of the info structs
``abi.bpf_insn``          opcodes and registers
``abi.bpf_helpers``       helper name -> id
``abi.bpf_names``         number -> name, for people
``abi.perf_event``        perf_event_open(2): numbers, ``struct perf_event_attr``, the mmap'd control page
``abi.elf``               ELF numbers and layouts
``abi.arch``              what differs between machines: registers, argument order, system call numbers
========================  ====================================================================================

A *layout* is a dict ``field -> (byte offset, struct format)``; ``NAME_SIZE`` beside it is the struct's size.
"""
