"""Check the files of a model before a library opens them: they may come from strangers.

These checks refuse everything that would make the libraries run code, unpickle weights, read files outside the folder,
or request another repository from the hub. They do not rely on checks of the installed libraries.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.errors import DamagedModel, UnknownModel

__all__ = ["FILES", "check_model_files", "items"]

FILES = (
    *("README.md", "*.json", "*.txt", "*.model", "*.jinja"),
    *("model.safetensors", "*/model.safetensors", "*-of-*.safetensors"),
)
"""The files that are downloaded from the hub: the card, configurations, vocabularies, and weights in safetensors."""

_TEXTS = (".json", ".txt", ".model", ".jinja")
_PICKLES = (".bin", ".pkl", ".pt", ".pth")
_WITHOUT_WEIGHTS = frozenset({"Asym", "BoW", "Dropout", "Normalize", "Pooling", "Router", "WordWeights"})
_WITH_WEIGHTS = frozenset({"CNN", "Dense", "LSTM", "LayerNorm", "StaticEmbedding", "WeightedLayerPooling"})
_TRANSFORMERS = frozenset({"CLIPModel", "Transformer"})
_ROUTERS = frozenset({"Asym", "Router"})
_MODULE = re.compile(r"sentence_transformers\.(?:[a-z_]+\.)*([A-Za-z]+)")
"""The class of a module. `sentence_transformers.SentenceTransformer` is not accepted: it would load a model in a folder
without the settings that refuse pickles."""

_ACTIVATION = re.compile(r"torch\.nn\.(?:modules\.[a-z]+\.)?[A-Za-z0-9]+")
_MODEL_SETTINGS = frozenset(
    {"add_pooling_layer", "attn_implementation", "dtype", "low_cpu_mem_usage", "torch_dtype", "trust_remote_code"}
    | {"use_cache", "use_safetensors"}
)
"""What `sentence_bert_config.json` may pass to `from_pretrained`. Others name files or repositories. The values
of `trust_remote_code` and `use_safetensors` have no effect, because `load_model` sets them."""
_ELSEWHERE = ("cache_dir", "model_name_or_path", "processor_name", "tokenizer_name_or_path")
_MOST_BYTES = 16 * 2**20
_MOST_BYTES_OF_WORDS = 64 * 2**20
"""The maximum size of a vocabulary file. Gemma's has 33 MB."""
_COUNT = re.compile(r"layer|depth|block|stage|num_labels")
"""Names of numbers for which the libraries create lists and dictionaries of this length."""
_MOST_OF_ANYTHING = 100_000
_MOST_HEADER_BYTES = 16 * 2**20
"""The size of the list of tensors in a safetensors file. Models with 10,000 tensors have 1 MB."""
_MOST_NESTED = 4
"""The maximum depth of routers in routers."""


class _Refused(Exception):
    """The model is refused. The message continues the name of the folder, and says what to do."""


def check_model_files(folder: Path, option: str, *, name: str | None = None) -> None:
    """Check that a model's folder holds a model, and that opening it runs no code and reads nothing outside of it.

    Only the folders of the modules in `modules.json` are checked, because sentence-transformers reads no others.

    Args:
        folder: an existing folder.
        option: the command-line option for this model, for error messages.
        name: the model's name for error messages; None: the folder.

    Raises:
        UnknownModel: the folder contains no model.
        DamagedModel: a module is not of sentence-transformers, is outside the folder, or lacks `model.safetensors`; or
            a configuration is unreadable or refers to code, an adapter, other files or another repository.
    """
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise UnknownModel(
            f"{name or folder} contains no model (no config.json or modules.json); use another folder with {option}"
        )
    try:
        _require_inside(folder, folder)
        _require_no_adapter(folder)
        for kind, module in _modules(folder):
            _require_inside(folder, module)
            _check_module(kind, module, (module.relative_to(folder) / "model.safetensors").as_posix())
    except _Refused as refused:
        raise DamagedModel(f"{name or folder} {refused}, or name another with {option}") from refused
    except (OSError, ValueError) as error:
        # ValueError: a name that is not valid for a file.
        reason = getattr(error, "strerror", None) or "it has names that are not valid for files"
        raise DamagedModel(
            f"{name or folder} can't be read ({reason}); copy the whole model, or name another with {option}"
        ) from error


