"""Answers that a page waits for briefly, and that later requests collect when they are ready."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from thumbtune.ui.model_process import ModelBusy, ModelProcess, Progressed

__all__ = ["Questions"]

PATIENCE_S = 1.5
"""How long a page waits before it shows what the model is doing and reloads."""
KEPT_S = 30.0
"""How long an answer is kept for the page that asked. Later, it might be out of date, and nobody waits for it."""
_MOST = 64


class Questions:
    """Questions that are being answered, or whose answers have not been collected.

    Args:
        model: the model process.
        patience_s: seconds to wait for an answer.
        kept_s: seconds to keep an answer that has not been collected.
    """

    def __init__(self, model: ModelProcess, patience_s: float = PATIENCE_S, kept_s: float = KEPT_S) -> None:
        self._model = model
        self._patience_s = patience_s
        self._kept_s = kept_s
        self._tasks: dict[str, asyncio.Task[dict[str, Any]]] = {}

    async def ask(self, question: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> dict[str, Any] | Progressed:
        """Return the answer, or the current progress if it takes long; the same question collects the answer later.

        Raises:
            ModelError: the model can't answer.
        """
        key = _key(question, blobs)
        task = self._tasks.get(key)
        if task is None:
            self._make_room()
            task = self._tasks[key] = asyncio.create_task(self._model.ask(question, blobs))
            task.add_done_callback(lambda done: self._keep_for_a_while(key, done))
        done, _ = await asyncio.wait({task}, timeout=self._patience_s)
        if not done:
            return self._model.progress or Progressed("Waiting for another question")
        self._forget(key, task)
        return task.result()

    def _keep_for_a_while(self, key: str, task: asyncio.Task[dict[str, Any]]) -> None:
        if not task.cancelled():
            task.exception()  # so that asyncio does not report it as never retrieved
        asyncio.get_running_loop().call_later(self._kept_s, self._forget, key, task)

    def _forget(self, key: str, task: asyncio.Task[dict[str, Any]]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]

    def _make_room(self) -> None:
        for key, task in list(self._tasks.items()):
            if len(self._tasks) < _MOST:
                return
            if task.done():
                self._forget(key, task)
        if len(self._tasks) >= _MOST:
            raise ModelBusy("too many questions wait for the model; try again in a moment")

    async def close(self) -> None:
        """Cancel all unanswered questions."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _key(question: Mapping[str, Any], blobs: Sequence[bytes]) -> str:
    digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode())
    for blob in blobs:
        digest.update(hashlib.sha256(blob).digest())
    return digest.hexdigest()
