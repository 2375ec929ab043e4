"""The README of an exported model and of a pushed dataset, with the metadata block that the Hugging Face Hub reads.

A card states what was done and measured. It contains no titles, thumbnails or local paths; of a local base model, it
gives only the folder's name. The text is in the two templates next to this file.

Source: https://huggingface.co/docs/huggingface_hub/guides/model-cards
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, but exported lazily

from store.db import Database
from store.tables import Evaluation, TrainingRun
from store.training import SnapshotInfo, SnapshotSpan, evaluations, get_run, snapshot_info, snapshot_span
from store.wording import counted
from trainer.data import SPLIT_NAMES, SPLITS
from trainer.models import files_folder
from trainer.settings import CCA, CHOSEN, CLOSED_FORM, RECIPE, RIDGE, TrainSettings

__all__ = ["dataset_card", "hub_name", "licence_of", "model_card", "public_name"]

PLACEHOLDER = "path/to/this/folder"
OLDEST_READER = "5.4"
"""The oldest sentence-transformers version that loads an exported model: `modules.json` uses the new class paths."""

_NEGATIVES = {
    "least-similar": "the title that is least similar to the row's own title; each title is used once",
    "hard": "a title that is similar to the row's own title, but below a limit that excludes paraphrases",
    "random": "a random title",
    "none": "none; the other titles of the batch are the negatives",
}
_FITS = {
    "crop": "the model's own preprocessing, which crops the middle square",
    "pad": "the whole picture, in a square of the mean colour",
    "squash": "the whole picture, with both edges resized to the side of the square",
}
_VERSIONS = ("thumbtune", "sentence-transformers", "transformers", "torch")


def model_card(database: Database, run_id: int, name: str = PLACEHOLDER) -> str:
    """Write the card of a run that is done.

    Args:
        database: the store.
        run_id: the run.
        name: the name that the usage example loads, such as the model's name on the hub.

    Raises:
        NotFound: there is no such run.
    """
    with database.read() as session:
        run = get_run(session, run_id)
        info = None if run.snapshot_id is None else snapshot_info(session, run.snapshot_id)
        span = None if run.snapshot_id is None else snapshot_span(session, run.snapshot_id)
        recalls = [
            row
            for row in evaluations(session, run_id)
            if (row.scope, row.direction, row.metric) == ("all", "thumbnail_to_title", "recall@1")
            and row.model in ("base", "tuned")
        ]
    recalls.sort(key=lambda row: (SPLITS.index(row.split), row.model))
    title = public_name(run.base_model).rpartition("/")[2]
    texts = TrainSettings.from_dict(run.settings).text_model_of_base()
    full, licence = hub_name(run.base_model), licence_of(run.base_model)
    card = ModelCard.from_template(
        _metadata(run, title, recalls),
        template_path=str(Path(__file__).with_name("model_card.md")),
        title=title,
        base=_linked(run.base_model),
        texts=None if texts is None else _linked(texts),
        recalls=recalls,
        test=next((row for row in recalls if (row.model, row.split) == ("tuned", "test")), None),
        bound=lambda value: "?" if value is None else f"{value:.3f}",
        name=name,
        oldest=OLDEST_READER,
        fit=_framing(run),
        snapshot=_described(info, span) if info and span else "Not recorded.",
        ridge=run.trained == RIDGE,
        cca=run.trained == CCA,
        temperature=f"{_given(run).get('temperature') or RECIPE['temperature']:g}",
        mask=bool(run.settings.get("mask")),
        training=[(label, _cell(value)) for label, value in _training(run) if value not in (None, "")],
        licensed=("the base model" if full is None else f"[{full}](https://huggingface.co/{full})")
        + ("" if licence is None else f" ({licence})"),
    )
    return f"{card}\n"


def dataset_card(database: Database, snapshot_id: int, splits: Collection[str], name: str) -> str:
    """Write the card of a snapshot that is exported as one Parquet file per split.

    Args:
        database: the store.
        snapshot_id: the snapshot.
        splits: the splits that have a file.
        name: the dataset's name on the hub.

    Raises:
        NotFound: there is no such snapshot.
    """
    with database.read() as session:
        info, span = snapshot_info(session, snapshot_id), snapshot_span(session, snapshot_id)
    files = [{"split": SPLIT_NAMES[split], "path": f"{SPLIT_NAMES[split]}.parquet"} for split in splits]
    data = DatasetCardData(
        pretty_name="Thumbnails and titles",
        tags=["image-text-retrieval", "thumbtune"],
        configs=[{"config_name": "default", "data_files": files}],
    )
    template = str(Path(__file__).with_name("dataset_card.md"))
    card = DatasetCard.from_template(data, template_path=template, snapshot=_described(info, span), name=name)
    return f"{card}\n"


def hub_name(model: str) -> str | None:
    """The base model's full name on the hub; None for a local folder, even a deleted one if detectable."""
    if model.startswith((".", "/", "~")) or Path(model).expanduser().exists():
        return None
    # sentence-transformers reads a name without an owner as a model of its own organisation.
    full = model if "/" in model else f"sentence-transformers/{model}"
    try:
        validate_repo_id(full)
    except HFValidationError:
        return None
    return full


