"""Run Python on a machine that seems to have a GPU: `python tests/emulated_gpu -m pytest tests/test_gpu.py`.

It takes a PyTorch that is built for CUDA, and a C compiler. `EMULATED_GPUS` says how many GPUs there are (1), and
`EMULATED_GPU_MEMORY` how many bytes each has (8 GiB).
"""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
BUILT = HERE.parents[1] / "build" / "emulated_gpu"


def main() -> None:
    """Build what is missing, and become the Python that was asked for."""
    libraries = build(BUILT)
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    more = {
        "LD_PRELOAD": " ".join(map(str, libraries)),
        "PYTHONPATH": os.pathsep.join(paths),  # where `sitecustomize` is found, which begins the emulation
        "OCTAVO_TEST_GPU": "1",
    }
    os.execve(sys.executable, [sys.executable, *sys.argv[1:]], {**os.environ, **more})


def build(folder: Path) -> list[Path]:
    """The libraries of the runtime and of the driver, for the PyTorch that is installed here."""
    wanted, version = names_of_the_runtime()
    runtime, driver = folder / version, folder / "libcuda.so.1"
    newest = max(path.stat().st_mtime for path in HERE.iterdir())
    if all(path.exists() and path.stat().st_mtime > newest for path in (runtime, driver)):
        return [runtime, driver]
    folder.mkdir(parents=True, exist_ok=True)
    versions = folder / "versions"
    versions.write_text(f"{version} {{ global: *; }};\n")
    words = [f"-Wl,--version-script={versions}", *(f"-I{place}" for place in headers())]
    compile_to(runtime, HERE / "runtime.c", wanted, *words)
    compile_to(driver, HERE / "driver.c", set(names_of_the_driver()))
    return [runtime, driver]


def compile_to(library: Path, source: Path, names: set[str], *words: str) -> None:
    """A library with what stands in a source, and every other name as a function that does nothing and succeeds."""
    others = sorted(names - set(re.findall(r"\b(_*cu\w+)\(", source.read_text())))
    rest = library.with_suffix(".rest.c")
    rest.write_text("".join(f"long {name}(void) {{ return 0; }}\n" for name in others))
    soname = f"-Wl,-soname,{library.name}"
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-O1", "-o", library, soname, source, rest, *words], check=True)


def names_of_the_runtime() -> tuple[set[str], str]:
    """Every function of CUDA's runtime that PyTorch and what comes with it want, and the library's name."""
    libraries = [*site("torch").glob("lib/*.so*"), *site("nvidia").glob("**/*.so*")]
    listed = subprocess.run(["nm", "-D", "--undefined-only", *libraries], capture_output=True, text=True).stdout
    found = re.findall(r"U (\w+)@(libcudart\.so\.\d+)", listed)
    if not found:
        sys.exit("this PyTorch is not built for CUDA; name one that is: make VENV=.venv-cuda TORCH=torch==2.14.1 …")
    return {name for name, _ in found}, found[0][1]


def names_of_the_driver() -> Iterator[str]:
    """What may be one: PyTorch looks them up by name, while it runs."""
    for path in site("torch").glob("lib/lib*.so"):
        for name in re.findall(rb"\0(cu(?!File)[A-Z][A-Za-z0-9_]{4,})(?=\0)", path.read_bytes()):
            yield name.decode()


def headers() -> list[Path]:
    """Where CUDA's are: some with PyTorch's libraries, the others with its compiler of kernels."""
    found = [*site("nvidia").glob("**/cuda_runtime_api.h"), *site("triton").glob("backends/nvidia/**/host_defines.h")]
    return [path.parent.parent if path.parent.name == "crt" else path.parent for path in found]


def site(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    return Path(places[0]) if places else Path(os.devnull)


if __name__ == "__main__":
    main()
