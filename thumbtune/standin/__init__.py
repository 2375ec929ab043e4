"""A stand-in for YouTube on the loopback interface: the Data API v3, the channel feed and the thumbnail host.

`catalogue` holds what a channel publishes, `folder` reads a channel from a directory, `server` serves any number of
channels (`StandIn`), and `faults` declares faults to inject. The demo, the tests and anyone without an API key use it;
it listens on 127.0.0.1 only and makes no connections.
"""

__all__: list[str] = []
