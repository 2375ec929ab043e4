"""Getting a sentence-transformers model from a folder or the hub, and its libraries' errors mapped to ours."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer

from trainer.errors import DamagedModel, NoNetwork, UnknownModel
from trainer.model_folders import model_folder
from trainer.quiet import quiet_libraries

__all__ = ["load_model"]

logger = logging.getLogger(__name__)

_HUB_TIMEOUT_S = 10.0


def load_model(name: str, device: str, *, option: str) -> SentenceTransformer:
    """Load a model in float32: a folder that exists, else a hub name, else from the local cache of the hub.

    Args:
        name: folder or hub name (`sentence-transformers/` may be left out).
        device: `cpu`, `cuda` or `mps`.
        option: the command line's option for this model, for the message.

    Raises:
        UnknownModel: no such folder and no such name.
        NoNetwork: the hub can't be reached, and the cache does not have it.
        DamagedModel: files missing, unreadable or not in safetensors.
    """
    folder = model_folder(name, option)
    cached_only = folder is None and not _hub_has(name, option)
    with _mapped(name, option), quiet_libraries():
        return SentenceTransformer(
            name if folder is None else str(folder),
            device=device,
            local_files_only=cached_only,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )


def _hub_has(name: str, option: str) -> bool:
    """Ask the hub once, with a short timeout: the libraries would retry for more than a minute. False: unreachable.

    Raises:
        UnknownModel: the hub answers that there is no such model, or that it is not open to us.
    """
    full = name if "/" in name else f"sentence-transformers/{name}"
    try:
        HfApi().model_info(full, timeout=_HUB_TIMEOUT_S)
    except (HFValidationError, GatedRepoError, RepositoryNotFoundError) as error:
        raise UnknownModel(
            f"the hub has no model {full} that can be had without permission; "
            f"check the name, or give a folder with {option}"
        ) from error
    except Exception:
        # Offline by setting, refused, timed out, no name service: each its own class, of whichever HTTP library the
        # installed hub client is built on. The cache may still have the model.
        logger.info("the model hub can't be reached", exc_info=True)
        return False
    return True


@contextmanager
def _mapped(name: str, option: str) -> Iterator[None]:
    """The one place where the model libraries' errors end."""
    try:
        yield
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedModel(_damaged(name, error, option)) from error
    except Exception as error:
        # transformers raises plain OSError for a missing file, an unsafe format and an unreachable hub alike.
        if any(isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled) for cause in _causes(error)):
            base = " or --title-model base" if option == "--title-model" else ""
            raise NoNetwork(
                f"{name} is not in the local cache and the model hub can't be reached; "
                f"connect once to download it, or name a local folder with {option}{base}"
            ) from error
        raise DamagedModel(_damaged(name, error, option)) from error


def _damaged(name: str, error: Exception, option: str) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return f"{name} can't be loaded ({first[:200]}); copy or download it again, or name another with {option}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
