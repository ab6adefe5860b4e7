"""One small machine and many clients: octavo's service beside llama.cpp's and transformers', and what it bears.

    python benchmarks/serving.py          # all of it, about 15 minutes
    python benchmarks/serving.py streams overload  # some parts: streams, overload, turn, peers

Server and clients share the machine. A peer has the same weights and is asked the same by the same client; octavo's
service is there beside it, and they take turns: the one that is not asked is stopped meanwhile.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asking import Answer, ask

from octavo.optim import has_bfloat16_units

CLIENTS, WRITTEN = 32, 64
TURNS, SLOW = 3, 30  # and tokens/s below which a peer is asked once
RATE = 250  # arrivals in a second
WORDS = ("the", "sea", "of", "and", "light", "in", "that", "house")
LLAMA_CPP = """
import sys, time, xllamacpp
words = xllamacpp.CommonParams()
words.model.path, words.port, words.verbosity = sys.argv[1], int(sys.argv[2]), 0
words.n_parallel, words.n_ctx, words.kv_unified = int(sys.argv[3]), int(sys.argv[4]), True
words.cpuparams.n_threads = words.cpuparams_batch.n_threads = int(sys.argv[5])
server = xllamacpp.Server(words)
time.sleep(1e6)
"""
BFLOAT16_CONTEXT = CLIENTS * 512  # tokens that llama.cpp makes room for: what all clients take together, and more


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@dataclass(frozen=True)
class Server:
    """One that runs."""

    port: int
    process: "subprocess.Popen[bytes]"

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it the server does nothing, not even wait awake."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def started(words: Callable[[int], list[str]], wait: float = 180) -> Iterator[Server]:
    """A server in a process of its own, once it says that it is well."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(words(port), stderr=log, stdout=log, env=environment) as process,
    ):
        try:
            end = time.monotonic() + wait
            while True:
                with suppress(OSError, asyncio.IncompleteReadError):
                    if asyncio.run(ask(port, "/health")).status == 200:
                        break
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise RuntimeError(f"{words(port)[:4]} did not start: {log.read()[-2000:].decode()}")
                time.sleep(0.2)
            yield Server(port, process)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass(frozen=True)
class Peer:
    """A server: how it is started for a model, and what it is asked so that nothing ends early."""

    name: str
    words: Callable[[Path, int], list[str]]
    more: Callable[[Path], dict[str, Any]] = lambda model: {}
    model: Callable[[Path], str] = lambda model: model.name

    def started(self, model: Path) -> AbstractContextManager[Server]:
        """It, with a model."""
        return started(lambda port: self.words(model, port))

    def asked(self, model: Path, prompt: str, tokens: int, **more: Any) -> dict[str, Any]:
        """A request for so many tokens, greedily."""
        usual = {"model": self.model(model), "prompt": prompt, "max_tokens": tokens, "temperature": 0}
        return {**usual, **self.more(model), **more}


def endless(model: Path) -> dict[str, Any]:
    """What keeps a text from ending by itself."""
    return {"ignore_eos": True}


def octavo_words(*more: str) -> Callable[[Path, int], list[str]]:
    return lambda model, port: [sys.executable, "-m", "octavo", "serve", str(model), "--port", str(port), *more]


def llama_words(model: Path, port: int) -> list[str]:
    sizes = [str(CLIENTS), str(BFLOAT16_CONTEXT), str(os.cpu_count())]
    return [sys.executable, "-c", LLAMA_CPP, f"{model}.gguf", str(port), *sizes]


def transformers_words(*more: str) -> Callable[[Path, int], list[str]]:
    program = str(Path(sys.executable).with_name("transformers"))
    # its own choice, the type of the weights, takes minutes a token on a processor that has no units for it
    kind = ("--device", "cpu", "--dtype", "bfloat16" if has_bfloat16_units() else "float32")
    return lambda model, port: [program, "serve", str(model), "--port", str(port), *kind, *more]


OCTAVO = Peer("octavo", octavo_words(), endless)
PEERS = (
    Peer("llama.cpp", llama_words, endless),
    Peer("transformers", transformers_words(), model=str),
    Peer("transformers, continuous batching", transformers_words("--continuous-batching"), model=str),
)


BITWISE = Peer("octavo, bitwise", octavo_words("--bitwise"), endless)
ON_A_GPU = Peer("octavo, bitwise, on a GPU", octavo_words("--bitwise", "--device", "cuda"), endless)


def prompts(count: int, words: int, seed: int = 0) -> list[str]:
    """Different texts of so many words, of which no two begin alike."""
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(words)) for _ in range(count)]


