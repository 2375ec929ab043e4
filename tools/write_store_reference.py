"""Write docs/store.md from the models and the views; with --check, only report whether it is up to date."""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from pathlib import Path

from sqlalchemy import Column

import store.tables
from store.tables import cached, collected, trained
from store.tables.views import VIEWS
from store.types import UtcDateTime

TARGET = Path(__file__).resolve().parent.parent / "docs" / "store.md"
MODULES = (collected, trained, cached)
HEADER = """# The store

Generated from `store/tables/` and `store/tables/views.py` by `make docs`; do not edit.

One SQLite file, or a PostgreSQL database, holds everything. Times are UTC: ISO-8601 text on SQLite, `timestamptz` on
PostgreSQL. Thumbnails are rows in the table `picture`, keyed by the SHA-256 of their bytes. A video that disappears is
marked, not deleted; `thumbtune channels remove --purge` deletes all data of a channel.

The **views** are the public interface for queries, and keep their columns. The tables may change between versions;
`thumbtune db upgrade` (or the first command that writes) migrates them.
"""


def reference() -> str:
    """Return the whole document."""
    parts = [HEADER, "## Views\n"]
    for name, view in VIEWS.items():
        parts.append(f"### `{name}`\n\n{view.about}\n\n| column | meaning |\n|---|---|")
        parts += [f"| `{column}` | {meaning} |" for column, meaning in view.columns.items()]
        parts.append("")
    parts.append("## Tables\n")
    for name, columns in _attribute_docstrings().items():
        model = getattr(store.tables, name)
        if not hasattr(model, "__tablename__"):
            continue
        parts.append(f"### `{model.__tablename__}`\n\n{inspect.getdoc(model)}\n")
        parts.append("| column | type | meaning |\n|---|---|---|")
        for column in model.__table__.columns:
            parts.append(f"| `{column.name}` | {_type(column)} | {_meaning(column, columns)} |")
        parts.append("")
    return "\n".join(parts)


def _type(column: Column[object]) -> str:
    kind = column.type
    text = "time" if isinstance(kind, UtcDateTime) else type(kind).__name__.lower()
    text = {"string": "text", "largebinary": "bytes", "double": "float", "biginteger": "integer"}.get(text, text)
    return f"{text} or NULL" if column.nullable else text


def _meaning(column: Column[object], notes: dict[str, str]) -> str:
    links = [f"Key of `{key.column.table.name}`." for key in column.foreign_keys]
    return " ".join([*notes.get(column.name, "").split(), *links])


def _attribute_docstrings() -> dict[str, dict[str, str]]:
    """Return {class: {attribute: the string literal below it}}, which Python keeps in the source only."""
    found: dict[str, dict[str, str]] = {}
    nodes = [node for module in MODULES for node in ast.parse(inspect.getsource(module)).body]
    for node in nodes:
        if not isinstance(node, ast.ClassDef):
            continue
        found[node.name] = {
            before.target.id: after.value.value
            for before, after in zip(node.body, node.body[1:], strict=False)
            if isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        }
    return found


def main() -> int:
    """Write or check the reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = reference()
    if not parser.parse_args().check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print("docs/store.md differs from the models; run 'make docs'", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
