"""Finds channels and videos among many channels, without looking at each channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thumbtune.standin.catalogue import Catalogue, StandInVideo

__all__ = ["Directory"]


class Directory:
    """An index of channels by id, and of videos by id.

    Args:
        catalogues: returns the channels, which may be others each time.
    """

    def __init__(self, catalogues: Callable[[], Sequence[Catalogue]]) -> None:
        self._catalogues = catalogues
        self._indexed: Sequence[Catalogue] = ()
        self._channels: dict[str, Catalogue] = {}
        self._holders: dict[str, Catalogue] = {}

    def channel(self, channel_id: str | None) -> Catalogue | None:
        """Return the channel with an id, or None."""
        self._index()
        return self._channels.get(channel_id or "")

    def video(self, video_id: str) -> tuple[Catalogue, StandInVideo] | None:
        """Return a video whose details are available, and its channel; None if there is no such video."""
        catalogues = self._index()
        holder = self._holders.get(video_id)
        if holder is not None and (video := holder.details(video_id)) is not None:
            return holder, video
        for catalogue in catalogues:  # published since, or available in another channel
            if (video := catalogue.details(video_id)) is not None:
                self._holders[video_id] = catalogue
                return catalogue, video
        return None

    def _index(self) -> Sequence[Catalogue]:
        catalogues = self._catalogues()
        if catalogues is not self._indexed:
            self._indexed = catalogues
            self._channels = {catalogue.channel_id: catalogue for catalogue in catalogues}
            self._holders = {video_id: catalogue for catalogue in catalogues for video_id in catalogue.videos}
        return catalogues
