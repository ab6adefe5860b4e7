"""Models by name on Hugging Face's hub: through its own library, with its cache, its token and its offline mode."""

import re
from collections.abc import Sequence
from pathlib import Path

from octavo.errors import DownloadError

FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "*.safetensors",
    "model.safetensors.index.json",
)
NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def is_hub_name(name: str) -> bool:
    """Whether this is how the hub names a model, and nothing on this disk.

    >>> is_hub_name("openai-community/gpt2"), is_hub_name("./gpt2"), is_hub_name("gpt2"), is_hub_name("my/model.gguf")
    (True, False, False, False)
    """
    is_file = name.lower().endswith(".gguf")
    return bool(NAME.fullmatch(name)) and ".." not in name and not is_file and not Path(name).exists()


def fetch_from_hub(name: str) -> Path:
    """The folder of a model in the hub's cache, fetched where it is not there yet: weights as safetensors, no pickle.

    Raises `DownloadError`, one line, where it cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as error:  # the library has as many kinds as there are things that go wrong on the way
        raise DownloadError(
            f"{name} is neither a folder or file here nor to be had from the hub ({_first_line(error)}); "
            "check the path, or the name and the network"
        ) from error


def check_token() -> None:
    """Raise `DownloadError` where nothing could be sent to the hub."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise DownloadError("there is no token for the hub; set HF_TOKEN, or log in with: hf auth login")


def send_to_hub(paths: Sequence[Path], name: str) -> str:
    """Put a folder or files into a repository of the hub, made where there is none; gives its address.

    Raises `DownloadError`, one line, where there is no token or the hub does not take it.
    """
    from huggingface_hub import HfApi

    check_token()
    api = HfApi()
    try:
        address = api.create_repo(name, exist_ok=True)
        for path in paths:
            if path.is_dir():
                api.upload_folder(repo_id=name, folder_path=path)
            else:
                api.upload_file(repo_id=name, path_or_fileobj=path, path_in_repo=path.name)
    except Exception as error:  # as many kinds as there are things that go wrong on the way
        raise DownloadError(f"{name} could not be sent ({_first_line(error)}); check the name and the token") from error
    return str(address)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
