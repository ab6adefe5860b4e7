"""`octavo talk`: the same as `generate`, as a conversation in the terminal."""

from typing import Annotated

from cyclopts import Parameter

from octavo.cli.flags import Model
from octavo.cli.generate import Knobs, Quantize, Where
from octavo.errors import UserError


def talk(
    run: Model = None,
    /,
    *,
    server: Annotated[
        str | None, Parameter(help="Talk to a model of this server, http://127.0.0.1:8000 say; RUN is its name there.")
    ] = None,
    knobs: Knobs | None = None,
    quantize: Quantize = None,
    device: Where = "auto",
) -> None:
    """Talk to a model: what you type goes on as the model would have it."""
    if server is not None and quantize is not None:
        raise UserError("--quantize is for a model that is opened here; leave it or --server out")
    if server is not None and device != "auto":
        raise UserError("--device is for a model that is opened here; leave it or --server out")

    from octavo.cli.conversation import Conversation
    from octavo.cli.opening import open_run
    from octavo.cli.speakers import Local, Remote
    from octavo.places import find_model, name_of

    if server is None:
        opened = open_run(run, quantize=quantize, device=device)
        Conversation(Local(*opened, name_of(find_model(run))), knobs).run()
    else:
        Conversation(Remote(server, run), knobs).run()
