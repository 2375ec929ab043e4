"""The README of a run's whole model, with the metadata block that the Hugging Face Hub reads.

It states what was done and measured. It contains no titles, thumbnails or local paths; of a local base model, it gives
only the folder's name.

Source: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, but exported lazily

from store.db import Database
from store.tables import Evaluation, TrainingRun
from store.training import SnapshotInfo, SnapshotSpan, evaluations, get_run, snapshot_info, snapshot_span
from trainer.settings import CHOSEN, RECIPE, TrainSettings

__all__ = ["hub_name", "model_card", "public_name", "snapshot_lines"]

PLACEHOLDER = "path/to/this/folder"
OLDEST_READER = "5.4"
"""The oldest sentence-transformers version that loads an exported model: `modules.json` uses the new class paths."""

_NEGATIVES = {
    "least-similar": "the title that is least similar to the row's own, each used once",
    "hard": "a title that is similar to the row's own, but not so similar that it may say the same",
    "random": "a title drawn at random",
    "none": "none: other rows' titles in the batch only",
}
_FITS = {
    "crop": "the model's own preprocessing: its middle square",
    "pad": "whole, in a square of the mean colour",
    "squash": "whole, both edges resized to the square's",
}


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
    recalls.sort(key=lambda row: (("train", "valid", "test").index(row.split), row.model))
    base = public_name(run.base_model)
    about = (
        "A CLIP-style model that puts the thumbnail and the title of a video near each other. "
        f"Fine-tuned by thumbtune from {_linked(run.base_model)}."
    )
    texts = TrainSettings.from_dict(run.settings).text_model_of_base()
    if texts is not None:
        about += f" Titles are embedded by {_linked(texts)}, fine-tuned with it."
    lines = [
        *("---", _metadata(run, base, recalls), "---", ""),
        *(f"# {base.rpartition('/')[2]}, fine-tuned on thumbnails and titles", "", about, ""),
        *_results(recalls),
        *_usage(name, _framing(run)),
        *("## Data", "", *(snapshot_lines(info, span) if info and span else ["Not recorded.", ""])),
        *_training(run),
        *_limits(run, recalls),
    ]
    return "\n".join(lines)


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


def _metadata(run: TrainingRun, base: str, recalls: Sequence[Evaluation]) -> str:
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
    data = ModelCardData(
        base_model=hub_name(run.base_model),
        eval_results=found or None,
        library_name="sentence-transformers",
        model_name=f"{base.rpartition('/')[2]} fine-tuned by thumbtune",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "clip", "image-text-retrieval", "thumbtune"],
    )
    return data.to_yaml()


def _results(recalls: Sequence[Evaluation]) -> list[str]:
    return [
        "## Results",
        "",
        "Recall@1 from thumbnail to title: the share of a split's thumbnails whose own title ranks first among all of "
        "the split's titles (equal titles count as one), with its 95 % Wilson interval. `base` is the base model "
        "on the same rows, `tuned` this one. Models are chosen by `valid`, never by `test`.",
        "",
        "| split | model | recall@1 | 95 % interval | n |",
        "|---|---|---|---|---|",
        *(
            f"| {row.split} | {row.model} | {row.value:.3f} | {_bound(row.low)} to {_bound(row.high)} | {row.n} |"
            for row in recalls
        ),
        "",
    ]


def _bound(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _framing(run: TrainingRun) -> str | None:
    """The crop mode applied to thumbnails before the model's own preprocessing; None if they are not framed."""
    fit = str(run.settings.get("fit", "crop"))
    # Earlier runs had no `bars` setting, and kept the bars in a crop.
    return None if fit == "crop" and run.settings.get("bars", "keep") == "keep" else fit


def _pictures(run: TrainingRun) -> str:
    fit = str(run.settings.get("fit", "crop"))
    bars = "" if _framing(run) is None else ", black bars cut off first"
    return f"`{fit}`: {_FITS.get(fit, 'as named')}{bars}"


