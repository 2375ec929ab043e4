"""Test what thumbtune promises for many machines and many pairs, on a small scale, on one machine.

    python -m bench.scale [--quick] [--only encode] [--json]

Prints one table, as `bench.reliability` does. The exit code is 1 if a promise is broken.
"""

from __future__ import annotations

import sys

from bench.reliability import main

__all__ = ["PARTS"]

PARTS = {"encode": "scale_encoding:encode", "collect": "many_collectors:collect"}
"""The parts for `--only`: functions that take a folder and `quick=`, and return rows."""


if __name__ == "__main__":
    sys.exit(main(PARTS, __doc__))
