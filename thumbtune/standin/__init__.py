"""A stand-in for YouTube on the loopback interface: the Data API v3, the channel feed and the thumbnail host.

`catalogue` holds what a channel publishes, `folder` reads a channel from a directory, and `server` serves any number
of channels (`StandIn`). It serves the demo and users without an API key; the tests add faults and a journal
(`tests.standin`). It listens on 127.0.0.1 only and makes no outgoing connections.
"""

__all__: list[str] = []
