"""`python -m octavo` and the command `octavo`."""

import sys

from octavo.cli import run


def main() -> None:
    """The command line: exits with 0 done, 1 failed, 2 the user's mistake, 130 or 143 stopped."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
