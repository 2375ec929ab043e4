"""Fill the cache of vectors for the current pairs, before or without a run, on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from store.db import Database
from store.tables import Tower
from store.training import channel_titles, get_run
from trainer.cluster import Encoding, connected, features_of, fill_on_ray, inputs_of
from trainer.data import StoredPictures, channel_id
from trainer.errors import NotEnoughPairs
from trainer.models import pick_device
from trainer.progress import Progress, Silent
from trainer.quiet import quiet_libraries
from trainer.runs.preparing import resolved
from trainer.runs.recorded import precision_here, run_in_use, run_settings
from trainer.scoring import parse_run
from trainer.settings import CLOSED_FORM, DEFAULT_MODEL, Engine, TrainSettings

__all__ = ["Encoded", "encode_pairs", "settings_to_use"]


@dataclass(frozen=True)
class Encoded:
    """The state of the cache for the current pairs.

    Args:
        thumbnails, titles: the numbers of distinct thumbnails and titles.
        new: the number of vectors that were missing, of both towers and the reader.
    """

    thumbnails: int
    titles: int
    new: int


def encode_pairs(
    database: Database, settings: TrainSettings, engine: Engine | None = None, progress: Progress | None = None
) -> Encoded:
    """Encode the thumbnails and titles of the current pairs that are not in the cache, as a run would.

    An interrupted encoding continues where it stopped. Both engines compute the same vectors.

    Args:
        database: the store, writable.
        settings: the settings of the run that will use the vectors. Only model, text model, reader, crop mode, bars,
            precision, device and channels have an effect.
        engine: where the towers run; None for this process.
        progress: receives the phases.

    Raises:
        BadSetting, NotFound, RunUnusable, ModelUnavailable: see `trainer.runs.preparing.resolved`.
        NotEnoughPairs: there are no pairs.
        ClusterUnavailable, EncodingFailed: see `trainer.cluster`.
        BadPicture: a thumbnail is damaged.
        StoreError: the store failed.
    """
    engine, progress = engine or Engine(), progress or Silent()
    settings, device = resolved(database, settings)
    digests, titles = inputs_of(database, settings.channels)
    if not digests:
        raise NotEnoughPairs("the store has no pairs of these channels; run 'thumbtune sync' first")
    with quiet_libraries():
        inputs: dict[Tower, list[str]] = {"vision": digests, "text": titles}
        to_encode = [
            (features, tower, features.missing(tower, inputs[tower]))
            for features in features_of(database, settings, device)
            for tower in inputs
        ]
        new = sum(len(batch) for *_, batches in to_encode for batch in batches)
        if new and engine.name == "ray":
            with connected(engine.address) as ray, progress.phase("Encoding on Ray", new) as count:
                fill_on_ray(ray, Encoding.of(database, settings, device), engine.actors, count)
        elif new:
            with progress.phase("Encoding", new) as count:
                for features, tower, batches in to_encode:
                    features.fill(tower, batches, StoredPictures(database), count)
    return Encoded(len(digests), len(titles), new)


def settings_to_use(
    database: Database, which: str | None, device: str, channels: Sequence[str] = ()
) -> list[TrainSettings]:
    """Return the settings with which a model in use, or a named model, encodes the store's pairs.

    Empty for a run that trained the towers, because it can't use vectors of its base model.

    Args:
        database: the store.
        which: as for `open_in_use`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        channels: ids or handles; empty for all.

    Raises:
        BadSetting: a channel is not in the store, or the device is not available.
        NotFound: there is no such run.
    """
    with database.read() as session:
        known = channel_titles(session)
    ids = tuple(channel_id(name, known) for name in channels)
    found = parse_run(which) if which is not None else run_in_use(database, ids)
    if found is None:
        return [TrainSettings(model=which or DEFAULT_MODEL, device=device, channels=ids)]
    with database.read() as session:
        run = get_run(session, found[0])
    settings = run_settings(run)
    if found[1] == "tuned" and settings.train not in ("projection", *CLOSED_FORM):
        return []
    precision = precision_here(settings, pick_device(device))
    return [replace(settings, model=run.base_model, start="base", device=device, precision=precision, channels=ids)]
