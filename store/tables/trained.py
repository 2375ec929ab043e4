"""What training writes: datasets, runs and their results, champions, sweeps."""

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
    """One immutable dataset: which versions of which videos, how split, with which negatives."""

    __tablename__ = "snapshot"

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending."""
    fingerprint: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 over the examples and the settings: equal data and settings give the same snapshot."""
    created_at: Mapped[datetime]
    """When it was first made."""
    settings: Mapped[dict[str, Any]]
    """Negative strategy, title model, seed, channels: all that decided the examples."""
    n_train: Mapped[int]
    """Examples in the split."""
    n_valid: Mapped[int]
    """Examples in the split."""
    n_test: Mapped[int]
    """Examples in the split."""
    excluded: Mapped[dict[str, Any]]
    """{reason: how many pairs were left out}."""


class SnapshotExample(Base):
    """One (anchor, positive, negative) triplet of a snapshot: a video's version, and whose title is its negative."""

    __tablename__ = "snapshot_example"
    __table_args__ = (
        CheckConstraint(one_of("split", "train", "valid", "test"), name="split"),
        UniqueConstraint("snapshot_id", "video_id"),
    )

    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshot.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    """0, 1, ...: the dataset's row order, over all splits."""
    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("video_version.id"), index=True)
    """The anchor picture and the positive title."""
    channel_id: Mapped[str] = mapped_column(ForeignKey("channel.id"))
    group_id: Mapped[str]
    """The video's group at that time."""
    split: Mapped[str]
    """The video's split."""
    negative_position: Mapped[int | None]
    """The example of the same split whose title is the negative; NULL with `--negatives none`, or where none serves."""


