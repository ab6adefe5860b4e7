"""Found by every Python that `python tests/emulated_gpu` begins, and by those that these begin."""

import emulated

emulated.begin()
