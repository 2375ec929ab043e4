"""Embed a few texts with a BERT sentence model, directly from its files: see `trainer.models.plain_clip` for why.

The model is a post-norm transformer (Devlin et al. 2019, https://arxiv.org/abs/1810.04805) with the mean of the last
layer's vectors over the tokens (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084), like all-MiniLM-L6-v2.
It is used only on the CPU, and for files that the libraries have loaded before with the same vectors (`agrees`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import gelu, normalize

from store.errors import panics_as_errors
from trainer.models.encoder import as_text, title_vectors
from trainer.models.plain_layers import Weights, attended, few_threads, is_narrow, linear_layer, normed, same
from trainer.progress import uncounted

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["PlainBert"]

Vectors = NDArray[np.float32]

# Texts for `agrees`: punctuation, capitals, accents, other scripts, and a text that is truncated.
_TEXTS = ["", "A fox, 3 Füchse & 狐's  DEN — #1 🎈 मुझे", "long texts are cut where they must be " * 80]


@dataclass(frozen=True)
class PlainBert:
    """A BERT sentence model, read from its files.

    Args:
        folder: folder of `model.safetensors`, `tokenizer.json` and `sentence_bert_config.json`.
        config: the contents of `config.json`.
    """

    folder: Path
    config: Mapping[str, Any]

    @classmethod
    def at(cls, folder: Path) -> PlainBert | None:
        """Return the model in a folder; None if the folder has another kind of model."""
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            known = config["model_type"] == "bert" and config["hidden_act"] == "gelu"
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return cls(folder, config) if known and (folder / "model.safetensors").is_file() else None

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: (n, d) float32 of length 1.

        Raises:
            KeyError, OSError, TypeError, ValueError, SafetensorError: the files do not have the expected contents.
        """
        tokenizer = self._tokenizer()
        parts = [tokenizer.encode(as_text(text).strip()).ids for text in texts]
        with (
            Weights(self.folder / "model.safetensors") as weights,
            torch.no_grad(),
            few_threads(is_narrow(self.config)),
        ):
            # One text at a time, so that padding and its mask are not needed.
            return np.stack([normalize(self._mean(tokens, weights), dim=0).numpy() for tokens in parts])

    def agrees(self, model: SentenceTransformer) -> bool:
        """Whether the vectors agree with those of the libraries, for texts that reveal differences."""
        try:
            with panics_as_errors():
                found = self.vectors(_TEXTS)
        except Exception:  # whatever is unusual about the files: the tokenizers library raises no class of its own
            return False
        return same(found, title_vectors(model, _TEXTS, uncounted))

    def _tokenizer(self) -> Tokenizer:
        about = json.loads((self.folder / "sentence_bert_config.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_str((self.folder / "tokenizer.json").read_text(encoding="utf-8"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(int(about["max_seq_length"]))
        return tokenizer

    def _mean(self, tokens: list[int], weights: Weights) -> Tensor:
        about = self.config
        words = weights("embeddings.word_embeddings.weight")[torch.tensor(tokens)]
        places = weights("embeddings.position_embeddings.weight")[: len(tokens)]
        x = (words + places + weights("embeddings.token_type_embeddings.weight")[0])[None]
        x = normed(x, weights, "embeddings.LayerNorm", about)
        for number in range(int(about["num_hidden_layers"])):
            at = f"encoder.layer.{number}"
            query, key, value = (f"{at}.attention.self.{part}" for part in ("query", "key", "value"))
            y = attended(x, weights, (query, key, value), int(about["num_attention_heads"]), causal=False)
            y = linear_layer(y, weights, f"{at}.attention.output.dense")
            x = normed(x + y, weights, f"{at}.attention.output.LayerNorm", about)
            y = gelu(linear_layer(x, weights, f"{at}.intermediate.dense"))
            x = normed(x + linear_layer(y, weights, f"{at}.output.dense"), weights, f"{at}.output.LayerNorm", about)
        return x[0].mean(dim=0)
