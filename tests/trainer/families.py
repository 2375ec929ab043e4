"""Small models with random weights in the real format of each family, built and saved by transformers' classes."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    AltCLIPProcessor,
    BertTokenizer,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipProcessor,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    ChineseCLIPProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    DistilBertConfig,
    DistilBertModel,
    GemmaTokenizer,
    MetaClip2Config,
    MetaClip2Model,
    Siglip2Config,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
    SiglipTokenizer,
    XLMRobertaTokenizer,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from tests.trainer.tiny import COLOURS, LETTERS, SHAPES, build_clip

TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TOWER, "image_size": 32, "patch_size": 8}
TEXTS = [f"{colour} {shape} {number}" for colour in COLOURS for shape in SHAPES for number in range(12)]
SQUARE = {"height": 32, "width": 32}


def open_clips_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]] | None:
    """CLIP's own vocabulary and merges, from the wheel of open-clip-torch; None if that is not installed."""
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        return None
    lines = gzip.decompress((Path(found.origin).parent / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode()
    pairs = [line.split() for line in lines.split("\n")[1 : 49152 - 256 - 2 + 1]]
    merges = [(pair[0], pair[1]) for pair in pairs]
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [256 + n for n in range(256 - len(letters))]
    units = [chr(code) for code in [*letters, *others]]
    words = [*units, *(unit + "</w>" for unit in units), *("".join(merge) for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: number for number, word in enumerate(words)}, merges


def clip_tokenizer(length: int = 24) -> CLIPTokenizer:
    """CLIP's byte-level BPE, with a vocabulary of the tests' words."""
    trained = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    trained.train_from_iterator(TEXTS, trainer)
    state = json.loads(trained.to_str())["model"]
    vocabulary = dict(state["vocab"])
    for unit in pre_tokenizers.ByteLevel.alphabet():
        vocabulary.setdefault(unit + "</w>", len(vocabulary))
    merges = [tuple(merge) for merge in state["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)  # type: ignore[arg-type]


def real_vocabulary_clip(folder: Path) -> Path:
    """A CLIP with the real vocabulary and length limit. Needs open-clip-torch."""
    found = open_clips_vocabulary()
    assert found is not None
    tokenizer = CLIPTokenizer(vocab=found[0], merges=found[1], model_max_length=77)  # type: ignore[arg-type]
    marks = {"bos_token_id": 49406, "eos_token_id": 49407}
    text = {**TOWER, "num_hidden_layers": 1, "vocab_size": len(tokenizer), **marks}
    _seeded(lambda: CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)), folder)
    CLIPProcessor(_clip_images(), tokenizer).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def _seeded(build: Callable[[], Any], folder: Path) -> None:
    torch.manual_seed(0)
    build().save_pretrained(folder)


def _clip_images() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE)


def metaclip_2(folder: Path) -> Path:
    """MetaCLIP 2: CLIP's architecture with XLM-V's tokenizer. The real model takes up to 77 tokens."""
    tokenizer = _unigram()
    marks = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    config = MetaClip2Config(
        text_config={**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 24, **marks},
        vision_config=VISION,
        projection_dim=16,
    )
    _seeded(lambda: MetaClip2Model(config), folder)
    CLIPProcessor(_clip_images(), tokenizer).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def altclip(folder: Path) -> Path:
    """AltCLIP: an XLM-R whose first token is transformed, then projected."""
    tokenizer = _unigram()
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 32, "project_dim": 24}
    config = AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    _seeded(lambda: AltCLIPModel(config), folder)
    AltCLIPProcessor(_clip_images(), tokenizer).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def chinese_clip(folder: Path) -> Path:
    """Chinese CLIP: a BERT's first token, projected."""
    tokenizer = _bert_tokenizer()
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 24}
    config = ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    _seeded(lambda: ChineseCLIPModel(config), folder)
    images = ChineseCLIPImageProcessorPil(size=SQUARE, crop_size=SQUARE)
    ChineseCLIPProcessor(images, tokenizer).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def _bert_tokenizer() -> BertTokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{x}" for x in LETTERS), *COLOURS, *SHAPES]
    return BertTokenizer(vocab={word: n for n, word in enumerate(words)}, model_max_length=24)


def _unigram() -> XLMRobertaTokenizer:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False, initial_alphabet=list(LETTERS)
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    pieces = [tuple(piece) for piece in json.loads(tokenizer.to_str())["model"]["vocab"]]
    return XLMRobertaTokenizer(vocab=pieces, model_max_length=24)


