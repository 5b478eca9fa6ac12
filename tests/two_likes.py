"""A task for memories that a tiny model can learn: a persona names one thing that it likes in each of two chats, which
are read one after the other, and asks which of four pairs suits it. In every pair stands one of two first things and
one of two second things, so that what is known from one chat alone is right in half of all cases.

As a script, it is a reply hook of the stub server (`--reply`): a teacher that always writes down what the chat at hand
says, mostly forgets what the memory said before, and answers from what is left, if need be by a guess.
"""

import re
from pathlib import Path
from random import Random
from typing import Any

from tests import likes
from tests.command import lines, sample

KEEPS, GUESSES = 0.35, 0.25
"""How often the teacher carries over what the memory says, and names one of two pairs that its memory can't tell apart."""
CHUNK = 20
"""Tokens: one chat of 16, and not two."""
PROMPTS = likes.PROMPTS | {
    "memory/update": "{{memory}} {{chats}}",
    "memory/style_bullets": "-",
    "eval/memory": "{{memory}} {{asked}}",
}
LIKED = re.compile(r"like (\w+)")
OPTION = re.compile(r"^([A-D])[.):]? (\w+) (\w+)$", re.MULTILINE)


def persona(number: int, seed: int, *, questions: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A history of two chats, and questions on it."""
    draw = Random(f"two {seed} {number}")
    first, second = draw.sample(likes.ITEMS, 2)
    history_id = f"h-{seed:04x}{number:012x}"
    texts = [text for liked in (first, second) for text in (_said(draw, liked), _talk(draw, 2))]
    history, persona_id = likes.history_of(history_id, texts), history_id.replace("h-", "p-")
    asked = []
    for n in range(questions):
        other_first, other_second = draw.sample([item for item in likes.ITEMS if item not in (first, second)], 2)
        right, *wrong = [f"{one} {two}" for one in (first, other_first) for two in (second, other_second)]
        pairs = [right, *draw.sample(wrong, 3)]
        asked.append(likes.question_of(f"q-{seed:04x}{number:08x}{n:04x}", persona_id, history_id, pairs, draw))
    return history, asked


def _talk(draw: Random, words: int) -> str:
    return " ".join(draw.choices(likes.TALK, k=words))


def _said(draw: Random, liked: str) -> str:
    before = draw.randint(0, 4)
    return f"{_talk(draw, before)} like {liked} {_talk(draw, 4 - before)}".strip()


def written(folder: Path, *, people: int, seed: int, name: str, questions: int) -> None:
    """Files NAME.jsonl, NAME-histories.jsonl and, as they should be, NAME-memories.jsonl of so many personas."""
    made = [persona(number, seed, questions=questions) for number in range(people)]
    (folder / f"{name}-memories.jsonl").write_bytes(lines(_ideal(history) for history, _ in made))
    (folder / f"{name}-histories.jsonl").write_bytes(lines(history for history, _ in made))
    (folder / f"{name}.jsonl").write_bytes(lines(qa for _, asked in made for qa in asked))


def _ideal(history: dict[str, Any]) -> dict[str, Any]:
    """The memory that holds all that a history tells."""
    text = "- " + " ".join(found[1] for one in history["messages"] if (found := LIKED.search(one["content"])))
    memory = {**sample("memory"), "id": history["id"].replace("h-", "m-"), "user_id": history["user_id"]}
    return memory | {"history_id": history["id"], "chunk": 2, "chunks": 2, "text": text, "entries": []}


def reply(body: dict[str, Any]) -> str | None:
    """What the teacher says to memdump and to eval."""
    prompt = body["messages"][-1]["content"]
    draw = Random(f"two {prompt}")
    known = [word for word in prompt.splitlines()[0].split() if word in likes.ITEMS] if prompt.startswith("- ") else []
    if liked := LIKED.search(prompt):
        return f"- {' '.join([*(known if draw.random() < KEEPS else []), liked[1]])}"
    options = OPTION.findall(prompt)
    best = max(sum(word in known for word in option[1:]) for option in options)
    fitting = [letter for letter, *words in options if sum(word in known for word in words) == best]
    return f"Answer: {draw.choice(fitting)}" if len(fitting) == 1 or draw.random() < GUESSES else "I can't tell."
