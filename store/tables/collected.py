"""Tables that syncs write: channels, videos and their history, thumbnails, syncs, quota."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from store.tables.base import Base, one_of

__all__ = [
    "Channel",
    "Picture",
    "PicturePlace",
    "Video",
    "VideoVersion",
    "VideoReading",
    "PictureFailure",
    "SyncRun",
    "QuotaDay",
]


class Channel(Base):
    """One YouTube channel, its settings, and the progress of its listing."""

    __tablename__ = "channel"

    id: Mapped[str] = mapped_column(primary_key=True)
    """`UC...`."""
    handle: Mapped[str | None]
    """`@name` as YouTube writes it; NULL for a channel without a handle."""
    title: Mapped[str]
    """The title on YouTube."""
    uploads_playlist_id: Mapped[str]
    """`UU...`: the playlist of all uploads."""
    min_duration_s: Mapped[int]
    """Videos shorter than this many seconds are Shorts (see also `video.in_shorts_list`). Set by
    `sync --min-duration`; later syncs use the same value."""
    thumbnail_size: Mapped[str]
    """The preferred size (`high`, `maxres`, ...). Set by `sync --thumbnail`; later syncs use the same value."""
    api_item: Mapped[dict[str, Any] | None]
    """The channel resource of the last API response."""
    described_at: Mapped[datetime | None]
    """When the API last returned the channel. The handle is trusted for 24 hours; after that the API is asked which
    channel has it. NULL: unknown, from before revision 0010."""
    added_at: Mapped[datetime]
    """When the channel was first synced."""
    listing_token: Mapped[str | None]
    """Page token at which an unfinished listing resumes; NULL if the last listing reached its end."""
    listing_began_at: Mapped[datetime | None]
    """When a listing of the whole playlist (the first sync, `--full`) began. NULL once the videos that it did not show
    have been checked."""
    listed_at: Mapped[datetime | None]
    """When a listing of the uploads last completed."""
    synced_at: Mapped[datetime | None]
    """When a sync last ended `complete` or `unchanged`."""
    refreshed_at: Mapped[datetime | None]
    """When `--refresh` last read every known video again."""
    refresh_began_at: Mapped[datetime | None]
    """When that refresh began: no detail of the channel's videos is older. NULL before revision 0008, or without a
    refresh."""
    paused_at: Mapped[datetime | None]
    """Since when `sync` and `watch` skip the channel unless they name it; NULL if they sync it."""
    removed_at: Mapped[datetime | None]
    """When `channels remove --purge` deleted the channel's data. The row then only remains, without title and handle,
    if training runs refer to it. The next sync of the channel sets this to NULL."""


class PicturePlace(Base):
    """A folder or bucket that holds thumbnail files. The table is empty if the database holds them all."""

    __tablename__ = "picture_place"

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending."""
    url: Mapped[str] = mapped_column(unique=True)
    """`file:///DIR` or `s3://BUCKET/PREFIX`, without credentials."""
    mark: Mapped[str]
    """The content of the file `thumbtune-store` in this place: it identifies the store that the files belong to."""
    is_current: Mapped[bool]
    """Whether new thumbnails go there. False while `db move-pictures` moves the thumbnails away."""


