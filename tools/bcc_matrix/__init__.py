"""Runs every tool of Debian's ``bpfcc-tools``, unchanged, under ``harken.bcc``: ``python -m tools.bcc_matrix --help``."""
