"""thumbtune finds which title belongs to which thumbnail. This package contains the command line and the demo."""

__all__ = ["__version__"]

__version__: str


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # noqa: PLC0415 (slow to import, and signals are not handled before)

    return version("thumbtune")
