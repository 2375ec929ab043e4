"""The feature cache: hits are exact, and any difference in the key is a miss."""

from __future__ import annotations

import struct

import pytest
from sqlalchemy import update

from store.db import Database
from store.tables import Feature, Tower
from store.training import read_features, write_features

MODEL, OTHER = "a" * 64, "b" * 64
ONE, TWO = "1" * 64, "2" * 64
VECTOR = struct.pack("<3f", 0.1, -2.5, 3e-30)


def kept(database: Database, fingerprint: str = MODEL, tower: Tower = "vision", width: int = 3) -> dict[str, bytes]:
    with database.read() as session:
        return read_features(session, fingerprint, tower, [ONE, TWO], width)


def keep(database: Database, **vectors: bytes) -> None:
    with database.write() as session:
        write_features(session, MODEL, "vision", {{"one": ONE, "two": TWO}[name]: v for name, v in vectors.items()})


def test_cached_vectors_are_read_back_exactly(database: Database) -> None:
    keep(database, one=VECTOR)
    assert kept(database) == {ONE: VECTOR}


def test_another_model_tower_or_width_misses_the_cache(database: Database) -> None:
    keep(database, one=VECTOR)
    assert kept(database, fingerprint=OTHER) == {}
    assert kept(database, tower="text") == {}
    assert kept(database, width=4) == {}


@pytest.mark.parametrize("damage", [{"vector": VECTOR[:-1] + b"x"}, {"vector": VECTOR[:4]}, {"checksum": 0}])
def test_a_damaged_row_counts_as_missing_and_is_replaced(database: Database, damage: dict[str, object]) -> None:
    keep(database, one=VECTOR, two=VECTOR)
    with database.write() as session:
        session.execute(update(Feature).where(Feature.digest == ONE).values(damage))
    assert kept(database) == {TWO: VECTOR}
    keep(database, one=VECTOR)
    assert kept(database) == {ONE: VECTOR, TWO: VECTOR}


def test_more_vectors_than_one_statement_takes(database: Database) -> None:
    vectors = {f"{n:064d}": struct.pack("<f", n) for n in range(1200)}
    with database.write() as session:
        write_features(session, MODEL, "text", vectors)
    with database.read() as session:
        assert read_features(session, MODEL, "text", sorted(vectors), 1) == vectors
        assert read_features(session, MODEL, "text", [], 1) == {}
