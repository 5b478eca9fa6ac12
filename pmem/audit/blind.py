"""The blind model: it is shown a question and its options, and nothing about the user."""

from typing import Any

from pmem.backends.model import Model, NoValidReply
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import choice, user

SAMPLE = 4
"""The number of its reply. Those of `judge` are 0 to 3; questions kept since these were wrong need a new one."""


async def chosen(qa: dict[str, Any], model: Model, prompts: Prompts) -> str | None:
    """The letter that the model takes; None where no reply could be read."""
    prompt = prompts.render("judge/blind", query=qa["query"], options=describe.options(qa["options"]))
    try:
        reply = await model.chat(
            user(prompt), call=f"audit/{qa['id']}/blind", n=SAMPLE, schema=choice(len(qa["options"]))
        )
    except NoValidReply:
        return None
    return str(reply.parsed["choice"])
