"""The pages say what is true: their code runs and prints what they show, their quotations, commands and links hold."""

import re
import shlex
import textwrap
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cyclopts import CycloptsError
from starlette.routing import Match

from octavo.cli import app
from octavo.server.app import create_app
from octavo.server.models import Models
from sweeps import SWEEPS
from warm import Warm

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOUR, REFERENCES, PICTURES = ROOT / "docs/tour.md", ROOT / "docs/references.md", ROOT / "docs/pictures"
CITATION = re.compile(r"\[([A-Z][\w’-]+ \d{4})(?:, [^\]]+)?\](?!\()")
LINK = re.compile(r"\]\(([^)\s]+)\)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind the fence's opening, its lines, and on which line of the page they begin."""

    info: str
    text: str
    line: int

    @property
    def shown(self) -> list[str]:
        """What the block says that it prints: all that stands behind an arrow, line by line."""
        return re.findall(r"# → ?(.*)$", self.text, re.MULTILINE)


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page that name what they hold.

    >>> blocks("```python\\nprint(1 + 1)  # → 2\\n```\\n")[0].shown
    ['2']
    """
    fences = re.finditer(r"^```(\S[^\n]*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [Block(fence[1], fence[2], page.count("\n", 0, fence.start()) + 2) for fence in fences]


KINDS = {"python", "sh", "json", "text"}  # of blocks: one of another, as of Python with a capital, would not be run


@every_page
def test_every_block_is_of_a_kind_that_is_known(page: Path) -> None:
    fences = re.findall(r"^[ >]*(?:```|~~~) *(.*)$", page.read_text("utf-8"), re.MULTILINE)
    kinds = {"python" if kind.startswith("python source=src/octavo/") else kind for kind in fences[::2]}
    assert kinds <= KINDS and set(fences[1::2]) <= {""}
    assert len(blocks(page.read_text("utf-8"))) == len(fences) / 2


def prose(page: str) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)


RUN = """
import sys
page, names = sys.argv[1], {"__name__": "__main__"}
for text in sys.stdin.read().split(chr(0)):
    print(end=chr(0))
    exec(compile(text, page, "exec"), names)
"""


def printed(page: Path, python: list[Block], warm: Warm) -> list[list[str]]:
    """The lines that each block prints, as a user runs them, one after another; a traceback names the page's line."""
    at_their_lines = ["\n" * (block.line - 1) + block.text for block in python]
    fork = warm.start(RUN, str(page), standard_input="\0".join(at_their_lines).encode())
    assert fork.wait() == 0, fork.errors
    return [[line.rstrip() for line in output.splitlines()] for output in fork.output.split("\0")[1:]]


@every_page
def test_every_block_runs_and_prints_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: Warm
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "home"))
    Path("book.txt").write_text("It was a dark and stormy night. The rain fell in torrents.\n" * 40)
    text = page.read_text("utf-8")
    python = [block for block in blocks(text) if block.info == "python"]
    for block, lines in zip(python, printed(page, python, warm) if python else [], strict=True):
        assert lines == block.shown, f"{page.name}, line {block.line}"
    if page == TOUR:
        drawn = {f"pictures/{path.name}" for path in Path("pictures").iterdir()}
        assert drawn == {link for link in LINK.findall(text) if link.startswith("pictures/")}


@every_page
def test_every_quotation_of_the_code_stands_in_the_code(page: Path) -> None:
    for block in blocks(page.read_text("utf-8")):
        if block.info.startswith("python source="):
            source = (ROOT / block.info.removeprefix("python source=")).read_text("utf-8").splitlines()
            lines = block.text.splitlines()
            passages = ("\n".join(source[start : start + len(lines)]) for start in range(len(source)))
            wanted = textwrap.dedent(block.text).strip()
            assert any(textwrap.dedent(passage).strip() == wanted for passage in passages), (
                f"{page.name}, line {block.line}: these lines do not stand in {block.info}"
            )


def test_every_formula_of_the_tour_stands_above_the_lines_that_compute_it() -> None:
    formulas = re.findall(r"^> .+\n\n?(.*)", TOUR.read_text("utf-8"), re.MULTILINE)
    assert len(formulas) > 15
    assert all(line.startswith("```python source=src/octavo/") for line in formulas)


