"""GGUF: the tables read in both directions, the file as `gguf` reads it, and what real llama.cpp makes of it."""

import json
import re
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import xllamacpp
from gguf import GGUFReader, dequantize
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

import octavo
from octavo import gguf_file
from octavo.config import ModelConfig, RopeScaling
from octavo.errors import ConfigError, SaveError, TokenizerError
from octavo.gguf_file import GgufType, save_gguf
from octavo.layouts import GGUF_LAYOUTS, gguf_layout_for, gguf_layout_of
from octavo.model import GPT
from octavo.tokenizers import BPETokenizer, SimpleTokenizer, Tokenizer
from octavo.tokenizers.byte_level import LLAMA3, QWEN2, byte_level

Models = Callable[..., GPT]
Configs = Callable[[str, int], ModelConfig]

TEXT = "Hello, wörld!\n\tThe king's 1234 horses  and €5; naïve 日本語 “quotes” 🐌🐌 é é\r\n don't    stop ᾳ"
CHARACTERS = SimpleTokenizer(TEXT)
SCALING = RopeScaling(factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_context=16)
SHAPE: dict[str, Any] = {"vocab_size": 70, "context": 64, "layers": 2, "heads": 4, "width": 64}
MODERN: dict[str, Any] = {**SHAPE, "dialect": "modern", "kv_heads": 2}
HALF = 2.0**-11  # of a step of float16
RUN = {
    "gpt2": ModelConfig(**SHAPE),
    "gpt2-untied": ModelConfig(**SHAPE, tied=False),
    "llama": ModelConfig(**MODERN, qk_norm=False),
    "llama-wide": ModelConfig(**MODERN, qk_norm=False, tied=False, head_width=24, rope_base=500.0),
    "llama-scaled": ModelConfig(**MODERN, qk_norm=False, rope_scaling=SCALING, norm_epsilon=1e-3),
    "qwen3": ModelConfig(**MODERN, head_width=32),
    "qwen3-untied": ModelConfig(**MODERN, tied=False),
}


class LlamaCpp:
    """llama.cpp with this file, one thread, and nothing rounded that it can keep in float32."""

    def __init__(self, path: Path) -> None:
        words = xllamacpp.CommonParams()
        words.model.path = str(path)
        words.n_ctx, words.n_parallel, words.warmup, words.verbosity = 64, 1, False, 0
        words.cpuparams.n_threads = words.cpuparams_batch.n_threads = 1
        words.cache_type_k = words.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        words.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(words)
        # an answer from its queue: one that is ended before its loop runs misses that, and waits for ever
        self.complete([0], 1)

    def complete(self, ids: list[int], tokens: int, **words: Any) -> list[dict[str, Any]]:
        """Greedy tokens, each with its log-probability and those of all others."""
        asked = {"prompt": ids, "n_predict": tokens, "temperature": 0, "n_probs": 70, "cache_prompt": False, **words}
        return self.server.handle_completions(asked)["choices"][0]["logprobs"]["content"]

    def encode(self, text: str) -> list[int]:
        asked = json.dumps({"content": text, "add_special": True, "parse_special": False}).encode()
        where = f"{self.server.listening_address}/tokenize"
        request = urllib.request.Request(where, asked, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["tokens"]


def settings_of(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in GGUFReader(path).fields.items()}


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    found = GGUFReader(path).tensors
    return {one.name: torch.tensor(np.array(dequantize(one.data, one.tensor_type))) for one in found}


# the tables


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", GGUF_LAYOUTS)
def test_out_and_back_is_bitwise(random_model: Models, drawn_config: Configs, kind: str, seed: int) -> None:
    config = drawn_config(kind, seed)
    config = config if kind == "llama" else replace(config, rope_scaling=None)
    model = random_model(config, dtype=torch.float32, seed=seed)
    layout = gguf_layout_for(config)
    theirs = layout.to_gguf(model.state_dict(), config)
    settings = layout.to_gguf_config(config)
    assert gguf_layout_of(settings) is layout
    assert layout.from_gguf_config(settings, theirs) == config
    back = layout.from_gguf(theirs, config)
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(weight, back[name]) for name, weight in model.state_dict().items())


def test_the_names_are_those_that_gguf_knows(random_model: Models) -> None:
    for kind, name in (("gpt2-untied", "GPT2"), ("llama-wide", "LLAMA"), ("qwen3-untied", "QWEN3")):
        known = {gguf.TENSOR_NAMES[one] for one in gguf.MODEL_TENSORS[gguf.MODEL_ARCH[name]]}
        config = RUN[kind]
        for tensor in gguf_layout_for(config).to_gguf(random_model(config).state_dict(), config):
            assert re.sub(r"\d+", "{bid}", tensor.rpartition(".")[0]) in known


