"""`python -m thumbtune`, and the script `thumbtune`."""

import gc

from thumbtune.interrupts import exit_at_once

# Importing the libraries creates a million objects that stay. With Python's threshold of 700 new objects, garbage
# collection would take a twentieth of the time of a `search`.
gc.set_threshold(50_000)
exit_at_once()  # first, because the imports of the command line take a tenth of a second

from thumbtune.cli import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    main()