def public_name(model: str) -> str:
    """Return a hub name unchanged, and only the last part of a local path."""
    if hub_name(model) is not None:
        return model
    return Path(model.replace("\\", "/")).name or "a local model"


def _linked(model: str) -> str:
    full = hub_name(model)
    return f"`{public_name(model)}` (a local folder)" if full is None else f"[{full}](https://huggingface.co/{full})"


def _metadata(run: TrainingRun, title: str, recalls: Sequence[Evaluation]) -> ModelCardData:
    found = [
        EvalResult(
            task_type="sentence-similarity",
            task_name="Thumbnail to title retrieval",
            dataset_type="thumbtune-snapshot",
            dataset_name=f"{row.split} split, n = {row.n}",
            dataset_split=row.split,
            metric_type="recall_at_1",
            metric_name="Recall@1",
            metric_value=round(row.value, 4),
        )
        for row in recalls
        if row.model == "tuned" and row.split != "train"
    ]
    return ModelCardData(
        base_model=hub_name(run.base_model),
        eval_results=found or None,
        library_name="sentence-transformers",
        license=licence_of(run.base_model),
        model_name=f"{title} fine-tuned by thumbtune",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "clip", "image-text-retrieval", "thumbtune"],
    )


def _framing(run: TrainingRun) -> str | None:
    """The crop mode applied to thumbnails before the model's own preprocessing; None if they are not framed."""
    fit = str(run.settings.get("fit", "crop"))
    # Earlier runs had no `bars` setting, and kept the bars in a crop.
    return None if fit == "crop" and run.settings.get("bars", "keep") == "keep" else fit


def _described(info: SnapshotInfo, span: SnapshotSpan) -> str:
    """Describe a snapshot's size and splits in Markdown, without any of its content."""
    total = sum(info.counts.values())
    summary = f"{counted(total, '(thumbnail, title) pair')} of {counted(span.channels, 'YouTube channel')}"
    if span.first_published_at is not None and span.last_published_at is not None:
        summary += f", published from {span.first_published_at:%Y-%m-%d} to {span.last_published_at:%Y-%m-%d}"
    strategy = str(info.settings.get("negatives", "none"))
    of_channel = " of each channel" if info.settings.get("negatives_within") == "channel" else ""
    excluded = ", ".join(f"{n} ({reason.replace('_', ' ')})" for reason, n in info.excluded.items())
    splits = ["| split | pairs |", "|---|---|", *(f"| {split} | {n} |" for split, n in info.counts.items())]
    paragraphs = [
        f"{summary}.",
        "\n".join(splits),
        "Splits are permanent: a video keeps the split that it first got. Videos that share a thumbnail or a title "
        f"form a group ({span.groups} here), and a group is in one split, so no tested pair was trained on.",
        *([f"Left out: {excluded}."] if excluded else []),
        f"Negative titles (`{strategy}`): {_NEGATIVES.get(strategy, 'as named')}. They are chosen within each "
        f"split{of_channel}.",
        f"Fingerprint of the dataset: `{info.fingerprint}`.",
    ]
    return "\n\n".join(paragraphs)


