"""Any model that embeds thumbnails and titles, brought into one shape: a plain matrix as the last step of each.

CLIP and its relatives have such matrices. To every other model a map that starts as the identity is added, for
thumbnails and for titles. What comes before the two matrices is frozen and cached; the matrices are what runs train.
The model stays an ordinary `SentenceTransformer`, so its exported folder needs no code of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from trainer.errors import NotAClip

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = [
    "TEXT",
    "VISUAL",
    "Kind",
    "has_own_projections",
    "image_processor",
    "in_one_shape",
    "input_module",
    "input_modules",
    "named_parameters",
    "paired",
    "projections_of",
    "read_as_trained",
    "route",
    "sees_and_reads",
]

Kind = Literal["image", "text"]

VISUAL = "0.model.visual_projection.weight"
TEXT = "0.model.text_projection.weight"
"""The names of the two matrices' parameters: CLIP's own in sentence-transformers, and those that we give all others."""

_OWN_PROJECTIONS = frozenset({"altclip", "chinese_clip", "clip", "metaclip_2"})
"""Model types whose embedding is a tower's output times `visual_projection` or `text_projection`, without a bias."""
_FIXED_LENGTH = frozenset({"siglip", "siglip2"})
"""Model types that were trained on titles of a fixed number of tokens, padding included and not masked."""


def sees_and_reads(model: SentenceTransformer) -> bool:
    """Whether the model takes pictures and texts, each alone."""
    return {"text", "image"} <= set(model.modalities)


def input_module(model: SentenceTransformer, kind: Kind) -> Any:
    """The module that pictures, or texts, enter first: it has the processor, and the network as `model`."""
    return route(model, kind)[0]


def input_modules(model: SentenceTransformer) -> list[Any]:
    """The modules that pictures or texts enter first, each once."""
    return list({id(module): module for module in (input_module(model, "image"), input_module(model, "text"))}.values())


def image_processor(model: SentenceTransformer) -> Any:
    """What prepares pictures for the model: transformers' image processor."""
    processor = input_module(model, "image").processor
    return getattr(processor, "image_processor", processor)


def projections_of(model: SentenceTransformer) -> dict[str, nn.Linear]:
    """The model's two last matrices, {`VISUAL` or `TEXT`: layer}, of a model that `in_one_shape` gave."""
    if not _is_routed(model):
        core: Any = model[0].model
        return {VISUAL: core.visual_projection, TEXT: core.text_projection}
    layers = {}
    for name, kind in ((VISUAL, "image"), (TEXT, "text")):
        found = _last_matrix(route(model, "image" if kind == "image" else "text"))
        assert found is not None, "asked only of models in one shape"
        layers[name] = found
    return layers


def named_parameters(model: SentenceTransformer) -> Iterator[tuple[str, nn.Parameter]]:
    """`model.named_parameters()`, but the two last matrices are called `VISUAL` and `TEXT` in every model."""
    names = {id(layer.weight): name for name, layer in projections_of(model).items()}
    for name, parameter in model.named_parameters():
        yield names.get(id(parameter), name), parameter


def in_one_shape(model: SentenceTransformer, name: str) -> SentenceTransformer:
    """The model with a matrix without a bias as its last step; the same cosines, and the same model if it has one.

    Others become a `Router` with a route for pictures and one for texts, each with a `Dense` module that starts as the
    identity. A router, because some models (those with a chat template) tell the two apart only as they come in.

    Args:
        model: takes pictures and texts.
        name: for messages.

    Raises:
        NotAClip: pictures and texts become vectors of different lengths, or the router has no route for one of them.
    """
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 (imported by whoever loaded the model)
    from sentence_transformers.base.modules import Router  # noqa: PLC0415

    if has_own_projections(model) or _is_in_shape(model):
        return model
    routes = {kind: route(model, kind) for kind in ("image", "text")}
    for kind, modules in routes.items():
        if not modules:
            raise NotAClip(f"{name} has no route for {kind}; name a model that embeds pictures and texts alone")
    ended = {kind: _with_matrix(modules, model.truncate_dim) for kind, modules in routes.items()}
    sizes = {kind: int(_matrix(modules).out_features) for kind, modules in ended.items()}
    if sizes["image"] != sizes["text"]:
        raise NotAClip(
            f"{name} embeds pictures as {sizes['image']} numbers and texts as {sizes['text']}, which can't be "
            "compared; name models that were trained for each other"
        )
    return SentenceTransformer(
        modules=[Router({"text": ended["text"], "image": ended["image"]})],
        device=str(model.device),
        prompts=_prompts(model),
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name="cosine",
    )


