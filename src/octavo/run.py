"""A model and its tokenizer as one folder in Hugging Face's form: written so that transformers opens it as it stands,
and read from whoever wrote it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import filterfalse
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from octavo.config import ModelConfig
from octavo.disk import make_folder, read_json, replace_file, saving, write_file
from octavo.errors import ConfigError, DamagedError, RunError
from octavo.imagined import check_fit, imagine, shapes_of
from octavo.layouts import layout_for, layout_of
from octavo.model import GPT
from octavo.parts import Parts, parts_of
from octavo.tensors_file import FLOATS, PIECE, Described, check_float, ignore_progress, write_tensors

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

SHORT = 512  # tokens of a context that a prompt and what is written unasked may fill
CONFIG, GENERATION, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
ORIGIN = "_name_or_path"  # transformers' own key for it
INDEX, TOKENIZER = "model.safetensors.index.json", "tokenizer.json"
Progress = Callable[[int, int], None]


def save(
    model: GPT | Parts,
    tokenizer: "Tokenizer",
    where: Path | str,
    *,
    dtype: torch.dtype | None = None,
    origin: str | None = None,
    on_progress: Progress = ignore_progress,
) -> None:
    """Write a model and its tokenizer into a folder, each file whole or not at all.

    `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` open it as it stands. The weights are
    written in `dtype`, else in their own; `origin` is whose they are. Raises `SaveError` with the path and the reason.
    """
    _check_vocabulary(tokenizer, model.config, Path(where))
    named = tokenizer.settings.get("bos_token")
    save_model(
        model,
        where,
        dtype=dtype,
        origin=origin,
        begin_of_text=None if named is None else tokenizer.backend.token_to_id(named),
        end_of_text=tokenizer.end_of_text,
        more_ends=tokenizer.more_ends,
        forbidden=tokenizer.forbidden,
        on_progress=on_progress,
    )
    tokenizer.save(Path(where), context=model.config.context)


def save_model(
    model: GPT | Parts,
    where: Path | str,
    *,
    dtype: torch.dtype | None = None,
    origin: str | None = None,
    begin_of_text: int | None = None,
    end_of_text: int | None = None,
    more_ends: tuple[int, ...] = (),
    forbidden: tuple[int, ...] = (),
    on_progress: Progress = ignore_progress,
) -> None:
    """Write a model alone; `begin_of_text` (or the end of another) begins a text and `end_of_text` ends one.

    Those of `more_ends` end what is said too, those of `forbidden` are never to be sampled. No more than one weight is
    made ready at a time.
    """
    check_float(dtype)
    begin = end_of_text if begin_of_text is None else begin_of_text
    folder, layout, parts = Path(where), layout_for(model.config), parts_of(model)
    dtype = dtype or parts.dtype
    settings = layout.to_hf_config(model.config, bos=begin, eos=end_of_text, dtype=str(dtype).split(".")[1])
    with saving(folder):
        make_folder(folder)
    _save_weights(parts, folder / WEIGHTS, dtype, on_progress)
    write_file(folder / CONFIG, _pretty(settings if origin is None else {**settings, ORIGIN: origin}))
    write_file(
        folder / GENERATION, _pretty(_generation(parts.config.context, begin, end_of_text, more_ends, forbidden))
    )


def _save_weights(parts: Parts, path: Path, dtype: torch.dtype, on_progress: Progress) -> None:
    layout, tied = layout_for(parts.config), parts.config.tied
    weights = layout.to_hf(parts.weights, tied=tied)
    shapes = shapes_of(layout.to_hf(imagine(parts.config).state_dict(), tied=tied))
    described = {name: Described(dtype, shape) for name, shape in shapes.items()}

    def write(temporary: Path) -> None:
        write_tensors(temporary, described, weights.__getitem__, metadata={"format": "pt"}, on_progress=on_progress)

    replace_file(path, write, size=sum(one.size for one in described.values()))


def _generation(
    context: int, begin: int | None, end: int | None, more_ends: tuple[int, ...], forbidden: tuple[int, ...]
) -> dict[str, Any]:
    """How transformers is to sample: from all of the distribution, and not beyond what a model sees.

    Unasked it does neither: its pipeline writes 256 tokens, also where the context is shorter.
    """
    plain = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    all_ends = [*([] if end is None else [end]), *more_ends] if more_ends else end
    ends = {"bos_token_id": begin, "eos_token_id": all_ends, "pad_token_id": end}
    longest = {"max_length": context} if context < SHORT else {}
    return {**ends, **plain, **longest, "suppress_tokens": list(forbidden) or None}


def _pretty(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def load(where: Path | str, *, dtype: torch.dtype | None = None) -> tuple[GPT, "Tokenizer"]:
    """Open a run, or any folder that Hugging Face wrote in one of the layouts: the model and its tokenizer.

    The weights are read as they are stored, or in `dtype`. Raises `RunError` where it is not that, or is incomplete,
    and `DamagedError` where a file is not what it says.
    """
    parts, tokenizer = open_folder(where, dtype=dtype)
    return parts.whole(), tokenizer


def open_folder(
    where: Path | str, *, dtype: torch.dtype | None = None, exact: bool = False
) -> tuple[Parts, "Tokenizer"]:
    """The same with all weights still on the disk; `exact` has each read as it is stored."""
    from octavo.tokenizers import load_tokenizer

    folder = Path(where)
    parts = open_model(folder, dtype=dtype, exact=exact)
    if not (folder / TOKENIZER).is_file():
        raise RunError(f"{folder} is incomplete: it has no {TOKENIZER}; copy the whole folder again")
    tokenizer = load_tokenizer(folder)
    _check_vocabulary(tokenizer, parts.config, folder)
    return parts, tokenizer


def _check_vocabulary(tokenizer: "Tokenizer", config: ModelConfig, folder: Path) -> None:
    if tokenizer.vocab_size > config.vocab_size:
        raise RunError(
            f"the tokenizer of {folder} has {tokenizer.vocab_size} tokens and the model knows {config.vocab_size}; "
            "they do not belong together"
        )


def load_model(where: Path | str, *, dtype: torch.dtype | None = None) -> GPT:
    """Open the model of a folder alone, in `dtype` or the one that its config names.

    Names and shapes are compared with the config before any memory is taken for weights.
    """
    return open_model(where, dtype=dtype).whole()


def open_model(where: Path | str, *, dtype: torch.dtype | None = None, exact: bool = False) -> Parts:
    """The model of a folder with all weights still on the disk."""
    folder = _folder(where)
    settings = read_json(folder / CONFIG)
    with _naming(folder / CONFIG):
        layout = layout_of(settings)
        config = layout.from_hf_config(settings)
        dtype = dtype or _dtype(settings)
    weights = Weights(folder, None if exact else dtype, layout.is_buffer)
    with _naming(folder):
        check_fit(weights.shapes, config, layout, lambda state: layout.to_hf(state, tied=config.tied))
        ours = layout.from_hf(weights, tied=config.tied)
    return Parts(config, ours, dtype or ours["embed.weight"].dtype)


def _folder(where: Path | str) -> Path:
    folder = Path(where)
    try:
        exists, is_folder, is_run = folder.exists(), folder.is_dir(), (folder / CONFIG).is_file()
    except (OSError, ValueError) as error:
        raise RunError(f"{folder} cannot be opened: {error}") from error
    if not exists:
        raise RunError(f"{folder} does not exist; name a run, a folder that Hugging Face wrote, or a .gguf file")
    if not is_folder:
        raise RunError(f"{folder} is a file; name a run, or a folder that Hugging Face wrote")
    if not is_run:
        raise RunError(f"{folder} is not a run: it has no {CONFIG}")
    return folder


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from error


def _dtype(settings: Mapping[str, Any]) -> torch.dtype | None:
    name = settings.get("dtype") or settings.get("torch_dtype")
    floats = {str(dtype).split(".")[1]: dtype for dtype in FLOATS.values()}
    if name is not None and (not isinstance(name, str) or name not in floats):
        raise ConfigError(f"dtype is {name!r}; octavo reads {', '.join(floats)}")
    return None if name is None else floats[name]


class Weights(Mapping[str, Tensor]):
    """The tensors of a folder's safetensors files, one or several, each read when it is asked for.

    A file is opened anew for every few rows: what was mapped into memory of those before is let go.
    """

    def __init__(
        self, folder: Path, dtype: torch.dtype | None, is_buffer: Callable[[str], bool] = lambda name: False
    ) -> None:
        self.folder, self.dtype = folder, dtype
        self.places: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        for path, names in _shards(folder).items():
            with _opened(path) as source:
                if names is not None and names != set(source.keys()):
                    odd = min(names ^ set(source.keys()))
                    raise DamagedError(f"{path} and {INDEX} do not agree about {odd}; copy the whole folder again")
                for name in filterfalse(is_buffer, source.keys()):
                    self._describe(name, path, source.get_slice(name))

    def _describe(self, name: str, path: Path, part: Any) -> None:
        if part.get_dtype() not in FLOATS:
            raise RunError(f"{self.folder}: {name} is stored as {part.get_dtype()}; octavo reads {', '.join(FLOATS)}")
        self.places[name], self.dtypes[name] = path, FLOATS[part.get_dtype()]
        self.shapes[name] = tuple(part.get_shape())

    def __getitem__(self, name: str) -> Tensor:
        dtype = self.dtype or self.dtypes[name]
        weight = torch.empty(self.shapes[name], dtype=dtype)  # no window on a file that others may change
        for rows in _row_ranges(self.shapes[name], dtype):
            with _opened(self.places[name]) as source:
                weight[rows] = source.get_slice(name)[rows] if weight.dim() else source.get_tensor(name)
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _row_ranges(shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[Any]:
    """The rows of a tensor, a few at a time; all there is of a single number."""
    if not shape:
        yield ...
        return
    step = max(1, PIECE // max(1, prod(shape[1:]) * dtype.itemsize))
    yield from (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        source = safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise DamagedError(f"{path} cannot be read: {error}; copy it again") from error
    with source:
        yield source


def _shards(folder: Path) -> dict[Path, set[str] | None]:
    """The files that hold the weights, and the names that the index expects in each."""
    if (folder / WEIGHTS).is_file():
        return {folder / WEIGHTS: None}
    if (folder / INDEX).is_file():
        return _indexed(folder)
    pickles = sorted(path.name for path in folder.glob("*.bin") if path.name.startswith("pytorch_model"))
    if pickles:
        raise RunError(
            f"{folder} holds its weights as a pickle, {pickles[0]}, which can run any program and is not opened; "
            f"convert it with transformers: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)"
        )
    raise RunError(f"{folder} is incomplete: it has no {WEIGHTS}; copy the whole folder again")


def _indexed(folder: Path) -> dict[Path, set[str] | None]:
    where = read_json(folder / INDEX).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(file, str) for file in where.values()):
        raise DamagedError(f"{folder / INDEX} has no weight_map from names to files; copy the whole folder again")
    shards: dict[Path, set[str] | None] = {}
    for file in sorted(set(where.values())):
        if Path(file).name != file or not (folder / file).is_file():
            raise RunError(f"{folder} is incomplete: {INDEX} names {file}, which is no file of this folder")
        shards[folder / file] = {name for name, place in where.items() if place == file}
    return shards
