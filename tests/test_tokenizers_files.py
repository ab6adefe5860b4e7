"""A tokenizer's two files: Hugging Face reads the same ids and text from them, and bad ones get one line each."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer

from octavo.errors import SaveError, TokenizerError
from octavo.tokenizers import END_OF_TEXT, BPETokenizer, SimpleTokenizer, Tokenizer, load_tokenizer

SEEN = (
    "To be, or not to be: that's the question n't 's . , ! ? can't\r\n\r\n\n\t  three   spaces \xa0 and \u2028 one\n",
    "e\u0301 n\u0303 क्षत्रिय नमस्ते ржавый 天地玄黃 שָׁלוֹם العَرَبِيَّة ภาษาไทย 한국어",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ❤️ \x00 \ufeff",
)
LITERAL = (
    "<unk>",
    END_OF_TEXT,
    f" {END_OF_TEXT} <unk>\n{END_OF_TEXT}{END_OF_TEXT}x",
    "<|endoftext|",
    "Ġthe ▁the ##ing",
)
TEXTS = (*SEEN, *LITERAL, "".join(SEEN), "", " ", "\n", "never seen: ßЩ🐌 żółw", " a .  , b ' s do n't")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make(kind: str) -> Tokenizer:
    if kind == "bpe":
        return BPETokenizer.train(SEEN, vocab_size=400)
    return SimpleTokenizer(SEEN, unit=kind)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["character", "word", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return make(request.param)


def test_a_file_that_names_more_ends_need_not_be_sound(tmp_path: Path) -> None:
    tokenizer = make("bpe")
    tokenizer.save(tmp_path)
    told = {"[7, true, null, -1, 9999]": (7,), "7": (7,), "null": (), '"a"': ()}
    bodies = {f'{{"eos_token_id": {value}}}': ends for value, ends in told.items()}
    for body, ends in {**bodies, "": (), '{"eos_token_id": 7, "eos_token_id": 8}': (), "[7]": ()}.items():
        (tmp_path / "generation_config.json").write_text(body)
        assert load_tokenizer(tmp_path).ends == (tokenizer.end_of_text, *ends)


def test_hugging_face_reads_the_same_ids_and_the_same_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == tokenizer.decode(ids, special=True)
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)
    ends = [tokenizer.end_of_text, *tokenizer.encode("be"), tokenizer.end_of_text]
    assert theirs.decode(ends) == tokenizer.decode(ends, special=True) == f"{END_OF_TEXT}be{END_OF_TEXT}"
    assert len(theirs) == tokenizer.vocab_size
    assert theirs.eos_token_id == theirs.bos_token_id == theirs.pad_token_id == tokenizer.end_of_text
    assert theirs.unk_token_id == tokenizer.unknown


def test_what_hugging_face_saves_again_is_still_the_same_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "ours")
    AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    again = load_tokenizer(tmp_path / "theirs")
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]


def test_a_saved_tokenizer_comes_back_as_it_was(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "new" / "folder", context=128)
    again = load_tokenizer(tmp_path / "new" / "folder")
    assert type(again) is type(tokenizer)
    for name in ("kind", "vocab_size", "end_of_text", "unknown", "forbidden", "dtype"):
        assert getattr(again, name) == getattr(tokenizer, name)
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
    assert again.backend.to_str() == tokenizer.backend.to_str()
    again.save(tmp_path / "again", context=128)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "new" / "folder" / name).read_bytes()
    assert names_in(tmp_path / "again") == ["tokenizer.json", "tokenizer_config.json"]


def test_the_settings_name_the_only_class_that_reads_the_rules_as_they_stand(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path, context=64)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "model_max_length": 64,
        **({} if tokenizer.unknown is None else {"unk_token": "<unk>"}),
    }


def qwen(folder: Path, **settings: Any) -> Path:
    """A folder with the rules of Qwen's tokenizers, as Hugging Face writes them."""
    backend = BPETokenizer.train(SEEN, vocab_size=300).backend
    cut = Regex(r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(cut, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.normalizer = normalizers.NFC()
    backend.add_special_tokens(
        [AddedToken(word, special=True, normalized=False) for word in ("<|im_start|>", "<|im_end|>")]
    )
    backend.add_tokens([AddedToken("<think>", normalized=False)])
    folder.mkdir(exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_a_folder_of_hugging_face_is_read_and_written_again_with_the_same_ids(tmp_path: Path) -> None:
    folder = qwen(
        tmp_path / "a", eos_token="<|im_end|>", chat_template="{{ messages }}", auto_map={"x": "y"}, bos_token=None
    )
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.kind, tokenizer.end_of_text, tokenizer.vocab_size) == ("bpe", 301, 303)
    text = "be <|im_start|> <think>\n"
    assert 300 in tokenizer.encode(text, special=True) and 300 not in tokenizer.encode(text)
    assert 302 in tokenizer.encode(text)  # no special token, so ordinary text may become it
    tokenizer.save(tmp_path / "b")
    settings = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())
    assert settings["split_special_tokens"] is False and settings["chat_template"] == "{{ messages }}"
    assert "auto_map" not in settings
    theirs = AutoTokenizer.from_pretrained(tmp_path / "b")
    assert theirs(text)["input_ids"] == tokenizer.encode(text, special=True)
    assert theirs(SEEN[1])["input_ids"] == tokenizer.encode(SEEN[1]) == load_tokenizer(tmp_path / "b").encode(SEEN[1])


def test_of_several_chat_templates_the_usual_one_is_kept(tmp_path: Path) -> None:
    both = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "usual"}]
    assert load_tokenizer(qwen(tmp_path / "a", chat_template=both)).settings["chat_template"] == "usual"
    for none in (both[:1], [3], {"default": "x"}, 7):
        assert "chat_template" not in load_tokenizer(qwen(tmp_path / "a", chat_template=none)).settings