def _modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """The class name and folder of each module that sentence-transformers would load."""
    listed = folder / "modules.json"
    if not listed.is_file():
        yield "Transformer", folder
        return
    about = _settings(folder / "config_sentence_transformers.json")
    if about.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        # sentence-transformers reads a model of another kind as a plain transformer.
        yield "Transformer", folder
    try:
        found = [(module["type"], module["path"]) for module in json.loads(_read(listed))]
        if not found or not all(isinstance(part, str) for module in found for part in module):
            raise TypeError("each module needs a type and a path")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _Refused("can't be loaded: modules.json is not a list of modules; copy the whole model") from error
    for kind, path in found:
        yield from _nested(kind, folder, path, depth=0)


def _nested(kind: str, folder: Path, path: str, depth: int) -> Iterator[tuple[str, Path]]:
    """A module and, for a router, the modules of its routes."""
    named = _MODULE.fullmatch(kind)
    name = named[1] if named else ""
    if name not in _WITHOUT_WEIGHTS | _WITH_WEIGHTS | _TRANSFORMERS:
        raise _Refused(
            f"has a module of the class {kind[:80]!r}; only embedding modules of sentence-transformers are accepted, "
            "because code that comes with a model is never run; choose another model"
        )
    if ".." in Path(path).parts or "\\" in path or "\0" in path or Path(path).is_absolute():
        raise _Refused(f"has a module outside of the folder ({path[:80]!r}); copy the whole model")
    module = folder / path
    yield name, module
    if name in _ROUTERS:
        types = (_settings(module / "router_config.json") or _settings(module / "config.json")).get("types", {})
        if depth == _MOST_NESTED or not isinstance(types, dict) or not all(isinstance(t, str) for t in types.values()):
            raise _Refused("has a router that can't be read; copy the whole model")
        for route, inner in types.items():
            yield from _nested(inner, module, route, depth + 1)


def _check_module(kind: str, module: Path, shown: str) -> None:
    for key, value in items(_settings(module / "config.json")):
        if _COUNT.search(key) and isinstance(value, int) and value > _MOST_OF_ANYTHING:
            raise _Refused(f"has a number that is too large ({key[:80]} in config.json); copy the whole model")
    if kind in _TRANSFORMERS:
        _require_no_adapter(module)
        _check_config(module)
        for path in module.glob("sentence_*_config.json"):
            _check_settings(path)
    activation = _settings(module / "config.json").get("activation_function") if kind == "Dense" else None
    if activation is not None and not (isinstance(activation, str) and _ACTIVATION.fullmatch(activation)):
        raise _Refused(
            f"has a layer with the activation {str(activation)[:80]!r}, which torch does not have; choose another model"
        )
    if kind not in _WITHOUT_WEIGHTS:
        _require_weights(module, shown, sharded=kind in _TRANSFORMERS)


def _require_weights(module: Path, shown: str, *, sharded: bool) -> None:
    """Require `model.safetensors`, or the shards of `model.safetensors.index.json`: the names that are always read.

    If these files are missing, sentence-transformers reads `pytorch_model.bin`, whatever other files exist.
    """
    if (module / "model.safetensors").is_file():
        _require_short_header(module / "model.safetensors")
        return
    index = module / "model.safetensors.index.json"
    if sharded and index.is_file():
        shards = _settings(index).get("weight_map")
        names = set(shards.values()) if isinstance(shards, dict) and all(map(_is_name, shards.values())) else set()
        if names and all(name.endswith(".safetensors") and (module / name).is_file() for name in names):
            for name in names:
                _require_short_header(module / name)
            return
        raise _Refused("lacks shards of its weights (model.safetensors.index.json); copy the whole model")
    if module.is_dir() and any(path.suffix in _PICKLES for path in module.iterdir()):
        raise _Refused(
            f"has only pickled weights, which can run code when loaded ({shown!r} is missing); "
            "convert them to safetensors"
        )
    raise _Refused(f"has no weights in safetensors ({shown!r} is missing); copy or convert the whole model")


def _require_short_header(weights: Path) -> None:
    """Refuse a file with millions of tensors, whose names take minutes to read."""
    with weights.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > _MOST_HEADER_BYTES:
        raise _Refused(f"has too many tensors ({weights.name}); copy the whole model")


