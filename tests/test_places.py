"""Where runs are found, and by which names."""

import os
from pathlib import Path

import pytest

from octavo import places
from octavo.data.weights import WEIGHTS
from octavo.errors import RunError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "home"))


def make_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_run_is_a_path_then_a_name_here_then_a_name_at_home() -> None:
    at_home = make_run(places.home() / "book")
    assert places.find_run("book") == at_home
    here = make_run(Path("runs/book"))
    assert places.find_run("book") == here
    path = make_run(Path("book"))
    assert places.find_run("book") == path


def test_without_a_name_the_newest_run_answers() -> None:
    old, new = make_run(Path("runs/old-1")), make_run(Path("runs/new-1"))
    os.utime(old, (1, 1))
    assert places.find_run(None) == new
    assert places.runs() == [new, old]


def test_what_is_no_run_is_said_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run under runs/ yet; make one with octavo train TEXT"):
        places.find_run(None)
    with pytest.raises(RunError, match="no run nothing; make one with octavo train TEXT"):
        places.find_run("nothing")
    make_run(Path("runs/book-1"))
    with pytest.raises(RunError, match="no run nothing; runs/ has book-1"):
        places.find_run("nothing")
    with pytest.raises(RunError, match=r"^no run Boko-1; did you mean book-1\?$"):
        places.find_run("Boko-1")
    with pytest.raises(RunError, match=r"^no run smollm2; octavo import smollm2 fetches it$"):
        places.find_run("smollm2")
    for name in "abcdef":
        make_run(Path("runs", name))
    with pytest.raises(RunError, match=r"no run nothing; runs/ has .*, .*, .*, .*, [a-z0-9-]+ and 2 more$"):
        places.find_run("nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"empty is not a run: it holds no config\.json"):
        places.find_run("empty")


def test_what_an_import_fetches_is_known_by_name() -> None:
    assert tuple(WEIGHTS) == places.FETCHED


def test_new_runs_are_named_after_the_text_and_counted() -> None:
    assert places.new_run("../My Book.txt") == Path("runs/my-book-1")
    make_run(Path("runs/my-book-1"))
    assert places.new_run("My Book.txt") == Path("runs/my-book-2")
    assert places.new_run("-") == places.new_run("❤\ufe0f.txt") == Path("runs/text-1")
    assert places.new_run("हिन्दी की किताब.txt") == Path("runs/हिन्दी-की-किताब-1")
    assert places.new_run("Gro\u0308ße.txt") == Path("runs/größe-1")  # as macOS writes it
    make_run(Path("runs/Ma\u0308rchen-1"))  # which on a Mac is märchen-1
    assert places.new_run("Ma\u0308rchen.txt") == Path("runs/m\u00e4rchen-2")
    make_run(places.new_run("H\u0331ay.txt"))  # a letter that has its mark in one sign only where it is small
    assert places.new_run("H\u0331ay.txt") == Path("runs/\u1e96ay-2")
    long = places.new_run("ä" * 127)  # as long as a name can be
    assert long.name.endswith("ä-1") and len(long.name.encode()) < 110


def test_a_user_without_a_home_is_told_so_where_one_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTAVO_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(RunError, match=r"^this user has no home to keep things in; set OCTAVO_HOME to a folder$"):
        places.cache()
    make_run(Path("runs/book-1"))
    for name in ("book-1", "runs/book-1", str(Path("runs/book-1").resolve())):
        assert places.find_run(name).resolve() == Path("runs/book-1").resolve()
    with pytest.raises(RunError, match="no run nothing; runs/ has book-1"):
        places.find_run("nothing")


def test_a_place_is_none_of_the_prompts_on_windows_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sep", "\\")
    found = [places.is_path(name) for name in ("runs\\book-1", "..\\book-1", "runs/book-1", "Once")]
    assert found == [True, True, True, False]


def test_home_is_in_the_users_home_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTAVO_HOME")
    assert places.home() == Path.home() / ".octavo"
    assert places.cache() == Path.home() / ".octavo" / "cache"
