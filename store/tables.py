"""The tables, as typed SQLAlchemy models. One docstring each: what a row is.

The same models serve SQLite and PostgreSQL; `migrations/` creates them and a test finds no drift. Enumerations are text
with a CHECK, so that plain SQL users read words. Everything that a query sorts, joins or looks up by has an index.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from store.types import UtcDateTime, json_type

__all__ = [
    "Availability",
    "Base",
    "Channel",
    "Direction",
    "Evaluation",
    "Feature",
    "Kind",
    "KnownModel",
    "Picture",
    "PictureFailure",
    "Promotion",
    "QuotaDay",
    "Rank",
    "RunStatus",
    "ScoredModel",
    "Snapshot",
    "SnapshotExample",
    "Split",
    "Sweep",
    "SyncMode",
    "SyncRun",
    "SyncStatus",
    "TrainingRun",
    "TrainingStep",
    "Tower",
    "Video",
    "VideoVersion",
]

Kind = Literal["video", "short", "upcoming", "live", "unknown"]
Availability = Literal["available", "private", "gone"]
Split = Literal["train", "valid", "test"]
SyncMode = Literal["incremental", "full", "refresh"]
SyncStatus = Literal["running", "complete", "unchanged", "quota", "partial", "failed", "interrupted"]
RunStatus = Literal["running", "done", "failed", "interrupted"]
ScoredModel = Literal["base", "tuned", "champion"]
Direction = Literal["thumbnail_to_title", "title_to_thumbnail"]
Tower = Literal["vision", "text"]


def _one_of(column: str, *values: str) -> str:
    listed = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({listed})"


class Base(DeclarativeBase):
    """Declarative base: names every constraint, so that migrations can refer to it on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy's own declaration form)
        datetime: UtcDateTime(),
        dict[str, Any]: json_type(),
        list[str]: json_type(),
        str: Text(),
    }


class Channel(Base):
    """One YouTube channel that is kept in this store, and how far its listing has come."""

    __tablename__ = "channel"

    id: Mapped[str] = mapped_column(primary_key=True)
    """`UC...`."""
    handle: Mapped[str | None]
    """`@name` as YouTube writes it, or NULL for a channel without one."""
    title: Mapped[str]
    """As YouTube shows it."""
    uploads_playlist_id: Mapped[str]
    """`UU...`: the playlist that lists every upload."""
    min_duration_s: Mapped[int]
    """Seconds below which a video is a short. Set by `sync --min-duration`, kept for later syncs."""
    thumbnail_size: Mapped[str]
    """The preferred size (`high`, `maxres`, ...). Set by `sync --thumbnail`, kept for later syncs."""
    api_item: Mapped[dict[str, Any] | None]
    """The channel as the API last described it."""
    added_at: Mapped[datetime]
    """When it was first synced."""
    listing_token: Mapped[str | None]
    """Page token at which an unfinished listing goes on; NULL when the last one reached the end."""
    listing_began_at: Mapped[datetime | None]
    """When a listing to the very end (the first one, `--full`) began, until all that it did not show was looked for."""
    listed_at: Mapped[datetime | None]
    """When a listing of the uploads was last complete."""
    synced_at: Mapped[datetime | None]
    """When a sync last ended `complete` or `unchanged`."""
    refreshed_at: Mapped[datetime | None]
    """When `--refresh` last read every known video again."""


class Picture(Base):
    """One thumbnail file, stored once however many videos show it. Never changed, never deleted."""

    __tablename__ = "picture"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Lower-case hex digest of `bytes`."""
    bytes: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    """The file as it was served, checked by decoding it."""
    mime: Mapped[str]
    """By what the decoder found (`image/jpeg`, ...), not by the server's header."""
    width: Mapped[int]
    """Pixels."""
    height: Mapped[int]
    """Pixels."""
    byte_count: Mapped[int]
    """The length of `bytes`."""
    fetched_at: Mapped[datetime]
    """When it was first stored."""


