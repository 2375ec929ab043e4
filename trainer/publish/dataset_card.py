"""The README of a dataset on the Hugging Face Hub: its files, its origin, and the rights to its content.

Source: https://huggingface.co/docs/hub/datasets-cards
"""

from __future__ import annotations

from collections.abc import Collection

from huggingface_hub import DatasetCardData

from store.db import Database
from store.training import snapshot_info, snapshot_span
from trainer.data import SPLIT_NAMES
from trainer.runs import snapshot_lines

__all__ = ["dataset_card"]


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
    lines = [
        *("---", data.to_yaml(), "---", "", "# Thumbnails and titles of videos", ""),
        *snapshot_lines(info, span),
        *("```python", "from datasets import load_dataset", "", f'pairs = load_dataset("{name}")', "```", ""),
        "| column | what it is |",
        "|---|---|",
        "| anchor | the thumbnail, as the file that was fetched |",
        "| positive | the video's own title |",
    ]
    lines += ["| negative | another video's title |"]
    lines += [
        "| video_id, channel_id | YouTube's ids |",
        "",
        "For sentence-transformers keep the first two or three columns: its trainer takes every column as an input.",
        "",
        "## Rights",
        "",
        "The thumbnails and titles belong to their creators. Only the creators may permit their distribution: keep "
        "this dataset private unless they have agreed.",
        "",
    ]
    return "\n".join(lines)