def test_a_chat_template_in_a_file_of_its_own_is_kept(tmp_path: Path) -> None:
    folder = qwen(tmp_path, eos_token={"content": "<|im_end|>", "lstrip": False}, chat_template="old")
    (folder / "chat_template.jinja").write_text("new é", encoding="utf-8")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.settings["chat_template"] == "new é"
    assert tokenizer.end_of_text == 301


def test_without_settings_the_end_of_text_is_the_one_of_gpt2_if_there_is_one(tmp_path: Path) -> None:
    folder = qwen(tmp_path)
    (folder / "tokenizer_config.json").unlink()
    assert load_tokenizer(folder).end_of_text == 0
    rules = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    rules["model"]["vocab"]["<|other|>"] = rules["model"]["vocab"].pop(END_OF_TEXT)
    rules["added_tokens"][0]["content"] = "<|other|>"
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    assert load_tokenizer(folder).end_of_text is None


def test_what_its_maker_puts_before_every_text_is_said_and_not_encoded(tmp_path: Path) -> None:
    folder = qwen(tmp_path)
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = processors.TemplateProcessing("<|im_start|> $A", special_tokens=[("<|im_start|>", 300)])
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.opening == (300,)
    assert 300 not in tokenizer.encode("be")


def rules_of(kind: str) -> dict[str, Any]:
    return json.loads(make(kind).backend.to_str())