class TrainingRun(Base):
    """One training run: everything needed to know what was done, with what, and to repeat it."""

    __tablename__ = "training_run"
    __table_args__ = (CheckConstraint(one_of("status", "running", "done", "failed", "interrupted"), name="status"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending."""
    status: Mapped[str]
    """`running`, `done`, `failed` or `interrupted`."""
    started_at: Mapped[datetime] = mapped_column(index=True)
    """When the row was written, before any work."""
    finished_at: Mapped[datetime | None]
    """NULL while it runs."""
    seconds: Mapped[float | None]
    """Wall-clock time."""
    phase_seconds: Mapped[dict[str, Any] | None]
    """{phase: seconds}."""
    error: Mapped[str | None]
    """Why it failed, as the user read it."""
    snapshot_id: Mapped[int | None] = mapped_column(ForeignKey("snapshot.id"), index=True)
    """NULL only while the run, or because the run, has not come that far."""
    base_model: Mapped[str]
    """Hub name or folder, as given."""
    base_fingerprint: Mapped[str | None]
    """SHA-256 over the base's weights and preprocessing."""
    trained: Mapped[str]
    """`projection`, `all`, `lora`, or a regular expression over parameter names."""
    seed: Mapped[int]
    """Of the batch order and all else that is drawn."""
    settings: Mapped[dict[str, Any]]
    """Every setting, defaults included."""
    packages: Mapped[dict[str, Any]]
    """{distribution: version}, Python and the platform included."""
    device: Mapped[str | None]
    """`cpu`, `cuda`, ..."""
    git_commit: Mapped[str | None]
    """Of thumbtune's own checkout, when run from one."""
    parameters_total: Mapped[int | None] = mapped_column(BigInteger)
    """Of the whole model."""
    parameters_trainable: Mapped[int | None] = mapped_column(BigInteger)
    """Of those that were trained."""
    artifact_path: Mapped[str | None]
    """The trained tensors (safetensors)."""
    artifact_sha256: Mapped[str | None] = mapped_column(String(64))
    """Of that file, in hex."""
    output_path: Mapped[str | None]
    """The whole model's folder, with `--output`."""
    host: Mapped[str]
    """The machine's name; on Linux with its boot and its namespace of process numbers."""
    pid: Mapped[int]
    """With `host`: whether a run that reads `running` still is."""
    champion_run_id: Mapped[int | None] = mapped_column(ForeignKey("training_run.id"))
    """The run that was in use then, scored beside this one as the model `champion` if it could be, or gone on from;
    NULL when there was none."""
    decision: Mapped[str | None]
    """Whether it took that run's place, and why, in words with the figures; NULL where that was not asked (only
    `retrain` does), or another run came into use meanwhile."""
    sweep_id: Mapped[int | None] = mapped_column(ForeignKey("sweep.id"), index=True)
    """The sweep that this run is part of."""
    trial: Mapped[int | None]
    """In a sweep: 0, 1, ... for the settings that were tried (one run a seed); NULL for the winner's own run."""
    seen_at: Mapped[datetime | None]
    """When its process last said that it still runs: about once a minute. On PostgreSQL by the server's clock."""


class TrainingStep(Base):
    """One optimiser step of a run."""

    __tablename__ = "training_step"

    run_id: Mapped[int] = mapped_column(ForeignKey("training_run.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    """1, 2, ..."""
    epoch: Mapped[float]
    """Fraction of the training done, in epochs, after this step."""
    loss: Mapped[float]
    """Mean over the batch."""
    learning_rate: Mapped[float]
    """Used for this step."""


class Evaluation(Base):
    """One metric of one model on one split, with its sample size and, for a proportion, its 95 % Wilson interval."""

    __tablename__ = "evaluation"
    __table_args__ = (
        CheckConstraint(one_of("split", "train", "valid", "test"), name="split"),
        CheckConstraint(one_of("direction", "thumbnail_to_title", "title_to_thumbnail"), name="direction"),
    )

    run_id: Mapped[int] = mapped_column(ForeignKey("training_run.id"), primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    """`base`, `tuned` or `champion`."""
    scope: Mapped[str] = mapped_column(primary_key=True)
    """`all`, or a channel id: then only that channel's rows are ranked, among themselves."""
    split: Mapped[str] = mapped_column(primary_key=True)
    """What was ranked."""
    direction: Mapped[str] = mapped_column(primary_key=True)
    """`thumbnail_to_title` or `title_to_thumbnail`."""
    metric: Mapped[str] = mapped_column(primary_key=True)
    """`recall@1`, `recall@5`, `recall@10`, `mrr`, `median_rank`."""
    k: Mapped[int | None]
    """The cut-off of a recall, else NULL."""
    value: Mapped[float]
    """Of the metric."""
    n: Mapped[int]
    """Rows ranked."""
    low: Mapped[float | None]
    """95 % Wilson interval; NULL for what is no proportion."""
    high: Mapped[float | None]
    """95 % Wilson interval; NULL for what is no proportion."""


class Rank(Base):
    """Where a run's model put one video's own title (or thumbnail) among all of its split."""

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
    """What was ranked."""
    rank: Mapped[int]
    """1 is a hit; an equal title (or the same picture) ranked first counts as its own."""
    score: Mapped[float]
    """Cosine similarity of the video's own pair."""
    top_video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), index=True)
    """Whose title (or thumbnail) was ranked first."""
    top_score: Mapped[float]
    """Cosine similarity of what was ranked first."""


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
    """One time that a run's model came into use: it is the champion until the next row. Never changed or deleted."""

    __tablename__ = "promotion"

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending: the last one is the champion's."""
    run_id: Mapped[int] = mapped_column(ForeignKey("training_run.id"), index=True)
    """Whose model."""
    promoted_at: Mapped[datetime]
    """Since when."""
    reason: Mapped[str]
    """Why: the figures that decided it, or that it was done by hand."""


class Sweep(Base):
    """One search over settings: its runs have its id."""

    __tablename__ = "sweep"
    __table_args__ = (CheckConstraint(one_of("status", "running", "done", "failed", "interrupted"), name="status"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending."""
    status: Mapped[str]
    """`running`, `done`, `failed` or `interrupted`."""
    started_at: Mapped[datetime]
    """When it was last started: `--resume` sets it anew."""
    finished_at: Mapped[datetime | None]
    """NULL while it runs."""
    settings: Mapped[dict[str, Any]]
    """What was searched, how, with how many trials and seeds, and the settings that all trials share."""
    error: Mapped[str | None]
    """Why it failed, as the user read it."""
    host: Mapped[str]
    """The machine's name; on Linux with its boot and its namespace of process numbers."""
    pid: Mapped[int]
    """With `host`: whether a sweep that reads `running` still is."""
    seen_at: Mapped[datetime | None]
    """When its process last said that it still runs: about once a minute. On PostgreSQL by the server's clock."""
