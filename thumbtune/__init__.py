"""thumbtune finds which title belongs to which thumbnail. This package contains the command line and the demo."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("thumbtune")
