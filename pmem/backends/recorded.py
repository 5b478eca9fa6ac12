"""Answers that were written down before, looked up by call id: for tests and the keyless quickstart, never a model.

A file holds one JSON line per call: {"call": "stage/record/step/n", "prompt": hash, "reply": text or JSON}. The hash
is of the prompt that the answer was written for; a changed prompt fails until someone has read the answer again and
accepted it.
"""

import os
from pathlib import Path
from typing import Any

import orjson

from pmem.backends.base import Completion, Likelihood, Message, Request
from pmem.draws import canonical, fingerprint
from pmem.errors import BackendError, ModelError

DEMO = Path(__file__).parent.parent / "demo" / "recorded.jsonl"

WANTED = "PMEM_WANTED"
"""Environment variable: a file to which calls without a valid answer are appended, with their prompts."""


def whole_prompt(request: Request) -> dict[str, Any]:
    """All that an answer was written for: messages and schema."""
    messages: list[Message] = orjson.loads(request.prefix.raw) if request.prefix else []
    return {"messages": messages + request.messages, "schema": request.schema}


def prompt_hash(request: Request) -> str:
    """12 hex digits that change when the prompt changes."""
    return fingerprint(whole_prompt(request), 12)


class RecordedBackend:
    """The backend `recorded:FILE`; `recorded:demo` is the quickstart's own file."""

    cacheable = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = DEMO if name == "demo" else Path(name)
        self._answers: dict[str, Any] | None = None

    def identify(self) -> dict[str, Any]:
        """The file's name; recorded answers are never cached."""
        return {"kind": "recorded", "model": self.name}

    def _load(self) -> dict[str, Any]:
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError as fault:
            raise BackendError(f"recorded:{self.name}: can't be read: {fault.strerror}") from None
        answers = {}
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    answer = orjson.loads(line)
                    answers[answer["call"]] = {"prompt": answer["prompt"], "reply": answer["reply"]}
                except (ValueError, KeyError, TypeError) as fault:
                    raise BackendError(f"recorded:{self.name}: line {number} is no recorded answer: {fault}") from None
        return answers

    async def complete(self, request: Request) -> Completion:
        """The answer written for this call; ModelError if there is none or its prompt has changed since."""
        if self._answers is None:
            self._answers = self._load()
        answer = self._answers.get(request.call)
        expected = prompt_hash(request)
        if answer is None or answer["prompt"] != expected:
            self._want(request, expected, answer)
            why = "no recorded answer" if answer is None else "the prompt has changed since the answer was recorded"
            raise ModelError(f"recorded:{self.name}: {why} for call {request.call}", call=request.call)
        reply = answer["reply"]
        return Completion(reply if isinstance(reply, str) else canonical_text(reply))

    @staticmethod
    def _want(request: Request, expected: str, answer: Any) -> None:
        if path := os.environ.get(WANTED):
            stale = answer["reply"] if answer else None
            line = {"call": request.call, "prompt": expected, **whole_prompt(request), "stale": stale}
            with Path(path).open("ab") as wanted:
                wanted.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    async def likelihood(self, request: Request, texts: list[str]) -> list[Likelihood]:
        """Recorded answers have no likelihoods."""
        raise BackendError("--scoring likelihood needs a model that computes: local:NAME, not recorded:FILE")

    async def close(self) -> None:
        """Nothing to release."""


def canonical_text(reply: Any) -> str:
    """A recorded JSON reply as the text that a model would send."""
    return canonical(reply).decode()
