"""The report of a finished sync."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from store.tables import Channel, SyncRun, SyncStatus

__all__ = ["SyncReport"]

STOPPED_EARLY = frozenset({"quota", "partial", "interrupted"})


@dataclass(frozen=True)
class SyncReport:
    """The result of a channel's sync, from its row in `sync_run`. `id` is None if the channel was not found.

    A sync without a row (channel not found or `busy`) still reports its requests and units.
    """

    name: str
    """The channel name that the user gave."""
    status: SyncStatus | Literal["busy"]
    """The status in `sync_run`; `busy` if another process is syncing the channel or has just synced it."""
    id: str | None = None
    handle: str | None = None
    title: str | None = None
    listed: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    not_pairs: Mapping[str, int] = field(default_factory=dict)
    pictures_fetched: int = 0
    pictures_unchanged: int = 0
    pictures_failed: int = 0
    requests: int = 0
    units: int = 0
    seconds: float = 0.0
    notices: tuple[str, ...] = ()
    """Messages for the user that are not errors, for example that a handle now refers to another channel."""
    error: Exception | None = None
    """The error that ended the sync, or None."""

    @classmethod
    def of(
        cls,
        name: str,
        run: SyncRun,
        channel: Channel,
        not_pairs: Mapping[str, int],
        error: Exception | None,
    ) -> SyncReport:
        """Build the report of a finished run: copies the fields that both have, except those set here."""
        copied = {each.name: getattr(run, each.name) for each in fields(cls) if hasattr(run, each.name)}
        of_channel = {"name": name, "id": channel.id, "handle": channel.handle, "title": channel.title}
        others = {"not_pairs": not_pairs, "seconds": run.seconds or 0.0, "error": error}
        return cls(**{**copied, **of_channel, **others})

    @property
    def exit_code(self) -> int:
        """0: done; 3: stopped early, everything kept; otherwise the error's exit code (1: failed, 2: wrong usage)."""
        if self.status == "failed":
            return int(getattr(self.error, "exit_code", 1))
        return 3 if self.status in STOPPED_EARLY else 0

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; omits `notices` and `error` if empty."""
        document = {each.name: getattr(self, each.name) for each in fields(self)}
        document["not_pairs"] = dict(self.not_pairs)
        document["thumbnails"] = {kind: document.pop(f"pictures_{kind}") for kind in ("fetched", "unchanged", "failed")}
        document["seconds"] = round(self.seconds, 3)
        del document["name"], document["error"]
        notices = document.pop("notices")
        if notices:
            document["notices"] = list(notices)
        return document if self.error is None else {**document, "error": str(self.error)}
