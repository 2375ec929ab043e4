"""`python -m thumbtune` is the `thumbtune` command."""

from thumbtune.cli import main

if __name__ == "__main__":
    main()