class Video(Base):
    """One upload as last seen. Rows are marked when a video vanishes, never deleted."""

    __tablename__ = "video"
    __table_args__ = (
        CheckConstraint(_one_of("kind", "video", "short", "upcoming", "live", "unknown"), name="kind"),
        CheckConstraint(_one_of("availability", "available", "private", "gone"), name="availability"),
        CheckConstraint(_one_of("split", "train", "valid", "test"), name="split"),
        Index("ix_video_channel_id_published_at", "channel_id", "published_at"),
        # Work that is still to do is read in pages in the order of ids.
        Index("ix_video_channel_id_id", "channel_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    """YouTube's id, 11 characters."""
    channel_id: Mapped[str] = mapped_column(ForeignKey("channel.id"))
    title: Mapped[str]
    """Exactly as the API gave it."""
    picture_sha256: Mapped[str | None] = mapped_column(ForeignKey("picture.sha256"), index=True)
    """The current thumbnail, NULL until one was fetched."""
    published_at: Mapped[datetime | None]
    """By YouTube; for a premiere, the time it was scheduled for."""
    duration_s: Mapped[int | None]
    """Whole seconds; NULL when the API gives none (yet)."""
    kind: Mapped[str]
    """`video` can be a training pair; `short`, `upcoming` and `live` can't; `unknown` until details were read."""
    availability: Mapped[str]
    """`available`, `private`, or `gone` (deleted, or no longer returned)."""
    api_item: Mapped[dict[str, Any] | None]
    """The item of the `videos` endpoint as last received: description, tags, category, languages, ..."""
    first_seen_at: Mapped[datetime]
    """When a sync first listed it."""
    last_seen_at: Mapped[datetime]
    """When the API last confirmed this row."""
    details_at: Mapped[datetime | None]
    """When the `videos` endpoint was last read for it; NULL: listed only, details still to come."""
    picture_url: Mapped[str | None]
    """Where the current picture came from."""
    picture_etag: Mapped[str | None]
    """For a conditional GET on `--refresh`."""
    picture_last_modified: Mapped[str | None]
    """For a conditional GET on `--refresh`."""
    picture_checked_at: Mapped[datetime | None]
    """When the picture was last fetched or found unchanged."""
    group_id: Mapped[str | None] = mapped_column(index=True)
    """Videos that share a picture or a normalised title have the same: the smallest id among them. Snapshots set it."""
    split: Mapped[str | None]
    """`train`, `valid` or `test`: given once, by the first snapshot that sees the video, and never changed."""
    split_at: Mapped[datetime | None]
    """When the split was given."""


class VideoVersion(Base):
    """One (title, picture) that a video has had, from when it was first seen to when it was last seen so."""

    __tablename__ = "video_version"
    __table_args__ = (UniqueConstraint("video_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending."""
    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"))
    number: Mapped[int]
    """1, 2, ... within the video; the highest is the current one."""
    title: Mapped[str]
    """As it was then."""
    picture_sha256: Mapped[str | None] = mapped_column(ForeignKey("picture.sha256"), index=True)
    """NULL until the version's picture was fetched; then it stays."""
    first_seen_at: Mapped[datetime]
    """When a sync first saw it so."""
    last_seen_at: Mapped[datetime]
    """When a sync last saw it so."""

    picture: Mapped[Picture | None] = relationship(viewonly=True)


class PictureFailure(Base):
    """A video whose thumbnail could not be had, and when to try again. Deleted on success."""

    __tablename__ = "picture_failure"

    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), primary_key=True)
    url: Mapped[str | None]
    """What was asked for last; NULL when the API named no thumbnail."""
    reason: Mapped[str]
    """In words."""
    tries: Mapped[int]
    """How often in a row."""
    first_failed_at: Mapped[datetime]
    """Of this row of failures."""
    last_failed_at: Mapped[datetime]
    """Of this row of failures."""
    next_try_at: Mapped[datetime]
    """Not before; the pause grows with each try."""


class SyncRun(Base):
    """One sync of one channel: what it found and what it cost. Written at the start, updated with every batch."""

    __tablename__ = "sync_run"
    __table_args__ = (
        CheckConstraint(_one_of("mode", "incremental", "full", "refresh"), name="mode"),
        CheckConstraint(
            _one_of("status", "running", "complete", "unchanged", "quota", "partial", "failed", "interrupted"),
            name="status",
        ),
        Index("ix_sync_run_channel_id_started_at", "channel_id", "started_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending."""
    channel_id: Mapped[str] = mapped_column(ForeignKey("channel.id"))
    mode: Mapped[str]
    """`incremental`, `full` or `refresh`."""
    status: Mapped[str]
    """`running`, `complete`, `unchanged`, `quota`, `partial`, `failed` or `interrupted`."""
    started_at: Mapped[datetime]
    """When the row was written, before the first request."""
    finished_at: Mapped[datetime | None]
    """NULL while it runs, and for a process that was killed."""
    seconds: Mapped[float | None]
    """Wall-clock time."""
    listed: Mapped[int] = mapped_column(default=0)
    """Playlist entries read."""
    new: Mapped[int] = mapped_column(default=0)
    """Videos seen for the first time."""
    changed: Mapped[int] = mapped_column(default=0)
    """Known videos with a new title or picture."""
    gone: Mapped[int] = mapped_column(default=0)
    """Videos found to have become private or gone in this sync."""
    pictures_fetched: Mapped[int] = mapped_column(default=0)
    """Pictures read and stored."""
    pictures_unchanged: Mapped[int] = mapped_column(default=0)
    """Pictures that the server said are the same."""
    pictures_failed: Mapped[int] = mapped_column(default=0)
    """Pictures that could not be had."""
    requests: Mapped[int] = mapped_column(default=0)
    """HTTP requests sent: API, feed and pictures, retries included."""
    units: Mapped[int] = mapped_column(default=0)
    """API quota units spent."""
    error: Mapped[str | None]
    """Why it failed."""
    host: Mapped[str]
    """The machine's name."""
    pid: Mapped[int]
    """With `host`: whether a run that reads `running` still is."""
    seen_at: Mapped[datetime | None]
    """When its process last wrote something, or just said that it still runs."""


class QuotaDay(Base):
    """API units spent on one day of Pacific time (the quota's day) with one key."""

    __tablename__ = "quota_day"

    day: Mapped[date] = mapped_column(primary_key=True)
    """In Pacific time."""
    key_fingerprint: Mapped[str] = mapped_column(primary_key=True)
    """The first 12 hex digits of the key's SHA-256: tells keys apart, gives none away."""
    units: Mapped[int]
    """Spent so far."""


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
        CheckConstraint(_one_of("split", "train", "valid", "test"), name="split"),
        UniqueConstraint("snapshot_id", "video_id"),
    )

    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshot.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    """0, 1, ...: the dataset's row order, over all splits."""
    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("video_version.id"))
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
    __table_args__ = (CheckConstraint(_one_of("status", "running", "done", "failed", "interrupted"), name="status"),)

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
    """`projection`, `all`, or a regular expression over parameter names."""
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
    """The machine's name."""
    pid: Mapped[int]
    """With `host`: whether a run that reads `running` still is."""
    champion_run_id: Mapped[int | None] = mapped_column(ForeignKey("training_run.id"))
    """The run that was in use then, scored beside this one as the model `champion`; NULL when there was none."""
    sweep_id: Mapped[int | None] = mapped_column(ForeignKey("sweep.id"), index=True)
    """The sweep that this run is part of."""
    trial: Mapped[int | None]
    """In a sweep: 0, 1, ... for the settings that were tried (one run a seed); NULL for the winner's own run."""


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
        CheckConstraint(_one_of("split", "train", "valid", "test"), name="split"),
        CheckConstraint(_one_of("direction", "thumbnail_to_title", "title_to_thumbnail"), name="direction"),
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
        CheckConstraint(_one_of("split", "train", "valid", "test"), name="split"),
        CheckConstraint(_one_of("direction", "thumbnail_to_title", "title_to_thumbnail"), name="direction"),
    )

    run_id: Mapped[int] = mapped_column(ForeignKey("training_run.id"), primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    """`base`, `tuned` or `champion`."""
    direction: Mapped[str] = mapped_column(primary_key=True)
    """`thumbnail_to_title` or `title_to_thumbnail`."""
    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), primary_key=True)
    split: Mapped[str]
    """What was ranked."""
    rank: Mapped[int]
    """1 is a hit; an equal title (or the same picture) ranked first counts as its own."""
    score: Mapped[float]
    """Cosine similarity of the video's own pair."""
    top_video_id: Mapped[str] = mapped_column(ForeignKey("video.id"))
    """Whose title (or thumbnail) was ranked first."""
    top_score: Mapped[float]
    """Cosine similarity of what was ranked first."""