def _given(run: TrainingRun) -> dict[str, Any]:
    """The run's settings, with those that were chosen on held-out folds."""
    return {**run.settings, **run.settings.get(CHOSEN, {})}


def _training(run: TrainingRun) -> list[tuple[str, Any]]:
    """The rows of the table of settings; a row without a value is left out."""
    given, hard = _given(run), run.settings.get("negatives") == "hard"
    rows: list[tuple[str, Any]] = [
        ("base model", _linked(run.base_model)),
        ("fingerprint of the base model", f"`{run.base_fingerprint}`"),
        ("started from", None if given.get("start", "base") == "base" else "an earlier run of the base model"),
        ("trained", f"`{run.trained}`"),
        ("parameters trained", _share(run)),
        ("seed", run.seed),
        ("precision of frozen towers", given.get("precision", "fp32")),
        ("crop mode", _crop_mode(run)),
        ("device", run.device),
        ("versions", ", ".join(f"{p} {v}" for p, v in run.packages.items() if p in _VERSIONS)),
    ]
    if run.trained not in CLOSED_FORM:
        rows += [
            ("titles compared by", _title_model(run)),
            ("highest similarity of a negative", given.get("hard_max_similarity") if hard else None),
            ("epochs", given.get("epochs") or RECIPE["epochs"]),
            ("batch size", given.get("batch_size")),
            ("learning rate", given.get("lr")),
        ]
    if run.trained == "lora":
        rows += [("LoRA rank", given.get("lora_rank")), ("LoRA alpha", given.get("lora_alpha"))]
    return rows


def _cell(value: object) -> str:
    """Format a table cell. A regular expression's vertical bars would end the cell, so they are escaped."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _crop_mode(run: TrainingRun) -> str:
    fit = str(run.settings.get("fit", "crop"))
    bars = "" if _framing(run) is None else ", after black bars were removed"
    return f"`{fit}`: {_FITS.get(fit, 'as named')}{bars}"


def _share(run: TrainingRun) -> str | None:
    if not run.parameters_total or run.parameters_trainable is None:
        return None
    percent = 100 * run.parameters_trainable / run.parameters_total
    return f"{run.parameters_trainable:,} of {run.parameters_total:,} ({percent:.2f} %)"


def _title_model(run: TrainingRun) -> str | None:
    if run.settings.get("negatives") not in ("least-similar", "hard"):
        return None
    named = str(run.settings.get("title_model", "base"))
    return "the text tower of the base model" if named == "base" else f"`{public_name(named)}`"


_FRONT = re.compile(r"\A---\r?\n(.*?)\n---", re.DOTALL)
_LICENCE = re.compile(r"^license:[ \t]*([A-Za-z0-9][A-Za-z0-9.+-]{0,63})[ \t\r]*$", re.MULTILINE)
_MOST_CHARS = 100_000


def licence_of(model: str) -> str | None:
    """Return the licence in a model's README, as the hub's identifier, for example `apache-2.0`.

    The README is not parsed as YAML, because a stranger may have written it.

    Args:
        model: hub name or folder. Nothing is downloaded.

    Returns:
        The identifier; None if the model is not on this machine, or its README does not name a licence.
    """
    folder = files_folder(model)
    if folder is None:
        return None
    try:
        with (folder / "README.md").open(encoding="utf-8") as file:
            front = _FRONT.match(file.read(_MOST_CHARS))
    except (OSError, ValueError):
        return None
    found = _LICENCE.search(front[1]) if front else None
    return found[1] if found else None
