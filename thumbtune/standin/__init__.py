"""A stand-in for YouTube on the loopback interface: the Data API v3, the channel feed and the picture host.

`catalogue` holds what a channel publishes, `folder` reads one from a directory, `server` serves any number of
them (`StandIn`), and `faults` declares what shall go wrong on the way. The demo, the tests and anyone without
an API key use it; it listens on 127.0.0.1 only and talks to nobody.
"""

__all__: list[str] = []