def test_the_neighbours_of_a_llama_file_turn_together() -> None:
    config = ModelConfig(**{**MODERN, "heads": 1, "kv_heads": 1, "width": 4, "layers": 1}, qk_norm=False)
    state = {"blocks.0.attention.heads.query.weight": torch.arange(4.0)[:, None]}
    (turned,) = gguf_layout_for(config).to_gguf(state, config).values()
    assert turned.flatten().tolist() == [0, 2, 1, 3]


# settings


def written(kind: str = "llama", **other: Any) -> tuple[dict[str, Any], set[str]]:
    config = RUN[kind]
    layout = gguf_layout_for(config)
    settings = {**layout.to_gguf_config(config), **other}
    return {key: value for key, value in settings.items() if value is not None}, set()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"llama.expert_count": 8}, "llama.expert_count is 8, which octavo's model cannot be; it can be 0"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type is 'yarn', which octavo's model cannot be"),
        ({"llama.logit_scale": 2.0}, "llama.logit_scale is nothing that octavo's model knows; convert the model from"),
        ({"llama.block_count": None}, "the settings lack llama.block_count; write the file again"),
        (
            {"llama.rope.dimension_count": 8},
            "llama.rope.dimension_count is 8 where octavo's model has its head_width, 16; it cannot be another",
        ),
        ({"llama.vocab_size": None, "tokenizer.ggml.tokens": 3}, "vocab_size is 0; give a number above zero"),
        ({"llama.attention.head_count": [4, 2]}, r"heads is [4, 2]; give a whole number"),
        ({"octavo.rope_scaling.factor": 8.0}, "is incomplete"),
        (
            {"octavo.rope_scaling.original_context": "long"},
            "rope_scaling.original_context is 'long'; give a whole number",
        ),
        (
            {"octavo.rope_scaling.original_context": float("inf")},
            "rope_scaling.original_context is inf; give a whole number",
        ),
        ({"octavo.rope_scaling.original_context": 8.5}, "rope_scaling.original_context is 8.5; give a whole number"),
        ({"octavo.rope_scaling.turn": 8.0}, "rope_scaling.turn is no setting of RopeScaling"),
    ],
)
def test_what_octavo_cannot_be_is_refused_by_name(other: dict[str, Any], message: str) -> None:
    settings, names = written(**other)
    with pytest.raises(ConfigError, match=re.escape(message)):
        GGUF_LAYOUTS["llama"].from_gguf_config(settings, names)


def test_a_scaling_that_no_setting_tells_is_refused() -> None:
    with pytest.raises(ConfigError, match="scales the positions by a rule that the file does not tell; convert"):
        GGUF_LAYOUTS["llama"].from_gguf_config(written()[0], {"rope_freqs.weight"})


def test_what_is_left_out_means_what_it_means_to_llama_cpp() -> None:
    left_out = ("head_count_kv", "key_length", "value_length")
    settings, _ = written(**{f"llama.attention.{key}": None for key in left_out}, **{"llama.vocab_size": None})
    config = GGUF_LAYOUTS["llama"].from_gguf_config({**settings, "tokenizer.ggml.tokens": ["a"] * 9}, set())
    assert (config.kv_heads, config.head_width, config.vocab_size, config.tied) == (4, 16, 9, True)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"general\.architecture is 'mamba', which octavo does not read"):
        gguf_layout_of({"general.architecture": "mamba"})


def test_a_scaling_that_llama_cpp_would_not_heed_is_refused(random_model: Models, tmp_path: Path) -> None:
    model = random_model(ModelConfig(**MODERN, rope_scaling=SCALING))
    with pytest.raises(ConfigError, match="rope_scaling is set, which GGUF's qwen3 has no place for; train without"):
        save_gguf(model, CHARACTERS, tmp_path / "model.gguf")


# the file


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize("kind", RUN)
def test_a_file_read_back_is_the_model(random_model: Models, tmp_path: Path, kind: str, dtype: GgufType) -> None:
    model = random_model(RUN[kind], dtype=torch.bfloat16 if dtype == "bf16" else torch.float32)
    path = tmp_path / "deep" / "model.gguf"
    save_gguf(model, CHARACTERS, path, dtype=dtype)
    assert [file.name for file in path.parent.iterdir()] == ["model.gguf"]
    settings, tensors = settings_of(path), tensors_of(path)
    layout = gguf_layout_of(settings)
    assert layout.from_gguf_config(settings, tensors) == model.config
    for name, weight in layout.from_gguf(tensors, model.config).items():
        true = model.state_dict()[name].float()
        bound = {"f32": 0.0, "f16": HALF, "bf16": 0.0, "q8_0": 1 / 254 + HALF}[dtype] * true.abs().max()
        assert (weight - true).abs().max() <= (0 if true.dim() == 1 or name == "positions.weight" else bound)


