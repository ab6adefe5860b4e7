"""Asks a server how it is, again and again, from a process that does nothing else: `python pulse.py PORT`.

What a client waits for on a small machine is the server, and the processor: so it is told beside each wait how much
later than it had asked for this process was woken itself. It ends with its standard input, and prints both then.
"""

import json
import select
import socket
import sys
import time

PAUSE = 0.02  # seconds from one answer to the next question


def ask(port: int) -> float:
    """Seconds that /health took, connection and all."""
    begin = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while more := connection.recv(65536):
            answer += more
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"/health says {answer[:200]!r}")
    return time.perf_counter() - begin


def main() -> None:
    waits: list[float] = []
    late: list[float] = []
    begin = time.perf_counter()
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        late.append(time.perf_counter() - begin - PAUSE)
        waits.append(ask(int(sys.argv[1])))
        begin = time.perf_counter()
    print(json.dumps({"waits": waits, "late": late}))


if __name__ == "__main__":
    main()
