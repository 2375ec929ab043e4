"""Import everything that a training run needs, so that forked processes start with their work.

It must not compute anything: computing starts threads, which a fork does not copy.
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
