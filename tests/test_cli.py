"""The command line: its words and flags, one line for every mistake, and nothing lost."""

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from unittest.mock import Mock

import pytest
from safetensors.numpy import load_file

from octavo.claim import Claim
from octavo.cli import WORDS, app, run
from octavo.cli.output import seen
from octavo.disk import seal
from texts import sentences
from warm import Warm

TINY = ["--steps", "4", "--layers", "1", "--heads", "1", "--width", "16", "--context", "8", "--batch", "2"]


@pytest.fixture(autouse=True)
def here(workplace: Path, unchecked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


Said = Callable[..., tuple[int, str, str]]


def test_the_flags_are_these_and_no_others() -> None:
    flags = {
        word: {
            name for argument in app[word].assemble_argument_collection() for name in argument.names if name[0] == "-"
        }
        for word in WORDS
    }
    shape = "preset dialect layers heads kv-heads width context batch lr dropout eval-every pack seed device dtype from"
    text = "split val field errors tokenizer vocab-size shuffle"
    knobs = "max-new-tokens temperature top-k top-p min-p repetition-penalty seed"
    expected = {
        "demo": "minutes dialect seed",
        "train": f"minutes steps {text} {shape} out resume force allow-mismatch config quiet parallel page track",
        "generate": f"{knobs} stop n slide no-slide json quantize device",
        "talk": f"{knobs} quantize device server",
        "serve": "host port public api-key-file device bitwise",
        "look": "lens layer head off step top json svg png",
        "explain": "layer head temperature seed json",
        "import": "to dtype force",
        "export": "as dtype to force push",
        "report": "markdown json samples seed device",
        "runs": "json",
        "plan": f"minutes steps {text} {shape} config gpus tflops memory",
    }
    assert flags == {word: {f"--{name}" for name in names.split()} for word, names in expected.items()}


def test_every_word_has_help_with_an_example(said: Said) -> None:
    for word in WORDS:
        status, output, _ = said(word, "--help")
        assert status == 0 and f"Example: octavo {word}" in output
    assert all(word in said("--help")[1] for word in WORDS)


HELPING = """
import sys
from octavo.cli import WORDS, run
for word in WORDS:
    assert run([word, "--help"]) == 0 and "torch" not in sys.modules, word
"""


def test_help_does_not_import_torch() -> None:
    done = subprocess.run([sys.executable, "-c", HELPING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("word", sorted({*WORDS} - {"train"}))
def test_what_is_for_one_process_is_refused_once_where_there_are_several(
    said: Said, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr("octavo.cli.time.sleep", slept := Mock())
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for rank, line in (("0", f"octavo: {word} is for one process; start it without torchrun\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        assert said(word) == (2, "", line)
        assert said(word, "--help")[0] == said("--version")[0] == 0
    assert said("train") == (2, "", "") and slept.call_args_list == [((10.0,),)] * 2  # until torchrun ends it
    monkeypatch.setenv("RANK", "2")  # the first one of another machine
    assert "say what to do: octavo train TEXT" in said("train")[2]


def test_what_somebody_else_says_of_several_processes_is_one_line(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for missing in [*told][1:]:
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv(missing)
        line = f"octavo: WORLD_SIZE is 2 and {missing} is ''; start with torchrun, or unset WORLD_SIZE\n"
        assert said("train", "text.txt") == (2, "", line)
    monkeypatch.setenv("WORLD_SIZE", "two")
    assert "WORLD_SIZE is two and WORLD_SIZE is 'two'; start with torchrun" in said("train", "text.txt")[2]


def test_version_is_the_packages(said: Said) -> None:
    assert said("--version")[1].strip() == "0.1.0"


def test_train_generate_and_plan_work_together(said: Said) -> None:
    status, output, errors = said("train", "text.txt", *TINY)
    assert status == 0 and output == "" and "finished after 4 steps" in errors
    status, output, _ = said("generate", "text-1", "Ada ", "--max-new-tokens", "5", "--temperature", "0")
    assert status == 0 and output.startswith("Ada ")
    assert said("generate", "Ada ", "--max-new-tokens", "5", "--temperature", "0")[1] == output
    status, output, _ = said("plan", "text.txt", *TINY)
    assert status == 0 and "4 steps of 2 × 8 tokens" in output and "a step taking" in output
    assert "a step taking" not in said("plan", "text.txt", "--minutes", "1")[1]  # its end is known
    assert sorted(path.name for path in Path("runs").iterdir()) == ["text-1"]


def test_runs_are_listed_newest_first_with_what_their_trainings_came_to(said: Said) -> None:
    assert said("runs") == (0, "", "there is no run under runs/ yet; make one with octavo train TEXT\n")
    assert said("runs", "--json")[1] == "[]\n"
    said("train", "text.txt", *TINY)
    best = json.loads(Path("runs/text-1/metrics.jsonl").read_text().splitlines()[-1])
    said("export", "text-1", "--as", "hf", "--to", "runs/elsewhere")
    Path("runs/begun").mkdir()
    Path("runs/begun/octavo.toml").write_text(Path("runs/text-1/octavo.toml").read_text())
    Path("runs/broken").mkdir()
    Path("runs/broken/octavo.toml").write_text("[")
    shutil.copytree("runs/elsewhere", "runs/copied")
    Path("runs/copied/config.json").write_text("{")
    Path("runs/copied/tokenizer.json").unlink()
    os.truncate("runs/copied/model.safetensors", 1000)
    for seconds, name in enumerate(("broken", "begun", "copied", "elsewhere", "text-1")):
        os.utime(f"runs/{name}", (1e9 + seconds, 1e9 + seconds))
    claim = Claim(Path("runs/begun"))
    listed = json.loads(said("runs", "--json")[1])
    _, table, told = said("runs")
    rows = [row.split() for row in table.splitlines()[1:]]
    claim.release()
    names = ["text-1", "elsewhere", "copied", "begun", "broken"]
    assert [one["name"] for one in listed] == [row[0] for row in rows] == names
    trained, elsewhere, copied, begun, broken = listed
    assert (trained["texts"], trained["step"], trained["steps"], trained["learning"]) == (["text.txt"], 4, 4, False)
    assert trained["nats_per_character"] == best["val_nats_per_character"]
    assert (
        trained["parameters"]
        == elsewhere["parameters"]
        == sum(weights.size for weights in load_file("runs/text-1/model.safetensors").values())
    )
    assert elsewhere["texts"] is None and elsewhere["written"] is not None
    assert (begun["step"], begun["steps"], begun["learning"], begun["written"]) == (0, 4, True, None)
    assert broken == dict.fromkeys(broken) | {"name": "broken", "learning": False, "damaged": ["octavo.toml"]}
    assert copied["damaged"] == ["config.json", "tokenizer.json", "model.safetensors"]
    assert not any(one["damaged"] for one in (trained, elsewhere, begun))
    assert told.splitlines() == [
        "copied is damaged: config.json, tokenizer.json, model.safetensors; copy the whole folder again, or remove it",
        "broken is damaged: octavo.toml; copy the whole folder again, or remove it",
    ]
    assert rows[0][1:5] == ["text.txt", "0.01", "M", f"{best['val_nats_per_character']:.3f}"]
    assert rows[2][4:6] == ["–,", "damaged"]
    assert rows[3][4:] == ["–", "0", "of", "4,", "learning", "–"]


def test_what_a_stranger_wrote_into_a_run_ends_no_list(said: Said) -> None:
    said("train", "text.txt", *TINY)
    (folder,) = Path("runs/text-1/checkpoints").glob("step-4")
    facts = json.loads((folder / "training.json").read_text())
    odd = {"best": "x", "step": "y", "schedule": [3]}
    (folder / "training.json").write_text(json.dumps({**facts, **odd}))
    seal(folder)
    (listed,) = json.loads(said("runs", "--json")[1])
    assert (listed["nats_per_character"], listed["step"], listed["steps"]) == (None, None, 4)
    assert said("runs")[0] == 0


def test_the_time_of_a_step_that_lasts_is_told_by_its_arithmetic(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "s as tried here" in said("plan", "text.txt", *TINY)[1]
    monkeypatch.setattr("octavo.probing.MOMENT", 0.0)
    monkeypatch.setattr("octavo.probing.probe", None)  # nothing is tried
    assert "s as its arithmetic has it" in said("plan", "text.txt", *TINY)[1]


@pytest.mark.parametrize("words", [("generate", "text-1", "Ada "), ("talk", "text-1"), ("serve", "text-1", "--port=0")])
def test_a_device_that_is_not_there_is_one_line(
    said: Said, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    said("train", "text.txt", *TINY)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    status, output, errors = said(*words, "--device", "cuda")
    assert (status, output) == (2, "")
    assert errors.strip() == "octavo: device is cuda, which PyTorch does not find here; give cpu, or leave it out"


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("--device=cpu", "--device is for a model that is opened here; leave it or --server out"),
        ("--quantize=int8", "--quantize is for a model that is opened here; leave it or --server out"),
    ],
)
def test_how_a_servers_model_computes_is_the_servers_to_say(said: Said, flag: str, line: str) -> None:
    assert said("talk", "--server", "http://127.0.0.1:1", flag) == (2, "", f"octavo: {line}\n")


@pytest.mark.parametrize("words", [("generate", "text-1", "Ada "), ("talk", "text-1")])
def test_eight_bits_give_text_too(said: Said, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    from octavo import products

    said("train", "text.txt", *TINY)
    monkeypatch.setattr(products, "PACKED_FROM", 1)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Ada \n"))
    status, output, _ = said(*words, "--quantize", "int8", "--max-new-tokens", "5", "--temperature", "0")
    assert status == 0 and len(output.strip()) > 3
    status, _, errors = said(*words, "--quantize", "int4")
    assert status == 2 and 'Invalid value "int4" for --quantize. Choose from: "int8".' in errors


def test_json_gives_one_object_a_line(said: Said) -> None:
    said("train", "text.txt", *TINY)
    words = ("generate", "text-1", "Ada", "Grace", "--n", "2", "--json", "--max-new-tokens", "3")
    lines = [json.loads(line) for line in said(*words)[1].splitlines()]
    assert [line["prompt"] for line in lines] == ["Ada", "Ada", "Grace", "Grace"]
    for line in lines:
        assert set(line) == {"prompt", "text", "tokens", "logprobs", "finish_reason"}
        assert 1 <= len(line["tokens"]) == len(line["logprobs"]) <= 3


def test_a_prompt_may_come_from_a_pipe(warm: Warm) -> None:
    training = warm.octavo("train", "-", *TINY, "--out", "piped", standard_input=sentences(60).encode())
    assert training.wait() == 0, training.errors
    writing = warm.octavo("generate", "piped", "--max-new-tokens", "4", standard_input=b"Emmy")
    assert writing.wait() == 0 and writing.output.startswith("Emmy"), writing.errors


@pytest.mark.parametrize("words", [("-",), ("text-1", "-"), ("text-1", "-", "-")])
def test_a_lone_hyphen_is_standard_input(said: Said, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    said("train", "text.txt", *TINY)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Emmy")))
    status, output, errors = said("generate", *words, "--max-new-tokens", "4")
    assert (status, errors) == (0, "") and output.startswith("Emmy") and output.count("Emmy") == max(1, len(words) - 1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_piped_prompt_is_read_as_texts_are(said: Said, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    said("train", "text.txt", *TINY)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Emmy".encode(encoding))))
    status, output, errors = said("generate", "--max-new-tokens", "4")
    assert (status, errors) == (0, "") and output.startswith("Emmy")
    monkeypatch.setattr(sys, "stdin", None)
    assert said("generate") == (2, "", "octavo: standard input is closed; give a text, or pipe one into it\n")
    status, output, errors = said("talk")
    assert (status, output) == (2, "")
    assert errors.endswith("octavo: standard input is closed; talk on a terminal, or pipe lines into it\n")


def test_a_letter_that_standard_output_has_no_sign_for_is_spelled_out(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    said("train", "text.txt", *TINY)
    for words in ((), ("--json",)):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
        assert run(["generate", "text-1", "Ж😀", "--max-new-tokens", "2", *words]) == 0
        text = written.getvalue().decode("ascii")
        assert json.loads(text)["prompt"] == "Ж😀" if words else text.startswith("\\u0416\\U0001f600")


def test_a_single_argument_that_is_no_place_is_a_prompt(said: Said) -> None:
    said("train", "text.txt", *TINY)
    Path("folder").mkdir()
    for prompt in ("50/50 chance", "and/or", "/ 2", "~ 5", "folder/ and more", "runs/ a mile", "a" * 300):
        status, output, _ = said("generate", prompt, "--max-new-tokens", "2")
        assert status == 0 and output.startswith(prompt), prompt


def test_a_single_argument_that_is_a_place_without_a_run_is_a_mistake(said: Said) -> None:
    said("train", "text.txt", *TINY)
    Path("folder").mkdir()
    Path("my folder").mkdir()
    places = ("runs/no", "./no", "../no", "/no", "~/no", "folder/no", "no.gguf")
    lines = {place: f"no run {place}; runs/ has text-1" for place in places}
    for place in ("folder", "my folder"):
        lines[place] = f"{place} is not a run: it holds no config.json; give the folder that a training wrote"
    for place, line in lines.items():
        how = f"if it is a text, name a run before it: octavo generate RUN {quote(place)}"
        assert said("generate", place) == (2, "", f"octavo: {line} ({how})\n")


def test_a_run_alone_on_a_terminal_is_told_from_a_prompt(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    said("train", "text.txt", *TINY)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for word in ("generate", "look", "explain"):
        line = f'text-1 is taken for the run; give one: octavo {word} text-1 "Once upon a time"'
        assert said(word, "text-1") == (2, "", f"octavo: there is no text, {line}\n")
        line = f'octavo: there is no text; give one: octavo {word} RUN "Once upon a time"\n'
        assert said(word) == (2, "", line)


def test_what_the_model_never_saw_in_a_prompt_is_said(said: Said) -> None:
    said("train", "text.txt", *TINY)
    status, output, errors = said("generate", "text-1", "Adaß€", "--max-new-tokens", "2")
    assert status == 0 and output.startswith("Adaß€")
    assert "the model has never seen 'ß', '€'; it reads them as unknown" in errors


def test_a_prompt_longer_than_the_context_goes_on_unless_it_may_not_slide(said: Said) -> None:
    said("train", "text.txt", *TINY)
    assert said("generate", "text-1", sentences(5), "--max-new-tokens", "2")[0] == 0
    status, output, errors = said("generate", "text-1", sentences(5), "--max-new-tokens", "2", "--no-slide")
    assert status == 2 and output == ""
    assert "fills the context of 8" in errors


def test_a_hyphen_behind_a_flag_is_a_hyphen(said: Said) -> None:
    said("train", "text.txt", *TINY)
    assert "'-' is no part of a model" in said("look", "text-1", "Ada", "--off", "-")[2]


MISTAKES = {
    "no such file": ("train nothing.txt", "no such file: nothing.txt; give a file, a folder"),
    "empty file": ("train empty.txt", "empty.txt is empty; give a text to learn from"),
    "folder without text": ("train folder", "folder holds no text"),
    "binary file": ("train binary.bin", "binary.bin is a binary file (it holds zero bytes); give a text"),
    "invalid UTF-8": ("train broken.txt", "broken.txt is not valid UTF-8 at byte 16; save it as UTF-8, or"),
    "unknown word": ("trian text.txt", 'Unknown command "trian". Did you mean "train"?'),
    "another unknown word": ("ls", f"Available commands: {', '.join(WORDS)}."),
    "unknown option": ("train text.txt --stpes 3", "Unknown option: --stpes. Did you mean --steps?"),
    "not a number": ("train text.txt --steps many", "--steps is many; give a whole number"),
    "a hyphen for a number": ("train text.txt --steps -", "--steps is -; give a whole number"),
    "a hyphen for a file": ("report text-1 --markdown -", "--markdown is -; give the name of a file or a folder"),
    "a hyphen to validate on": (
        "train text.txt --val -",
        "val is -, and what is validated on is read again later; give a file or a folder",
    ),
    "zero": ("train text.txt --layers 0", "layers is 0; give a number above zero"),
    "negative": ("train text.txt --width=-3", "width is -3; give a number above zero"),
    "not a number at all": ("train text.txt --lr nan", "lr is nan; give a number above zero"),
    "infinite": ("train text.txt --minutes inf", "minutes is inf; give a number above zero"),
    "width and heads": ("train text.txt --width 30 --heads 4", "width 30 does not divide into 4 heads"),
    "kv heads": ("train text.txt --steps 2 --width 32 --heads 4 --kv-heads 3", "4 heads do not divide into 3 kv_heads"),
    "split": ("train text.txt --split 1.5", "split is 1.5; give the training part as a fraction"),
    "dropout": ("train text.txt --steps 2 --dropout 1", "dropout is 1.0; give a fraction from 0 to 1"),
    "two ends": ("train text.txt --steps 2 --minutes 2", "minutes and steps both say when to end"),
    "long context": ("train text.txt --steps 2 --context 99999", "context is 99999, and the text has only"),
    "nothing to do": ("train", "say what to do: octavo train TEXT for a new run"),
    "text and resume": (
        "train text.txt --resume x",
        "a TEXT begins a new run, and --resume goes on with one; give one of",
    ),
    "settings alone": ("train --config octavo.toml", "--out, --force and --config are for new runs; give a TEXT to"),
    "mismatch of a new one": (
        "train text.txt --allow-mismatch",
        "--allow-mismatch is for --resume; leave it out of a new training",
    ),
    "parts of one process": (
        "train text.txt --parallel fsdp",
        "--parallel is for several processes; start them: torch",
    ),
    "no such run to resume": ("train --resume nothing", "no run nothing"),
    "resume and out": ("train --resume nothing --out x", "leave them out with --resume"),
    "no such config": ("train text.txt --config no.toml", "--config no.toml is no file; give the octavo.toml of a run"),
    "a config that is none": (
        "train text.txt --config text.txt",
        "text.txt cannot be read as TOML: Expected '=' after a key",
    ),
    "a name too long": (f"train text.txt --out {'x' * 300}", "is a name too long for a disk; give a shorter one"),
    "a config too long": (f"train text.txt --config {'x' * 300}", "is a name too long for a disk; give a shorter one"),
    "an import too long": (f"import folder --to {'x' * 300}", "is a name too long for a disk; give a shorter one"),
    "no such run": ("generate nothing prompt", "no run nothing"),
    "a run to be fetched": ("talk SmolLM2", "no run SmolLM2; octavo import smollm2 fetches it"),
    "no such file to import": (
        "import x.gguf",
        "x.gguf does not exist; name a folder that Hugging Face wrote, a .gguf",
    ),
    "not a run": ("generate folder prompt", "folder is not a run: it holds no config.json; give the folder"),
    "no run yet": ("talk", "there is no run under runs/ yet"),
    "cuda": ("train text.txt --device tpu", 'Invalid value "tpu" for --device. Choose from: "auto", "cpu"'),
    "other dtype": ("train text.txt --dtype float8", 'Invalid value "float8" for --dtype. Choose from: "auto"'),
    "a field of no file": ("train text.txt --field body", "--field is body and no text is JSON lines; leave it out"),
    "one field": ("train lines.jsonl --field body", "lines.jsonl, line 1 has no field 'body'; it has text: choose"),
    "seed": ("train text.txt --seed=-1", "seed is -1; give zero or a positive number"),
    "no such preset": ("train text.txt --preset gpt5", "preset is 'gpt5'; give one of gpt2, gpt2-medium"),
    "a preset of the other dialect": (
        "plan text.txt --preset gpt2 --dialect modern",
        "--preset gpt2 is a gpt2 model; leave --dialect out, or --preset",
    ),
    "nothing to plan": ("plan", "say what to plan: octavo plan TEXT, or without one octavo plan --preset gpt2-xl"),
    "no GPU": ("plan --preset gpt2 --gpus 0", "gpus is 0; give a number above zero"),
    "no speed": ("plan --preset gpt2 --tflops nan", "tflops is nan; give a number above zero"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_status_2_and_nothing_is_written(name: str, said: Said, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.bin").write_bytes(bytes(range(256)))
    (tmp_path / "broken.txt").write_bytes(b"fine until here \xff and on" * 9)
    (tmp_path / "lines.jsonl").write_text('{"text": "hello"}\n')
    words, expected = MISTAKES[name]
    assert expected not in words  # else any line that names what was given would do
    status, output, errors = said(*words.split())
    lines = [line for line in errors.splitlines() if line.startswith("octavo: ")]
    assert status == 2, errors
    assert len(lines) == 1 and errors.splitlines()[-1] == lines[0]
    assert expected in lines[0] and "Traceback" not in errors and output == ""
    assert not Path("runs").exists() and not Path("x").exists()


@pytest.mark.parametrize("word", ["train", "plan"])
@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--heads 3 --width 64", "width 64 does not divide into 3 heads; choose a multiple"),
        ("--kv-heads 3", "2 heads do not divide into 3 kv_heads; choose a divisor"),
        ("--width 66 --heads 2", "head_width 33 is odd; rotary positions turn pairs, choose an even one"),
        ("--context 9999999", "context 9999999 is longer than 4194304 tokens; choose a shorter one"),
        ("--dropout 2", "dropout is 2.0; give a fraction from 0 to 1"),
        ("--preset gpt2 --dropout 2", "dropout is 2.0; give a fraction from 0 to 1"),
        ("--preset gpt2 --heads 7", "width 768 does not divide into 7 heads; choose a multiple"),
        ("--device cuda", "device is cuda, which PyTorch does not find here; give cpu, or leave it out"),
        ("--split 2", "split is 2.0; give the training part as a fraction between 0 and 1"),
        ("--config mine/octavo.toml --kv-heads 3", "1 heads do not divide into 3 kv_heads; choose a divisor"),
        ("--config mine/octavo.toml --dropout 2", "dropout is 2.0; give a fraction from 0 to 1"),
        ("--from mine --width 32", "--width is the model's own with --from, 16; leave it out"),
    ],
)
def test_what_no_text_makes_right_is_refused_before_any_is_read(said: Said, word: str, flags: str, line: str) -> None:
    if "mine" in flags:
        said("train", "text.txt", *TINY, "--out", "mine")
    assert said(word, "nothing.txt", *flags.split()) == (2, "", f"octavo: {line}\n")


@pytest.mark.parametrize("word", WORDS)
def test_a_whole_number_is_never_rounded(word: str, said: Said) -> None:
    for argument in app[word].assemble_argument_collection():
        if "int" in str(argument.hint).replace("int8", ""):
            for value in ("2.5", "3.0", "1e3", "many"):
                line = f"octavo: {argument.name} is {value}; give a whole number\n"
                assert said(word, f"{argument.name}={value}") == (2, "", line)


KNOBS = {
    "--temperature=-1": "temperature is -1.0; give 0",
    "--temperature=nan": "temperature is nan",
    "--top-p=0": "top_p is 0.0; give a probability",
    "--top-p=1.5": "top_p is 1.5; give a probability",
    "--top-k=0": "top_k is 0; give a whole number from 1",
    "--min-p=1": "min_p is 1.0; give a probability",
    "--repetition-penalty=0": "repetition_penalty is 0.0; give a number above 0",
    "--seed=-1": "seed is -1; give a whole number from 0",
    "--max-new-tokens=0": "max_new_tokens is 0; give a whole number from 1",
    "--n=0": "n is 0; give",
}


def test_a_knob_out_of_its_range_is_one_line_and_status_2(said: Said) -> None:
    said("train", "text.txt", *TINY)
    for knob, expected in KNOBS.items():
        status, output, errors = said("generate", "text-1", "Ada", knob)
        assert (status, output) == (2, "") and len(errors.splitlines()) == 1, knob
        assert expected in errors, knob


def test_a_run_is_not_overwritten_unless_forced(said: Said) -> None:
    said("train", "text.txt", *TINY, "--out", "mine")
    before = Path("mine/metrics.jsonl").read_text()
    status, _, errors = said("train", "text.txt", *TINY, "--out", "mine")
    assert status == 2 and "mine already holds a run; go on with --resume mine, or overwrite it with --force" in errors
    assert Path("mine/metrics.jsonl").read_text() == before
    assert said("train", "text.txt", *TINY, "--out", "mine", "--force")[0] == 0


def test_a_run_that_is_incomplete_is_said(said: Said) -> None:
    said("train", "text.txt", *TINY, "--out", "mine")
    Path("mine/model.safetensors").unlink()
    status, _, errors = said("generate", "mine", "Ada")
    assert status == 2 and "model.safetensors" in errors and len(errors.splitlines()) == 1
    Path("mine/octavo.toml").unlink()
    status, _, errors = said("train", "--resume", "mine")
    assert status == 2 and "mine holds a model but no training: octavo.toml is missing" in errors


def test_config_repeats_a_run_and_flags_override_it(said: Said) -> None:
    said("train", "text.txt", *TINY, "--out", "one")
    said("train", "text.txt", "--config", "one/octavo.toml", "--out", "two")
    assert Path("one/model.safetensors").read_bytes() == Path("two/model.safetensors").read_bytes()
    said("train", "text.txt", "--config", "one/octavo.toml", "--steps", "2", "--width", "8", "--out", "three")
    assert "width = 8" in Path("three/octavo.toml").read_text()
    said("train", "text.txt", "--config", "one/octavo.toml", "--seed", "7", "--dtype", "bfloat16", "--out", "four")
    assert "seed = 7" in Path("four/octavo.toml").read_text()
    assert 'dtype = "bfloat16"' in Path("four/octavo.toml").read_text()
    status, _, errors = said("train", "text.txt", "--config", "one/octavo.toml", "--dialect", "gpt2")
    assert status == 2 and "--config repeats a modern model; leave --dialect out, or --config" in errors
    assert "steps = 2" in Path("three/octavo.toml").read_text()


def test_short_texts_are_trained_on_and_what_was_adapted_is_said(said: Said, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("To be, or not to be.")
    (tmp_path / "same.txt").write_text("a" * 300)
    (tmp_path / "one.txt").write_text("x")
    for name in ("short", "same", "one"):
        status, _, errors = said(
            "train", f"{name}.txt", "--steps", "2", "--layers", "1", "--width", "16", "--heads", "1"
        )
        assert status == 0, errors
        assert "finished after 2 steps" in errors
    assert said("generate", "short-1", "To", "--max-new-tokens", "3")[0] == 0


def test_a_text_is_piped_as_it_is_and_cannot_command_a_terminal(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    said("train", "text.txt", *TINY)
    prompt = "Ada\r\nand \x1b[31m"
    assert said("generate", "text-1", prompt, "--max-new-tokens", "2")[1].startswith(prompt)
    monkeypatch.setattr("octavo.cli.output.sys", Mock(stdout=Mock(isatty=lambda: True)))
    assert seen(prompt) == "Ada\nand ␛[31m"


def test_quiet_says_only_the_end(said: Said) -> None:
    status, output, errors = said("train", "text.txt", *TINY, "--quiet")
    assert (status, output) == (0, "")
    assert re.fullmatch(r"finished after 4 steps in .*\ntry: octavo generate runs/text-1 .*\n", errors)


def test_a_fifo_and_an_unreadable_file_are_refused(said: Said, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    status, _, errors = said("train", "pipe")
    assert (status, errors) == (2, "octavo: pipe is a named pipe; pipe its text in and name it -\n")


def test_a_training_on_standard_input_can_be_gone_on_with(warm: Warm) -> None:
    training = warm.octavo("train", "-", *TINY, "--out", "piped", standard_input=sentences(60).encode())
    assert training.wait() == 0, training.errors
    longer = warm.octavo("train", "--resume", "piped", "--steps", "6")
    assert longer.wait() == 0 and "finished after 6 steps" in longer.errors, longer.errors


def test_a_home_that_cannot_be_written_is_told_with_what_names_another(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_HOME", str(Path("text.txt").resolve()))
    status, _, errors = said("train", "text.txt", *TINY)
    assert status == 1 and not Path("runs").exists()
    assert errors.endswith(" could not be written: Not a directory; set OCTAVO_HOME to another place\n")


def test_a_disk_that_takes_no_changes_is_one_line(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    said("train", "text.txt", *TINY)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("unlink", "mkdir", "rmdir"):
        monkeypatch.setattr(os, name, refuse)
    for words, place in (
        (("train", "--resume", "text-1", "--steps", "8"), "runs/text-1"),
        (("import", "runs/text-1", "--to", "other"), "other.tmp"),
    ):
        status, _, errors = said(*words)
        line = f"{place} could not be written: Read-only file system; what was saved before is untouched\n"
        assert status == 1 and errors.endswith(line) and "Traceback" not in errors, errors


def test_a_folder_that_may_not_be_opened_is_one_line(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(name: str | None) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied", "lk/config.json")

    monkeypatch.setattr("octavo.cli.opening.find_model", closed)
    status, _, errors = said("talk", "lk")
    assert (status, errors) == (
        1,
        "octavo: lk/config.json may not be opened: Permission denied; choose another place\n",
    )