def paired(pictures: SentenceTransformer, texts: SentenceTransformer) -> SentenceTransformer:
    """One model from two that were trained for each other: one for pictures, one for texts."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 (imported by whoever loaded the models)
    from sentence_transformers.base.modules import Router  # noqa: PLC0415

    return SentenceTransformer(
        modules=[Router({"text": [*texts], "image": route(pictures, "image")})],
        device=str(pictures.device),
        prompts=_prompts(texts),
        default_prompt_name=texts.default_prompt_name,
        similarity_fn_name="cosine",
    )


def _prompts(model: SentenceTransformer) -> dict[str, str]:
    return {name: prompt for name, prompt in model.prompts.items() if prompt is not None}


def read_as_trained(model: SentenceTransformer) -> None:
    """Have texts read as the model was trained, where the library would do otherwise; in place, and kept by exports.

    SigLIP was trained on 64 tokens with the padding attended to; the library pads to the longest text. SigLIP 2 was
    trained on lower case, and some of its checkpoints name a tokenizer that keeps capitals. Others name no limit of
    tokens though they have one.
    Source: https://huggingface.co/docs/transformers/model_doc/siglip2
    """
    for module in model.modules():
        config: Any = getattr(getattr(module, "model", None), "config", None)
        if config is None or not hasattr(module, "processing_kwargs"):
            continue
        transformer: Any = module
        _cap_length(transformer)
        if config.model_type not in _FIXED_LENGTH:
            continue
        fixed = {
            "padding": "max_length",
            "max_length": config.text_config.max_position_embeddings,
            "return_attention_mask": False,
        }
        transformer.processing_kwargs = {**transformer.processing_kwargs, "text": fixed}
        if hasattr(transformer.tokenizer, "backend_tokenizer"):
            # Of SigLIP 2. The first SigLIP's tokenizer is SentencePiece itself, and does so.
            _lower_case(transformer)


def _cap_length(transformer: Any) -> None:
    """Cut texts off at the positions that the model has, where its tokenizer names more or no limit."""
    config = transformer.model.config
    words: Any = getattr(config, "text_config", None)
    tokenizer = getattr(transformer, "tokenizer", None)
    positions = getattr(words, "max_position_embeddings", None)
    if tokenizer is None or positions is None:
        return
    # RoBERTa, in AltCLIP, counts positions from after the padding's number.
    positions -= (words.pad_token_id or 0) + 1 if config.model_type == "altclip" else 0
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions)


def _lower_case(transformer: Any) -> None:
    from tokenizers.normalizers import Lowercase, Sequence  # noqa: PLC0415 (imported with the model)
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    named = transformer.tokenizer
    tokenizer = named.backend_tokenizer
    if tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str("A") == "a":
        return
    tokenizer.normalizer = Sequence([Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer else [])])
    # Gemma's class makes its normalizer anew when it is loaded; this one keeps what the export has.
    plain = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=named.model_max_length,
        padding_side=named.padding_side,
        **named.special_tokens_map,
    )
    transformer.processor.tokenizer = plain


def has_own_projections(model: SentenceTransformer) -> bool:
    """Whether the model's last step is CLIP's own: `visual_projection` or `text_projection`."""
    from sentence_transformers.base.modules import Normalize  # noqa: PLC0415

    first, *others = model
    core: Any = getattr(first, "model", None)
    # A prompt is left to the router: the towers' cache does not know it.
    prompt = model.prompts.get(model.default_prompt_name or "")
    if prompt or model.truncate_dim is not None or any(not isinstance(other, Normalize) for other in others):
        return False
    layers = [getattr(core, name, None) for name in ("visual_projection", "text_projection")]
    plain = all(isinstance(layer, nn.Linear) and layer.bias is None for layer in layers)
    return plain and core.config.model_type in _OWN_PROJECTIONS


def _is_routed(model: SentenceTransformer) -> bool:
    from sentence_transformers.base.modules import Router  # noqa: PLC0415

    return isinstance(model[0], Router)


def _is_in_shape(model: SentenceTransformer) -> bool:
    if not _is_routed(model) or len(model) > 1 or model.truncate_dim is not None:
        return False
    return all(_last_matrix(route(model, kind)) is not None for kind in ("image", "text"))


def route(model: SentenceTransformer, kind: Kind) -> list[Any]:
    """The modules that pictures, or texts, go through; empty if a router has no route for them."""
    first, *others = model
    if not _is_routed(model):
        return [first, *others]
    router: Any = first
    key = router.route_mappings.get((None, kind), kind)
    return [*router.sub_modules[key], *others] if key in router.sub_modules else []


def _last_matrix(modules: list[Any]) -> nn.Linear | None:
    """The layer that a route ends with, if that is a matrix without a bias, perhaps before a `Normalize`."""
    from sentence_transformers.base.modules import Dense, Normalize  # noqa: PLC0415

    rest = list(modules)
    while rest and isinstance(rest[-1], Normalize):
        rest.pop()
    last: Any = rest[-1] if rest else None
    if not isinstance(last, Dense) or last.bias or last.use_residual:
        return None
    if not isinstance(last.activation_function, nn.Identity):
        return None
    layer: nn.Linear = last.linear
    names = (last.module_input_name, last.module_output_name)
    return layer if names == ("sentence_embedding", "sentence_embedding") else None


def _matrix(modules: list[Any]) -> nn.Linear:
    layer = _last_matrix(modules)
    assert layer is not None, "a matrix was added"
    return layer


def _with_matrix(modules: list[Any], width: int | None) -> list[Any]:
    """A route that ends with a matrix: its own, or the identity, cut off after `width` numbers."""
    from sentence_transformers.base.modules import Dense, Normalize  # noqa: PLC0415

    if width is None and _last_matrix(modules) is not None:
        return modules
    full = _width(modules)
    start = torch.eye(full)[: width or full]
    dense = Dense(full, len(start), bias=False, activation_function=nn.Identity(), init_weight=start)
    return [*modules, dense.to(_device_of(modules)), Normalize()]


def _device_of(modules: list[Any]) -> torch.device:
    parameter: Tensor | None = next((each for module in modules for each in module.parameters()), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _width(modules: list[Any]) -> int:
    for module in reversed(modules):
        if hasattr(module, "get_embedding_dimension"):
            return int(module.get_embedding_dimension())
    raise NotAClip("the model does not tell the length of its vectors; name another with --model")
