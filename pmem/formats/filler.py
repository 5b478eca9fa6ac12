"""Rows of other people's data sets to filler: dialogues that have nothing to do with any persona.

GSM8K: {"question", "answer"}, the answer ending with `#### result`. HumanEval: {"prompt", "canonical_solution"}, also
"entry_point" and "test". QuixBugs: {"buggy", "correct"}, also "name", "language" and "testcases". Messages:
{"messages"} as chat APIs have them. Each row makes one dialogue.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

import pmem
from pmem import check
from pmem.draws import Draw, make_id
from pmem.errors import RecordError
from pmem.formats import code, maths
from pmem.formats.dialogue import Dialogue


class Format(NamedTuple):
    """A kind of row: what its dialogues are about, the texts that it must have and that make it what it is."""

    domain: str
    texts: tuple[str, ...]
    dialogue: Callable[[dict[str, Any], Draw], Dialogue] | None = None  # None: the messages as they are
    name: str = ""  # the key that names a row, where there is one


FORMATS = {
    "gsm8k": Format("maths", ("question", "answer"), maths.dialogue),
    "humaneval": Format("code", ("prompt", "canonical_solution"), code.problem_dialogue, "task_id"),
    "quixbugs": Format("code", ("buggy", "correct"), code.pair_dialogue, "name"),
    "messages": Format("general", ()),
}
KEYS = {name: one.texts or ("messages",) for name, one in FORMATS.items()}


def parse(line: bytes) -> dict[str, Any]:
    """A line as a row; RecordError if it is no JSON object."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as fault:
        raise RecordError(f"not JSON: {fault}", reason="json") from None
    if not isinstance(row, dict):
        raise RecordError("expected a JSON object", reason="type")
    return row


def format_of(row: dict[str, Any]) -> str:
    """The format that a row is in, by its keys; RecordError if it is in none."""
    for name, keys in KEYS.items():
        if all(key in row for key in keys):
            return name
    known = "; ".join(f"{name} has {' and '.join(keys)}" for name, keys in KEYS.items())
    found = check.plain(", ".join(row), 100) or "none"
    raise RecordError(f"the keys ({found}) are of no known format: {known}", reason="type")


def filler(row: dict[str, Any], *, name: str, source: str, seed: int) -> dict[str, Any]:
    """The filler record of a row in the format `name`; RecordError if something in the row isn't as it must be."""
    one = FORMATS[name]
    _check(row, name)
    material = {key: row[key] for key in KEYS[name]}
    own_id = make_id("f", name, material, seed)
    messages = one.dialogue(row, Draw(seed, own_id, "dialogue")).messages if one.dialogue else _linear(row["messages"])
    record = {
        "type": "filler",
        "id": own_id,
        "domain": one.domain,
        "source": source,
        "provenance": {
            "stage": "import",
            "pmem": pmem.__version__,
            "seed": seed if one.dialogue else None,
            "source": " ".join(str(part) for part in (name, row.get(one.name)) if part),
        },
        "messages": messages,
    }
    if not check.validator("filler")(record):
        fault = check.first_fault(check.schema("filler"), record)
        raise RecordError(fault.message, reason="schema", pointer=fault.pointer)
    return record


def _check(row: dict[str, Any], name: str) -> None:
    for key in KEYS[name]:
        if key not in row:
            raise RecordError(f"expected a property '{key}', as {name} has", reason="schema")
    for key in FORMATS[name].texts:
        if not isinstance(row[key], str) or not row[key].strip():
            raise RecordError("expected text", reason="schema", pointer=f"/{key}")


def _linear(given: Any) -> list[dict[str, Any]]:
    """Messages of user and assistant in turn, without a system message before and without an unanswered end."""
    if not isinstance(given, list):
        raise RecordError("expected a list of messages", reason="schema", pointer="/messages")
    messages: list[dict[str, Any]] = []
    for place, message in enumerate(given):
        pointer = f"/messages/{place}"
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise RecordError("expected a message with role and content", reason="schema", pointer=pointer)
        if message["role"] in ("system", "developer") and place == 0:
            continue
        expected = "assistant" if len(messages) % 2 else "user"
        if message["role"] != expected:
            found = check.plain(str(message["role"]), 40)
            raise RecordError(
                f"expected a message of the {expected}, found one of {found}",
                reason="schema",
                pointer=f"{pointer}/role",
            )
        messages.append({"role": message["role"], "content": message["content"]})
    messages = messages[: len(messages) // 2 * 2]
    if not messages:
        raise RecordError("no message of the user has a reply", reason="schema", pointer="/messages")
    return messages


class Seen:
    """Which rows came before: exactly so, or with the same problem but for case, spacing, punctuation, letter forms."""

    def __init__(self) -> None:
        self._exact: set[bytes] = set()
        self._normal: set[bytes] = set()
        self.exact = self.normal = 0  # how many came again

    def again(self, row: dict[str, Any], name: str) -> str | None:
        """Why a row is left out, if one like it came before."""
        texts = [_text(row[key]) for key in KEYS[name]]
        exact, normal = _digest(texts), _digest([_normal(texts[0], name)])
        if exact in self._exact:
            self.exact += 1
            return f"the same {' and '.join(KEYS[name])} came before"
        self._exact.add(exact)
        if normal in self._normal:
            self.normal += 1
            return f"the same {KEYS[name][0]} came before, but for case, spacing or punctuation at most"
        self._normal.add(normal)
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _normal(text: str, name: str) -> str:
    """What counts of a text: its words; of code, its signs too."""
    text = unicodedata.normalize("NFKC", text)
    if FORMATS[name].domain == "code":
        return " ".join(re.findall(r"\w+|[^\w\s]", text))
    return " ".join(re.findall(r"\w+", text.casefold()))


def _digest(texts: list[str]) -> bytes:
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
