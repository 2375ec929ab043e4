"""Silencing other libraries during a block, in nested blocks, and not afterwards."""

from __future__ import annotations

import logging

from datasets import are_progress_bars_disabled
from transformers.utils import logging as transformers_logging

from trainer.quiet import quiet_libraries


def bars() -> tuple[bool, bool]:
    return not are_progress_bars_disabled(), transformers_logging.is_progress_bar_enabled()


def test_nested_blocks_restore_the_previous_state() -> None:
    before, level = bars(), logging.getLogger("transformers").level
    with quiet_libraries():
        assert bars() == (False, False)
        with quiet_libraries():
            assert bars() == (False, False)
        assert bars() == (False, False), "the end of the inner block does not end the outer block"
        assert logging.getLogger("transformers").level == logging.ERROR
    assert bars() == before
    assert logging.getLogger("transformers").level == level
