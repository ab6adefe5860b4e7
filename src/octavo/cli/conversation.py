"""A conversation with a model in the terminal: lines with history, answers that can be stopped, words for the rest."""

import sys
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, fields, replace
from io import TextIOWrapper
from pathlib import Path
from typing import get_type_hints

from octavo.cli.generate import Knobs, settled
from octavo.cli.speakers import Speaker, Turn
from octavo.config import ANSWERING, USUAL
from octavo.errors import OctavoError, RunError, SamplingError, UserError
from octavo.places import home
from octavo.progress import readable, say
from octavo.sampling import Sampling

HELP = """\
/help                    this
/set temperature 0.8     change a knob: {knobs}
/retry                   another answer to the same line
/save FILE               write the conversation to a file, as Markdown
/quit                    end (as Ctrl-D does); Ctrl-C stops an answer"""


class Conversation:
    """Reads lines, streams answers, and remembers what was said."""

    def __init__(self, speaker: Speaker, knobs: Knobs | None = None) -> None:
        self.speaker, self.answers = speaker, speaker.answers
        self.knobs = checked(settled(knobs, ANSWERING if self.answers else USUAL))
        self.tries = 0  # so that no two answers are drawn with the same numbers
        self.said: list[Turn] = []
        self.told = False  # that it forgets
        self.words: dict[str, Callable[[str], None]] = {
            "help": self.help,
            "set": self.set,
            "retry": self.retry,
            "save": self.save,
        }

    def run(self) -> None:
        """Talk until the input ends."""
        does = "answers you" if self.answers else "continues your text and stops at a blank line"
        sees = "" if self.speaker.sees is None else f" It sees {self.speaker.sees:,} tokens at a time."
        say(f"This model {does}.{sees} /help says what else there is.")
        read = _reader()
        while True:
            try:
                line = read()
            except KeyboardInterrupt:  # at the prompt it only clears the line
                say("")
                continue
            except EOFError:
                return say("")
            if line.split()[:1] in (["/quit"], ["/exit"]):
                return None
            self.take(line)

    def take(self, line: str) -> None:
        """Do what a line says, or answer it; a mistake is one line, and the talk goes on."""
        word, _, rest = line[1:].strip().partition(" ")
        try:
            if not line.startswith("/"):
                self.answer(line)
            elif word in self.words:
                self.words[word](rest.strip())
            else:
                raise UserError(f"/{word} is nothing I know; /help lists what there is")
        except OctavoError as error:
            say(str(error))

    def answer(self, line: str) -> None:
        """Answer or continue a line, streamed; Ctrl-C keeps what was written until then."""
        if not line.strip():
            return
        if note := self.speaker.note(line):
            say(note)
        written: list[str] = []
        knobs = replace(self.knobs, seed=self.knobs.seed + self.tries)
        self.tries += 1
        with closing(self.speaker.speak(self.said, line, knobs)) as pieces, suppress(KeyboardInterrupt):
            for text in pieces:
                written.append(text)
                print(readable(text), end="", flush=True)
        print(flush=True)
        self.said.append((line, "".join(written)))
        if self.speaker.forgotten and not self.told:
            self.told = True
            say("(the model's context is full: from here on the oldest turns are left out)")

    def help(self, rest: str) -> None:
        """Say what can be said."""
        say(HELP.format(knobs=", ".join(f.name for f in fields(Knobs))))

    def set(self, rest: str) -> None:
        """Change one knob of sampling; without one, say how they stand."""
        if not rest:
            say(", ".join(f"{name} {value}" for name, value in asdict(self.knobs).items() if value is not None))
            return
        name, _, value = rest.partition(" ")
        name = name.replace("-", "_")
        hints = get_type_hints(Knobs)
        if name not in hints:
            raise UserError(f"{name} is no knob; there are {', '.join(hints)}")
        whole = hints[name] in (int, int | None)
        try:
            number = int(value) if whole else float(value)
        except ValueError:
            raise UserError(f"{name} is {value!r}; give a {'whole ' * whole}number") from None
        values = asdict(self.knobs) | {name: number}
        self.knobs = checked(Knobs(**values))
        say(f"{name} is now {number}")

    def retry(self, rest: str) -> None:
        """Answer the last line anew, with another seed; what was answered before is forgotten, unless this fails."""
        if not self.said:
            raise UserError("there is nothing to try again yet")
        given = self.said.pop()
        try:
            self.answer(given[0])
        except BaseException:
            self.said.append(given)
            raise

    def save(self, rest: str) -> None:
        """Write what was said, as the page does, to a file that does not exist yet."""
        if not rest:
            raise UserError("say where to: /save talk.md")
        try:
            with Path(rest).open("x", encoding="utf-8") as file:
                file.write(as_markdown(self.said, self.speaker.name))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "a name holds no zero byte"
            raise UserError(f"{rest} could not be written: {reason}; give another name") from error
        say(f"the conversation is in {rest}")


def as_markdown(said: list[Turn], name: str) -> str:
    """A conversation as Markdown, in which what was said stays what was said: each line is quoted as it is.

    >>> print(as_markdown([("Hello", "Hi.\\nWho?")], "ada"), end="")
    # A conversation with ada
    <BLANKLINE>
    **You**
    <BLANKLINE>
    > Hello
    <BLANKLINE>
    **ada**
    <BLANKLINE>
    > Hi.
    > Who?
    """
    spoken = [pair for turn in said for pair in zip(("You", name), turn, strict=True)]
    turns = ["\n".join([f"**{who}**\n", *(f"> {line}" for line in text.split("\n"))]) for who, text in spoken]
    return "\n\n".join([f"# A conversation with {name}", *turns]) + "\n"


def checked(knobs: Knobs) -> Knobs:
    """The same knobs; raises `SamplingError` for one that is out of its range, before anybody waits for an answer."""
    Sampling(**{name: value for name, value in asdict(knobs).items() if name != "max_new_tokens"})
    if knobs.max_new_tokens < 1:
        raise SamplingError(f"max_new_tokens is {knobs.max_new_tokens}; give a whole number from 1")
    return knobs


def _reader() -> Callable[[], str]:
    """How lines are read: with editing and a history on a terminal, plainly from a pipe."""
    if sys.stdin is None:
        raise UserError("standard input is closed; talk on a terminal, or pipe lines into it")
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # what is no UTF-8 ends no conversation
    if not sys.stdin.isatty():
        return _piped_line
    try:
        import readline
    except ImportError:
        return lambda: input("> ")
    with suppress(OSError, RunError):
        home().mkdir(parents=True, exist_ok=True)
        readline.read_history_file(home() / "history")
    readline.set_history_length(1000)

    def read() -> str:
        line = input("> ")
        with suppress(OSError, RunError):  # no history is no reason not to talk
            readline.write_history_file(home() / "history")
        return line

    return read


def _piped_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")
