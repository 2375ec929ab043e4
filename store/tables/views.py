"""What the public views say, column by column. `migrations/` makes them; docs/store.md shows this; a test compares."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["VIEWS", "View"]


@dataclass(frozen=True, slots=True)
class View:
    """A view's meaning, and that of each of its columns, in their order."""

    about: str
    columns: dict[str, str]


VIEWS = {
    "pairs": View(
        "One row for each (thumbnail, title) pair that can be trained on now: available long-form videos with a "
        "duration, a title that is not blank, and a picture.",
        {
            "channel_id": "`UC...`",
            "video_id": "YouTube's id",
            "title": "the current title, exactly as YouTube gives it; a changed one once its thumbnail was checked",
            "published_at": "UTC",
            "duration_s": "whole seconds",
            "picture_sha256": "the thumbnail that was seen with this title: key of `picture`",
            "split": "`train`, `valid` or `test`; NULL before the first snapshot that sees the video",
            "group_id": "equal for videos that share a picture or a normalised title; NULL before the first snapshot",
            "thumbnail_text": "the words that a reader found on the thumbnail, empty where there are none; NULL before "
            "it was read",
        },
    ),
    "sync_history": View(
        "One row for each sync of a channel, oldest first.",
        {
            "sync_id": "ascending",
            "channel_id": "`UC...`",
            "handle": "`@name`, or NULL",
            "title": "the channel's title",
            "started_at": "UTC",
            "mode": "`incremental`, `full` or `refresh`",
            "status": "`running`, `complete`, `unchanged` (the feed settled it), `quota` (stopped, resumes), `partial` "
            "(some pictures failed), `failed` or `interrupted`",
            "listed": "playlist entries read",
            "new": "videos seen for the first time",
            "changed": "known videos with a new title or picture",
            "gone": "videos found private or deleted",
            "pictures_fetched": "pictures stored",
            "pictures_unchanged": "pictures that the server said are the same",
            "pictures_failed": "pictures that could not be fetched, see `picture_failure`",
            "requests": "HTTP requests sent, retries and pictures included",
            "units": "API quota units spent",
            "seconds": "wall-clock time",
            "error": "why it failed, or NULL",
        },
    ),
    "run_history": View(
        "One row for each training run, oldest first. Recalls are recall@1 from thumbnail to title, over all channels "
        "of the run.",
        {
            "run_id": "ascending",
            "started_at": "UTC",
            "status": "`running`, `done`, `failed` or `interrupted`",
            "base_model": "the model that was tuned, as given",
            "snapshot_id": "the dataset: key of `snapshot`",
            "n_train": "examples trained on",
            "n_valid": "examples in the validation split",
            "n_test": "examples in the test split",
            "base_valid_recall_at_1": "of the base model",
            "valid_recall_at_1": "of the tuned model",
            "valid_recall_at_1_low": "lower end of its 95 % Wilson interval",
            "valid_recall_at_1_high": "upper end",
            "base_test_recall_at_1": "of the base model",
            "test_recall_at_1": "of the tuned model",
            "test_recall_at_1_low": "lower end of its 95 % Wilson interval",
            "test_recall_at_1_high": "upper end",
            "trained": "`projection`, `all`, `lora` or a regular expression over parameter names",
            "seed": "of the batch order and all else that is drawn",
            "device": "`cpu`, `cuda`, ...",
            "seconds": "wall-clock time",
            "settings": "JSON: every setting",
            "artifact_path": "the trained tensors",
            "error": "why it failed, or NULL",
            "champion_run_id": "the run that was in use then, scored on the same rows if it could be, or NULL",
            "champion_valid_recall_at_1": "of that run's model",
            "champion_test_recall_at_1": "of that run's model",
            "sweep_id": "the sweep that it is part of, or NULL",
            "trial": "in a sweep: which of the settings tried; NULL for the winner's own run",
        },
    ),
    "champions": View(
        "One row for each time that a run's model came into use, oldest first: every model ever in use, and when.",
        {
            "run_id": "whose model",
            "promoted_at": "in use from then (UTC)",
            "replaced_at": "until then (UTC); NULL for the scope's champion, which is in use now",
            "reason": "why it was promoted",
            "base_model": "the model that it was tuned from",
            "trained": "`projection`, `all`, `lora` or a regular expression over parameter names",
            "valid_recall_at_1": "as its run found it",
            "test_recall_at_1": "as its run found it",
            "artifact_path": "its trained tensors",
            "scope": "the channels that it is for: `all`, or their ids, sorted and joined by commas",
        },
    ),
    "run_errors": View(
        "One row for each thumbnail whose own title a run's model (base, tuned or champion) did not rank first.",
        {
            "run_id": "the run",
            "model": "`base`, `tuned` or `champion`",
            "split": "`train`, `valid` or `test`",
            "video_id": "whose thumbnail it is",
            "title": "its own title, as the run saw it; empty where its channel was removed",
            "picture_sha256": "its thumbnail, as the run saw it; NULL where its channel was removed",
            "rank": "of its own title, 2 or more",
            "score": "cosine similarity with its own title",
            "top_video_id": "whose title won",
            "top_title": "the title that won; empty where its channel was removed",
            "top_score": "cosine similarity with the title that won",
        },
    ),
    "changes": View(
        "One row for each change of a video's title or thumbnail that a sync has seen. Views at a moment lie on the "
        "straight line between the last reading at or before it and the first at or after it, if these are at most two "
        "days apart; otherwise they are NULL. The others are up to 25 videos of the same channel and kind published "
        "next before the video and up to 25 next after it, as far as their age at the change was between half and "
        "double the age of the video, they did not change from a day before to a day after, and their views are known "
        "at all three moments. docs/method.md says what this can't prove.",
        {
            "channel_id": "`UC...`",
            "video_id": "YouTube's id",
            "number": "of the version that the change made: key of `video_version` with `video_id`",
            "seen_at": "when a sync first saw the change (UTC); it happened after `unchanged_at`",
            "unchanged_at": "when a sync last saw the title and thumbnail before the change (UTC)",
            "changed": "`title`, `thumbnail` or `both`",
            "old_title": "the title before",
            "new_title": "the title after",
            "old_picture_sha256": "the thumbnail before: key of `picture`; NULL if it was never fetched",
            "new_picture_sha256": "the thumbnail after",
            "published_at": "when the video was published (UTC)",
            "views_day_before": "24 hours before `seen_at`",
            "views_at": "at `seen_at`",
            "views_day_after": "24 hours after `seen_at`",
            "ratio": "views gained in the day after, divided by those gained in the day before; NULL if those are 0",
            "others": "how many other videos are compared",
            "others_gain_before": "views that the others gained together in the same day before; NULL without others",
            "others_gain_after": "views that the others gained together in the same day after; NULL without others",
            "others_ratio": "`others_gain_after` divided by `others_gain_before`; NULL if that is 0",
        },
    ),
}
