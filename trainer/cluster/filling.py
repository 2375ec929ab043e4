"""Fill the cache of vectors with Ray Data: workers read thumbnails from the store and write vectors to it.

The job only handles ids, and the command that started it only counts. A batch is written in one transaction, under keys
that make a repetition harmless, so Ray may run it again after a worker or a machine is lost. See https://docs.ray.io/en/latest/data/data-internals.html.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store.db import Database, open_database
from store.errors import StoreError
from store.tables import Tower
from trainer.cluster.connection import check_nodes
from trainer.cluster.models import features_of, inputs_of
from trainer.cluster.resources import largest_share, of_machines, without_largest
from trainer.data import StoredPictures
from trainer.errors import EncodingFailed, TrainerError
from trainer.models import Features
from trainer.progress import uncounted
from trainer.settings import TrainSettings

__all__ = ["Encoding", "fill_on_ray", "one_line"]

Row = dict[str, Any]

_ROWS_PER_BLOCK = 8
"""Batches that one task takes. A worker that is lost repeats at most these."""
_ATTEMPTS = 5
"""How often the job is started again after the machine that it ran on was lost."""
_POLL_S = 0.5


@dataclass(frozen=True)
class Encoding:
    """What to encode, as it is sent to the machines of a cluster.

    Args:
        url: the store's URL with its password; `repr`, and therefore Ray's logs, omit it.
        settings: resolved settings of a run.
        device: the device of the workers: `cpu` or `cuda`.
        file: the store's file; None on PostgreSQL.
    """

    url: str = field(repr=False)
    settings: TrainSettings
    device: str
    file: Path | None

    @classmethod
    def of(cls, database: Database, settings: TrainSettings, device: str) -> Encoding:
        """Describe the encoding of the current pairs of a store."""
        file = None if database.path is None else database.path.absolute()
        url = database.url if file is None else database.url.set(database=str(file))
        return cls(url.render_as_string(hide_password=False), settings, device, file)

    def open(self) -> Database:
        """Open the store."""
        return open_database(self.url, create=False)


def fill_on_ray(ray: Any, encoding: Encoding, actors: int | None, count: Callable[[int], None]) -> None:
    """Encode the current pairs' thumbnails and titles that are not in the cache, on a Ray cluster.

    Args:
        ray: the module, connected to a cluster.
        encoding: what to encode.
        actors: the number of workers that run the towers; None: one for each GPU or, without GPUs, for each two cores.
        count: receives the number of inputs just completed, from time to time.

    Raises:
        ClusterUnavailable: a machine can't be used.
        EncodingFailed: a worker failed, or the machine that ran the job was lost several times in a row.
    """
    check_nodes(ray, encoding)
    lost: BaseException | None = None
    for _ in range(_ATTEMPTS):
        counted = 0
        job = ray.remote(num_cpus=0, max_concurrency=2)(_Job).remote(encoding, actors)
        running = job.run.remote()
        try:
            while not ray.wait([running], timeout=_POLL_S)[0]:
                done = ray.get(job.done.remote())
                count(done - counted)
                counted = done
            reason = ray.get(running)
            if reason:
                raise EncodingFailed(reason)
            return
        except ray.exceptions.RayActorError as error:
            # The job's machine is lost or can't be reached at the moment; the job is ended below.
            lost = error  # written vectors stay, so the next job encodes only the others
        except ray.exceptions.RayError as error:
            raise EncodingFailed(one_line(error)) from error
        finally:
            ray.kill(job)
    raise EncodingFailed(f"Ray lost the machine of the job {_ATTEMPTS} times; run the command again") from lost


def one_line(error: BaseException) -> str:
    """Describe an error of Ray in one line."""
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).splitlines() if line.strip()]
    return f"Ray failed ({type(cause).__name__}: {lines[-1].strip()[:300] if lines else 'no message'})"


class _Job:
    """Lists missing vectors and runs the pipeline. An actor on the cluster, so that the command only waits for it."""

    def __init__(self, encoding: Encoding, actors: int | None) -> None:
        self._encoding = encoding
        self._actors = actors
        self._done = 0

    def done(self) -> int:
        """Return the number of inputs that are encoded."""
        return self._done

    def run(self) -> str:
        """Encode everything. Return the reason of a failure; empty if it succeeded."""
        import ray  # noqa: PLC0415 (an optional package)

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        try:
            # Listed here and not by the command, so that ids do not pass through it and a repeated job lists them anew.
            with self._encoding.open() as database:
                digests, titles = inputs_of(database, self._encoding.settings.channels)
                models = features_of(database, self._encoding.settings, self._encoding.device)
                work: list[tuple[int, Tower, list[list[str]]]] = []
                for which, features in enumerate(models):
                    work.append((which, "vision", features.missing("vision", digests)))
                    work.append((which, "text", features.missing("text", titles)))
            for which, tower, batches in work:
                for row in self._rows(ray, which, tower, batches):
                    if row["failed"]:
                        return str(row["failed"])
                    self._done += row["n"]
        except (StoreError, TrainerError) as error:
            return str(error)
        return ""

    def _rows(self, ray: Any, which: int, tower: Tower, batches: list[list[str]]) -> Iterator[Row]:
        if not batches:
            return iter(())
        import pyarrow as pa  # noqa: PLC0415 (Ray Data needs it)

        inputs = [pickle.dumps(batch) for batch in batches]
        blocks = [
            pa.table({"inputs": inputs[start : start + _ROWS_PER_BLOCK]})
            for start in range(0, len(inputs), _ROWS_PER_BLOCK)
        ]
        found = ray.data.from_arrow(blocks)
        n, each = self._workers(ray)
        constructor = {"fn_constructor_args": (self._encoding, which)}
        if tower == "vision":
            cores = {key: value for key, value in each.items() if key != "num_gpus"}
            found = found.map(_Prepare, concurrency=(1, n["prepare"]), **cores, **constructor)
            found = found.map(_Encode, concurrency=n["encode"], **each, **constructor)
        else:
            found = found.map(_EncodeTitles, concurrency=n["encode"], **each, **constructor)
        rows: Iterator[Row] = found.iter_rows()
        return rows

    def _workers(self, ray: Any) -> tuple[dict[str, int], dict[str, float]]:
        """Return the number of workers of each kind, and the resources that each of them takes."""
        of_cores, of_gpus = of_machines(ray, "CPU"), of_machines(ray, "GPU")
        cores, gpus = max(1, int(sum(of_cores))), int(sum(of_gpus))
        encode = self._actors or (max(1, gpus) if self._encoding.device == "cuda" else max(1, cores // 2))
        prepare = max(1, cores - encode)
        share = {"num_cpus": largest_share(without_largest(of_cores), prepare + encode)}
        if self._encoding.device == "cuda":
            share["num_gpus"] = largest_share(of_gpus, encode)
        return {"prepare": prepare, "encode": encode}, share


class _Worker:
    """A worker: an open store and one model's features. Expected errors become rows, so that Ray does not retry."""

    def __init__(self, encoding: Encoding, which: int) -> None:
        self._encoding = encoding
        self._which = which
        self._features: Features | None = None

    @property
    def features(self) -> Features:
        """The features of the model, opened once."""
        if self._features is None:
            database = self._encoding.open()
            self._features = features_of(database, self._encoding.settings, self._encoding.device)[self._which]
        return self._features

    @property
    def source(self) -> StoredPictures:
        """The store's thumbnails."""
        return StoredPictures(self.features.database)