def refused(folder: Path, content: str | bytes | dict[str, Any], message: str) -> None:
    data = json.dumps(content) if isinstance(content, dict) else content
    (folder / "tokenizer.json").write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(TokenizerError, match=message) as caught:
        load_tokenizer(folder)
    assert str(folder / "tokenizer.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_tokenizer_get_one_line(tmp_path: Path) -> None:
    again = r"; fetch or write it again$"
    refused(tmp_path, "", r"is not sound JSON \(Expecting value: line 1 column 1 \(char 0\)\)" + again)
    refused(tmp_path, "[" * 10**5, r"is not sound JSON \(it is nested too deeply\)" + again)
    refused(tmp_path, '{"a":' * 10**5, r"is not sound JSON \(it is nested too deeply\)" + again)
    refused(tmp_path, b"\xff\xfe{}", r"is not UTF-8 at byte 0" + again)
    refused(tmp_path, "[]", r"is not sound JSON \(it is no JSON object\)" + again)
    refused(tmp_path, "{}", r"is not a tokenizer \(.*\)" + again)
    refused(
        tmp_path,
        '{"model": {"type": "BPE", "type": "BPE"}}',
        r"is not sound JSON \(it has the key 'type' twice\)",
    )


@pytest.mark.parametrize("kind", ["character", "bpe"])
def test_every_shortened_file_gets_one_line(kind: str, tmp_path: Path) -> None:
    text = json.dumps(rules_of(kind))
    for part in range(1, 20):
        refused(tmp_path, text[: len(text) * part // 20], r"is not sound JSON .*; fetch or write it again$")


def test_a_vocabulary_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    rules = rules_of("bpe")
    rules["model"]["vocab"]["a"] = rules["model"]["vocab"]["b"]
    refused(tmp_path, rules, r"gives id \d+ to both 'a' and 'b'; fetch or write it again$")
    rules = rules_of("bpe")
    rules["model"]["vocab"]["far"] = 2**31
    refused(tmp_path, rules, r"has an id 2147483648; octavo goes up to 16777215$")
    rules = rules_of("bpe")
    rules["model"]["merges"].append(["no", "such"])
    refused(tmp_path, rules, r"is not a tokenizer \(.*\); fetch or write it again$")
    empty = Backend(models.BPE())
    refused(tmp_path, empty.to_str(), r"has no tokens; fetch or write it again$")


def test_other_kinds_of_tokenizers_are_refused_by_name(tmp_path: Path) -> None:
    unigram = Backend(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0))
    refused(tmp_path, unigram.to_str(), r"is a Unigram tokenizer; octavo reads byte-level BPE and its own WordLevel$")
    bert = rules_of("bpe")
    bert["model"]["continuing_subword_prefix"] = "##"
    refused(tmp_path, bert, r"marks the insides of words, as BERT does; octavo reads byte-level BPE$")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("normalizer", {"type": "Lowercase"}),
        ("pre_tokenizer", {"type": "Whitespace"}),
        ("pre_tokenizer", None),
        ("decoder", None),
        ("added_tokens", []),
        ("model", {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}),
        ("model", {"type": "WordLevel", "vocab": {}, "unk_token": "<unk>"}),
    ],
)
def test_a_simple_vocabulary_with_other_rules_is_refused(part: str, value: object, tmp_path: Path) -> None:
    for kind in ("character", "word"):
        message = r"has a WordLevel vocabulary with rules that octavo does not write; use a BPE tokenizer$"
        refused(tmp_path, {**rules_of(kind), part: value}, message)


def test_settings_that_do_not_fit_get_one_line(tmp_path: Path) -> None:
    for settings, message in (
        (
            '{"eos_token": 7}',
            r"tokenizer_config.json has a eos_token that is no text: 7; give the token as it is written$",
        ),
        ('{"eos_token": {"content": []}}', r"has a eos_token that is no text: \{'content': \[\]\}"),
        ('{"eos_token": "</s>"}', r"names eos_token '</s>', which tokenizer.json does not have; fetch both again$"),
        ("{", r"tokenizer_config.json is not sound JSON"),
        ("[]", r"tokenizer_config.json is not sound JSON \(it is no JSON object\)"),
    ):
        (qwen(tmp_path) / "tokenizer_config.json").write_text(settings)
        with pytest.raises(TokenizerError, match=message):
            load_tokenizer(tmp_path)


def test_what_is_no_regular_file_of_a_reasonable_size_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(
        TokenizerError, match=r"tokenizer.json cannot be read \(No such file or directory\); name the folder"
    ):
        load_tokenizer(tmp_path / "nowhere")
    (tmp_path / "folder" / "tokenizer.json").mkdir(parents=True)
    with pytest.raises(TokenizerError, match=r"tokenizer.json is not a regular file; name the folder of a tokenizer$"):
        load_tokenizer(tmp_path / "folder")
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerError, match=r"is not a regular file"):
        load_tokenizer(tmp_path)
    (tmp_path / "big").mkdir()
    with (tmp_path / "big" / "tokenizer.json").open("wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(TokenizerError, match=r"has 268,435,457 bytes; no vocabulary needs more than 268,435,456$"):
        load_tokenizer(tmp_path / "big")


def test_what_cannot_be_written_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="file could not be written: File exists; what was saved before is untouched"):
        make("character").save(tmp_path / "file")
    (tmp_path / "taken" / "tokenizer.json" / "by").mkdir(parents=True)
    with pytest.raises(SaveError, match=r"tokenizer\.json could not be written: Is a directory; it takes \S+ bytes"):
        make("character").save(tmp_path / "taken")
    assert names_in(tmp_path / "taken") == ["tokenizer.json"]
