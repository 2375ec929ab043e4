"""Train the whole model with the trainer of sentence-transformers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerModelCardData,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch.utils.data import Sampler
from transformers import PrinterCallback, TrainerCallback

from trainer.data import PictureSource
from trainer.fitting.loss import RankingLoss, title_labels
from trainer.fitting.shares import count_processes, own_rows
from trainer.fitting.steps import FitTask, OnStep, Step, Triplets, chosen_names, epoch_order
from trainer.models import as_text, named_parameters
from trainer.quiet import quiet_libraries
from trainer.settings import TrainSettings

__all__ = ["choose_parameters", "fit_full_model"]

_RATE = 1e-4
"""The learning rate of the original recipe."""


def choose_parameters(model: SentenceTransformer, train: str) -> list[str]:
    """Set `requires_grad` for the chosen parameters only. Return their names.

    Args:
        model: the model, which is changed in place.
        train: see `chosen_names`.

    Raises:
        BadSetting: the expression matches no parameter.
    """
    chosen = chosen_names([name for name, _ in named_parameters(model)], train)
    wanted = set(chosen)
    for name, parameter in named_parameters(model):
        parameter.requires_grad_(name in wanted)
    return chosen


def fit_full_model(task: FitTask, on_step: OnStep) -> None:
    """Train `task.encoder.model` in place with the trainer of sentence-transformers.

    Thumbnails are decoded batch by batch.

    Trains the parameters that require gradients (see `choose_parameters`), with the optimiser of the original recipe:
    AdamW, linear decay without warm-up, gradients clipped at norm 1. `trainer.fitting.loss` has the loss.

    In a process group of torch, all processes call this with the same arguments. Each computes its share of every
    batch, and all end with the same weights. They start with those of the first process.
    """
    encoder, rows, settings = task.encoder, task.rows, task.settings
    columns: dict[str, list[int]] = {"anchor": list(range(len(rows.titles)))}
    columns["positive"] = columns["anchor"]
    if rows.negatives is not None:
        columns["negative"] = columns["anchor"]
    # The dataset contains only row numbers, so that no thumbnail or title gets into the library's model card.
    encoder.model.model_card_data = SentenceTransformerModelCardData(
        local_files_only=True, generate_widget_examples=False
    )
    encoder.model.model_card_data.register_model(encoder.model)
    # Without widget examples, the library would search for some and show its own progress bar.
    encoder.model.model_card_data.widget = [{}]
    with quiet_libraries(), tempfile.TemporaryDirectory(prefix="thumbtune-") as folder:
        trainer = SentenceTransformerTrainer(
            model=encoder.model,
            args=_arguments(folder, encoder.device, settings),
            train_dataset=Dataset.from_dict(columns),
            loss=RankingLoss(encoder.model, 1 / settings.steps()[1], settings.mask),
            data_collator=cast(Any, _Collator(encoder.model, rows, task.source)),
            callbacks=[_Recorder(on_step)],
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train()
        finally:
            encoder.model.eval()


def _arguments(folder: str, device: str, settings: TrainSettings) -> SentenceTransformerTrainingArguments:
    arguments = SentenceTransformerTrainingArguments(
        output_dir=folder,
        num_train_epochs=settings.steps()[0],
        per_device_train_batch_size=settings.batch_size,
        learning_rate=_RATE if settings.lr is None else settings.lr,
        lr_scheduler_type="linear",
        warmup_steps=0,
        seed=settings.seed,
        data_seed=settings.seed,
        batch_sampler=_SeededBatches,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        # A step runs the model three times. Searching for unused parameters, or copying buffers from the first process,
        # in each of these runs breaks the gradients of the others. `RankingLoss` leaves no parameter unused.
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
    )
    # With several devices, the library would divide each batch, and there would be fewer in-batch negatives.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    # In a process group, the library leaves out the last batch if it is smaller, because shares could be missing.
    arguments.dataloader_drop_last = False
    return arguments


class _EpochOrder(Sampler[int]):
    """The row order of `epoch_order`, which is the library's, so that it does not change with the library's version."""

    def __init__(self, n: int, seed: int) -> None:
        self._n = n
        self._seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[int]:
        return iter(epoch_order(self._n, self._seed, self.epoch).tolist())


class _SeededBatches(DefaultBatchSampler):
    """Batches in the order of `_EpochOrder`. The trainer's documented hook for batches; it calls `set_epoch`.

    In a process group, the library deals batches to the processes in turn. Each batch comes once for each process, so
    that all get it; the collator takes the process's share.
    """

    def __init__(self, dataset: Dataset, **options: Any) -> None:
        self._order = _EpochOrder(len(dataset), options["seed"])
        super().__init__(self._order, **options)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self._order.set_epoch(epoch)

    def __len__(self) -> int:
        return super().__len__() * count_processes()

    def __iter__(self) -> Iterator[list[int]]:
        for batch in super().__iter__():
            yield from [batch] * count_processes()


@dataclass
class _Collator:
    """Converts a batch's row numbers to model inputs of this process's share: loads and preprocesses it.

    The labels are those of the whole batch.
    """

    model: SentenceTransformer
    rows: Triplets
    source: PictureSource
    # The trainer reads this attribute.
    valid_label_columns: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        titles = [*self.rows.titles, *(self.rows.negatives or ())]
        self._labels = title_labels(titles, self.rows.groups_of_titles())

    def __call__(self, features: list[dict[str, int]]) -> dict[str, Any]:
        batch = [feature["anchor"] for feature in features]
        numbers = [batch[row] for row in own_rows(len(batch))]
        columns: dict[str, list[Any]] = {
            "anchor": list(self.source.load([self.rows.pictures[row] for row in numbers])),
            "positive": [as_text(self.rows.titles[row]) for row in numbers],
        }
        labels = [[self._labels[self.rows.titles[row]] for row in batch]]
        if self.rows.negatives is not None:
            columns["negative"] = [as_text(self.rows.negatives[row]) for row in numbers]
            labels.append([self._labels[self.rows.negatives[row]] for row in batch])
        inputs = {
            f"{column}_{key}": value
            for column, values in columns.items()
            for key, value in self.model.preprocess(values).items()
        }
        return {**inputs, "label": torch.tensor(labels).T}


class _Recorder(TrainerCallback):
    """Passes the loss and the learning rate of each step to a callback."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """See `TrainerCallback` of transformers."""
        if logs and "loss" in logs:
            self._on_step(Step(state.global_step, float(state.epoch), logs["loss"], logs["learning_rate"]))
