"""What syncs write: channels, videos and their history, pictures, syncs, quota."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from store.tables.base import Base, one_of

__all__ = ["Channel", "Picture", "Video", "VideoVersion", "VideoReading", "PictureFailure", "SyncRun", "QuotaDay"]


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
    """Seconds below which a video is a short (see also `video.in_shorts_list`). Set by `sync --min-duration`, kept for
    later syncs."""
    thumbnail_size: Mapped[str]
    """The preferred size (`high`, `maxres`, ...). Set by `sync --thumbnail`, kept for later syncs."""
    api_item: Mapped[dict[str, Any] | None]
    """The channel as the API last described it."""
    described_at: Mapped[datetime | None]
    """When the API was last asked for it by its handle or id. The handle is trusted for 24 hours; then the API is asked
    which channel has it now. NULL: before revision 0010."""
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
    refresh_began_at: Mapped[datetime | None]
    """When that refresh began: no detail of the channel is older. NULL before revision 0008, or without a refresh."""
    paused_at: Mapped[datetime | None]
    """Since when `sync` and `watch` leave the channel out unless they name it; NULL: they sync it."""
    removed_at: Mapped[datetime | None]
    """When `channels remove` deleted the channel's data. The row stays only if training runs refer to it, without its
    name; the next sync of the channel sets this to NULL."""


class Picture(Base):
    """One thumbnail file, stored once however many videos show it. Deleted with the last channel that showed it."""

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
    """One upload as last seen. Rows are marked when a video vanishes, and deleted or emptied with their channel."""

    __tablename__ = "video"
    __table_args__ = (
        CheckConstraint(one_of("kind", "video", "short", "upcoming", "live", "unknown"), name="kind"),
        CheckConstraint(one_of("availability", "available", "private", "gone"), name="availability"),
        CheckConstraint(one_of("split", "train", "valid", "test"), name="split"),
        Index("ix_video_channel_id_published_at", "channel_id", "published_at"),
        # Work that is still to do is read in pages in the order of ids.
        Index("ix_video_channel_id_id", "channel_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    """YouTube's id, 11 characters."""
    channel_id: Mapped[str] = mapped_column(ForeignKey("channel.id"))
    title: Mapped[str]
    """Exactly as the API gave it last."""
    picture_sha256: Mapped[str | None] = mapped_column(ForeignKey("picture.sha256"), index=True)
    """The current thumbnail, NULL until one was fetched."""
    published_at: Mapped[datetime | None]
    """By YouTube; for a premiere, the time it was scheduled for."""
    duration_s: Mapped[int | None]
    """Whole seconds; NULL when the API gives none (yet)."""
    kind: Mapped[str]
    """`video` can be a training pair; `short`, `upcoming` and `live` can't; `unknown` until details were read."""
    in_shorts_list: Mapped[bool | None]
    """Whether the channel's list of Shorts (playlist `UUSH...`) has it. Decides between `video` and `short` from
    `channel.min_duration_s` (180 s if that is 181) to 181 s, what a Short may last. NULL: not asked, as for other
    durations, or no answer, so that the duration decides."""
    shorts_asked_at: Mapped[datetime | None]
    """When that list was last asked for it: once, and again by `--refresh`. NULL: not yet."""
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
    """For a conditional GET, by which the picture is checked."""
    picture_last_modified: Mapped[str | None]
    """For a conditional GET, by which the picture is checked."""
    picture_checked_at: Mapped[datetime | None]
    """When the picture was last fetched or found unchanged; NULL: the next sync does it; 1970: the next refresh, by
    another size that was asked for."""
    group_id: Mapped[str | None] = mapped_column(index=True)
    """Videos that share a picture or a normalised title have the same: the smallest id among them. Snapshots set it."""
    split: Mapped[str | None]
    """`train`, `valid` or `test`: given once, by the first snapshot that sees the video, and never changed."""
    split_at: Mapped[datetime | None]
    """When the split was given."""


class VideoVersion(Base):
    """One (title, picture) that a video has had, from when it was first seen to when it was last seen so.

    A changed title makes a version without a picture; the picture is added when it was checked after the title was
    seen, so that both were shown together.
    """

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


class VideoReading(Base):
    """The public counts of a video at one read of its details.

    Of three or more successive reads with equal counts, the first and the last are kept.
    """

    __tablename__ = "video_reading"
    # The key is the whole table: a second copy of it beside the rows would double its size on SQLite.
    __table_args__ = ({"sqlite_with_rowid": False},)

    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), primary_key=True)
    read_at: Mapped[datetime] = mapped_column(primary_key=True)
    """When the `videos` endpoint was read."""
    views: Mapped[int | None] = mapped_column(BigInteger)
    """NULL where the API gives none."""
    likes: Mapped[int | None] = mapped_column(BigInteger)
    """NULL where the API gives none: the owner can hide them."""
    comments: Mapped[int | None] = mapped_column(BigInteger)
    """NULL where the API gives none: comments can be turned off."""


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
        CheckConstraint(one_of("mode", "incremental", "full", "refresh"), name="mode"),
        CheckConstraint(
            one_of("status", "running", "complete", "unchanged", "quota", "partial", "failed", "interrupted"),
            name="status",
        ),
        Index("ix_sync_run_channel_id_started_at", "channel_id", "started_at"),
        Index("ix_sync_run_channel_id_status_id", "channel_id", "status", "id"),
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
    """The machine's name; on Linux with its boot and its namespace of process numbers."""
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
