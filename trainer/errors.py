"""Errors of the trainer.

TrainerError                   the root: anything the trainer can't do
├── BadSetting                 what was given makes no sense: a value, or a file of pictures or titles; quoted
├── NotEnoughPairs             the store holds too few pairs, or too alike ones, to train or score on
├── ModelUnavailable           a model can't be loaded
│   ├── UnknownModel           no such folder, and no such name on the hub
│   ├── NoNetwork              it is on the hub, not in the local cache, and the hub can't be reached
│   ├── NotAClip               it loads, but does not embed pictures and text into one space
│   ├── DamagedModel           files missing, unreadable, or in an unsafe format
│   └── ReaderMissing          the optional packages that read the words on thumbnails are not installed
├── Diverged                   training, or a model, gave numbers that can't be compared
├── BadPicture                 a stored picture can't be decoded
├── AlreadyTraining            another process trains on this store now, and this command starts only one
├── RunUnusable                a run whose model can't be loaded again (not done, artifact lost, base changed)
├── CantSave                   a model or dataset can't be written (folder in use, disk full)
├── PushFailed                 a model or dataset can't be put on the hub
│   ├── NoToken                this machine has no access token for the hub
│   ├── TokenRefused           the hub does not know the token, or does not let it write there
│   ├── BadRepository          a name that no repository can have
│   ├── PublicRepository       the repository is public, and private was wanted
│   └── HubUnreachable         no network, or no answer in time
└── TrainingInterrupted        stopped by a signal; the run is recorded as `interrupted`, or was done
"""

from __future__ import annotations

__all__ = [
    "AlreadyTraining",
    "BadPicture",
    "BadRepository",
    "BadSetting",
    "CantSave",
    "DamagedModel",
    "Diverged",
    "HubUnreachable",
    "ModelUnavailable",
    "NoNetwork",
    "NoToken",
    "NotAClip",
    "NotEnoughPairs",
    "PublicRepository",
    "PushFailed",
    "ReaderMissing",
    "RunUnusable",
    "TokenRefused",
    "TrainerError",
    "TrainingInterrupted",
    "UnknownModel",
]


class TrainerError(Exception):
    """Root of the trainer's errors. The message reads `what happened; what to do`."""

    exit_code = 1


class BadSetting(TrainerError):
    """What was given makes no sense: a value, or a file of pictures or titles. The message quotes it."""

    exit_code = 2


class NotEnoughPairs(TrainerError):
    """There is nothing, or too little, to train or score on."""


class ModelUnavailable(TrainerError):
    """A model can't be loaded."""


class UnknownModel(ModelUnavailable):
    """Neither a folder nor a name on the hub."""


class NoNetwork(ModelUnavailable):
    """The hub can't be reached, and the model is not in the local cache."""


class NotAClip(ModelUnavailable):
    """The model does not embed pictures and text into one space by a projection each."""


class DamagedModel(ModelUnavailable):
    """The model's files are incomplete, unreadable, or in a format that may run code."""


class Diverged(TrainerError):
    """A loss that is not finite, or embeddings that can't be compared: not finite, without length, or all the same."""


class BadPicture(TrainerError):
    """A stored picture can't be decoded."""


class ReaderMissing(ModelUnavailable):
    """The optional packages that read the words on thumbnails are not installed."""


class AlreadyTraining(TrainerError):
    """Another process trains on this store now. The new pairs stay new for the next command."""

    exit_code = 3


class RunUnusable(TrainerError):
    """A run's model can't be loaded again."""


class CantSave(TrainerError):
    """A model or dataset can't be written."""


class PushFailed(TrainerError):
    """A model or dataset can't be put on the hub."""


class NoToken(PushFailed):
    """There is no access token for the hub, neither in the environment nor from a login."""


class TokenRefused(PushFailed):
    """The hub does not know the token, or the token may not write where it should."""


class BadRepository(PushFailed):
    """No repository can have this name. The message quotes it."""

    exit_code = 2


class PublicRepository(PushFailed):
    """Everyone can read the repository, and what is pushed was to be private."""


class HubUnreachable(PushFailed):
    """The hub can't be reached, or does not answer in time."""


class TrainingInterrupted(TrainerError):
    """The run was stopped by a signal. What was learnt is lost, and the run row says so, unless it was done by then."""

    exit_code = 3
