"""Fuzz the parsers of untrusted input: API responses, feeds, thumbnails, URLs, channel names, headers, model folders.

    python -m bench.fuzzing [--count 20000] [--seed 0] [--only api]

Generates valid input, mutates it, and passes it to the parsers. They may only raise errors of the collector or the
trainer. Any other exception is printed with the seed that reproduces it, and the exit code is 1. A seed always gives
the same input.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from collector.errors import CollectorError
from collector.http import Answer, retry_after_s
from collector.sync.plan import details_from
from collector.thumbnails.check import check_picture
from collector.thumbnails.decode import set_up_pillow
from collector.thumbnails.fetch import SIZES, _read, candidates, whose_host
from collector.youtube import parse_channel_name
from collector.youtube.api_errors import error_from
from collector.youtube.feed import parse_feed
from collector.youtube.parsing import (
    parse_channels,
    parse_duration,
    parse_json,
    parse_time,
    parse_uploads_page,
    parse_videos,
)
from trainer.errors import TrainerError
from trainer.models.model_files import check_model_files

__all__ = ["TARGETS", "damaged", "fuzz", "main"]

CHANNEL_ID = "UC" + "x" * 22
MOST_SHOWN = 5

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    10**400,
    1.5,
    "",
    "x",
    "\x00",
    "\ud800",
    "\u202e\x1b[31m",
    "../../etc/passwd",
    "x" * 70_000,
    "P1Y",
    "PT1e9S",
    "9999-12-31T23:59:59-23:59",
    [],
    [[]],
    {},
    {"id": {}, "items": [1]},
)


def damaged(value: Any, dice: random.Random, other: Any) -> Any:
    """Return a copy of a JSON value in which one random place is removed or replaced by another value."""
    if not isinstance(value, dict | list) or not value or dice.random() < 0.15:
        return other
    if isinstance(value, list):
        place = dice.randrange(len(value))
        if dice.random() < 0.1:
            return [*value[:place], *value[place:], value[place]]
        return [damaged(item, dice, other) if at == place else item for at, item in enumerate(value)]
    name = dice.choice(list(value))
    if dice.random() < 0.15:
        return {key: item for key, item in value.items() if key != name}
    return {key: damaged(item, dice, other) if key == name else item for key, item in value.items()}


def _bytes(data: bytes, dice: random.Random) -> bytes:
    """Return the bytes with a few places changed, removed or repeated, or truncated."""
    body = bytearray(data)
    for _ in range(dice.randint(1, 5)):
        start = dice.randrange(len(body) + 1)
        length = min(dice.choice((0, 1, 1, 2, 4, 16)), len(body) - start)
        body[start : start + length] = dice.choice(
            (b"", dice.randbytes(length or 1), bytes(body[start : start + 32]), b"\xff" * length, b"\x00" * length)
        )
    return bytes(body[: dice.randrange(len(body) + 1)] if dice.random() < 0.1 else body)


def _text(dice: random.Random, *parts: str) -> str:
    pool = (
        *parts,
        "",
        ".",
        "/",
        "@",
        ":",
        "%",
        "\\",
        " ",
        "\x00",
        "\ud800",
        "é",
        "\u202e",
        "0",
        "9" * 30,
        "[",
        "]",
        "-",
    )
    return "".join(dice.choice(pool) for _ in range(dice.randint(0, 8)))


def _honest() -> tuple[tuple[Callable[[Any], Any], dict[str, Any]], ...]:
    thumbnails = {size: {"url": f"https://i.ytimg.com/vi/abcdefghijk/{size}.jpg", "width": 480} for size in SIZES}
    snippet = {
        "title": "A title",
        "thumbnails": thumbnails,
        "publishedAt": "2020-01-01T00:00:00Z",
        "liveBroadcastContent": "none",
        "customUrl": "@name",
        "resourceId": {"videoId": "abcdefghijk"},
    }
    details = {"duration": "PT10M", "videoId": "abcdefghijk", "relatedPlaylists": {"uploads": "UU" + "x" * 22}}
    item = {"id": "abcdefghijk", "snippet": snippet, "contentDetails": details, "status": {"privacyStatus": "public"}}
    info = {"nextPageToken": "CDIQAA", "pageInfo": {"totalResults": 100}}
    return (
        (parse_channels, {"kind": "youtube#channelListResponse", "items": [{**item, "id": CHANNEL_ID}]}),
        (parse_uploads_page, {"kind": "youtube#playlistItemListResponse", "items": [item, item], **info}),
        (parse_videos, {"kind": "youtube#videoListResponse", "items": [item, item]}),
    )


HONEST = _honest()


def _api(dice: random.Random) -> None:
    parse, value = dice.choice(HONEST)
    for _ in range(dice.randint(1, 3)):
        other = dice.choice(VALUES)
        if dice.random() < 0.8 and isinstance(value, dict) and isinstance(value.get("items"), list):
            # Mutate inside the items, because an error outside of them is rejected before they are parsed.
            value = {**value, "items": [damaged(item, dice, other) for item in value["items"]]}
        else:
            value = damaged(value, dice, other)
    body = json.dumps(value, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
    parsed = parse_json(_bytes(body, dice) if dice.random() < 0.2 else body)
    json.dumps(parsed, allow_nan=False, ensure_ascii=False).encode("utf-8")  # the form in which the store receives it
    found = parse(parsed)
    if parse is parse_videos:
        for video in found:
            details_from(video, 180)
            for size in candidates(video.thumbnails, dice.choice(SIZES)):
                whose_host(size.url, ())


FEED = (
    b'<feed xmlns:yt="http://www.youtube.com/xml/schemas/2015" xmlns="http://www.w3.org/2005/Atom">'
    b"<yt:channelId>UCx</yt:channelId><entry><yt:videoId>abcdefghijk</yt:videoId></entry></feed>"
)


def _feed(dice: random.Random) -> None:
    parse_feed(_bytes(FEED, dice), "UCx")


EXIF = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
"""An EXIF orientation of 90 degrees."""


def _pictures() -> list[bytes]:
    made = []
    for form, mode, options in (
        ("JPEG", "RGB", {}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "L", {"progressive": True}),
        ("JPEG", "RGB", {"exif": EXIF, "comment": b"a comment", "icc_profile": bytes(200)}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("PNG", "L", {"exif": EXIF, "icc_profile": bytes(200)}),
        ("GIF", "P", {}),
        ("GIF", "P", {"comment": b"a comment"}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGB", {"exif": EXIF, "icc_profile": bytes(200)}),
        ("WEBP", "RGBA", {"lossless": True}),
    ):
        file = io.BytesIO()
        Image.effect_noise((24, 18), 60).convert(mode).save(file, form, **options)
        made.append(file.getvalue())
    return made


PICTURES = _pictures()


def _picture(dice: random.Random) -> None:
    check_picture(_bytes(dice.choice(PICTURES), dice))


def _metadata(dice: random.Random) -> None:
    """Insert segments, chunks and blocks of metadata, whose lengths may be wrong."""
    data = dice.choice(PICTURES)
    for _ in range(dice.choice((1, 2, 3, 30))):
        content = dice.choice(
            (b"", b"Exif\0\0", b"MPF\0", b"ICC_PROFILE\0\1\1", b"http://ns.adobe.com/xap/1.0/\0", EXIF)
        )
        content += dice.choice((b"", b"MM\0\x2a\0\0\0\x08\xff\xff", b"x" * 900)) + dice.randbytes(dice.randrange(20))
        size = max(0, len(content) + dice.choice((0, 0, 0, -1, 1, 9, -len(content), 60_000)))
        if data.startswith(b"\xff\xd8"):
            part = bytes([0xFF, dice.randrange(0xC0, 0xFF)]) + (size + 2 & 0xFFFF).to_bytes(2, "big") + content
            place = 2
        elif data.startswith(b"\x89PNG"):
            name = dice.choice(
                (b"eXIf", b"iCCP", b"iTXt", b"tEXt", b"zTXt", b"acTL", b"fcTL", b"fdAT", b"IHDR", b"quIz")
            )
            part, place = size.to_bytes(4, "big") + name + content + dice.randbytes(4), dice.choice((8, 33))
        elif data.startswith(b"GIF"):
            part = (
                bytes([0x21, dice.choice((0x01, 0xF9, 0xFE, 0xFF)), size & 0xFF]) + content + dice.choice((b"\0", b""))
            )
            place = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
        else:
            name = dice.choice((b"EXIF", b"ICCP", b"XMP ", b"ANIM", b"ANMF", b"ALPH", b"VP8X", b"quIz"))
            part, place = (
                name + size.to_bytes(4, "little") + content + b"\0" * (len(content) & 1),
                dice.choice((12, 30)),
            )
        data = data[:place] + part + data[place:]
    check_picture(data)


def _headers(dice: random.Random) -> None:
    names = ("Retry-After", "ETag", "Last-Modified", "Location", "Content-Type", "Content-Length", "Content-Encoding")
    parts = (
        "120",
        "W/",
        '"etag"',
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "https://i.ytimg.com/",
        "//",
        "[::1",
        "text/html",
        ";",
    )
    headers = {name: _text(dice, *parts) for name in names if dice.random() < 0.6}
    status = dice.choice((200, 200, 301, 302, 304, 307, 404, 410, 429, 500, 999))
    answer = Answer(
        "https://i.ytimg.com/", status, headers, dice.choice((b"", b"<html>", b"\xff\xd8")), dice.random() < 0.9
    )
    retry_after_s(headers)
    whose_host(_read(answer).location, ())


ST = "sentence_transformers"
MODEL: dict[str, Any] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": f"{ST}.base.modules.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": f"{ST}.models.Dense"},
        {"idx": 2, "name": "2", "path": "2_Router", "type": f"{ST}.base.modules.router.Router"},
    ],
    "config.json": {"model_type": "clip", "text_config": {"hidden_size": 4, "attn_implementation": "eager"}},
    "config_sentence_transformers.json": {"model_type": "SentenceTransformer"},
    "sentence_bert_config.json": {"max_seq_length": 77, "model_args": {"dtype": "float32"}, "tokenizer_args": {}},
    "model.safetensors.index.json": {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}},
    "1_Dense/config.json": {"activation_function": "torch.nn.modules.linear.Identity"},
    "2_Router/router_config.json": {"types": {"a": f"{ST}.models.Normalize"}, "structure": {"text": ["a"]}},
}
ELSEWHERE = (
    "evil.Module",
    "../evil",
    "/evil",
    "evil/repository",
    "evil.bin",
    ".",
    f"{ST}.models.Router",
    {"a": "evil/x"},
)
SETTING_NAMES = ("auto_map", "tokenizer_name_or_path", "transformers_weights", "attn_implementation", "model_kwargs")


def _model(dice: random.Random) -> None:
    """Change the configurations of a model's folder. If it is accepted, it must refer only to files of the folder."""
    files = dict(MODEL)
    for _ in range(dice.randint(1, 3)):
        name, other = dice.choice(list(files)), dice.choice((*VALUES, *ELSEWHERE))
        files[name] = damaged(files[name], dice, other)
        if isinstance(files[name], dict) and dice.random() < 0.3:
            files[name] = {**files[name], dice.choice(SETTING_NAMES): other}
    with tempfile.TemporaryDirectory(prefix="thumbtune-fuzzing-") as place:
        folder = Path(place)
        weights = ("model-1-of-2.safetensors", "model-2-of-2.safetensors", "1_Dense/model.safetensors", "evil.bin")
        for file, value in {**files, **dict.fromkeys(weights, "")}.items():
            content = json.dumps(value).encode()
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(_bytes(content, dice) if dice.random() < 0.03 else content)
        check_model_files(folder, "--model")
        listed = json.loads((folder / "modules.json").read_bytes())
        assert all(module["type"].startswith(f"{ST}.") for module in listed)
        assert all((folder / module["path"]).resolve().is_relative_to(folder.resolve()) for module in listed)
        if any(module["type"].endswith("Transformer") for module in listed):
            shards = json.loads((folder / "model.safetensors.index.json").read_bytes())["weight_map"]
            assert all(name.endswith(".safetensors") for name in shards.values())


