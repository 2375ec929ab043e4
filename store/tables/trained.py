"""Tables that training writes: datasets, runs and their results, champions, sweeps."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.tables.base import Base, one_of

__all__ = [
    "Snapshot",
    "SnapshotExample",
    "TrainingRun",
    "TrainingStep",
    "Evaluation",
    "Rank",
    "TestLook",
    "Promotion",
    "Sweep",
]


class Snapshot(Base):
    """One immutable dataset: versions of videos, their splits, and their negatives."""

    __tablename__ = "snapshot"

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending."""
    fingerprint: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 over the examples and the settings. Equal data and settings give the same snapshot."""
    created_at: Mapped[datetime]
    """When the snapshot was created."""
    settings: Mapped[dict[str, Any]]
    """All settings that determine the examples: negative strategy, title model, seed, channels."""
    n_train: Mapped[int]
    """Examples in the training split."""
    n_valid: Mapped[int]
    """Examples in the validation split."""
    n_test: Mapped[int]
    """Examples in the test split."""
    excluded: Mapped[dict[str, Any]]
    """{reason: number of excluded pairs}."""


class SnapshotExample(Base):
    """One (anchor, positive, negative) triplet of a snapshot: a video's version, and a reference to the negative."""

    __tablename__ = "snapshot_example"
    __table_args__ = (
        CheckConstraint(one_of("split", "train", "valid", "test"), name="split"),
        UniqueConstraint("snapshot_id", "video_id"),
    )

    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshot.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    """0, 1, ...: the row order of the dataset, across all splits."""
    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("video_version.id"), index=True)
    """The version with the anchor thumbnail and the positive title."""
    channel_id: Mapped[str] = mapped_column(ForeignKey("channel.id"))
    group_id: Mapped[str]
    """The video's group when the snapshot was created."""
    split: Mapped[str]
    """The video's split."""
    negative_position: Mapped[int | None]
    """Position of the example, in the same split, whose title is the negative. NULL with `--negatives none`, or if no
    title is suitable."""


