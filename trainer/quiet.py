"""Keeping third-party noise off the user's terminal: progress bars, load reports, advice for library authors."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_libraries"]

_LOGGERS = ("accelerate", "datasets", "huggingface_hub", "optuna", "sentence_transformers", "transformers")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the training libraries' bars, warnings and logs below ERROR while the block runs.

    With the `trainer` logger at DEBUG everything is let through: that is for finding a fault.
    """
    if logging.getLogger("trainer").isEnabledFor(logging.DEBUG):
        yield
        return
    # Read by the tokenizers library when a process forks; a loader worker would warn on every start.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars  # noqa: PLC0415 (heavy)
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    # Blocks nest: the inner one must not let the outer one's noise through when it ends.
    datasets_had, transformers_had = not are_progress_bars_disabled(), transformers_logging.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    disable_progress_bars()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # the hub's bars too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if datasets_had:
            enable_progress_bars()
        if transformers_had:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
