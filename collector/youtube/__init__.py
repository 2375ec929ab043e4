"""YouTube's public interfaces: the Data API, the Atom feeds, and channel names."""

from collector.youtube.client import BATCH, YouTube
from collector.youtube.feed import newest_in_feed
from collector.youtube.names import ChannelName, parse_channel_name
from collector.youtube.parsing import ChannelItem, LiveState, UploadsPage, VideoItem

__all__ = [
    "BATCH",
    "ChannelItem",
    "ChannelName",
    "LiveState",
    "UploadsPage",
    "VideoItem",
    "YouTube",
    "newest_in_feed",
    "parse_channel_name",
]
