"""Replies of a small model to multiple-choice questions, to be labelled by reading before the parser sees them.

python bench/replies.py QUESTIONS.jsonl CACHE >replies.jsonl

QUESTIONS.jsonl: some of the demo's (`pmem filter` keeps 18 of them). SmolLM2-135M answers each of them in every form
of FORMS, at several temperatures. A line: the reply, its label (null, to be filled in by hand), how it was made.
tests/parser_replies.jsonl was made like this, with the first 12. CACHE: a response cache, so that it goes on where it
was ended.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson

from pmem.backends.base import Prefix
from pmem.backends.cache import Cache
from pmem.backends.local import LocalBackend
from pmem.backends.model import Model
from pmem.prompts import describe
from pmem.prompts.replies import user

WHICH = "Which of these replies suits me best? "
FORMS = {
    "line": WHICH + 'Think step by step. Then end with a line of its own that reads "Answer: X", where X is the letter'
    " of the one reply you choose.",
    "letter": WHICH + "Reply with the letter alone: A, B, C or D.",
    "sentence": WHICH + "Say in one or two sentences which one you choose, and why.",
    "boxed": WHICH + "Give your final answer as \\boxed{X}, where X is the letter.",
    "json": WHICH + 'Reply with JSON such as {"reason": "...", "answer": "X"}, where X is the letter.',
    "German": "Welche Antwort passt am besten? Erkläre es kurz auf Deutsch."
    ' Ende mit "Antwort: X"; X ist der Buchstabe.',
}
TEMPERATURES = (0.0, 0.7, 1.2)
MAX_TOKENS = 80


async def replies(questions: list[dict[str, Any]], stored: Path) -> list[dict[str, Any]]:
    """All replies, in the order of questions, forms and temperatures; a question is computed once for all of its."""
    backend, cache = LocalBackend("smollm2"), Cache(stored)

    async def one(form: str, temperature: float, qa: dict[str, Any]) -> dict[str, Any]:
        model = Model("local:smollm2", backend, cache=cache, max_tokens=MAX_TOKENS, temperature=temperature)
        asked = user(f"{qa['query']}\n\n{describe.options(qa['options'])}")
        prefix = Prefix(qa["id"], orjson.dumps(asked))
        reply = await model.chat(user(FORMS[form]), prefix=prefix, call=f"replies/{qa['id']}/{form}")
        made = {"question": qa["id"], "form": form, "temperature": temperature, "seed": 0}
        return {"reply": reply.text, "label": None, "made": made}

    calls = [one(form, heat, qa) for qa in questions for form in FORMS for heat in TEMPERATURES]
    try:
        return list(await asyncio.gather(*calls))
    finally:
        await backend.close()
        cache.close()


def main() -> None:
    """Print the replies."""
    questions = [orjson.loads(line) for line in Path(sys.argv[1]).read_bytes().splitlines()]
    for reply in asyncio.run(replies(questions, Path(sys.argv[2]))):
        sys.stdout.buffer.write(orjson.dumps(reply, option=orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main()
