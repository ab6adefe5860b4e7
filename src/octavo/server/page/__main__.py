"""`python -m octavo.server.page PORT`: what `octavo train --page` starts."""

import sys

from octavo.server.page.apart import main

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
