"""`python -m thumbtune`, and the script `thumbtune`."""

from thumbtune.interrupts import exit_at_once

exit_at_once()  # first, because the imports of the command line take a tenth of a second

from thumbtune.cli import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    main()
