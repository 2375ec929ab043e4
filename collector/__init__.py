"""Brings channels into the store and keeps them current: asynchronous, and without the training stack.

`collector.sync.sync_channels` is the way in; `collector.errors` holds what can go wrong.
"""

__all__: list[str] = []
