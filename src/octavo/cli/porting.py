"""`octavo import` and `octavo export`: models from elsewhere, and octavo's own elsewhere."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from octavo.cli.flags import Model, unless_named


def bring(
    where: Annotated[str, Parameter(name="WHERE", help="A folder, a .gguf file, a name of the hub, or smollm2.")],
    /,
    *,
    to: Annotated[Path | None, Parameter(help="The folder of the run (runs/<name> where nothing is said).")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, Parameter(help="Keep the weights in this type.")
    ] = None,
    force: Annotated[bool, unless_named("Overwrite the run in --to.")] = False,
) -> None:
    """Make a run of a model from elsewhere."""
    import torch

    from octavo import porting
    from octavo.cli.waiting import Waiting

    with Waiting() as waiting:
        kept = None if dtype is None else getattr(torch, dtype)
        run = porting.bring(where, to=to, dtype=kept, force=force, on_event=waiting.show)
    print(f"{where} is the run {run}")


def export(
    run: Model = None,
    /,
    *,
    kind: Annotated[
        Literal["hf", "gguf", "onnx"], Parameter(name="--as", help="Hugging Face's folder, llama.cpp's file, or ONNX.")
    ],
    dtype: Annotated[
        Literal["f32", "f16", "bf16", "q8_0"] | None, Parameter(help="How weights are rounded (as they are).")
    ] = None,
    to: Annotated[Path | None, Parameter(help="The file or folder to write (named after the run).")] = None,
    force: Annotated[bool, unless_named("Overwrite what is there.")] = False,
    push: Annotated[
        str | None, Parameter(help="Send it to the hub under this name, with the token that is set.")
    ] = None,
) -> None:
    """Write a model for other programs, and read it back before calling it good."""
    from octavo.cli.waiting import Waiting
    from octavo.exporting import export as write
    from octavo.hub import check_token, send_to_hub
    from octavo.places import find_model

    folder = find_model(run)
    if push is not None:
        check_token()  # before minutes are spent on what cannot be sent
    with Waiting() as waiting:
        done = write(folder, kind, rounding=dtype, to=to, force=force, name=push, on_event=waiting.show)
    for line in done.found:
        print(line)
    unread = "is written, but nothing here could read it back; pip install onnxruntime, and export it again"
    print(f"{done.path} {'is good' if done.found else unread}")
    if done.tokenizer is not None:
        print(f"it takes the ids of its tokenizer, {done.tokenizer}")
    if push is not None:
        files = [done.path] if done.tokenizer is None else [done.path, done.tokenizer]
        print(f"sent to {send_to_hub(files, push)}")
