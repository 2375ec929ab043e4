"""A room is used through the public names of its `__init__`: no file of another room is imported."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("collector", "store", "trainer", "thumbtune")
ROOMS = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for package in ("collector", "store", "trainer")
    for path in (ROOT / package).glob("*/__init__.py")
)
VIEWS = "store.tables.views"  # the columns of the views, which only the schema check reads


def imported_files(file: Path) -> list[str]:
    """All modules that a file imports, at any level of the file."""
    froms = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    names = [
        name
        for node in froms
        if node.module and not node.level
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    ]
    return [name for name in names if (ROOT / (name.replace(".", "/") + ".py")).exists()]


def room_of(module: str) -> str | None:
    return next((room for room in ROOMS if module == room or module.startswith(f"{room}.")), None)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_of_another_room_is_imported(package: str) -> None:
    strays = [
        f"{file.relative_to(ROOT)}: {module}"
        for file in (ROOT / package).rglob("*.py")
        for module in imported_files(file)
        if (room := room_of(module))
        and module != VIEWS
        and room_of(".".join(file.relative_to(ROOT).with_suffix("").parts)) != room
    ]
    assert strays == []


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_has_a_docstring_and_every_name_in_all(room: str) -> None:
    module = importlib.import_module(room)
    assert module.__doc__
    assert module.__all__
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
