"""Record about once a minute that a run or sweep is alive, because other machines can't check its process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from store.db import Database
from store.errors import StoreError
from store.tables import Sweep, TrainingRun
from store.training import say_alive

__all__ = ["signs_of_life"]

logger = logging.getLogger(__name__)

SIGN_OF_LIFE_S = 60.0


@contextmanager
def signs_of_life(database: Database, model: type[TrainingRun | Sweep], row_id: int) -> Iterator[None]:
    """Record every minute, while the block runs, that this process is working on the row."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(SIGN_OF_LIFE_S):
            try:
                with database.write() as session:
                    say_alive(session, model, row_id)
            except StoreError as error:
                logger.warning("%s %d could not record that it is running: %s", model.__tablename__, row_id, error)

    thread = threading.Thread(target=tell, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