def _usage(name: str, fit: str | None) -> list[str]:
    """A complete usage example. Pictures and titles can't share one call of `encode`."""
    lines = [
        "## Usage",
        "",
        f"The model needs sentence-transformers {OLDEST_READER} or later; older versions can't load its folder:",
        "",
        "```bash",
        f'pip install "sentence-transformers>={OLDEST_READER}" pillow',
        "```",
        "",
        "Encode pictures and titles in calls of their own:",
        "",
        "```python",
        "from PIL import Image, ImageStat" if fit in _FRAMING else "from PIL import Image",
        "from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("{name}")',
        'pictures = [Image.open("thumbnail.jpg").convert("RGB")]',
        'titles = ["A first idea for its title", "A second idea"]',
    ]
    if fit in _FRAMING:
        lines += ["", *_BARS_OFF, *_FRAMING[fit], "", "pictures = [framed(picture) for picture in pictures]"]
    lines += [
        "",
        "scores = model.similarity(model.encode(pictures), model.encode(titles))",
        "print(scores)  # cosines: a row for each picture, a column for each title",
        "```",
        "",
    ]
    if fit in _FRAMING:
        lines += [
            "`framed` is needed: the model was trained on pictures made ready like this.",
            "",
        ]
    lines += [
        "A title that is a URL, or ends like a picture's file name, is taken for a picture: put a space before it.",
        "",
    ]
    return lines


# The same framing as trainer.data.framing, for users who have the model but not thumbtune. A test compares both.
_BARS_OFF = [
    "def framed(picture):",
    '    """Cut the black bars of YouTube\'s 4:3 sizes off, and make ready what the model sees."""',
    "    width, height = picture.size",
    "    bar = (height + -width * 9 // 16) // 2",
    "    if abs(height - width * 3 / 4) <= 1 and bar >= 8:",
    "        sure = bar - bar % 8",
    "        edges = [picture.crop((0, top, width, top + sure)) for top in (0, height - sure)]",
    '        lumas = [ImageStat.Stat(edge.convert("L")) for edge in edges]',
    "        if all(luma.extrema[0][1] <= 32 and luma.mean[0] <= 8 for luma in lumas):",
    "            picture = picture.crop((0, bar, width, height - bar))",
]
_SQUARE = [
    '    first = getattr(model[0], "sub_modules", {"image": [model[0]]})["image"][0]',
    "    processor = first.processor.image_processor",
    '    size = dict(getattr(processor, "crop_size", None) or getattr(processor, "size", None) or {})',
    '    side = size.get("height", size.get("shortest_edge"))',
    '    if side is None or "longest_edge" in size:',
    "        return picture  # the model sees pictures in their own shape",
]
_FRAMING = {
    "crop": ["    return picture"],
    "squash": [*_SQUARE, "    return picture.resize((side, side), Image.Resampling.BICUBIC)"],
    "pad": [
        *_SQUARE,
        "    width, height = (max(1, round(edge * side / max(picture.size))) for edge in picture.size)",
        '    square = Image.new("RGB", (side, side), tuple(round(255 * mean) for mean in processor.image_mean))',
        "    picture = picture.resize((width, height), Image.Resampling.BICUBIC)",
        "    square.paste(picture, ((side - width) // 2, (side - height) // 2))",
        "    return square",
    ],
}


def snapshot_lines(info: SnapshotInfo, span: SnapshotSpan) -> list[str]:
    """Describe a snapshot's size and splits in Markdown, without any of its content."""
    total = sum(info.counts.values())
    told = f"{total} (thumbnail, title) pairs of {span.channels} YouTube channel{'s' * (span.channels != 1)}"
    if span.first_published_at is not None and span.last_published_at is not None:
        told += f", published from {span.first_published_at:%Y-%m-%d} to {span.last_published_at:%Y-%m-%d}"
    lines = [f"{told}.", "", "| split | pairs |", "|---|---|"]
    lines += [f"| {split} | {n} |" for split, n in info.counts.items()]
    lines += [
        "",
        "Splits are permanent: a video gets its split when it is first seen, and keeps it. Videos that share a picture "
        f"or a title form a group ({span.groups} here), and a group lies in one split, so nothing that is tested was "
        "trained on.",
        "",
    ]
    if info.excluded:
        left_out = ", ".join(f"{n} ({reason.replace('_', ' ')})" for reason, n in info.excluded.items())
        lines += [f"Left out: {left_out}.", ""]
    strategy = str(info.settings.get("negatives", "none"))
    lines += [
        f"Negative titles (`{strategy}`): {_NEGATIVES.get(strategy, 'as named')}. They are chosen inside each split.",
        "",
        f"Fingerprint of the dataset: `{info.fingerprint}`.",
        "",
    ]
    return lines


