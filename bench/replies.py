"""Replies of a small model to multiple-choice questions, to be labelled by reading before the parser sees them.

python bench/replies.py KEPT.jsonl >replies.jsonl

KEPT.jsonl: questions, such as those of the demo (`bash shell/quickstart.sh` leaves them). SmolLM2-135M answers each of
them with the snippet as its context, in every form of FORMS and at several temperatures. A line: the reply, how it was
made, and `label`: null, to be filled in by hand. tests/parser_replies.jsonl was made like this.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson

from pmem.backends.local import LocalBackend
from pmem.backends.model import Model
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import user

QUESTION = "{query}\n\nWhich of these replies suits me best?\n\n{options}\n\n"
FORMS = {
    "as eval asks": None,
    "letter": QUESTION + "Reply with the letter alone: A, B, C or D.",
    "sentence": QUESTION + "Say in one or two sentences which one you choose, and why.",
    "boxed": QUESTION + "Give your final answer as \\boxed{{X}}, where X is the letter.",
    "json": QUESTION + 'Reply with JSON such as {{"reason": "...", "answer": "X"}}, where X is the letter.',
    "German": QUESTION + 'Erkläre es kurz auf Deutsch. Beende die Antwort mit "Antwort: X"; X ist der Buchstabe.',
}
TEMPERATURES = (0.0, 0.7, 1.2)
MAX_TOKENS = 96


async def replies(questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All replies, in the order of forms, temperatures and questions."""
    backend = LocalBackend("smollm2")
    prompts = Prompts()

    async def one(form: str, temperature: float, qa: dict[str, Any]) -> dict[str, Any]:
        model = Model("local:smollm2", backend, cache=None, max_tokens=MAX_TOKENS, temperature=temperature)
        fields = {"query": qa["query"], "options": describe.options(qa["options"])}
        template = FORMS[form]
        prompt = template.format(**fields) if template else prompts.render("eval/mcq", **fields)
        reply = await model.chat([*qa["snippet"], *user(prompt)], call=f"replies/{qa['id']}/{form}")
        made = {"question": qa["id"], "form": form, "temperature": temperature, "seed": 0}
        return {"reply": reply.text, "label": None, "made": made}

    calls = [one(form, heat, qa) for form in FORMS for heat in TEMPERATURES for qa in questions]
    try:
        return list(await asyncio.gather(*calls))
    finally:
        await backend.close()


def main() -> None:
    """Print the replies."""
    questions = [orjson.loads(line) for line in Path(sys.argv[1]).read_bytes().splitlines()]
    for reply in asyncio.run(replies(questions)):
        sys.stdout.buffer.write(orjson.dumps(reply, option=orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main()