class TrainingRun(Base):
    """One training run, with everything needed to repeat it."""

    __tablename__ = "training_run"
    __table_args__ = (CheckConstraint(one_of("status", "running", "done", "failed", "interrupted"), name="status"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending."""
    status: Mapped[str]
    """`running`, `done`, `failed` or `interrupted`."""
    started_at: Mapped[datetime] = mapped_column(index=True)
    """When the row was inserted, before any other work."""
    finished_at: Mapped[datetime | None]
    """NULL while the run is running."""
    seconds: Mapped[float | None]
    """Wall-clock time."""
    phase_seconds: Mapped[dict[str, Any] | None]
    """{phase: seconds}."""
    error: Mapped[str | None]
    """The error message shown to the user, if the run failed."""
    snapshot_id: Mapped[int | None] = mapped_column(ForeignKey("snapshot.id"), index=True)
    """The dataset. NULL until the run has created or chosen it."""
    base_model: Mapped[str]
    """Hub name or folder of the base model, as given."""
    base_fingerprint: Mapped[str | None]
    """SHA-256 over the base model's weights and preprocessing."""
    trained: Mapped[str]
    """`cca`, `ridge`, `projection`, `all`, `lora`, or a regular expression over parameter names."""
    seed: Mapped[int]
    """Seed of the batch order and all other random choices."""
    settings: Mapped[dict[str, Any]]
    """Every setting, including defaults."""
    packages: Mapped[dict[str, Any]]
    """{distribution: version}, including Python and the platform."""
    device: Mapped[str | None]
    """`cpu`, `cuda`, ..."""
    git_commit: Mapped[str | None]
    """Commit of thumbtune's checkout, if it runs from a checkout."""
    parameters_total: Mapped[int | None] = mapped_column(BigInteger)
    """Parameters of the whole model."""
    parameters_trainable: Mapped[int | None] = mapped_column(BigInteger)
    """Trained parameters."""
    artifact_path: Mapped[str | None]
    """File of the trained tensors (safetensors)."""
    artifact_sha256: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 of that file, in hex."""
    output_path: Mapped[str | None]
    """Folder of the whole model, with `--output`."""
    host: Mapped[str]
    """The machine's name; on Linux including its boot id and PID namespace."""
    pid: Mapped[int]
    """The process id on `host`, to check whether a `running` run is still running."""
    process_start: Mapped[int | None] = mapped_column(BigInteger)
    """When that process started, in clock ticks since the machine was booted; NULL if unknown. Setting the machine's
    clock does not change it."""
    champion_run_id: Mapped[int | None] = mapped_column(ForeignKey("training_run.id"))
    """The champion when the run started. If possible, it was scored on the same data as the model `champion`, or
    training started from it. NULL if there was no champion."""
    decision: Mapped[str | None]
    """The comparison with the model in use, with its figures. NULL if there was no comparison (trials of sweeps, and
    runs of `train` while there is a champion), or if another run was promoted in the meantime."""
    sweep_id: Mapped[int | None] = mapped_column(ForeignKey("sweep.id"), index=True)
    """The sweep that the run belongs to."""
    trial: Mapped[int | None]
    """In a sweep: 0, 1, ... for each combination of settings (one run per seed); NULL for the final run with the best
    settings."""
    seen_at: Mapped[datetime | None]
    """When its process last sent a heartbeat, about once a minute; on PostgreSQL, by the server's clock."""
    hidden_at: Mapped[datetime | None]
    """When `runs hide` removed it from the list of `runs`; NULL if it is listed."""


class TrainingStep(Base):
    """One optimiser step of a run."""

    __tablename__ = "training_step"

    run_id: Mapped[int] = mapped_column(ForeignKey("training_run.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    """1, 2, ..."""
    epoch: Mapped[float]
    """Training progress in epochs after this step."""
    loss: Mapped[float]
    """Mean loss of the batch."""
    learning_rate: Mapped[float]
    """Learning rate of this step."""


class Evaluation(Base):
    """One metric of one model on one split, with its sample size and, for proportions, a 95 % Wilson interval."""

    __tablename__ = "evaluation"
    __table_args__ = (
        CheckConstraint(one_of("split", "train", "valid", "test"), name="split"),
        CheckConstraint(one_of("direction", "thumbnail_to_title", "title_to_thumbnail"), name="direction"),
    )

    run_id: Mapped[int] = mapped_column(ForeignKey("training_run.id"), primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    """`base`, `tuned` or `champion`."""
    scope: Mapped[str] = mapped_column(primary_key=True)
    """`all`, or a channel id: then only that channel's rows are ranked against each other."""
    split: Mapped[str] = mapped_column(primary_key=True)
    """The ranked split."""
    direction: Mapped[str] = mapped_column(primary_key=True)
    """`thumbnail_to_title` or `title_to_thumbnail`."""
    metric: Mapped[str] = mapped_column(primary_key=True)
    """`recall@1`, `recall@5`, `recall@10`, `mrr`, `median_rank`."""
    k: Mapped[int | None]
    """The cut-off of a recall; NULL for other metrics."""
    value: Mapped[float]
    """Value of the metric."""
    n: Mapped[int]
    """Number of ranked rows."""
    low: Mapped[float | None]
    """Lower bound of the 95 % Wilson interval; NULL for metrics that are not proportions."""
    high: Mapped[float | None]
    """Upper bound of the 95 % Wilson interval; NULL for metrics that are not proportions."""


class Rank(Base):
    """The rank that a run's model gave a video's own title (or thumbnail) among all of its split."""

    __tablename__ = "rank"
    __table_args__ = (
        CheckConstraint(one_of("split", "train", "valid", "test"), name="split"),
        CheckConstraint(one_of("direction", "thumbnail_to_title", "title_to_thumbnail"), name="direction"),
    )

    run_id: Mapped[int] = mapped_column(ForeignKey("training_run.id"), primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    """`base`, `tuned` or `champion`."""
    direction: Mapped[str] = mapped_column(primary_key=True)
    """`thumbnail_to_title` or `title_to_thumbnail`."""
    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), primary_key=True, index=True)
    split: Mapped[str]
    """The ranked split."""
    rank: Mapped[int]
    """1 is a hit. An equal title (or the same thumbnail) that is ranked first counts as the video's own."""
    score: Mapped[float]
    """Cosine similarity of the video's own thumbnail and title."""
    top_video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), index=True)
    """The video whose title (or thumbnail) was ranked first."""
    top_score: Mapped[float]
    """Cosine similarity of the pair that was ranked first."""


class TestLook(Base):
    """One time that a model was scored on the test split. Never changed or deleted."""

    __tablename__ = "test_look"
    __test__ = False  # pytest takes a class of this name for tests

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending."""
    looked_at: Mapped[datetime]
    """When it was scored."""
    model: Mapped[str]
    """`tuned` or `base` of the run, else the model's name as given."""
    run_id: Mapped[int | None] = mapped_column(ForeignKey("training_run.id"))
    """The run whose model it is, or NULL."""
    snapshot_id: Mapped[int | None] = mapped_column(ForeignKey("snapshot.id"))
    """The snapshot whose test split it was scored on."""


class Promotion(Base):
    """One promotion: the run is its scope's champion until the scope's next row. Never changed or deleted."""

    __tablename__ = "promotion"

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending; the last row of a scope is its current champion's."""
    run_id: Mapped[int] = mapped_column(ForeignKey("training_run.id"), index=True)
    """The promoted run."""
    promoted_at: Mapped[datetime]
    """When the run was promoted."""
    reason: Mapped[str]
    """The figures that decided the promotion, or that a user promoted the run."""
    scope: Mapped[str] = mapped_column(server_default="all")
    """The channels that the model is for: `all`, or their ids, sorted and joined by commas. Each scope has its own
    champion: the run of its last row."""


class Sweep(Base):
    """One search over settings. Its runs refer to it."""

    __tablename__ = "sweep"
    __table_args__ = (CheckConstraint(one_of("status", "running", "done", "failed", "interrupted"), name="status"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending."""
    status: Mapped[str]
    """`running`, `done`, `failed` or `interrupted`."""
    started_at: Mapped[datetime]
    """When the sweep was last started; `--resume` sets a new time."""
    finished_at: Mapped[datetime | None]
    """NULL while the sweep is running."""
    settings: Mapped[dict[str, Any]]
    """The search space and method, the number of trials and seeds, and the settings that all trials share."""
    error: Mapped[str | None]
    """The error message shown to the user, if the sweep failed."""
    host: Mapped[str]
    """The machine's name; on Linux including its boot id and PID namespace."""
    pid: Mapped[int]
    """The process id on `host`, to check whether a `running` sweep is still running."""
    process_start: Mapped[int | None] = mapped_column(BigInteger)
    """When that process started, in clock ticks since the machine was booted; NULL if unknown. Setting the machine's
    clock does not change it."""
    seen_at: Mapped[datetime | None]
    """When its process last sent a heartbeat, about once a minute; on PostgreSQL, by the server's clock."""
