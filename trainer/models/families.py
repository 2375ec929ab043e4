"""Give all models that embed thumbnails and titles the same structure: two towers, each followed by a projection.

CLIP and related models have two projections: matrices without a bias. Other models get two projections that start as
the identity. The towers, which come before the projections, can be frozen and their output cached; a run can then train
the projections alone. The model stays an ordinary `SentenceTransformer`, so an exported folder needs no code of
thumbtune.
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
"""Parameter names of the projections: the names in a CLIP model of sentence-transformers, used for all models."""

_OWN_PROJECTIONS = frozenset({"altclip", "chinese_clip", "clip", "metaclip_2"})
"""Model types that multiply a tower's output by `visual_projection` or `text_projection`, without a bias."""
_FIXED_LENGTH = frozenset({"siglip", "siglip2"})
"""Model types that were trained on texts with a fixed number of tokens, including unmasked padding."""


def sees_and_reads(model: SentenceTransformer) -> bool:
    """Whether the model embeds both images and texts."""
    return {"text", "image"} <= set(model.modalities)


def input_module(model: SentenceTransformer, kind: Kind) -> Any:
    """Return the first module for images or texts. It has the processor, and the network as `model`."""
    return route(model, kind)[0]


def input_modules(model: SentenceTransformer) -> list[Any]:
    """Return the first modules for images and texts: one module if both use the same."""
    return list({id(module): module for module in (input_module(model, "image"), input_module(model, "text"))}.values())


def image_processor(model: SentenceTransformer) -> Any:
    """Return the image processor of transformers that preprocesses pictures for the model."""
    processor = input_module(model, "image").processor
    return getattr(processor, "image_processor", processor)


def projections_of(model: SentenceTransformer) -> dict[str, nn.Linear]:
    """Return the projections of a model from `in_one_shape`: {`VISUAL` or `TEXT`: layer}."""
    if not _is_routed(model):
        core: Any = model[0].model
        return {VISUAL: core.visual_projection, TEXT: core.text_projection}
    return {VISUAL: _matrix(route(model, "image")), TEXT: _matrix(route(model, "text"))}


def named_parameters(model: SentenceTransformer) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield `model.named_parameters()`, with the names `VISUAL` and `TEXT` for the projections of every model."""
    names = {id(layer.weight): name for name, layer in projections_of(model).items()}
    for name, parameter in model.named_parameters():
        yield names.get(id(parameter), name), parameter


def in_one_shape(model: SentenceTransformer, name: str) -> SentenceTransformer:
    """Return a model with the same cosines whose last step is a projection without a bias.

    A model that has such projections is returned unchanged. Other models become a `Router` with one route for images
    and one route for texts, each ending with a `Dense` module that starts as the identity. A router is needed because
    models with a chat template have one input for both.

    Args:
        model: a model that embeds images and texts.
        name: its name, for error messages.

    Raises:
        NotAClip: image and text vectors have different lengths, or the router has no route for images or for texts.
    """
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 (loading the model has imported it)
    from sentence_transformers.base.modules import Router  # noqa: PLC0415

    if has_own_projections(model) or _is_in_shape(model):
        return model
    routes = {kind: route(model, kind) for kind in ("image", "text")}
    for kind, modules in routes.items():
        if not modules:
            raise NotAClip(f"{name} has no route for a single {kind}; use a model that embeds each separately")
    ended = {kind: _with_matrix(modules, model.truncate_dim) for kind, modules in routes.items()}
    sizes = {kind: int(_matrix(modules).out_features) for kind, modules in ended.items()}
    if sizes["image"] != sizes["text"]:
        raise NotAClip(
            f"{name} embeds images in {sizes['image']} dimensions and texts in {sizes['text']}, so they can't be "
            "compared; use models that were trained together"
        )
    return SentenceTransformer(
        modules=[Router({"text": ended["text"], "image": ended["image"]})],
        device=str(model.device),
        prompts=_prompts(model),
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name="cosine",
    )


def paired(pictures: SentenceTransformer, texts: SentenceTransformer) -> SentenceTransformer:
    """Combine two models with a common embedding space into one: the first embeds images, the second texts."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 (loading the models has imported it)
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
    """Correct a model's tokenizing, in place, where the library differs from its training. Exports keep the change.

    SigLIP was trained on 64 tokens including unmasked padding, but the library pads to the longest text. SigLIP 2 was
    trained on lower-case text, but some checkpoints have a tokenizer that keeps capitals. Other checkpoints don't
    declare the model's maximum number of tokens.
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
            # Only for SigLIP 2. The tokenizer of the first SigLIP is SentencePiece, which converts to lower case.
            _lower_case(transformer)


def _cap_length(transformer: Any) -> None:
    """Limit texts to the model's number of positions, if its tokenizer has a higher limit or none."""
    config = transformer.model.config
    words: Any = getattr(config, "text_config", None)
    tokenizer = getattr(transformer, "tokenizer", None)
    positions = getattr(words, "max_position_embeddings", None)
    if tokenizer is None or positions is None:
        return
    # In AltCLIP's RoBERTa, positions start after the number of the padding token.
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
    # Gemma's tokenizer class replaces the normalizer when it is loaded. This class keeps the normalizer of the export.
    plain = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=named.model_max_length,
        padding_side=named.padding_side,
        **named.special_tokens_map,
    )
    transformer.processor.tokenizer = plain


def has_own_projections(model: SentenceTransformer) -> bool:
    """Whether the model's last steps are `visual_projection` and `text_projection`, as in CLIP."""
    from sentence_transformers.base.modules import Normalize  # noqa: PLC0415

    first, *others = model
    core: Any = getattr(first, "model", None)
    # Models with a prompt use the router: the fingerprint of a CLIP tower does not include a prompt.
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
    """Return the modules that process images or texts; an empty list if a router has no such route."""
    first, *others = model
    if not _is_routed(model):
        return [first, *others]
    router: Any = first
    key = router.route_mappings.get((None, kind), kind)
    return [*router.sub_modules[key], *others] if key in router.sub_modules else []


def _last_matrix(modules: list[Any]) -> nn.Linear | None:
    """The last layer of a route, ignoring `Normalize` modules, if it is a matrix without a bias; else None."""
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
    assert layer is not None, "called only for models from `in_one_shape`"
    return layer


def _with_matrix(modules: list[Any], width: int | None) -> list[Any]:
    """The route if it ends with a matrix; else the route followed by the identity, truncated to `width` outputs."""
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
    raise NotAClip("the model does not declare the size of its embeddings; use another model with --model")
