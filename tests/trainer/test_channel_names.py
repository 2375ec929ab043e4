"""Names of channels in training, search and comparison."""

from __future__ import annotations

import pytest

from trainer.data.channel_names import channel_id
from trainer.errors import BadSetting

KNOWN: dict[str, tuple[str | None, str]] = {
    "UC1": ("@Füchse", "Foxes"),
    "UC2": ("@twin", "Two"),
    "UC3": ("@Twin", "Three"),
    "UC4": (None, "@nobody"),
}


@pytest.mark.parametrize("name", ["UC1", "@füchse", "FÜCHSE", "@Füchse"])
def test_an_id_or_a_handle_in_any_case_is_resolved(name: str) -> None:
    assert channel_id(name, KNOWN) == "UC1"


def test_a_handle_of_two_channels_is_refused_with_both_ids() -> None:
    with pytest.raises(BadSetting) as refused:
        channel_id("@TWIN", KNOWN)
    assert "UC2" in str(refused.value)
    assert "UC3" in str(refused.value)
    assert channel_id("UC3", KNOWN) == "UC3"


@pytest.mark.parametrize("name", ["@nobody", "uc1", "", "@"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(BadSetting):
        channel_id(name, KNOWN)
