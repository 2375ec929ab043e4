"""Write docs/commands.md from the output of --help; with --check, only report whether it is up to date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import click

from thumbtune.cli import cli

TARGET = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
HEADER = """# Command reference

Generated from `--help` by `make docs`; do not edit.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 stopped early with everything so far kept.
"""


def reference() -> str:
    """Return the whole document."""
    return "\n".join([HEADER, *_sections(cli, "thumbtune", None)])


def _sections(command: click.Command, name: str, parent: click.Context | None) -> list[str]:
    # A fixed width, so that the reference does not depend on the terminal.
    settings = {**command.context_settings, "terminal_width": 100, "max_content_width": 100}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    sections = [f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"]
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None, child
            sections += _sections(found, child, context)
    return sections


def main() -> int:
    """Write or check the reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = reference()
    if not check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print("docs/commands.md differs from --help; run 'make docs'", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
