"""LoCoMo: very long chats of two people, with questions about them that have free answers."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import orjson

from pmem.errors import RecordError
from pmem.formats.imported import Histories, Record, Session, keys, question, text
from pmem.formats.items import items
from pmem.images import in_words
from pmem.stream.made import Made
from pmem.stream.source import Entry, Torn

SOURCE = "locomo"
UNANSWERABLE = "5"
"""The category of questions that take for granted what was never said."""
NOT_SAID = "The conversations don't say: what the question takes for granted was never mentioned, or of somebody else."
_SESSION = re.compile(r"session_(\d+)")
_TURN = re.compile(r"D\d+:\d+")
_DATE = "%I:%M %p on %d %B, %Y"


def entries(paths: tuple[str, ...]) -> Iterator[Entry | Torn]:
    """Every question of every sample, with the `sample_id`; numbers count the questions of a file."""
    for path in paths:
        number = 0
        for found in items((path,)):
            sample = found.entry.record if isinstance(found, Torn) else found.record
            if isinstance(found, Torn) or _is_question(sample):
                number += 1
                yield found
                continue
            for one in _questions(found):
                number += 1
                yield one._replace(number=number) if isinstance(one, Entry) else one


def _questions(found: Entry) -> Iterator[Entry | Torn]:
    sample = found.record
    if not isinstance(sample.get("conversation"), dict) or not isinstance(sample.get("qa"), list):
        said = f"no sample of LoCoMo: expected sample_id, conversation and qa; found {keys(sample)}"
        yield Torn(found, RecordError(said, reason="type"))
        return
    for one in sample["qa"]:
        record = {"sample_id": sample.get("sample_id"), **(one if isinstance(one, dict) else {"question": one})}
        yield Entry(record, orjson.dumps(record), found.file, found.number)


def _is_question(record: Record) -> bool:
    return "sample_id" in record and "question" in record and "qa" not in record


class Importer:
    """Makes the record of a question. put_history: where histories go."""

    def __init__(self, put_history: Callable[[Record], None] | None = None) -> None:
        self._histories = Histories(SOURCE, put_history)
        self._samples: dict[str, dict[str, Record]] = {}

    def __call__(self, entry: Entry) -> Made:
        """The question."""
        item = entry.record
        sample = text(item.get("sample_id"), "/sample_id")
        asked, category = text(item.get("question"), "/question"), str(item.get("category"))
        conversation = self._conversation(entry.file, sample)
        told = self._histories.told(sample, "whole", sample, lambda: (None, _sessions(conversation)))
        named = set(_TURN.findall(str(item.get("evidence"))))
        shown = [(n, turn) for n, turn in enumerate(_turns(conversation)) if str(turn.get("dia_id")) in named]
        unanswerable = category == UNANSWERABLE and "answer" not in item
        wrong = item.get("adversarial_answer")
        made = question(
            SOURCE,
            [sample, asked, category],
            user=sample,
            query=asked,
            answer=NOT_SAID if unanswerable else text(item.get("answer"), "/answer"),
            labels={
                "category": category,
                "abstention": "yes" if unanswerable else None,
                "adversarial_answer": None if wrong is None else str(wrong),
            },
            histories=told.reference(shown[-1][0] if shown else None),
            snippet=[_message(turn, conversation) for _, turn in shown],
        )
        return Made([made])

    def _conversation(self, file: str, sample: str) -> Record:
        if file not in self._samples:
            found = [one.record for one in items((file,)) if isinstance(one, Entry)]
            self._samples[file] = {
                str(one["sample_id"]): one["conversation"]
                for one in found
                if "sample_id" in one and isinstance(one.get("conversation"), dict)
            }
        if sample not in self._samples[file]:
            raise RecordError(f"{file} holds no conversation of {sample}", reason="schema", pointer="/sample_id")
        return self._samples[file][sample]


def _numbered(conversation: Record) -> list[tuple[int, str]]:
    found = [(int(match[1]), key) for key in conversation if (match := _SESSION.fullmatch(key))]
    return sorted((number, key) for number, key in found if isinstance(conversation[key], list))


def _turns(conversation: Record) -> Iterator[Record]:
    """All turns in order."""
    for _, key in _numbered(conversation):
        for turn in conversation[key]:
            if not isinstance(turn, dict) or not isinstance(turn.get("text"), str):
                raise RecordError(f"expected turns with speaker and text in {key}", reason="schema")
            yield turn


def _sessions(conversation: Record) -> list[Session]:
    sessions = []
    turns = _turns(conversation)
    for _, key in _numbered(conversation):
        messages = [_message(next(turns), conversation) for _ in conversation[key]]
        date = conversation.get(f"{key}_date_time")
        if messages and isinstance(date, str):
            messages[0] = {**messages[0], "content": f"[{date}] {messages[0]['content']}"}
        if messages:
            sessions.append(Session(key, messages, _day(date)))
    return sessions


def _message(turn: Record, conversation: Record) -> Record:
    """A turn as a message: the first speaker's are the user's. An image stands there by its caption."""
    caption = turn.get("blip_caption")
    photo = f"\n{in_words(str(caption or ''))}" if caption or turn.get("img_url") else ""
    role = "user" if turn.get("speaker") == conversation.get("speaker_a") else "assistant"
    return {"role": role, "content": f"{turn.get('speaker')}: {turn['text']}{photo}"}


def _day(date: Any) -> str | None:
    try:
        return datetime.strptime(str(date), _DATE).date().isoformat()
    except ValueError:
        return None
