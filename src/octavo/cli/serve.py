"""`octavo serve`: a local service over the API that OpenAI's clients speak."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from octavo.cli.flags import unless_named
from octavo.cli.generate import Where
from octavo.errors import UserError


def serve(
    *runs: Annotated[str, Parameter(name="RUN", help="Runs or .gguf files, by path or name (the newest run).")],
    host: Annotated[str, Parameter(help="The address to listen at; another than this machine's own takes a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, Parameter(help="The port; 0 takes a free one.")] = 8000,
    public: Annotated[
        str | None, Parameter(help="The address that a proxy before it has for others, https://octavo.example say.")
    ] = None,
    api_key_file: Annotated[Path | None, Parameter(help="A file with the key that clients have to send.")] = None,
    device: Where = "auto",
    bitwise: Annotated[bool, unless_named("Let no text depend on others by a bit; slower.")] = False,
) -> None:
    """Serve models over the API that OpenAI's clients speak."""
    from octavo.places import find_model, name_of
    from octavo.server.service import listen, read_key, rules_for, serve

    places = [find_model(run) for run in runs or (None,)]
    names = [name_of(place) for place in places]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two models are called {twice}; rename the folder of one")
    rules = rules_for(host, read_key(api_key_file), public)
    if device != "auto":  # for a wrong one, before anything is opened
        from octavo.devices import choose_device

        choose_device(device)
    at = listen(host, port)

    from octavo.progress import say
    from octavo.server.models import Models, open_served

    served = []
    for place, name in zip(places, names, strict=True):
        say(f"opening {place}")
        served.append(open_served(place, name, bitwise=bitwise, device=device))
    address = f"[{host}]" if ":" in host else host
    home = f"http://{address}:{at.getsockname()[1]}"
    say(f"serving {', '.join(names)} at {home}/v1; Ctrl-C ends it")
    say(f"the page is at {home}")
    serve(Models(served, say), rules, at, say)
