"""The public views and their columns, as documented in docs/store.md. `migrations/` creates the views."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["VIEWS", "View"]


@dataclass(frozen=True, slots=True)
class View:
    """The descriptions of a view and of its columns, in order."""

    about: str
    columns: dict[str, str]


VIEWS = {
    "pairs": View(
        "One row for each (thumbnail, title) pair that is usable for training: available long-form videos with a "
        "duration, a title that is not blank, and a thumbnail.",
        {
            "channel_id": "`UC...`",
            "video_id": "YouTube's id",
            "title": "the current title, unchanged; a new title appears once the thumbnail was checked",
            "published_at": "UTC",
            "duration_s": "whole seconds",
            "picture_sha256": "the thumbnail that was shown with this title: key of `picture`",
            "split": "`train`, `valid` or `test`; NULL before the first snapshot with the video",
            "group_id": "equal for videos that share a thumbnail or a normalised title; NULL before the first snapshot",
            "thumbnail_text": "the text that OCR found on the thumbnail, empty if there is none; NULL before the "
            "thumbnail was read",
        },
    ),
    "sync_history": View(
        "One row for each sync of a channel, oldest first.",
        {
            "sync_id": "ascending",
            "channel_id": "`UC...`",
            "handle": "`@name`; NULL if the channel has no handle",
            "title": "the channel's title",
            "started_at": "UTC",
            "mode": "`incremental`, `full` or `refresh`",
            "status": "`running`, `complete`, `unchanged` (the feed showed no change), `quota` (stopped; the next sync "
            "resumes), `partial` (some thumbnails failed), `failed` or `interrupted`",
            "listed": "playlist entries read",
            "new": "videos seen for the first time",
            "changed": "known videos with a new title or thumbnail",
            "gone": "videos found to be newly private or deleted",
            "pictures_fetched": "thumbnails stored",
            "pictures_unchanged": "thumbnails that the server reported as unchanged",
            "pictures_failed": "thumbnails that could not be fetched, see `picture_failure`",
            "requests": "HTTP requests sent, including retries and thumbnails",
            "units": "API quota units spent",
            "seconds": "wall-clock time",
            "error": "the error message, or NULL",
        },
    ),
    "run_history": View(
        "One row for each training run, oldest first. Recalls are recall@1 from thumbnail to title, over all channels "
        "of the run.",
        {
            "run_id": "ascending",
            "started_at": "UTC",
            "status": "`running`, `done`, `failed` or `interrupted`",
            "base_model": "the base model, as given",
            "snapshot_id": "the dataset: key of `snapshot`",
            "n_train": "examples in the training split",
            "n_valid": "examples in the validation split",
            "n_test": "examples in the test split",
            "base_valid_recall_at_1": "recall of the base model on the validation split",
            "valid_recall_at_1": "recall of the tuned model on the validation split",
            "valid_recall_at_1_low": "lower bound of its 95 % Wilson interval",
            "valid_recall_at_1_high": "upper bound of its 95 % Wilson interval",
            "base_test_recall_at_1": "recall of the base model on the test split",
            "test_recall_at_1": "recall of the tuned model on the test split",
            "test_recall_at_1_low": "lower bound of its 95 % Wilson interval",
            "test_recall_at_1_high": "upper bound of its 95 % Wilson interval",
            "trained": "`cca`, `ridge`, `projection`, `all`, `lora` or a regular expression over parameter names",
            "seed": "seed of the batch order and all other random choices",
            "device": "`cpu`, `cuda`, ...",
            "seconds": "wall-clock time",
            "settings": "JSON: every setting",
            "artifact_path": "file of the trained tensors",
            "error": "the error message, or NULL",
            "champion_run_id": "the champion when the run started, scored on the same rows if possible; or NULL",
            "champion_valid_recall_at_1": "recall of the champion on the validation split",
            "champion_test_recall_at_1": "recall of the champion on the test split",
            "sweep_id": "the sweep that the run belongs to, or NULL",
            "trial": "in a sweep: number of the settings; NULL for the final run with the best settings",
        },
    ),
    "champions": View(
        "One row for each promotion of a run, oldest first: all champions and when they were in use.",
        {
            "run_id": "the promoted run",
            "promoted_at": "when it became the champion (UTC)",
            "replaced_at": "when the scope's next run replaced it (UTC); NULL for the scope's current champion",
            "reason": "the reason for the promotion",
            "base_model": "its base model",
            "trained": "`cca`, `ridge`, `projection`, `all`, `lora` or a regular expression over parameter names",
            "valid_recall_at_1": "recall on the validation split, measured by the run",
            "test_recall_at_1": "recall on the test split, measured by the run",
            "artifact_path": "file of its trained tensors",
            "scope": "the channels that it is for: `all`, or their ids, sorted and joined by commas",
        },
    ),
    "run_errors": View(
        "One row for each thumbnail whose own title a run's model (base, tuned or champion) did not rank first.",
        {
            "run_id": "the run",
            "model": "`base`, `tuned` or `champion`",
            "split": "`train`, `valid` or `test`",
            "video_id": "the thumbnail's video",
            "title": "the video's own title at the time of the run; empty if its channel was removed",
            "picture_sha256": "its thumbnail at the time of the run; NULL if its channel was removed",
            "rank": "rank of its own title, 2 or more",
            "score": "cosine similarity with its own title",
            "top_video_id": "the video whose title was ranked first",
            "top_title": "the title that was ranked first; empty if its channel was removed",
            "top_score": "cosine similarity with the title that was ranked first",
        },
    ),
    "changes": View(
        "One row for each change of a video's title or thumbnail that a sync has seen. Views at a given time are "
        "interpolated linearly between the last reading at or before it and the first reading at or after it, if these "
        "are at most two days apart; otherwise they are NULL. The others are videos of the same channel and kind: "
        "up to 25 published directly before the video and up to 25 directly after it. Each was "
        "between half and twice the video's age at the change, did not change from a day before to a day after it, and "
        "has known views at all three times. docs/method.md explains what this comparison can't prove.",
        {
            "channel_id": "`UC...`",
            "video_id": "YouTube's id",
            "number": "number of the version that the change created: key of `video_version` together with `video_id`",
            "seen_at": "when a sync first saw the change (UTC); the change happened after `unchanged_at`",
            "unchanged_at": "when a sync last saw the title and thumbnail before the change (UTC)",
            "changed": "`title`, `thumbnail` or `both`",
            "old_title": "the title before",
            "new_title": "the title after",
            "old_picture_sha256": "the thumbnail before: key of `picture`; NULL if it was never fetched",
            "new_picture_sha256": "the thumbnail after",
            "published_at": "when the video was published (UTC)",
            "views_day_before": "views 24 hours before `seen_at`",
            "views_at": "views at `seen_at`",
            "views_day_after": "views 24 hours after `seen_at`",
            "ratio": "views gained in the day after, divided by views gained in the day before; NULL if that is 0",
            "others": "number of other videos in the comparison",
            "others_gain_before": "views that the others gained together in the same day before; NULL without others",
            "others_gain_after": "views that the others gained together in the same day after; NULL without others",
            "others_ratio": "`others_gain_after` divided by `others_gain_before`; NULL if that is 0",
        },
    ),
}
