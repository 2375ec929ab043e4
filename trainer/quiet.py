"""Keep third-party progress bars, load reports and warnings off the user's terminal."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["quiet_libraries"]

_LOGGERS = ("accelerate", "datasets", "huggingface_hub", "optuna", "sentence_transformers", "transformers")


# The environment variables of each library's log level. They are read on import, which may happen inside a quiet block.
_VERBOSITY = ("DATASETS_VERBOSITY", "HF_HUB_VERBOSITY", "TRANSFORMERS_VERBOSITY")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the training libraries' progress bars, warnings and logs below ERROR while the block runs.

    Progress bars are silenced only for libraries that are already imported. This function imports no library, because a
    run on cached features needs none. Code that draws progress bars therefore uses its own block. Blocks can be nested.

    If the `trainer` logger is at DEBUG, nothing is silenced.
    """
    if logging.getLogger("trainer").isEnabledFor(logging.DEBUG):
        yield
        return
    # The tokenizers library reads this when a process forks; without it, each loader worker would warn.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for variable in _VERBOSITY:
        os.environ.setdefault(variable, "error")
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with _without_bars(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Disable progress bars, and restore their previous state at the end so that nested blocks work."""
    with ExitStack() as undo:
        if "datasets" in sys.modules:
            from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars  # noqa: PLC0415

            if not are_progress_bars_disabled():
                disable_progress_bars()
                undo.callback(enable_progress_bars)
        if "transformers" in sys.modules:
            from transformers.utils import logging as bars  # noqa: PLC0415

            if bars.is_progress_bar_enabled():
                bars.disable_progress_bar()  # type: ignore[no-untyped-call]  # the hub's bars too
                undo.callback(bars.enable_progress_bar)
        yield