def commands(page: str) -> Iterator[list[str]]:
    """The words of every command in a ```sh block, each part of a pipe by itself, and of those within a sentence."""
    lines = [line for block in blocks(page) if block.info == "sh" for line in block.text.splitlines()]
    lines += re.findall(r"`((?:octavo|make) [^`]+)`", prose(page))
    for line in lines:
        parts = re.split(r" (?:\||&&|<|>) ", line)
        yield from (words for part in parts if (words := shlex.split(part, comments=True)))


def octavos(command: list[str]) -> list[str] | None:
    """The words that octavo is given by a command, also where another program starts it as a module, or none.

    >>> octavos(["torchrun", "--nproc-per-node", "2", "-m", "octavo", "train", "book.txt"])
    ['train', 'book.txt']
    """
    if Path(command[0]).name == "octavo":
        return command[1:]
    starts = [place for place, pair in enumerate(pairwise(command), 2) if pair == ("-m", "octavo")]
    return command[starts[0] :] if starts else None


@every_page
def test_every_command_is_one_that_octavo_or_make_understands(page: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for program, *words in commands(page.read_text("utf-8")):
        given = octavos([program, *words])
        if given is not None:
            assert given == ["--help"] or understood(given), f"{page.name}: octavo {shlex.join(given)}"
        if program == "make":
            assert set(words) <= {*targets, *(word for word in words if "=" in word)}, f"{page.name}: {words}"


def understood(words: list[str]) -> bool:
    """Whether the command line takes these words; nothing is done."""
    try:
        app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError:
        return False
    return True


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert understood(["train", "book.txt", "--minutes", "10"])
    assert not understood(["train", "book.txt", "--hours", "10"])
    assert not understood(["trian", "book.txt"])


@every_page
def test_every_address_that_is_fetched_from_the_server_is_one_that_it_has(page: Path) -> None:
    fetched = [words for program, *words in commands(page.read_text("utf-8")) if program == "curl"]
    routes = create_app(Models([])).routes if fetched else []
    for words in fetched:
        method = "POST" if "-d" in words else "GET"
        for address in (word for word in words if word.startswith("http://127.0.0.1:")):
            asked = {"type": "http", "method": method, "path": urlsplit(address).path}
            found = [route.matches(asked)[0] for route in routes]
            assert Match.FULL in found, f"{page.name}: curl {shlex.join(words)}"


@every_page
def test_every_link_within_the_clone_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page.read_text("utf-8"))):
        if not re.match(r"\w+:", link):
            path, _, heading = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not heading or heading in headings(target), f"{page.name}: {link}"


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub names them."""
    titles = re.findall(r"^#+ (.*)", prose(page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_citation_has_its_reference_and_every_reference_is_cited() -> None:
    pages = [page for page in PAGES if page != REFERENCES]
    texts = [path.read_text("utf-8") for path in (*pages, *(ROOT / "src").rglob("*.py"))]
    cited = {key for text in texts for key in CITATION.findall(text)}
    keys = re.findall(r"^\*\*(.+?)\*\*: ", REFERENCES.read_text("utf-8"), re.MULTILINE)
    assert cited == set(keys)
    assert keys == sorted(keys)


@pytest.mark.parametrize("picture", sorted(PICTURES.iterdir()), ids=lambda picture: picture.name)
def test_every_picture_is_a_small_one_that_some_page_shows(picture: Path) -> None:
    if picture.suffix == ".svg":
        root = ElementTree.parse(picture).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.find("{*}title") is not None
    else:
        content = picture.read_bytes()
        width, height = (int.from_bytes(content[start : start + 4]) for start in (16, 20))
        assert content.startswith(b"\x89PNG\r\n") and width <= 1280 and height <= 800 and len(content) < 120_000
    links = {(page.parent / link).resolve() for page in PAGES for link in LINK.findall(page.read_text("utf-8"))}
    assert picture.resolve() in links


def test_the_page_on_reliability_names_as_many_trials_as_the_tests_make() -> None:
    page = (ROOT / "docs/reliability.md").read_text("utf-8")
    for name, (quick, full) in SWEEPS.items():
        assert f"| {quick:,} {name} | {full:,} {name} |" in page
