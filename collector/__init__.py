"""The collector: syncs a channel's videos and thumbnails into the store, asynchronously."""
