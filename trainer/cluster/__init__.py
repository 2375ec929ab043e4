"""Encode on several machines, with Ray: connect to a cluster, check its machines, and fill the cache of vectors.

The stub file `__init__.pyi` lists the public names. Each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
