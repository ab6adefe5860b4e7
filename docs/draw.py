"""Draw the pictures of the tour anew: `python docs/draw.py` runs its blocks and keeps what they have drawn."""

import os
import re
import shutil
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

DOCS = Path(__file__).resolve().parent

with TemporaryDirectory() as scratch, chdir(scratch):
    torch.set_num_threads(1)  # so small a model is slowed by more
    os.environ["OCTAVO_HOME"] = scratch
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "tour.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    exec("".join(blocks), {"__name__": "tour"})
    shutil.copytree("pictures", DOCS / "pictures", dirs_exist_ok=True)
