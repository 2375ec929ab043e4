"""Run one tower of a CLIP model on a few thumbnails or titles, directly from its files, for `search` and `match`.

Importing the model libraries takes five seconds, which is most of the time of a query. A CLIP tower is short
(Radford et al. 2021, https://arxiv.org/abs/2103.00020), so this module implements it: a pre-norm transformer on patches
or tokens, with quick GELU or GELU. It is used only on the CPU, for a few inputs, and for files that the libraries have
loaded before with the same vectors (`agrees`). Otherwise, the libraries encode.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import conv2d, gelu

from store.errors import panics_as_errors
from trainer.models.encoder import as_text
from trainer.models.plain_layers import Weights, attended, few_threads, is_narrow, linear_layer, normed, same
from trainer.models.towers import Towers

__all__ = ["PlainClip"]

Vectors = NDArray[np.float32]

# Inputs for `agrees`: wide and tall pictures with edges and flat areas; titles with punctuation, capitals and other
# scripts, and a title that is truncated.
_PICTURES = [Image.effect_mandelbrot(size, (-2, -1.5, 1, 1.5), 40).convert("RGB") for size in ((320, 181), (99, 250))]
_TITLES = ["", "A fox, 3 Füchse & 狐's  DEN — #1 🎈", "long titles are cut where they must be " * 20]
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": gelu,
}
_LEGACY_END = 2
"""The wrong end-of-text token id in old configurations. With it, the end is the token with the largest id."""


@dataclass(frozen=True)
class PlainClip:
    """A CLIP model, read from its files.

    Args:
        folder: folder of `config.json`, `model.safetensors`, `preprocessor_config.json` and `tokenizer.json`.
        config: the contents of `config.json`.
    """

    folder: Path
    config: Mapping[str, Any]

    @classmethod
    def at(cls, model: Path) -> PlainClip | None:
        """Return the CLIP model in a folder, or in its subfolder `0_CLIPModel` (sentence-transformers); else None."""
        for folder in (model, model / "0_CLIPModel"):
            try:
                config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
                if config["model_type"] == "clip" and (folder / "model.safetensors").is_file():
                    return cls(folder, config)
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def pictures(self, images: Sequence[Image.Image]) -> Vectors:
        """Run the vision tower on RGB pictures: (n, width) float32, before the projection.

        Raises:
            KeyError, OSError, TypeError, ValueError, SafetensorError: the files do not have the expected contents, or
                torchvision is installed.
        """
        if importlib.util.find_spec("torchvision") is not None:
            raise ValueError("torchvision is installed, so the libraries resize pictures differently")
        about = self._tower("vision")
        size = int(about["patch_size"])
        picture_vectors = torch.stack([self._prepared(image) for image in images])
        with self._weights("vision_model") as weights, torch.no_grad(), few_threads(is_narrow(about)):
            patches = conv2d(picture_vectors, weights("embeddings.patch_embedding.weight"), stride=size).flatten(2).mT
            first = weights("embeddings.class_embedding").expand(len(images), 1, -1)
            x = torch.cat([first, patches], dim=1) + weights("embeddings.position_embedding.weight")
            x = normed(x, weights, "pre_layrnorm", about)
            x = _layers(x, weights, about, causal=False)
            return _float32(normed(x[:, 0], weights, "post_layernorm", about))

    def titles(self, titles: Sequence[str]) -> Vectors:
        """Run the text tower on titles: (n, width) float32, before the projection. Raises the errors of `pictures`."""
        about = self._tower("text")
        parts = [self._tokens(as_text(title)) for title in titles]
        with self._weights("text_model") as weights, torch.no_grad(), few_threads(is_narrow(about)):
            # One title at a time, so that padding and its mask are not needed.
            return np.concatenate([_float32(self._text(tokens, weights, about)) for tokens in parts])

    def frame(self) -> tuple[int, tuple[int, int, int]]:
        """Return the side of the model's square input in pixels, and its mean colour."""
        about = _preprocessing(self.folder)
        size = about["crop_size"] if about["do_center_crop"] else about["size"]
        red, green, blue = (round(255 * value) for value in about["image_mean"])
        return int(size["height"] if "height" in size else size["shortest_edge"]), (red, green, blue)

    def agrees(self, towers: Towers) -> bool:
        """Whether the vectors agree with those of the libraries, for pictures and titles that reveal differences."""
        try:
            with panics_as_errors():
                picture_vectors, title_vectors = self.pictures(_PICTURES), self.titles(_TITLES)
        except Exception:  # the tokenizers library has no error class of its own
            return False
        pictures = [towers.pooled_pictures(towers.prepared_pictures([image])) for image in _PICTURES]
        titles = [towers.pooled_titles(towers.prepared_titles([title])) for title in _TITLES]
        return same(picture_vectors, np.concatenate(pictures)) and same(title_vectors, np.concatenate(titles))

    def _text(self, tokens: list[int], weights: Weights, about: Mapping[str, Any]) -> Tensor:
        numbers = torch.tensor(tokens)
        x = weights("embeddings.token_embedding.weight")[numbers]
        x = (x + weights("embeddings.position_embedding.weight")[: len(tokens)])[None]
        x = normed(_layers(x, weights, about, causal=True), weights, "final_layer_norm", about)
        end = int(about.get("eos_token_id", _LEGACY_END))
        return x[:, int(numbers.argmax()) if end == _LEGACY_END else tokens.index(end)]

    def _tower(self, name: str) -> Mapping[str, Any]:
        """A tower's configuration, with CLIP's defaults for missing values."""
        known = {"vision": _VISION, "text": _TEXT}[name]
        return {**known, **self.config[f"{name}_config"]}

    def _weights(self, tower: str) -> Weights:
        return Weights(self.folder / "model.safetensors", f"{tower}.")

    def token_counts(self, titles: Sequence[str]) -> list[int]:
        """Return the number of tokens of each title before truncation. Raises the errors of `pictures`."""
        tokenizer = self._tokenizer()
        tokenizer.no_truncation()
        return [len(tokenizer.encode(as_text(title)).ids) for title in titles]

    def _tokens(self, text: str) -> list[int]:
        about = json.loads((self.folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        tokenizer = self._tokenizer()
        # The libraries use the limit in `tokenizer.json` if it has one.
        own = (tokenizer.truncation or {}).get("max_length", about["model_max_length"])
        tokenizer.enable_truncation(int(min(own, about["model_max_length"])))
        return list(tokenizer.encode(text).ids)

    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str((self.folder / "tokenizer.json").read_text(encoding="utf-8"))
        tokenizer.no_padding()
        return tokenizer

    def _prepared(self, image: Image.Image) -> Tensor:
        """Resize, center-crop (if the model's settings say so) and normalise a picture: (3, height, width) float32."""
        about = _preprocessing(self.folder)
        if not all(about[step] for step in ("do_resize", "do_rescale", "do_normalize")):
            raise ValueError("the preprocessing leaves out a usual step")
        resized = np.asarray(image.resize(_size(image, about["size"]), Image.Resampling(int(about["resample"]))))
        if about["do_center_crop"]:
            high, wide = (int(about["crop_size"][side]) for side in ("height", "width"))
            top, left = (resized.shape[0] - high) // 2, (resized.shape[1] - wide) // 2
            if min(top, left) < 0:
                raise ValueError("the crop is larger than the picture")
            resized = resized[top : top + high, left : left + wide]
        square = resized.astype(np.float32) * np.float32(about["rescale_factor"])
        mean, std = (np.array(about[name], np.float32) for name in ("image_mean", "image_std"))
        return torch.from_numpy((square - mean) / std).permute(2, 0, 1)


_VISION = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_attention_heads": 12, "num_hidden_layers": 12}
_VISION |= {"patch_size": 32}
_TEXT = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_attention_heads": 8, "num_hidden_layers": 12}
_STEPS = {"do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True}


def _size(image: Image.Image, size: Mapping[str, int]) -> tuple[int, int]:
    """Width and height of the resized picture, rounded as in the libraries."""
    if "shortest_edge" not in size:
        return int(size["width"]), int(size["height"])
    (width, height), edge = image.size, int(size["shortest_edge"])
    return (int(edge * width / height), edge) if height <= width else (edge, int(edge * height / width))


def _sized(about: Mapping[str, Any], *names: str) -> Any:
    """Return a size from the settings. Early CLIP models have a single number, as in transformers' `get_size_dict`."""
    size = about.get("crop_size" if "height" in names else "size")
    return dict.fromkeys(names, size) if isinstance(size, int) else size


def _preprocessing(folder: Path) -> Mapping[str, Any]:
    """The settings of the image processor. Newer versions of transformers save them in `processor_config.json`."""
    for name, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        path = folder / name
        if path.is_file():
            about = json.loads(path.read_text(encoding="utf-8"))
            found = {**_STEPS, "resample": 3, "rescale_factor": 1 / 255, **(about if key is None else about[key])}
            return {**found, "size": _sized(found, "shortest_edge"), "crop_size": _sized(found, "height", "width")}
    raise ValueError("the folder has no preprocessing settings")


def _layers(x: Tensor, weights: Weights, about: Mapping[str, Any], *, causal: bool) -> Tensor:
    """Apply the transformer's blocks to (n, length, width)."""
    act = _ACTIVATIONS[about["hidden_act"]]
    for number in range(int(about["num_hidden_layers"])):
        at = f"encoder.layers.{number}"
        y = normed(x, weights, f"{at}.layer_norm1", about)
        query, key, value = (f"{at}.self_attn.{part}_proj" for part in "qkv")
        y = attended(y, weights, (query, key, value), int(about["num_attention_heads"]), causal=causal)
        x = x + linear_layer(y, weights, f"{at}.self_attn.out_proj")
        y = normed(x, weights, f"{at}.layer_norm2", about)
        x = x + linear_layer(act(linear_layer(y, weights, f"{at}.mlp.fc1")), weights, f"{at}.mlp.fc2")
    return x


def _float32(x: Tensor) -> Vectors:
    found: Vectors = x.numpy()
    return found
