"""The optional back end over LLVM (``pip install harken[llvm]``): the same legal IR, compiled by somebody else.

It exists as a differential oracle: both back ends must give programs that compute the same, and the instruction counts stand side by
side.  Nothing imports this package unless ``assemble(..., backend="llvm")`` asks for it.
"""

from __future__ import annotations

from .generate import generate
from .text import module_text

__all__ = ("generate", "module_text")
