"""A training's figures for tensorboard, in a folder of the run; written only where that is asked for."""

import importlib.util
import shutil
from pathlib import Path
from textwrap import indent

from octavo.config import RunConfig
from octavo.errors import UserError
from octavo.events import Evaluated, Event, Sampled, Stepped
from octavo.speed import Speed
from octavo.toml import dump

FOLDER = "tensorboard"


def check_tracking() -> None:
    """Raise `UserError` where tensorboard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("--track writes what tensorboard reads, and that is not installed: pip install -e '.[track]'")


class Tracker:
    """Hears what happens in a training that stands after `step`, and writes it down for tensorboard.

    What an earlier process wrote of later steps is not shown any more: those steps are taken anew.
    """

    def __init__(self, run: Path, config: RunConfig, speed: Speed, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if step == 0:
            shutil.rmtree(run / FOLDER, ignore_errors=True)
        self.speed = speed
        self.writer = SummaryWriter(str(run / FOLDER), purge_step=step + 1)
        self.writer.add_text("settings", indent(dump(config), "    "), step)  # indented, Markdown leaves it as it is

    def hear(self, event: Event) -> None:
        """Write down an event's figures."""
        match event:
            case Stepped():
                self._write("loss/training", event.train_loss, event.step)
                self._write("step/learning rate", event.lr, event.step)
                self._write("step/gradient norm", event.grad_norm, event.step)
                self._write("speed/tokens per second", event.tokens_per_second, event.step)
            case Evaluated():
                self._write("loss/held out", event.val_loss, event.step)
                self._write("loss/bits per byte held out", event.val_bits_per_byte, event.step)
                if event.step:
                    self._write("speed/share of the device's peak", self.speed.utilisation, event.step)
            case Sampled(step, text):
                self.writer.add_text("what it writes", text, step)
                self.writer.flush()

    def _write(self, name: str, value: float, step: int) -> None:
        self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Bring all of it to the disk."""
        self.writer.close()
