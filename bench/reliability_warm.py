"""Imports all that a training run needs, so that processes forked from here begin with their work.

Nothing is computed: a process that has computed has threads, which a fork leaves behind.
"""

import safetensors.torch
import sentence_transformers
import transformers
import transformers.models.clip.image_processing_pil_clip
from transformers import AutoTokenizer, CLIPModel, CLIPProcessor

import thumbtune.commands.train
import trainer.data.negatives
import trainer.fitting.learners
import trainer.fitting.lora
import trainer.fitting.projections
import trainer.fitting.whole
import trainer.models.towers
import trainer.runs.promotion
import trainer.runs.record
import trainer.runs.training

LOADED = (
    *(AutoTokenizer, CLIPModel, CLIPProcessor, safetensors.torch, sentence_transformers, transformers),
    *(thumbtune, trainer),
)