class _Prepare(_Worker):
    """Reads, decodes and preprocesses thumbnails, on processors."""

    @property
    def features(self) -> Features:
        if self._features is None:
            super().features.model.drop_weights()
        return super().features

    def __call__(self, row: Row) -> Row:
        batch = pickle.loads(row["inputs"])  # noqa: S301 (made by the job)
        return {"prepared": b"", "failed": "", **row} | _result_or_error(
            lambda: {"prepared": pickle.dumps(self.features.model.prepared(batch, self.source), protocol=5)}
        )


class _Encode(_Worker):
    """Runs the vision tower on prepared thumbnails, and writes their vectors."""

    def __call__(self, row: Row) -> Row:
        if row["failed"]:
            return {"n": 0, "failed": row["failed"]}
        batch, prepared = pickle.loads(row["inputs"]), pickle.loads(row["prepared"])  # noqa: S301 (made by the job)
        return {"n": len(batch), "failed": ""} | _result_or_error(lambda: self.features.put_pictures(batch, prepared))


class _EncodeTitles(_Worker):
    """Runs the text tower on titles, and writes their vectors."""

    def __call__(self, row: Row) -> Row:
        batch = pickle.loads(row["inputs"])  # noqa: S301 (made by the job)
        done = {"n": len(batch), "failed": ""}
        return done | _result_or_error(lambda: self.features.fill("text", [batch], self.source, uncounted))


def _result_or_error(work: Callable[[], Row | None]) -> Row:
    """Call a function; return its result, or a description of its error."""
    try:
        return work() or {}
    except (StoreError, TrainerError) as error:
        return {"failed": str(error)}
