"""Asynchronous sync of YouTube channels into the store. Imports no part of the training stack.

The entry point is `collector.sync.sync_channels`; the exceptions are in `collector.errors`.
"""

__all__: list[str] = []
