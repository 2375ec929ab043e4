"""Hostile titles."""

from __future__ import annotations

from random import Random

__all__ = ["TITLES", "UNSAFE"]

_random = Random(4)

TITLES = [
    "\x1b]0;owned\x07\x1b[31mred\x1b[0m",
    "\x9b31m one-byte escape, \x90 device control",
    "\u202egnp.exe\u202c turned round",
    "\u2066isolated\u2069 \u061c marks",
    "two\nlines\r\nand\ta\vfew\x0cmore\u2028lines\u2029",
    "back\x08\x08\x08\x7fspace",
    "'; DROP TABLE video; --",
    '"); DELETE FROM pairs; /*',
    "<script>alert(1)</script>&amp;<img src=x onerror=alert(1)>",
    "[bold red]markup[/] [link=file:///etc/passwd]x[/link]",
    "# heading\n| table | --- |\n![x](file:///etc/passwd)\n---\nlicense: mit\n---",
    "{{ jinja }} {0} %s %(x)s $HOME `id` $(id)",
    "/etc/passwd",
    "https://i.ytimg.com/vi/x/hqdefault.jpg",
    '=HYPERLINK("http://example.com")',
    "\ufeffbyte order \u200b\u200d mark \ufffe\uffff",
    "عنوان من اليمين إلى اليسار",
    "👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 \U0010ffff \U000e0041",
    "z\u0351\u0300\u0301" * 40,
    "null",
    " leading and trailing ",
    "x" * 10_000,
    "".join(
        chr(_random.choice((_random.randrange(32, 0xD800), _random.randrange(0xE000, 0x110000)))) for _ in range(10_000)
    ),
    "<|endoftext|><|startoftext|>[PAD]",
]
"""All different; each can be stored unchanged."""

UNSAFE = frozenset(map(chr, (*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029))) - {"\n"} | set(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
"""Characters that control a terminal or change the text direction, except the line feed."""
