"""What a sync reports when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from store.tables import Channel, SyncRun, SyncStatus

__all__ = ["SyncReport"]

STOPPED_EARLY = frozenset({"quota", "partial", "interrupted"})


@dataclass(frozen=True)
class SyncReport:
    """One channel's sync, as its row in `sync_run` ended; `id` is None for a channel that was never found.

    One that ended before it had a row (not found, `busy`) still says what it cost.
    """

    name: str
    """The channel as the user named it."""
    status: SyncStatus | Literal["busy"]
    """As in `sync_run`; `busy`: left to another process, which is syncing the channel or has just done so."""
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
    """Lines for the user that are no errors, such as that a handle now refers to another channel."""
    error: Exception | None = None
    """Why it failed or stopped; for the command line, which maps it to its exit code."""

    @classmethod
    def of(
        cls,
        name: str,
        run: SyncRun,
        channel: Channel,
        not_pairs: Mapping[str, int],
        error: Exception | None,
    ) -> SyncReport:
        """The report of a finished run: the fields that both have are copied, except those set here."""
        copied = {each.name: getattr(run, each.name) for each in fields(cls) if hasattr(run, each.name)}
        of_channel = {"name": name, "id": channel.id, "handle": channel.handle, "title": channel.title}
        others = {"not_pairs": not_pairs, "seconds": run.seconds or 0.0, "error": error}
        return cls(**{**copied, **of_channel, **others})

    @property
    def exit_code(self) -> int:
        """0 done, 3 stopped early with everything kept, otherwise the error's own (1 failed, 2 wrong usage)."""
        if self.status == "failed":
            return int(getattr(self.error, "exit_code", 1))
        return 3 if self.status in STOPPED_EARLY else 0

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; `notices` and `error` are there only when there are any."""
        document = {each.name: getattr(self, each.name) for each in fields(self)}
        document["not_pairs"] = dict(self.not_pairs)
        document["thumbnails"] = {kind: document.pop(f"pictures_{kind}") for kind in ("fetched", "unchanged", "failed")}
        document["seconds"] = round(self.seconds, 3)
        del document["name"], document["error"]
        notices = document.pop("notices")
        if notices:
            document["notices"] = list(notices)
        return document if self.error is None else {**document, "error": str(self.error)}