def _link(dice: random.Random) -> None:
    whose_host(_text(dice, "https://", "http://", "i.ytimg.com", "evil.com", "127.0.0.1", "::1"), ("127.0.0.1:80",))


def _name(dice: random.Random) -> None:
    parse_channel_name(_text(dice, "@name", "https://", "youtube.com", "www.youtube.com", "channel", "c", CHANNEL_ID))


def _error(dice: random.Random) -> None:
    reason = {"reason": dice.choice(["quotaExceeded", "rateLimitExceeded", "keyInvalid", "x"]), "domain": "global"}
    message = _text(
        dice, "Quota exceeded for ", "'Queries per day'", "<a href=", "</a>", "&#", "&amp;", "9" * 5000, "<" * 9
    )
    error = {"code": dice.choice([400, 403, 429]), "message": message, "errors": [reason], "details": [reason]}
    body = json.dumps(damaged({"error": error}, dice, dice.choice(VALUES))).encode()
    raise error_from(Answer("http://x/", dice.choice([400, 403, 404, 429]), {}, body, True), "host", "key")


def _scalar(dice: random.Random) -> None:
    parse_duration(_text(dice, "P", "T", "1H", "5M", "3S", "D", "W", "Y"))
    parse_time(_text(dice, "2020-01-01", "T00:00:00", "Z", "+23:59", "-12:00", "0001-01-01", "9999-12-31"))
    retry_after_s({"Retry-After": _text(dice, "120", "Wed, 21 Oct 2015 07:28:00 GMT", "GMT", "-1", "²")})