def test_what_cannot_be_written_is_refused_by_name(random_model: Models, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    narrow = random_model(ModelConfig(vocab_size=70, context=8, layers=1, heads=2, width=24))
    with pytest.raises(ConfigError, match="has rows of 24 numbers, which q8_0 cannot cut into blocks of 32; write it"):
        save_gguf(narrow, CHARACTERS, path, dtype="q8_0")
    with pytest.raises(ConfigError, match="dtype is 'q4_0'; a GGUF file is written in f32, f16, bf16, q8_0"):
        save_gguf(narrow, CHARACTERS, path, dtype="q4_0")  # type: ignore[arg-type]
    with torch.no_grad():
        narrow.embed.weight[0, 0] = 1e5
    with pytest.raises(ConfigError, match=re.escape("token_embd.weight holds 1e+05, which is beyond f16; write it as")):
        save_gguf(narrow, CHARACTERS, path, dtype="f16")
    small = random_model(ModelConfig(vocab_size=9, context=8, layers=1, heads=2, width=24))
    with pytest.raises(ConfigError, match=r"the tokenizer has \d+ tokens and the model knows 9; they do not belong"):
        save_gguf(small, CHARACTERS, path)
    assert not path.exists()
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match=r"model\.gguf could not be written"):
        save_gguf(narrow, CHARACTERS, tmp_path / "file" / "model.gguf")


# llama.cpp


@pytest.mark.parametrize("kind", RUN)
def test_llama_cpp_says_the_same(random_model: Models, tmp_path: Path, kind: str) -> None:
    model = random_model(RUN[kind], dtype=torch.float32)
    save_gguf(model, CHARACTERS, tmp_path / "model.gguf")
    ids = CHARACTERS.encode(TEXT[:40])
    bound = 5e-3 if kind.startswith("gpt2") else 1e-4  # its GELU is a table of float16
    for one in LlamaCpp(tmp_path / "model.gguf").complete(ids, 16, ignore_eos=True):
        with torch.no_grad():
            expected = model.double()(torch.tensor([ids]))[0, -1].log_softmax(-1)
        found = torch.full_like(expected, torch.nan)
        for other in one["top_logprobs"]:
            found[other["id"]] = other["logprob"]
        assert (found - expected).abs().max() <= bound
        never = torch.tensor([CHARACTERS.unknown, CHARACTERS.end_of_text])
        assert one["id"] == expected.index_fill(0, never, -torch.inf).argmax()
        ids.append(one["id"])


def tokenizer_of(steps: Iterable[pre_tokenizers.PreTokenizer], *, whole_words: bool = False) -> BPETokenizer:
    """A vocabulary learned from the text, with words cut by other rules than octavo's own."""
    trained = BPETokenizer.train([TEXT * 3, "stop stop king king kingking 12 12 123"], vocab_size=330)
    rules = json.loads(trained.backend.to_str())
    model = models.BPE(rules["model"]["vocab"], [tuple(m) for m in rules["model"]["merges"]], ignore_merges=whole_words)
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    return BPETokenizer(backend)


