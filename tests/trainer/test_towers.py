"""The towers, their precision, and prefetching."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.oracle import NAMES, Drawn
from tests.trainer.tiny import build_clip, load_encoder
from trainer.errors import BadSetting
from trainer.models import Encoder, pick_precision
from trainer.models.projections import Projections
from trainer.models.towers import Towers, prefetched
from trainer.quiet import quiet_libraries


def names_of_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")}


def test_towers_and_projections_give_the_embeddings_of_the_model(encoder: Encoder) -> None:
    """The cached vectors are exactly the inputs of the projections, without normalisation."""
    towers, model, projections = Towers(encoder.model, "cpu"), encoder.model, Projections.of(encoder.model)
    assert projections is not None
    images = Drawn().load(NAMES)
    seen = towers.pooled_pictures(towers.prepared_pictures(images))
    said = towers.pooled_titles(towers.prepared_titles(NAMES))
    assert (seen.shape, said.shape) == ((20, 32), (20, 32))
    assert seen.dtype == said.dtype == np.float32
    encoded = model.encode(list(images), show_progress_bar=False), model.encode(NAMES, show_progress_bar=False)
    assert np.allclose(seen @ projections.visual.numpy().T, encoded[0], rtol=0, atol=1e-5)
    assert np.allclose(said @ projections.text.numpy().T, encoded[1], rtol=0, atol=1e-5)


def test_titles_that_look_like_files_are_texts(encoder: Encoder) -> None:
    towers = Towers(encoder.model, "cpu")
    risky = ["https://example.org/red.png", "red.jpg", "data:image/png;base64,red"]
    found = towers.pooled_titles(towers.prepared_titles(risky))
    alone = [towers.pooled_titles(towers.prepared_titles([title]))[0] for title in risky]
    assert np.allclose(found, alone, rtol=0, atol=1e-5)


def test_training_mode_does_not_affect_encoding(tmp_path: Path) -> None:
    with quiet_libraries():
        folder = build_clip(tmp_path / "clip")
        encoder = load_encoder(str(folder), "cpu")
    towers = Towers(encoder.model, "cpu")
    inputs = towers.prepared_titles(NAMES)
    before = towers.pooled_titles(inputs)
    encoder.model.train()
    for module in encoder.model.modules():
        if hasattr(module, "dropout"):
            setattr(module, "dropout", 0.9)  # noqa: B010 (modules type their attributes as tensors)
    assert np.array_equal(towers.pooled_titles(inputs), before)
    assert torch.is_grad_enabled()


def test_auto_selects_the_precision_of_the_hardware() -> None:
    here = pick_precision("auto", "cpu")
    flags = torch.cpu.get_capabilities()
    assert here == ("bf16" if flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("arm_bf16") else "fp32")
    assert pick_precision("auto", "mps") == "fp32"
    assert pick_precision("fp32", "cpu") == pick_precision("fp32", "cuda") == "fp32"


def test_bf16_is_refused_if_it_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    without = {name: False if name.endswith("bf16") else flag for name, flag in torch.cpu.get_capabilities().items()}
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: without)
    with pytest.raises(BadSetting, match=r"'bf16'"):
        pick_precision("bf16", "cpu")
    assert pick_precision("auto", "cpu") == "fp32"
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {**without, "avx512_bf16": True})
    assert pick_precision("bf16", "cpu") == pick_precision("auto", "cpu") == "bf16"
    monkeypatch.delattr("torch.cpu.get_capabilities")
    assert pick_precision("auto", "cpu") == "fp32", "older versions of torch do not report it"
    with pytest.raises(BadSetting):
        pick_precision("bf16", "mps")


def test_prefetched_keeps_the_order() -> None:
    assert list(prefetched(str, range(50))) == [str(n) for n in range(50)]
    assert list(prefetched(str, [])) == []
    assert list(prefetched(str, [1])) == ["1"]


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_prefetched_is_limited_ahead_of_the_consumer(ahead: int) -> None:
    begun: list[int] = []

    def note(n: int) -> int:
        begun.append(n)
        return n

    for n in prefetched(note, range(20), ahead):
        assert len(begun) <= n + 1 + ahead
    assert begun == list(range(20))


def test_prefetched_overlaps_with_the_consumer() -> None:
    """The next item is prepared while the current one is used: otherwise this consumer would wait for ever."""
    begun = [threading.Event() for _ in range(4)]

    def begin(n: int) -> int:
        begun[n].set()
        return n

    for n in prefetched(begin, range(4)):
        assert begun[min(n + 1, 3)].wait(30)


def test_an_error_is_raised_in_place_of_its_item() -> None:
    def divide(n: int) -> float:
        return 1 / n

    found = prefetched(divide, [2, 1, 0, 4, 5])
    assert [next(found), next(found)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert list(found) == []
    assert names_of_threads() == set()


def test_an_error_among_the_items_ends_the_thread() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(prefetched(str, items()))
    assert names_of_threads() == set()


def test_a_consumer_that_stops_stops_the_thread() -> None:
    done: list[int] = []
    gate = threading.Event()

    def work(n: int) -> int:
        if n > 0:
            gate.wait(30)
        done.append(n)
        return n

    found = iter(prefetched(work, range(100)))
    assert next(found) == 0
    assert len(names_of_threads()) == 1
    gate.set()
    found.close()  # type: ignore[attr-defined]
    assert names_of_threads() == set()
    assert len(done) <= 3, "items that are not needed are not computed"
