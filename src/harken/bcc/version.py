"""The version of BCC's interface that this package speaks."""

__all__ = ("__version__",)

__version__ = "0.36.0"