async def throughput(peer: Peer, model: Path, port: int) -> float:
    """Tokens per second of all clients together."""
    bodies = [peer.asked(model, prompt, WRITTEN) for prompt in prompts(CLIENTS, 32, seed=time.time_ns())]
    begin = time.perf_counter()
    answers = await asyncio.gather(*(ask(port, "/v1/completions", body) for body in bodies))
    seconds = time.perf_counter() - begin
    written = sum(answer.json["usage"]["completion_tokens"] for answer in answers)
    if any(answer.status != 200 for answer in answers) or written < 0.9 * CLIENTS * WRITTEN:
        raise RuntimeError(f"{peer.name} wrote {written} tokens: {[answer.status for answer in answers]}")
    return written / seconds


async def first_token(peer: Peer, model: Path, port: int) -> float:
    """Seconds until the first text, of a prompt of about 500 tokens that nothing was known of."""
    [prompt] = prompts(1, 480, seed=time.time_ns())
    answer = await ask(port, "/v1/completions", peer.asked(model, prompt, 4, stream=True))
    return answer.times[0]


def measured(peer: Peer, model: Path, server: Server, other: Server, *, quick: bool = False) -> tuple[float, float]:
    """Tokens per second of all clients, where that is asked for, and seconds to the first token of one."""
    with other.paused():
        rate = 0.0 if quick else asyncio.run(throughput(peer, model, server.port))
        return rate, asyncio.run(first_token(peer, model, server.port))


def in_turns(peer: Peer, model: Path) -> list[tuple[float, float]]:
    """Medians of octavo and of a peer."""
    with OCTAVO.started(model) as ours, peer.started(model) as theirs:
        both = ((OCTAVO, ours, theirs), (peer, theirs, ours))
        found: list[list[tuple[float, float]]] = [[], []]
        for one, server, other in both:
            measured(one, model, server, other, quick=True)  # which is not counted
        for turn in range(TURNS + 2):
            for (one, server, other), line in zip(both, found, strict=True):
                slow = bool(line) and line[0][0] < SLOW  # it has taken minutes, and is far off
                line.append(measured(one, model, server, other, quick=slow or turn >= TURNS))
    rates = [statistics.median(rate for rate, _ in line if rate) for line in found]
    waits = [statistics.median(wait for _, wait in line) for line in found]
    return list(zip(rates, waits, strict=True))


def beside_peers(models: dict[str, Path]) -> list[str]:
    """Tables of throughput and of the time to the first token."""
    rows = []
    for name, model in models.items():
        for peer in PEERS:
            try:
                (rate, wait), (their_rate, their_wait) = in_turns(peer, model)
            except (RuntimeError, OSError, LookupError, asyncio.IncompleteReadError) as error:
                print(f"{peer.name}, {name}: {error!r:.600}", file=sys.stderr)
                continue
            cells = (
                name,
                peer.name,
                f"{rate:,.0f} and {their_rate:,.0f} ({rate / their_rate:.2f})",
                f"{wait:.2f} s and {their_wait:.2f} s ({their_wait / wait:.2f})",
            )
            rows.append(f"| {' | '.join(cells)} |")
    head = [
        f"| model | beside | {CLIENTS} clients: octavo's tokens/s and theirs | 500 tokens to read: octavo and they |",
        "|---|---|---|---|",
    ]
    return [*head, *rows]