TARGETS: dict[str, Callable[[random.Random], None]] = {
    "api": _api,
    "error": _error,
    "feed": _feed,
    "headers": _headers,
    "metadata": _metadata,
    "model": _model,
    "picture": _picture,
    "link": _link,
    "name": _name,
    "scalar": _scalar,
}


def fuzz(target: str, count: int, seed: int) -> list[int]:
    """Try `count` inputs; return the seeds that raised other errors than ours, and print these to stderr."""
    set_up_pillow()
    bad = []
    for number in range(seed, seed + count):
        try:
            TARGETS[target](random.Random(f"{target} {number}"))
        except (CollectorError, TrainerError):
            continue
        except Exception:
            bad.append(number)
            if len(bad) <= MOST_SHOWN:
                print(f"{target}, --seed {number} --count 1:\n{traceback.format_exc()}", file=sys.stderr)
    return bad


def main() -> int:
    """Fuzz the targets and print the number of failures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first input; later inputs have the next seeds")
    parser.add_argument("--only", choices=TARGETS, help="fuzz only this target")
    arguments = parser.parse_args()
    failed = False
    for target in [arguments.only] if arguments.only else TARGETS:
        started = time.monotonic()
        bad = fuzz(target, arguments.count, arguments.seed)
        failed |= bool(bad)
        print(f"{target:8} {arguments.count} inputs, {len(bad)} bad, {time.monotonic() - started:.1f} s")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