def _training(run: TrainingRun) -> list[str]:
    given = {**run.settings, **run.settings.get(CHOSEN, {})}
    temperature = given.get("temperature") or RECIPE["temperature"]
    masked = " A row's own title is left out of its candidates where another row brings it in." * bool(
        given.get("mask")
    )
    rows: list[tuple[str, Any]] = [
        ("base", _linked(run.base_model)),
        ("fingerprint of the base", f"`{run.base_fingerprint}`"),
        ("started from", _start(run)),
        ("trained", f"`{run.trained}`"),
        ("parameters trained", _share(run)),
        ("titles compared by", _title_model(run)),
        ("most similar negative", given.get("hard_max_similarity") if given.get("negatives") == "hard" else None),
        ("LoRA rank", given.get("lora_rank") if run.trained == "lora" else None),
        ("LoRA alpha", given.get("lora_alpha") if run.trained == "lora" else None),
        ("epochs", given.get("epochs")),
        ("batch size", given.get("batch_size")),
        ("learning rate", given.get("lr")),
        ("seed", run.seed),
        ("precision of frozen towers", given.get("precision", "fp32")),
        ("pictures", _pictures(run)),
        ("device", run.device),
        ("versions", ", ".join(f"{p} {v}" for p, v in run.packages.items() if p in _VERSIONS)),
    ]
    return [
        "## Training",
        "",
        f"Multiple negatives ranking loss: cosines divided by {temperature:g}; candidates are the titles and negatives "
        f"of the batch.{masked} AdamW, with a learning rate that falls linearly to 0.",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {label} | {_cell(value)} |" for label, value in rows if value not in (None, "")),
        "",
    ]


_VERSIONS = ("thumbtune", "sentence-transformers", "transformers", "torch")


def _cell(value: object) -> str:
    """Format a table cell. A regular expression's vertical bars would end the cell, so they are escaped."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _start(run: TrainingRun) -> str | None:
    if run.settings.get("start", "base") == "base":
        return None
    return "an earlier run's model, itself tuned from the base"


def _share(run: TrainingRun) -> str | None:
    if not run.parameters_total or run.parameters_trainable is None:
        return None
    percent = 100 * run.parameters_trainable / run.parameters_total
    return f"{run.parameters_trainable:,} of {run.parameters_total:,} ({percent:.2f} %)"


def _title_model(run: TrainingRun) -> str | None:
    if run.settings.get("negatives") not in ("least-similar", "hard"):
        return None
    named = str(run.settings.get("title_model", "base"))
    return "the base's text tower" if named == "base" else f"`{public_name(named)}`"


def _limits(run: TrainingRun, recalls: Sequence[Evaluation]) -> list[str]:
    test = next((row for row in recalls if (row.model, row.split) == ("tuned", "test")), None)
    told = "It was not scored on a test split, so nothing is known of how it does on videos that it was not chosen by."
    if test is not None:
        told = (
            f"Its test is {test.n} videos: with so many, the true recall@1 may lie anywhere from {_bound(test.low)} to "
            f"{_bound(test.high)}, and it falls as there are more titles to choose from."
        )
    full = hub_name(run.base_model)
    licence = "the base model" if full is None else f"[{full}](https://huggingface.co/{full})"
    return [
        "## Limits and licence",
        "",
        f"{told} It learnt one store's channels: elsewhere it may be no better than its base, or worse. A high score "
        "says that a title goes with a thumbnail as those channels would pair them, not that many will watch.",
        "",
        f"The licence of {licence} applies to this model too. The thumbnails and titles belong to their creators and "
        "are not part of it.",
        "",
    ]
