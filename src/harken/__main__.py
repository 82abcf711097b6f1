"""``python -m harken``."""

from __future__ import annotations

from .cli.main import script

if __name__ == "__main__":
    script()
