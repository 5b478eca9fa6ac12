"""Questions as a task of lm-evaluation-harness: a folder for its `--include_path`.

The harness ranks the options by their likelihood after the prompt (acc), and the same by characters (acc_norm).
Histories are written once, however many questions they have, and put before each question when the task is loaded.
"""

import re
from pathlib import Path
from typing import Any

import orjson

from pmem.choices import LETTERS
from pmem.errors import RecordError
from pmem.prompts import describe

Record = dict[str, Any]
HERE = Path(__file__).parent
QUESTIONS, CONTEXTS, LOADING = "questions.jsonl", "contexts.jsonl", "loading.py"
NAME = re.compile(r"[A-Za-z0-9_.-]+")


def row(qa: Record, context: str, window: str | None) -> Record:
    """A question as the harness's document; RecordError if it has no options, or no history of the window."""
    if not (qa["options"] and qa["gold"]):
        raise RecordError("a question without options is no multiple choice", reason="schema", pointer="/options")
    own_id = None
    if context == "full":
        name = window or next(iter(qa["histories"]), "32k")
        if name not in qa["histories"]:
            raise RecordError(f"the question has no history of window {name}", reason="schema", pointer="/histories")
        own_id = qa["histories"][name]["id"]
    elif context == "snippet" and qa["snippet"]:
        own_id = qa["id"]
    labels = {"case": qa["case"], "scenario": qa["scenario"], **qa.get("labels", {})}
    return {
        "id": qa["id"],
        "context": own_id,
        "query": qa["query"],
        "options": qa["options"],
        "gold": LETTERS.index(qa["gold"]),
        "labels": orjson.dumps(labels).decode(),
    }


def context(own_id: str, messages: list[Record]) -> Record:
    """What stands before a question: the chats, as a transcript."""
    return {"id": own_id, "text": describe.transcript(messages)}


def files(name: str, about: str) -> dict[str, bytes]:
    """The task's definition and the code that loads its documents, by file name. about: what it was made of."""
    definition = (HERE / "task.yaml.txt").read_text(encoding="utf-8")
    loading = (HERE / "loading.py.txt").read_text(encoding="utf-8")
    filled = definition.replace("{{name}}", name).replace("{{about}}", about)
    return {f"{name}.yaml": filled.encode(), LOADING: loading.encode()}