class Picture(Base):
    """One thumbnail file, stored once even if several videos show it. Deleted with the last channel that showed it."""

    __tablename__ = "picture"
    __table_args__ = (
        Index(
            "ix_picture_place_id_sha256",
            "place_id",
            "sha256",
            sqlite_where=text("place_id IS NOT NULL"),
            postgresql_where=text("place_id IS NOT NULL"),
        ),
    )

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Lower-case hex digest of the file."""
    bytes: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    """The file as served, checked by decoding it. Empty if the file is elsewhere, see `place_id`."""
    mime: Mapped[str]
    """The media type (`image/jpeg`, ...) that the decoder found, not that of the HTTP header."""
    width: Mapped[int]
    """Pixels."""
    height: Mapped[int]
    """Pixels."""
    byte_count: Mapped[int]
    """The length of the file."""
    fetched_at: Mapped[datetime]
    """When the file was first stored."""
    place_id: Mapped[int | None] = mapped_column(ForeignKey("picture_place.id"))
    """The folder or bucket that holds the file; NULL: `bytes` does."""


class Video(Base):
    """One upload as last seen. A video that disappears is marked; removing its channel deletes or empties its row."""

    __tablename__ = "video"
    __table_args__ = (
        CheckConstraint(one_of("kind", "video", "short", "upcoming", "live", "unknown"), name="kind"),
        CheckConstraint(one_of("availability", "available", "private", "gone"), name="availability"),
        CheckConstraint(one_of("split", "train", "valid", "test"), name="split"),
        Index("ix_video_channel_id_published_at", "channel_id", "published_at"),
        # Pending work is read in pages in the order of ids.
        Index("ix_video_channel_id_id", "channel_id", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    """YouTube's id, 11 characters."""
    channel_id: Mapped[str] = mapped_column(ForeignKey("channel.id"))
    title: Mapped[str]
    """The title in the last API response, unchanged."""
    picture_sha256: Mapped[str | None] = mapped_column(ForeignKey("picture.sha256"), index=True)
    """The current thumbnail; NULL until it was fetched."""
    published_at: Mapped[datetime | None]
    """The publishing time; for a premiere, the scheduled time."""
    duration_s: Mapped[int | None]
    """Whole seconds; NULL while the API returns no duration."""
    kind: Mapped[str]
    """`video`, `short`, `upcoming`, `live`, or `unknown` until the details were read. Only a `video` can be a training
    pair."""
    in_shorts_list: Mapped[bool | None]
    """Whether the channel's Shorts playlist (`UUSH...`) contains the video. This decides between `video` and `short`
    for durations from `channel.min_duration_s` (180 s if that is 181) to 181 s, the longest Short. NULL: not queried,
    because the duration is outside this range, or no answer; then the duration decides."""
    shorts_asked_at: Mapped[datetime | None]
    """When the Shorts playlist was last queried for the video: once, and again by `--refresh`. NULL: not yet."""
    availability: Mapped[str]
    """`available`, `private`, or `gone` (deleted, or no longer returned by the API)."""
    api_item: Mapped[dict[str, Any] | None]
    """The video resource of the last API response: description, tags, category, languages, ..."""
    first_seen_at: Mapped[datetime]
    """When a sync first listed the video."""
    last_seen_at: Mapped[datetime]
    """When the API last returned the video."""
    details_at: Mapped[datetime | None]
    """When the `videos` endpoint was last read for the video; NULL: details not yet read."""
    picture_url: Mapped[str | None]
    """The URL of the current thumbnail."""
    picture_etag: Mapped[str | None]
    """The thumbnail's `ETag`, for conditional requests."""
    picture_last_modified: Mapped[str | None]
    """The thumbnail's `Last-Modified`, for conditional requests."""
    picture_checked_at: Mapped[datetime | None]
    """When the thumbnail was last fetched or found unchanged. NULL: the next sync fetches or checks it. 1970: the next
    refresh fetches it, because another size was requested."""
    group_id: Mapped[str | None] = mapped_column(index=True)
    """Set by snapshots; equal for videos that share a thumbnail or a normalised title: the smallest id among them."""
    split: Mapped[str | None]
    """`train`, `valid` or `test`: assigned by the first snapshot with the video, never changed."""
    split_at: Mapped[datetime | None]
    """When the split was assigned."""


