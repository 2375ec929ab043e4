"""Errors of the trainer.

TrainerError                   base class
├── BadSetting                 a setting, or a file of pictures or titles, is invalid; the message quotes it
├── NotEnoughPairs             the store has too few pairs, or too few distinct pairs, to train or score on
├── ModelUnavailable           a model can't be loaded
│   ├── UnknownModel           no folder and no model on the hub has this name
│   ├── NoNetwork              the model is not in the local cache, and the hub can't be reached
│   ├── NotAClip               the model loads, but does not embed pictures and text into one space
│   ├── DamagedModel           files are missing, unreadable, or in an unsafe format
│   └── ReaderMissing          the optional packages that read the words on thumbnails are not installed
├── Diverged                   training or a model produced numbers that can't be compared
├── BadPicture                 a stored thumbnail can't be decoded
├── AlreadyTraining            another process is training on this store, and this command starts only one run
├── RunUnusable                a run's model can't be loaded again (not done, tensors lost, base model changed)
├── CantSave                   a model or dataset can't be written (folder in use, disk full)
├── PushFailed                 a model or dataset can't be uploaded to the hub
│   ├── NoToken                this machine has no access token for the hub
│   ├── TokenRefused           the hub does not know the token, or does not let it write to the repository
│   ├── BadRepository          the name is not a valid repository name
│   ├── PublicRepository       the repository is public, but a private one was requested
│   └── HubUnreachable         there is no network, or the hub did not answer in time
├── ClusterUnavailable         Ray is not installed, or its cluster can't be reached or used
├── EncodingFailed             a worker of a cluster could not encode
├── ProcessLost                a process of a training on several processes has ended
└── TrainingInterrupted        a signal stopped the run; it is recorded as `interrupted`, or had already finished
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = [
    "AlreadyTraining",
    "BadPicture",
    "BadRepository",
    "BadSetting",
    "CantSave",
    "ClusterUnavailable",
    "DamagedModel",
    "Diverged",
    "EncodingFailed",
    "HubUnreachable",
    "ModelUnavailable",
    "NoNetwork",
    "NoToken",
    "NotAClip",
    "NotEnoughPairs",
    "ProcessLost",
    "PublicRepository",
    "PushFailed",
    "ReaderMissing",
    "RunUnusable",
    "TokenRefused",
    "TrainerError",
    "TrainingInterrupted",
    "UnknownModel",
    "causes_of",
    "is_interrupt",
]


class TrainerError(Exception):
    """Base class of the trainer's errors. The message reads `what happened; what to do`."""

    exit_code = 1


class BadSetting(TrainerError):
    """A setting, or a file of pictures or titles, is invalid. The message quotes it."""

    exit_code = 2


class NotEnoughPairs(TrainerError):
    """There are no pairs, or too few, to train or score on."""


class ModelUnavailable(TrainerError):
    """A model can't be loaded."""


class UnknownModel(ModelUnavailable):
    """No folder and no model on the hub has this name."""


class NoNetwork(ModelUnavailable):
    """The hub can't be reached, and the model is not in the local cache."""


class NotAClip(ModelUnavailable):
    """The model does not embed pictures and text into one space with one projection each."""


class DamagedModel(ModelUnavailable):
    """The model's files are incomplete, unreadable, or in a format that may run code."""


class Diverged(TrainerError):
    """A loss is not finite, or embeddings can't be compared: not finite, zero-length, or all equal."""


class BadPicture(TrainerError):
    """A stored thumbnail can't be decoded."""


class ReaderMissing(ModelUnavailable):
    """The optional packages that read the words on thumbnails are not installed."""


class AlreadyTraining(TrainerError):
    """Another process is training on this store. The new pairs stay new for the next command."""

    exit_code = 3


class RunUnusable(TrainerError):
    """A run's model can't be loaded again."""


class CantSave(TrainerError):
    """A model or dataset can't be written."""


class PushFailed(TrainerError):
    """A model or dataset can't be uploaded to the hub."""


class NoToken(PushFailed):
    """There is no access token for the hub, in the environment or from a login."""


class TokenRefused(PushFailed):
    """The hub does not know the token, or the token has no permission to write to the repository."""


class BadRepository(PushFailed):
    """The name is not a valid repository name. The message quotes it."""

    exit_code = 2


class PublicRepository(PushFailed):
    """The repository is public, but a private upload was requested."""


class HubUnreachable(PushFailed):
    """The hub can't be reached, or does not answer in time."""


class ClusterUnavailable(TrainerError):
    """Ray is not installed, or there is no cluster at the address, or one of its machines can't do the work."""


class EncodingFailed(TrainerError):
    """A worker of a cluster could not encode. Vectors that were written stay in the cache."""


class ProcessLost(TrainerError):
    """One of several processes that train together has ended. The run is recorded as failed."""

    despite_signal = True
    """This error takes precedence over a signal: after a failure, torchrun sends signals to the other processes."""


class TrainingInterrupted(TrainerError):
    """A signal stopped the run. It is recorded as interrupted and its weights are lost, unless it had finished."""

    exit_code = 3


def is_interrupt(error: BaseException) -> bool:
    """Whether a signal caused an error: libraries convert the exception of its handler to errors of their own."""
    return not isinstance(error, ProcessLost) and any(
        isinstance(cause, KeyboardInterrupt) for cause in causes_of(error)
    )


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and the chain of its causes and contexts."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
