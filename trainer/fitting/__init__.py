"""Losses, and the ways to fit a model.

The public names, listed in the stub beside this file, are imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