def small_model(folder: Path, *, context: int = 128, heads: int = 2, width: int = 128) -> Path:
    """Six layers of the demo's shape or another, untrained but not silent, with a tokenizer of characters."""
    import torch

    import octavo
    from octavo.config import ModelConfig
    from octavo.tokenizers import SimpleTokenizer

    torch.manual_seed(0)
    tokenizer = SimpleTokenizer("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,;:!?'-\n")
    shape = {"context": context, "layers": 6, "heads": heads, "width": width, "tied": False}
    model = octavo.GPT(ModelConfig(dialect="modern", vocab_size=tokenizer.vocab_size, **shape)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(1.0 if weight.dim() == 1 else 0.0, 0.1)
    octavo.save(model, tokenizer, folder)
    return folder


@contextmanager
def felt(port: int) -> Iterator[dict[str, list[float]]]:
    """How long /health takes meanwhile, asked from a process of its own, and how late that was woken itself."""
    command = [sys.executable, str(Path(__file__).with_name("pulse.py")), str(port)]
    found: dict[str, list[float]] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield found
        finally:
            found |= json.loads(process.communicate()[0])


async def lateness(found: list[float]) -> None:
    """How much later than it asked for this client's own loop is woken, again and again."""
    while True:
        begin = time.perf_counter()
        await asyncio.sleep(0.02)
        found.append(time.perf_counter() - begin - 0.02)


def within(seconds: list[float]) -> str:
    """What 99 of 100 stay below, in milliseconds."""
    return f"{1000 * percentile(seconds or [0.0], 0.99):.0f} ms"


def percentile(values: list[float], share: float) -> float:
    """The value that so many are below."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def streams(model: Path, count: int = 1000, peer: Peer = BITWISE) -> list[str]:
    """So many streams at once, each compared with the text that it is alone."""
    draw = random.Random(0)
    bodies = [
        {"prompt": "".join(draw.choice("abcdefgh ") for _ in range(8)), "max_tokens": 64, "seed": n, "stream": True}
        for n in range(count)
    ]

    async def all_at_once(port: int) -> tuple[list[Answer], float]:
        begin = time.perf_counter()
        answers = await asyncio.gather(*(ask(port, "/v1/completions", body) for body in bodies))
        return answers, time.perf_counter() - begin

    async def one_by_one(port: int) -> list[Answer]:
        return [await ask(port, "/v1/completions", body) for body in bodies]

    with peer.started(model) as server:
        alone = asyncio.run(one_by_one(server.port))
        with felt(server.port) as health:
            answers, seconds = asyncio.run(all_at_once(server.port))
    errors = sum(answer.status != 200 for answer in answers)
    same = sum(one.text == other.text for one, other in zip(answers, alone, strict=True))
    written = sum(len(answer.text) for answer in answers)
    return [
        f"- {count:,} bitwise streams at once of 64 tokens: {errors} errors, {same:,} to the letter as alone, "
        f"{written / seconds:,.0f} letters/s in all; /health meanwhile within {within(health['waits'])} (99 of 100), "
        f"asked by a process that was itself woken within {within(health['late'])}"
    ]


def second_turn(model: Path) -> list[str]:
    """How much of a conversation's second turn was read before."""

    async def talk(port: int) -> float:
        said = [{"role": "user", "content": " ".join(prompts(1, 150))}]
        body = {"messages": said, "max_tokens": 60, "seed": 1}
        first = (await ask(port, "/v1/chat/completions", body)).json
        said += [first["choices"][0]["message"], {"role": "user", "content": "Go on."}]
        usage = (await ask(port, "/v1/chat/completions", body)).json["usage"]
        return usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"]

    with OCTAVO.started(model) as server:
        return [
            f"- a second turn of a conversation: {asyncio.run(talk(server.port)):.0%} of its tokens were read before"
        ]


def overload(model: Path, arrivals: int = 5000) -> list[str]:
    """More than can be served or wait."""

    late: list[float] = []

    async def arrive(port: int) -> list[Answer]:
        watching = asyncio.create_task(lateness(late))
        begin, coming = time.perf_counter(), []
        for n in range(arrivals):
            body = {"prompt": "a", "max_tokens": 200, "seed": n, "ignore_eos": True}
            coming.append(asyncio.create_task(ask(port, "/v1/completions", body)))
            await asyncio.sleep(max(0.0, begin + n / RATE - time.perf_counter()))
        watching.cancel()
        return await asyncio.gather(*coming)

    with OCTAVO.started(model) as server:
        answers = asyncio.run(arrive(server.port))
        refused = [answer.seconds for answer in answers if answer.status == 429]
        failed = sum(answer.status not in (200, 429) for answer in answers)
    return [
        f"- {arrivals:,} arrivals, {RATE} a second: {len(refused):,} refused, 99 of 100 within {within(refused)} "
        f"by a client whose own loop was woken within {within(late)}, {failed} of the others failed"
    ]


def real_models(folder: Path) -> dict[str, Path]:
    """The published model, and GPT-2's shape with weights at random; both in bfloat16, as folders and as GGUF."""
    from porting import SHAPES, make

    import octavo
    from octavo.gguf_file import save_gguf

    found = {}
    for name, kind in SHAPES.items():
        make(kind, folder / kind)
        save_gguf(*octavo.load(folder / kind), f"{folder / kind}.gguf", dtype="bf16")
        found[name] = folder / kind
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["streams", "overload", "turn", "peers"])
    words = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there)
        small = small_model(folder / "small")
        real = real_models(folder) if {"turn", "peers"} & set(words.parts) else {}
        for part in words.parts:
            lines = {
                "streams": lambda: streams(small),
                "overload": lambda: overload(small),
                "turn": lambda: second_turn(next(iter(real.values()))),
                "peers": lambda: ["", *beside_peers(real)],
            }[part]()
            print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
