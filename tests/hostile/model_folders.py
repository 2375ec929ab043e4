"""Hostile model folders, made from a valid model: a CLIP with a dense layer after it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["HOSTILE", "Break", "edit", "edit_module", "install_evil"]

Break = Callable[[Path], None]
"""Changes a copy of the good folder. `evil_module.py`, which leaves a mark, can be imported."""

EVIL = "evil_module.Module"


def install_evil(site: Path, mark: Path) -> None:
    """Write the module that every hostile folder tries to run: it creates `mark`."""
    (site / "evil_module.py").write_text(f"open({str(mark)!r}, 'w')\n\n\nclass Module:\n    pass\n")


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON object; the file may be missing."""
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **changes}))


def edit_module(folder: Path, number: int, **changes: Any) -> None:
    """Change a module in `modules.json`."""
    modules = json.loads((folder / "modules.json").read_text())
    modules[number].update(changes)
    (folder / "modules.json").write_text(json.dumps(modules))


def pickle_that_runs(path: Path) -> None:
    """Write a pickle that imports the evil module when it is loaded."""
    path.write_bytes(b"cevil_module\nModule\n.")


def _decoy(folder: Path, name: str = "pytorch_model.bin") -> None:
    (folder / "1_Dense" / "model.safetensors").rename(folder / "1_Dense" / "decoy.safetensors")
    pickle_that_runs(folder / "1_Dense" / name)


def _pickled_transformer(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    pickle_that_runs(folder / "pytorch_model.bin")


def _router(folder: Path, config: str, types: Mapping[str, str]) -> None:
    edit_module(folder, 1, type="sentence_transformers.base.modules.router.Router", path="1_Router")
    (folder / "1_Router").mkdir()
    routes = {"types": types, "structure": {"text": list(types), "image": list(types)}, "parameters": {}}
    (folder / "1_Router" / config).write_text(json.dumps(routes))


def _router_with_a_pickle(folder: Path) -> None:
    _router(folder, "router_config.json", {"a": "sentence_transformers.base.modules.dense.Dense"})
    shutil.move(folder / "1_Dense", folder / "1_Router" / "a")
    (folder / "1_Router" / "a" / "model.safetensors").unlink()
    pickle_that_runs(folder / "1_Router" / "a" / "pytorch_model.bin")


def _outside(folder: Path) -> None:
    shutil.move(folder / "1_Dense", folder.parent / f"{folder.name}-outside")
    edit_module(folder, 1, path=f"../{folder.name}-outside")


def _linked(folder: Path, what: str) -> None:
    outside = folder.parent / f"{folder.name}-outside"
    shutil.move(folder / what, outside)
    (folder / what).symlink_to(outside)


def _pipe(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    os.mkfifo(folder / "tokenizer_config.json")


def _model_in_a_model(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    for name in ("config.json", "modules.json", "tokenizer.json"):
        shutil.copy(folder / name, inner)
    pickle_that_runs(inner / "pytorch_model.bin")
    edit_module(folder, 1, type="sentence_transformers.SentenceTransformer", path="inner")


def _own_code(folder: Path) -> None:
    edit(folder / "config.json", model_type="own", auto_map={"AutoConfig": EVIL, "AutoModel": EVIL})
    (folder / "evil_module.py").write_text("import evil_module\n")


def _shards(folder: Path, **weight_map: str) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _pickle_by_name(folder: Path) -> None:
    edit(folder / "config.json", transformers_weights="pytorch_model.bin")
    pickle_that_runs(folder / "pytorch_model.bin")


def _pickled_shard(folder: Path) -> None:
    _shards(folder, a="pytorch_model.bin")
    pickle_that_runs(folder / "pytorch_model.bin")


def _long_header(weights: Path) -> None:
    """Let the file begin with a list of millions of tensors, which takes minutes to read."""
    weights.write_bytes((99_000_000).to_bytes(8, "little") + b'{"a')


SETTINGS = "sentence_bert_config.json"

HOSTILE: dict[str, Break] = {
    "no modules": lambda folder: _write(folder / "modules.json", "[]"),
    "module of another package": lambda folder: edit_module(folder, 1, type=EVIL),
    "module of its own": lambda folder: edit_module(folder, 1, type="os.system"),
    "function of sentence-transformers": lambda folder: edit_module(
        folder, 1, type="sentence_transformers.util.import_from_string"
    ),
    "model as a module": _model_in_a_model,
    "type in a router": lambda folder: _router(folder, "router_config.json", {"a": EVIL}),
    "type in an old router": lambda folder: _router(folder, "config.json", {"a": EVIL}),
    "router in itself": lambda folder: _router(
        folder, "router_config.json", {".": "sentence_transformers.models.Router"}
    ),
    "route outside": lambda folder: _router(
        folder, "router_config.json", {"../../x": "sentence_transformers.models.Dense"}
    ),
    "pickle in a router": _router_with_a_pickle,
    "pickle beside a decoy": _decoy,
    "pickle of another name": lambda folder: _decoy(folder, "model.pt"),
    "pickled transformer": _pickled_transformer,
    "pickle by name": _pickle_by_name,
    "shard as a pickle": _pickled_shard,
    "shard outside": lambda folder: _shards(folder, a="../other.safetensors"),
    "missing shard": lambda folder: _shards(folder, a="other.safetensors", b="model-00002-of-00002.safetensors"),
    "code": _own_code,
    "activation": lambda folder: edit(folder / "1_Dense" / "config.json", activation_function=EVIL),
    "path outside": _outside,
    "absolute path": lambda folder: edit_module(folder, 1, path=str(folder / "1_Dense")),
    "linked folder": lambda folder: _linked(folder, "1_Dense"),
    "linked file": lambda folder: _linked(folder, "tokenizer.json"),
    "pipe": _pipe,
    "adapter": lambda folder: edit(
        folder / "adapter_config.json", base_model_name_or_path="evil/base", peft_type="LORA"
    ),
    "tokenizer of another repository": lambda folder: edit(folder / SETTINGS, tokenizer_name_or_path="evil/tokenizer"),
    "adapter in the settings": lambda folder: edit(
        folder / SETTINGS, model_args={"adapter_kwargs": {"_adapter_model_path": "evil/adapter"}}
    ),
    "code from the hub": lambda folder: edit(
        folder / "config.json", text_config={"attn_implementation": "evil/kernel"}
    ),
    "code from the hub in the settings": lambda folder: edit(
        folder / SETTINGS, model_kwargs={"attn_implementation": "evil/kernel"}
    ),
    "backbone of another model": lambda folder: edit(
        folder / "config.json", backbone="evil/backbone", use_pretrained_backbone=True
    ),
    "vocabulary elsewhere": lambda folder: edit(folder / SETTINGS, tokenizer_args={"vocab_file": "/etc/passwd"}),
    "audio of another repository": lambda folder: edit(
        folder / "processor_config.json",
        audio_tokenizer={"audio_tokenizer_name_or_path": "evil/audio", "audio_tokenizer_class": "DacModel"},
    ),
    "endless list of tensors": lambda folder: _long_header(folder / "model.safetensors"),
    "endless configuration": lambda folder: _endless(folder / "config.json"),
    "deep configuration": lambda folder: _write(folder / "config.json", "[" * 100_000),
}


def _endless(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(3 * 2**30)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
