"""Training runs: train, record, load again, retrain, promote.

The public names are listed in the stub beside this file and imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