class VideoVersion(Base):
    """One combination of title and thumbnail of a video, with the times when it was first and last seen.

    A changed title creates a version without a thumbnail. The thumbnail is added once it was checked after the title
    was seen, so that both were shown together.
    """

    __tablename__ = "video_version"
    __table_args__ = (UniqueConstraint("video_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    """Ascending."""
    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"))
    number: Mapped[int]
    """1, 2, ... within the video; the highest number is the current version."""
    title: Mapped[str]
    """The version's title."""
    picture_sha256: Mapped[str | None] = mapped_column(ForeignKey("picture.sha256"), index=True)
    """The version's thumbnail. NULL until it was fetched; then it never changes."""
    first_seen_at: Mapped[datetime]
    """When a sync first saw the version."""
    last_seen_at: Mapped[datetime]
    """When a sync last saw the version."""

    picture: Mapped[Picture | None] = relationship(viewonly=True)


class VideoReading(Base):
    """The public counts of a video at one read of its details.

    Of three or more successive readings with equal counts, only the first and the last are kept.
    """

    __tablename__ = "video_reading"
    # Without a rowid: a separate index for the primary key would double the table's size on SQLite.
    __table_args__ = ({"sqlite_with_rowid": False},)

    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), primary_key=True)
    read_at: Mapped[datetime] = mapped_column(primary_key=True)
    """When the `videos` endpoint was read."""
    views: Mapped[int | None] = mapped_column(BigInteger)
    """NULL if the API returns no count."""
    likes: Mapped[int | None] = mapped_column(BigInteger)
    """NULL if the owner hides likes."""
    comments: Mapped[int | None] = mapped_column(BigInteger)
    """NULL if comments are turned off."""


class PictureFailure(Base):
    """A video whose thumbnail could not be fetched, and when to try again. Deleted on success."""

    __tablename__ = "picture_failure"

    video_id: Mapped[str] = mapped_column(ForeignKey("video.id"), primary_key=True)
    url: Mapped[str | None]
    """The URL of the last attempt; NULL if the API returned no thumbnail URL."""
    reason: Mapped[str]
    """The error message of the last attempt."""
    tries: Mapped[int]
    """Number of consecutive failures."""
    first_failed_at: Mapped[datetime]
    """Time of the first of these failures."""
    last_failed_at: Mapped[datetime]
    """Time of the last of these failures."""
    next_try_at: Mapped[datetime]
    """The earliest time of the next attempt; the pause grows with each failure."""


class SyncRun(Base):
    """One sync of one channel, with its results and costs. Inserted at the start, updated with every batch."""

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
    """When the row was inserted, before the first request."""
    finished_at: Mapped[datetime | None]
    """NULL while the sync is running, or if its process was killed."""
    seconds: Mapped[float | None]
    """Wall-clock time."""
    listed: Mapped[int] = mapped_column(default=0)
    """Playlist entries read."""
    new: Mapped[int] = mapped_column(default=0)
    """Videos seen for the first time."""
    changed: Mapped[int] = mapped_column(default=0)
    """Known videos with a new title or thumbnail."""
    gone: Mapped[int] = mapped_column(default=0)
    """Videos that this sync found to be newly private or gone."""
    pictures_fetched: Mapped[int] = mapped_column(default=0)
    """Thumbnails fetched and stored."""
    pictures_unchanged: Mapped[int] = mapped_column(default=0)
    """Thumbnails that the server reported as unchanged."""
    pictures_failed: Mapped[int] = mapped_column(default=0)
    """Thumbnails that could not be fetched."""
    requests: Mapped[int] = mapped_column(default=0)
    """HTTP requests sent: API, feed and thumbnails, including retries."""
    units: Mapped[int] = mapped_column(default=0)
    """API quota units spent."""
    error: Mapped[str | None]
    """The error message, if the sync failed."""
    host: Mapped[str]
    """The machine's name; on Linux including its boot id and PID namespace."""
    pid: Mapped[int]
    """The process id on `host`, to check whether a `running` sync is still running."""
    process_start: Mapped[int | None] = mapped_column(BigInteger)
    """When that process started, in clock ticks since the machine was booted; NULL if unknown. Setting the machine's
    clock does not change it."""
    seen_at: Mapped[datetime | None]
    """When its process last sent a heartbeat."""


class QuotaDay(Base):
    """API quota units spent on one quota day (Pacific time) with one API key."""

    __tablename__ = "quota_day"

    day: Mapped[date] = mapped_column(primary_key=True)
    """The day in Pacific time."""
    key_fingerprint: Mapped[str] = mapped_column(primary_key=True)
    """The first 12 hex digits of the key's SHA-256: distinguishes keys without revealing them."""
    units: Mapped[int]
    """Units spent."""
