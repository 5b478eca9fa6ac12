"""How a question is put to a model, and how a reply should look: one rendering, for evaluation and training."""

from typing import Any, NamedTuple

from pmem.choices import LETTERS
from pmem.errors import RecordError
from pmem.evaluation.scenes import Scene, Scenes
from pmem.prompts import Prompts, describe
from pmem.reward import open_ended

FORMS = ("steps", "think", "line")
"""How a reply is asked for. steps: thoughts in plain text, then a last line that names the option (an open-ended reply
is given at once); think: thoughts between tags, then the option's line or the reply; line: no thoughts."""


class Put(NamedTuple):
    """How a question is put. window: None where the context needs no history; options: in the order in which they are
    offered; form: one of FORMS."""

    qa: dict[str, Any]
    mode: str
    context: str
    window: str | None
    options: list[str]
    form: str


def turned(qa: dict[str, Any], permutation: int) -> tuple[list[str], str]:
    """The question's options, rotated so that the right one stands in another place in each order, and its letter."""
    options, gold = qa["options"] or [], qa["gold"] or ""
    if not permutation:
        return options, gold
    turn = permutation % len(options)
    return [*options[turn:], *options[:turn]], LETTERS[(LETTERS.index(gold) - turn) % len(options)]


def windows(qa: dict[str, Any]) -> list[str]:
    """The windows that a question has histories of, the smallest first."""
    sizes = {name: (one["relevant_tokens"] or 0) + (one["filler_tokens"] or 0) for name, one in qa["histories"].items()}
    return sorted(sizes, key=lambda name: sizes[name])


def window_of(qa: dict[str, Any], window: str | None) -> str:
    """The window of the history to show: the named one, else the smallest; RecordError if there is none."""
    found = window or next(iter(windows(qa)), "32k")
    history_of(qa, found)
    return found


def history_of(qa: dict[str, Any], window: str) -> str:
    """The id of the history of a window; RecordError if the question has none."""
    if window not in qa["histories"]:
        known = ", ".join(qa["histories"]) or "none"
        raise RecordError(
            f"the question has no history of window {window}; it has: {known}", reason="schema", pointer="/histories"
        )
    return str(qa["histories"][window]["id"])


async def scene(put: Put, scenes: Scenes, prompts: Prompts) -> tuple[Scene, list[str]]:
    """What the model is sent, and the prompts used. Errors: as of `Scenes.scene`."""
    asked, names = _worded(put, prompts)
    found = await scenes.scene(put.qa, put.context, put.window, asked)
    return found, [*names, *found.prompts]


def _worded(put: Put, prompts: Prompts) -> tuple[str, list[str]]:
    query = put.qa["query"]
    if put.mode == "mcq":
        name = "eval/mcq_line" if put.form == "line" else "eval/mcq"
        asked = prompts.render(name, query=query, options=describe.options(put.options))
    else:
        name = "eval/open" if open_ended.rubric(put.qa) == open_ended.CASE else "eval/open_reference"
        asked = prompts.render(name, query=query)
    if put.form != "think":
        return asked, [name]
    return prompts.render("eval/think", asked=asked), [name, "eval/think"]


def replied(thoughts: str, said: str, *, mode: str, form: str) -> str:
    """A reply in the form that was asked for. said: the option's line or the open-ended reply itself."""
    if form == "line" or not thoughts or (form == "steps" and mode == "open"):
        return said
    return f"<think>\n{thoughts}\n</think>\n{said}" if form == "think" else f"{thoughts}\n{said}"


def choice_line(letter: str) -> str:
    """The line that names an option, as prompts ask for it."""
    return f"Answer: {letter}"
