"""Look a model up on the Hugging Face Hub and in its local cache, without loading the model libraries."""

from __future__ import annotations

import logging
from pathlib import Path

from trainer.errors import NoNetwork, UnknownModel
from trainer.models.model_files import FILES
from trainer.models.model_folders import hub_name, model_folder
from trainer.settings import READER

__all__ = ["cached_folder", "check_model", "hub_has", "not_reachable"]

logger = logging.getLogger(__name__)

_HUB_TIMEOUT_S = 10.0


def check_model(name: str, option: str, *, takes: str = "") -> None:
    """Check that a model's folder, cached copy or repository on the hub exists, before the model libraries are loaded.

    Args:
        name: folder or hub name (`sentence-transformers/` may be left out).
        option: the command-line option for this model, for error messages.
        takes: see `model_folder`.

    Raises:
        UnknownModel: neither a folder nor a model on the hub has this name.
        NoNetwork: the hub can't be reached, and the model is not in the cache.
        DamagedModel: the folder has no weights in safetensors.
    """
    if name == READER or model_folder(name, option, takes=takes) is not None or cached_folder(name) is not None:
        return
    if not hub_has(name, option):
        raise not_reachable(name, option)


def cached_folder(name: str) -> Path | None:
    """Return the model's folder in the hub's local cache, or None."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (a local folder does not need it)

    try:
        return Path(snapshot_download(hub_name(name), allow_patterns=list(FILES), local_files_only=True))
    except (OSError, ValueError):
        # Not in the cache, or not a valid hub name.
        return None


def hub_has(name: str, option: str) -> bool:
    """Whether the hub has the model; False if it can't be reached.

    Asks once, with a short timeout. The libraries would retry for over a minute.

    Raises:
        UnknownModel: the hub does not have the model, or does not give access to it.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError  # noqa: PLC0415

    full = hub_name(name)
    try:
        HfApi().model_info(full, timeout=_HUB_TIMEOUT_S)
    except (HFValidationError, GatedRepoError, RepositoryNotFoundError) as error:
        raise UnknownModel(
            f"the hub has no model {full}, or denies access to it; check the name, or use a folder with {option}"
        ) from error
    except Exception:
        # Offline mode, a refused connection, a timeout and a DNS failure have different exception classes, which depend
        # on the HTTP library of the installed hub client. The model may still be in the cache.
        logger.info("the model hub can't be reached", exc_info=True)
        return False
    return True


def not_reachable(name: str, option: str) -> NoNetwork:
    """Return the error for a model that is not in the cache while the hub can't be reached."""
    other = {"--title-model": " or --title-model base", "--model": ", or --model demo to try without it"}
    return NoNetwork(
        f"{name} is not in the local cache and the model hub can't be reached; "
        f"connect to the network to download it, or use a local folder with {option}{other.get(option, '')}"
    )
