"""`octavo demo`: the main job with nothing given."""

from typing import Annotated, Literal

from cyclopts import Parameter

PROMPTS = ("ROMEO:", "The king", "What is love?")
CORPUS, MINUTES, TOKENS = "shakespeare", 2.0, 80


def demo(
    *,
    minutes: Annotated[float, Parameter(help="How long to train.")] = MINUTES,
    dialect: Annotated[Literal["gpt2", "modern"], Parameter(help="Which form of GPT.")] = "modern",
    seed: Annotated[int, Parameter(help="Same seed, same first weights and order of the text.")] = 0,
) -> None:
    """Train on Shakespeare for about two minutes, see it learn, and read what it writes."""
    from octavo.cli.page import on_terminal
    from octavo.cli.watching import watch
    from octavo.config import Asked
    from octavo.progress import Display
    from octavo.training import begin

    asked = Asked(minutes=minutes, dialect=dialect, seed=seed, split=0.9)
    with Display() as display:
        finished = watch(lambda: begin([CORPUS], asked, on_event=display.show), display)
    show_prompts(str(finished.run))
    if on_terminal():
        from octavo.cli.talk import talk

        talk(str(finished.run))


def show_prompts(where: str) -> None:
    """Three prompts, each completed greedily and at temperature 0.8."""
    from octavo.completion import completions
    from octavo.progress import printable
    from octavo.run import load

    model, tokenizer = load(where)
    for prompt in PROMPTS:
        for temperature in (0.0, 0.8):
            [done] = completions(model, tokenizer, prompt, max_new_tokens=TOKENS, temperature=temperature, seed=1)
            name = "greedy" if temperature == 0 else f"temperature {temperature:g}"
            print(f"\n── {prompt!r}, {name} ──\n{printable(prompt + done.text)}")