def _sentencepiece(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter([*TEXTS, *LETTERS]),
        model_writer=model,
        vocab_size=120,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    file = folder / "spiece.model"
    file.write_bytes(model.getvalue())
    return file


def siglip(folder: Path) -> Path:
    """SigLIP: no projection; attention pooling for images, the last of 64 unmasked tokens for titles."""
    tokenizer = SiglipTokenizer(str(_sentencepiece(folder)), model_max_length=16)
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    config = SiglipConfig(text_config=text, vision_config=VISION)
    _seeded(lambda: SiglipModel(config), folder)
    SiglipProcessor(SiglipImageProcessorPil(size=SQUARE), tokenizer).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def _gemma(kind: type[Any]) -> Any:
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{n:02X}>" for n in range(256)), "▁"]
    pieces += [*LETTERS, *LETTERS[:26].upper()]
    return kind(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[], model_max_length=10**30)


def siglip2(folder: Path) -> Path:
    """SigLIP 2 of a fixed resolution: SigLIP's model type, with Gemma's tokenizer, which keeps capitals."""
    tokenizer = _gemma(GemmaTokenizer)
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    config = SiglipConfig(text_config=text, vision_config=VISION)
    _seeded(lambda: SiglipModel(config), folder)
    SiglipProcessor(SiglipImageProcessorPil(size=SQUARE), tokenizer).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def siglip2_naflex(folder: Path) -> Path:
    """SigLIP 2 NaFlex: pictures keep their aspect ratio, with a limited number of patches."""
    tokenizer = _gemma(Siglip2Tokenizer)
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    config = Siglip2Config(text_config=text, vision_config={**TOWER, "patch_size": 16, "num_patches": 256})
    _seeded(lambda: Siglip2Model(config), folder)
    images = Siglip2ImageProcessorPil()
    Siglip2Processor(images, tokenizer).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def clip(folder: Path) -> Path:
    """CLIP with its own kind of tokenizer."""
    tokenizer = clip_tokenizer()
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 24, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    _seeded(lambda: CLIPModel(config), folder)
    CLIPProcessor(_clip_images(), tokenizer).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def blip(folder: Path) -> Path:
    """BLIP for retrieval: the library expects other names for its projections."""
    tokenizer = _bert_tokenizer()
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 24, "encoder_hidden_size": 32}
    config = BlipConfig(text_config=text, vision_config=VISION, image_text_hidden_size=16, projection_dim=16)
    _seeded(lambda: BlipForImageTextRetrieval(config), folder)
    BlipProcessor(BlipImageProcessorPil(size=SQUARE), tokenizer).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


_QWEN_CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% elif part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
)


def qwen3_vl(folder: Path) -> Path:
    """Qwen3-VL-Embedding: one decoder for pictures and titles, each in a chat message; its last token is the vector.

    Needs torchvision, by which transformers preprocesses its images.
    """
    from transformers import (  # noqa: PLC0415 (only with torchvision)
        Qwen2Tokenizer,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor  # noqa: PLC0415

    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    marks.append("<|video_pad|>")
    units = {unit: n for n, unit in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    ids = {mark: len(units) + n for n, mark in enumerate(marks)}
    tokenizer = Qwen2Tokenizer(vocab={**units, **ids}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.chat_template = _QWEN_CHAT
    text: dict[str, Any] = {**TOWER, "vocab_size": len(tokenizer), "num_key_value_heads": 2, "head_dim": 16}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    vision: dict[str, Any] = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    place = folder / "transformer"
    _seeded(lambda: Qwen3VLForConditionalGeneration(config), place)
    images = Qwen2VLImageProcessor(patch_size=8, size={"shortest_edge": 16 * 16, "longest_edge": 64 * 64})
    videos = Qwen3VLVideoProcessor(patch_size=8)
    processor = Qwen3VLProcessor(  # type: ignore[no-untyped-call]
        images, tokenizer, videos, chat_template=_QWEN_CHAT
    )
    processor.save_pretrained(place)
    transformer = Transformer(str(place))
    modules = [transformer, Pooling(32, "lasttoken"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


def text_student(folder: Path, width: int, seed: int = 0) -> Path:
    """A text model alone, pooled and projected, as clip-ViT-B-32-multilingual-v1 is."""
    tokenizer = _bert_tokenizer()
    config = DistilBertConfig(
        vocab_size=len(tokenizer), dim=32, hidden_dim=64, n_layers=2, n_heads=2, max_position_embeddings=24
    )
    torch.manual_seed(seed)
    DistilBertModel(config).save_pretrained(folder / "0_Transformer")
    tokenizer.save_pretrained(folder / "0_Transformer")
    transformer = Transformer(str(folder / "0_Transformer"))
    dense = Dense(32, width, bias=False, activation_function=torch.nn.Identity())
    modules = [transformer, Pooling(32), dense]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "clip": clip,
    "tiny clip": build_clip,
    "metaclip-2": metaclip_2,
    "altclip": altclip,
    "chinese-clip": chinese_clip,
    "siglip": siglip,
    "siglip2": siglip2,
    "siglip2-naflex": siglip2_naflex,
}