class Feature(Base):
    """What a frozen tower made of one picture or title: a cache. All rows may be deleted; runs make them again."""

    __tablename__ = "feature"
    __table_args__ = (CheckConstraint(_one_of("tower", "vision", "text"), name="tower"),)

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 over the tower's frozen weights, its preprocessing and the precision it ran in."""
    tower: Mapped[str] = mapped_column(primary_key=True)
    """`vision` or `text`."""
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of the picture's bytes, or of the title in UTF-8."""
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    """The pooled vector before the projection: little-endian float32."""
    checksum: Mapped[int] = mapped_column(BigInteger)
    """CRC-32 of `vector`, so that a damaged row is noticed and made again."""


class KnownModel(Base):
    """What a model's files held when they were last loaded: a cache, so that a rerun need not load them."""

    __tablename__ = "known_model"

    files: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 over the paths, sizes and times of the model's files and the versions of the libraries that read them."""
    fingerprint: Mapped[str] = mapped_column(String(64))
    """Of the model that they hold."""
    facts: Mapped[dict[str, Any]]
    """Fingerprints of its towers, names and sizes of its parameters."""
    heads: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    """Its two projections (safetensors); NULL for a model that only compares titles."""
    checksum: Mapped[int | None] = mapped_column(BigInteger)
    """CRC-32 of the others, so that a damaged row is noticed and made again."""


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
    __table_args__ = (CheckConstraint(_one_of("status", "running", "done", "failed", "interrupted"), name="status"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending."""
    status: Mapped[str]
    """`running`, `done`, `failed` or `interrupted`."""
    started_at: Mapped[datetime]
    """When the row was written."""
    finished_at: Mapped[datetime | None]
    """NULL while it runs."""
    settings: Mapped[dict[str, Any]]
    """What was searched, how, with how many trials and seeds, and the settings that all trials share."""
    error: Mapped[str | None]
    """Why it failed, as the user read it."""
    host: Mapped[str]
    """The machine's name."""
    pid: Mapped[int]
    """With `host`: whether a sweep that reads `running` still is."""
