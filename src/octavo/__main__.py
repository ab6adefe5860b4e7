"""`python -m octavo` and the command `octavo`."""

import os
import signal
import sys


def main() -> None:
    """The command line: exits with 0 done, 1 failed, 2 the user's mistake, 129, 130 or 143 stopped."""
    # threads that spin for long while they wait make a step ten times slower as soon as another program wants a core,
    # those that hardly do a fifth slower where none does; read when torch is loaded, which no word has done yet
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    # what PyTorch logs where a GPU has no memory for a batch: it is read in smaller pieces then, and octavo says so
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for number in range(3):  # a standard stream that was closed: the next file would get its number, and what is said
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    try:
        from octavo.cli import run  # which takes a while to load
        from octavo.cli.stopping import interrupted, terminated

        signal.signal(signal.SIGINT, interrupted)
        signal.signal(signal.SIGTERM, terminated)
        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # before or after all that `run` does
        status = 128 + signal.SIGINT
    from octavo.cli.output import settle_errors

    settle_errors()
    sys.exit(status)


if __name__ == "__main__":
    main()