def _require_inside(folder: Path, module: Path) -> None:
    """Refuse links that leave the folder, and files that are not regular: reading a pipe would wait forever.

    In the hub's cache, the files of a snapshot are links to the blobs of the same repository.
    """
    root = os.path.realpath(folder)
    roots = [root]
    if Path(root).parent.name == "snapshots":
        roots.append(str(Path(root).parent.parent / "blobs"))
    for path in [module, *(module.iterdir() if module.is_dir() else ())]:
        real = os.path.realpath(path)
        if not any(Path(real).is_relative_to(one) for one in roots):
            raise _Refused(f"has a link that leaves the folder ({path.name!r}); copy the file there")
        if not os.path.lexists(real) or stat.S_ISDIR((found := Path(real).stat()).st_mode):
            continue
        if not stat.S_ISREG(found.st_mode):
            raise _Refused(f"has an entry that is not a regular file ({path.name!r}); copy the whole model")
        if path.suffix in _TEXTS and found.st_size > _MOST_BYTES_OF_WORDS:
            raise _Refused(f"has a file that is too large ({path.name!r}); copy the whole model")


def _require_no_adapter(module: Path) -> None:
    adapter = module / "adapter_config.json"
    if adapter.exists():
        base = str(_settings(adapter).get("base_model_name_or_path"))[:80]
        raise _Refused(
            f"is an adapter of another model ({base!r}), which is not looked up; merge the two (peft's "
            "merge_and_unload) and save the whole model"
        )


def _check_config(module: Path) -> None:
    """Check a transformer's `config.json`, and the configurations inside it."""
    config = _settings(module / "config.json")
    if "auto_map" in config and not _is_known(config.get("model_type")):
        raise _Refused("needs its own code, which is never run; choose a model that transformers supports")
    for key, value in items(config):
        if key.endswith("_implementation") and _has_separator(value):
            raise _Refused(f"requires code from the hub ({key}); remove that line from config.json")
        if key == "use_pretrained_backbone" and value:
            raise _Refused("requires another model's weights (use_pretrained_backbone); choose another model")
        if key == "transformers_weights" and not (_is_name(value) and str(value).endswith(".safetensors")):
            raise _Refused("has no safetensors weights in its folder (transformers_weights); choose another model")


def _is_known(model_type: object) -> bool:
    from transformers.models.auto import configuration_auto  # noqa: PLC0415 (rarely needed; slow)

    names = configuration_auto.CONFIG_MAPPING_NAMES  # type: ignore[attr-defined]
    return isinstance(model_type, str) and model_type in names


def _check_settings(path: Path) -> None:
    """Check `sentence_bert_config.json` and its older names: arguments for transformers."""
    settings = _settings(path)
    for key in _ELSEWHERE:
        if settings.get(key) is not None:
            raise _Refused(f"refers to files elsewhere ({key} in {path.name}); remove that line")
    for key in ("model_args", "model_kwargs"):
        passed = settings.get(key) or {}
        if not isinstance(passed, dict) or not passed.keys() <= _MODEL_SETTINGS:
            raise _Refused(f"passes settings to transformers that are not accepted ({key} in {path.name}); remove them")
    for key in ("config_args", "config_kwargs", "model_args", "model_kwargs", "processor_kwargs", "tokenizer_args"):
        for name, value in items(settings.get(key)):
            if name != "chat_template" and _has_separator(value):
                raise _Refused(f"names other files or repositories ({name} in {path.name}); remove that line")


def items(value: object) -> Iterator[tuple[str, object]]:
    """The keys and values of a JSON value, at every level."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            yield from inner.items()
        waiting.extend(inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ())


def _has_separator(value: object) -> bool:
    """Whether a text, or a text in an object, may be a path or a repository. Special tokens such as `</s>` are not."""
    texts = [value, *(item for _key, item in items(value))]
    return any(
        isinstance(text, str) and ("/" in text or "\\" in text) and not text.startswith(("<", "[")) for text in texts
    )


def _is_name(value: object) -> bool:
    """Whether a value is the name of a file in the same folder."""
    return isinstance(value, str) and bool(value) and Path(value).name == value and not _has_separator(value)


def _settings(path: Path) -> dict[str, Any]:
    """Read a configuration: a JSON object; empty if the file does not exist."""
    if not path.is_file():
        return {}
    try:
        settings = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise _Refused(f"can't be loaded ({path.name} is not JSON); copy the whole model") from error
    if not isinstance(settings, dict):
        raise _Refused(f"can't be loaded ({path.name} is not a JSON object); copy the whole model")
    return settings


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise _Refused(f"can't be loaded ({path.name} has more than {_MOST_BYTES >> 20} MiB); copy the whole model")
    return content
