"""Imports all that a training run needs, so that processes forked from here begin with their work.

Nothing is computed: a process that has computed has threads, which a fork leaves behind.
"""

import safetensors.torch
import sentence_transformers
import transformers
import transformers.models.clip.image_processing_pil_clip
from transformers import AutoTokenizer, CLIPModel, CLIPProcessor

import thumbtune.commands.train
import trainer.fit_heads
import trainer.learners
import trainer.lora
import trainer.negatives
import trainer.promotion
import trainer.recording
import trainer.runs
import trainer.towers
import trainer.whole_learner

LOADED = (
    *(AutoTokenizer, CLIPModel, CLIPProcessor, safetensors.torch, sentence_transformers, transformers),
    *(thumbtune, trainer),
)
