"""A process that has octavo loaded and forks: what takes a process of its own begins at once, not after two seconds.

It computes nothing itself and has one thread, so that a fork of it lacks nothing that a process begun anew has.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from select import select
from tempfile import TemporaryFile
from typing import IO, Any

LARGEST = 100_000  # bytes of a program with its words and its environment
PIPE = 65_536  # that a pipe holds without anybody who reads it
OCTAVO = "import runpy; runpy.run_module('octavo', run_name='__main__')"  # what `python -m octavo` does
BRIEFLY = "import octavo.evaluation; octavo.evaluation.SAMPLE_TOKENS = 8\n"


class Fork:
    """A program that runs in a process of its own; what it prints is there when it has ended."""

    def __init__(self, at: socket.socket, files: tuple[IO[bytes], IO[bytes]]) -> None:
        self.at, self.files = at, files
        self.pid = int(at.recv(20))
        self.status: int | None = None

    def poll(self) -> int | None:
        """Its exit status, the signal that killed it as a negative number, or nothing while it runs."""
        return self.wait() if self.status is not None or select([self.at], [], [], 0)[0] else None

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        if self.status is None:
            self.status = int(self.at.recv(20))
            self.output, self.errors = map(_read, self.files)
        return self.status

    def kill(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


def _read(file: IO[bytes]) -> str:
    with file:
        file.seek(0)
        return file.read().decode()


class Warm:
    """The process that forks, one program after another."""

    def __init__(self) -> None:
        self.at, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            words = [sys.executable, __file__, str(theirs.fileno())]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""}  # as most have it
            none = subprocess.DEVNULL
            self.process = subprocess.Popen(words, pass_fds=[theirs.fileno()], env=environment, stdin=none, stdout=none)
        self.last: Fork | None = None

    def start(self, program: str, *words: str, standard_input: bytes = b"") -> Fork:
        """Begin a program in Python, here and in this environment, with these words behind its name, one at a time."""
        assert self.last is None or self.last.status is not None, "the one before has not ended"
        asked = {"program": program, "words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)}
        assert len(standard_input) <= PIPE
        files = TemporaryFile(), TemporaryFile()  # noqa: SIM115 - closed when they have been read
        reading, writing = os.pipe()
        try:
            os.write(writing, standard_input)
            socket.send_fds(self.at, [json.dumps(asked).encode()], [reading, *(file.fileno() for file in files)])
        finally:
            os.close(reading)
            os.close(writing)
        self.last = Fork(self.at, files)
        return self.last

    def octavo(self, *words: str, standard_input: bytes = b"") -> Fork:
        """Begin a command line, in which samples are short."""
        return self.start(BRIEFLY + OCTAVO, *words, standard_input=standard_input)

    def end(self) -> None:
        """See that nothing runs any more."""
        if self.last is not None and self.last.poll() is None:
            self.last.kill(signal.SIGKILL)
            self.last.wait()

    def close(self) -> None:
        self.at.close()
        self.process.wait()


def forked(at: socket.socket) -> dict[str, Any] | None:
    """Fork for each program that is asked for, and tell its number and its end; in the fork, give what was asked."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(at, LARGEST, 3)
        if not message:
            return None
        assert len(list(Path("/proc/self/task").glob("*"))) <= 1, "a fork would lack the other threads"
        child = os.fork()
        for place, descriptor in enumerate(descriptors):
            if not child:
                os.dup2(descriptor, place)
            os.close(descriptor)
        if not child:
            asked: dict[str, Any] = json.loads(message)
            return asked
        at.send(b"%d" % child)
        _, status = os.waitpid(child, 0)
        at.send(b"%d" % os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    import octavo.cli.watching
    import octavo.completion
    import octavo.exporting  # noqa: F401

    asked = forked(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"], OMP_NUM_THREADS="1")
        sys.argv = ["octavo", *asked["words"]]
        exec(asked["program"], {"__name__": "__main__"})
