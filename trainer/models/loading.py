"""Load sentence-transformers models from a folder or the hub, and convert the libraries' errors to `trainer.errors`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from PIL import Image
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedModel

from store.errors import StoreError, panics_as_errors
from trainer.errors import DamagedModel, TrainerError, causes_of
from trainer.models.families import sees_and_reads
from trainer.models.hub_names import hub_has, not_reachable
from trainer.models.model_costs import check_inputs, no_more_numbers_than_in
from trainer.models.model_files import FILES, check_model_files
from trainer.models.model_folders import hub_name, model_folder
from trainer.quiet import quiet_libraries

__all__ = ["library_errors", "load_model", "try_out"]

_NAMES_SHOWN = 5
_TITLES = ("A fox, 3 Füchse & 狐's  DEN — #1 🎈", "long titles are cut where they must be " * 12)
_PICTURES = tuple(Image.new("RGB", size, "grey") for size in ((64, 36), (36, 64)))
_ONE_AT_A_TIME = threading.RLock()


def load_model(name: str, device: str, *, option: str, text_only: bool = False) -> SentenceTransformer:
    """Load a model in float32: from a folder if it exists, else from the hub, else from the hub's local cache.

    Args:
        name: folder or hub name (`sentence-transformers/` may be left out).
        device: `cpu`, `cuda` or `mps`.
        option: the command-line option for this model, for error messages.
        text_only: whether the model embeds only text.

    Raises:
        UnknownModel: neither a folder nor a model on the hub has this name.
        NoNetwork: the hub can't be reached, and the model is not in the cache.
        DamagedModel: files are missing, unreadable or not in safetensors, or tensors are missing or unexpected.
    """
    folder = model_folder(name, option) or _from_hub(name, option)
    limits = no_more_numbers_than_in(folder)
    with library_errors(name, option), quiet_libraries(), _loading_reports() as reports, limits, _offline():
        model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
    for report in reports:
        _require_whole(name, report, option, text_only=text_only)
    return model


def try_out(model: SentenceTransformer, name: str, option: str) -> None:
    """Embed two titles and, if the model embeds images, two images of different sizes.

    The libraries use most preprocessing settings only here. Otherwise, an invalid setting would stop a command halfway.

    Raises:
        DamagedModel: the model can't embed them.
    """
    with library_errors(name, option), quiet_libraries():
        check_inputs(model)
        for inputs in (_TITLES, _PICTURES) if sees_and_reads(model) else (_TITLES,):
            model.encode(list(inputs), show_progress_bar=False)


@contextmanager
def _offline() -> Iterator[None]:
    """Reject all requests to the hub: a model's files may name other repositories, which nobody asked for."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _loading_reports() -> Iterator[list[dict[str, Any]]]:
    """Collect transformers' report on each checkpoint, because it replaces missing tensors by random numbers.

    sentence-transformers does not return the report (`output_loading_info` in
    https://huggingface.co/docs/transformers/main_classes/model), so `from_pretrained` is patched to collect it.
    """
    reports: list[dict[str, Any]] = []
    original = PreTrainedModel.__dict__["from_pretrained"]

    def reporting(cls: type[PreTrainedModel], *arguments: Any, **options: Any) -> Any:
        model, report = original.__func__(cls, *arguments, **{**options, "output_loading_info": True})
        reports.append(report)
        return (model, report) if options.get("output_loading_info") else model

    with _ONE_AT_A_TIME:
        PreTrainedModel.from_pretrained = classmethod(reporting)  # type: ignore[assignment]
        try:
            yield reports
        finally:
            PreTrainedModel.from_pretrained = original  # type: ignore[method-assign]


def _require_whole(name: str, report: dict[str, Any], option: str, *, text_only: bool) -> None:
    """Reject a checkpoint whose tensors do not match its architecture.

    Accepted, because embeddings do not use them: a missing pooler or an additional head in a text model, and a language
    model's head for predicting words.
    """
    missing = sorted(key for key in report["missing_keys"] if not (text_only and ".pooler." in f".{key}"))
    # Old checkpoints contain position ids. The libraries compute them instead.
    unexpected = [] if text_only else sorted(key for key in report["unexpected_keys"] if not _is_unused(key))
    # A copy that was cut off has no other names, so a new copy would not help.
    remedy = (
        "it has other tensors instead, so this kind of model is not supported (see docs/models.md); use"
        if missing and unexpected
        else "copy or download it again, or use"
    )
    for what, keys in (("lacks the tensors", missing), ("has unexpected tensors", unexpected)):
        if keys:
            shown = ", ".join(keys[:_NAMES_SHOWN]) + (
                f" and {len(keys) - _NAMES_SHOWN} more" if keys[_NAMES_SHOWN:] else ""
            )
            raise DamagedModel(
                f"the checkpoint of {name} {what} {shown}, which would be replaced by random numbers or ignored; "
                f"{remedy} another model with {option}"
            )


def _is_unused(key: str) -> bool:
    return "position_ids" in key or key.startswith("lm_head.")


def _from_hub(name: str, option: str) -> Path:
    """Download a model, except for pickles and other formats, or find it in the local cache; check its files.

    Raises:
        UnknownModel, NoNetwork, DamagedModel: see `load_model`.
    """
    cached_only = not hub_has(name, option)
    try:
        with quiet_libraries():
            folder = Path(snapshot_download(hub_name(name), allow_patterns=list(FILES), local_files_only=cached_only))
    except LocalEntryNotFoundError as error:
        raise not_reachable(name, option) from error
    except Exception as error:
        # Besides the errors of its HTTP library, the hub client raises ValueError and OSError.
        raise DamagedModel(_damaged(name, error, option)) from error
    check_model_files(folder, option, name=name)
    return folder


@contextmanager
def library_errors(name: str, option: str) -> Iterator[None]:
    """Convert exceptions of the model libraries to `trainer.errors`: for a damaged folder, they can be of any class."""
    try:
        with panics_as_errors():
            yield
    except (StoreError, TrainerError):
        raise
    except Exception as error:
        if any(isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled) for cause in causes_of(error)):
            raise DamagedModel(
                f"{name} lacks files, or refers to another model on the hub, which is not looked up; copy the whole "
                f"model, or use another model with {option}"
            ) from error
        raise DamagedModel(_damaged(name, error, option)) from error


def _damaged(name: str, error: Exception, option: str) -> str:
    if "trust_remote_code" in str(error):
        return (
            f"{name} requires code from its repository, which is never executed; use a model that the installed "
            f"libraries support with {option}"
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    if "ignore_mismatched_sizes" in reason:
        reason = "the sizes of tensors differ from config.json"
    return f"{name} can't be loaded ({reason[:200]}); copy or download it again, or use another model with {option}"