def split(pattern: str) -> list[pre_tokenizers.PreTokenizer]:
    words = pre_tokenizers.Split(Regex(pattern), "isolated")
    return [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "characters": lambda: CHARACTERS,
    "ascii": lambda: SimpleTokenizer("".join(filter(str.isascii, TEXT))),
    "gpt-2": lambda: BPETokenizer.train([TEXT * 3], vocab_size=330),
    "bytes": lambda: BPETokenizer.train(["a"], vocab_size=257),
    "smollm": lambda: tokenizer_of([pre_tokenizers.Digits(individual_digits=True), BYTES]),
    "qwen2": lambda: tokenizer_of(split(QWEN2)),
    "llama-bpe": lambda: tokenizer_of(split(LLAMA3), whole_words=True),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_llama_cpp_reads_a_text_as_the_same_ids(random_model: Models, tmp_path: Path, kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    config = ModelConfig(vocab_size=max(340, tokenizer.vocab_size), context=64, layers=1, heads=1, width=8)
    save_gguf(random_model(config), tokenizer, tmp_path / "model.gguf")
    server = LlamaCpp(tmp_path / "model.gguf")
    mixed = "".join(np.random.default_rng(0).permutation([*TEXT]))
    for text in (TEXT, TEXT[::-1], mixed, "a", "<|endoftext|><unk>", "\n\n \n"):
        known = [one for one in tokenizer.encode(text) if one != tokenizer.unknown]  # llama.cpp has no such token
        assert server.encode(text) == known


def test_llama_cpp_never_writes_the_unknown_token(random_model: Models, tmp_path: Path) -> None:
    model = random_model(RUN["qwen3-untied"], dtype=torch.float32)
    with torch.no_grad():
        model.unembed.weight[CHARACTERS.unknown] = 0
        model.unembed.weight.mul_(1e-3)
    save_gguf(model, CHARACTERS, tmp_path / "model.gguf")
    server = LlamaCpp(tmp_path / "model.gguf")
    drawn = {one["id"] for seed in range(8) for one in server.complete([2], 50, temperature=1.0, top_k=0, seed=seed)}
    assert len(drawn) > 40
    assert CHARACTERS.unknown not in drawn


# tokenizers


def test_what_has_no_byte_pairs_is_refused(random_model: Models, tmp_path: Path) -> None:
    model, path = random_model(RUN["gpt2"]), tmp_path / "model.gguf"
    with pytest.raises(TokenizerError, match="a vocabulary of words cannot be written as byte pairs; train with"):
        save_gguf(model, SimpleTokenizer("a word", unit="word"), path)
    for other in (
        tokenizer_of(split("x")),
        tokenizer_of(split(LLAMA3)),
        tokenizer_of([pre_tokenizers.Whitespace(), BYTES]),
    ):
        line = (
            r"^the tokenizer cuts words by rules that llama\.cpp has no name for; it knows gpt-2, .*, "
            "so take a tokenizer of such a kind$"
        )
        with pytest.raises(TokenizerError, match=line):
            byte_level(other)


def test_a_normal_form_is_left_to_whoever_writes_the_text_where_that_is_the_custom() -> None:
    qwen2, own = tokenizer_of(split(QWEN2)), BPETokenizer.train(["a"], vocab_size=257)
    qwen2.backend.normalizer = own.backend.normalizer = normalizers.NFC()
    assert byte_level(qwen2).cut == "qwen2"
    with pytest.raises(TokenizerError, match="cuts words by rules"):
        byte_level(own)


@pytest.mark.parametrize("kind", ["gpt-2", "llama-bpe"])
def test_a_text_begins_as_llama_cpp_begins_it_where_a_file_does_not_say_how(
    random_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    unsaid = {"tokenizer.ggml.add_bos_token"}
    written = gguf_file._special
    monkeypatch.setattr(
        gguf_file, "_special", lambda one: {name: v for name, v in written(one).items() if name not in unsaid}
    )
    model = random_model(ModelConfig(dialect="modern", vocab_size=340, context=64, layers=1, heads=1, width=32))
    save_gguf(model, TOKENIZERS[kind](), tmp_path / "model.gguf")
    _, tokenizer = octavo.load(tmp_path / "model.gguf")
    ours = [*tokenizer.opening, *tokenizer.encode(TEXT)]
    assert ours == LlamaCpp(tmp_path / "model.gguf").encode(TEXT)
    assert len(tokenizer.opening) == (kind == "llama-bpe")


def test_special_tokens_that_gguf_cannot_say_are_refused(random_model: Models, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    model, path = random_model(ModelConfig(vocab_size=300, layers=1, heads=1, width=8)), tmp_path / "model.gguf"
    plain = BPETokenizer.train(["a"], vocab_size=257)
    with pytest.raises(ConfigError, match=r"names no token that ends a text, and llama\.cpp would take another; name"):
        save_gguf(model, BPETokenizer(plain.backend, {}), path)
    opened = BPETokenizer(Backend.from_str(plain.backend.to_str()), {**plain.settings, "chat_template": "{{ 1 }}"})
    opened.backend.post_processor = TemplateProcessing("<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    save_gguf(model, opened, path)
    settings = settings_of(path)
    assert settings["tokenizer.ggml.add_bos_token"]
    assert settings["tokenizer.chat_template"] == "{{ 1 }}"
    assert LlamaCpp(path).encode("ab") == [0, *plain.encode("ab")]
    twice = BPETokenizer(Backend.from_str(plain.backend.to_str()), plain.settings)
    twice.backend.post_processor = TemplateProcessing(
        "<|endoftext|> <|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    with pytest.raises(
        ConfigError, match=re.escape("with the ids [0, 0], of which GGUF can say the bos_token alone; leave")
    ):
        save_gguf(model, twice, path)
