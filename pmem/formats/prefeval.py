"""PrefEval: a preference, told outright or shown in a chat, and later a question whose usual answer goes against it.

`explicit_preference/TOPIC.json`, `implicit_preference/{choice-based,persona-driven}/TOPIC.json`, and
`mcq_options/TOPIC.json` with four options for each question, in the same order. No file tells which option is right:
by the benchmark's convention it is the first.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pmem.draws import Draw, make_id
from pmem.errors import InputError, RecordError
from pmem.formats.imported import Histories, Message, Record, Session, choices, persona_id, question, text
from pmem.formats.items import items
from pmem.stream.made import Made
from pmem.stream.source import Entry, Torn

SOURCE = "prefeval"
FOLDERS = ("explicit_preference", "implicit_preference/choice-based", "implicit_preference/persona-driven")
OPTIONS = "mcq_options"
HEARD = "Thanks for telling me. I'll keep it in mind."
"""The reply to a preference that is told outright: the benchmark has the model under test write one."""


def entries(paths: tuple[str, ...]) -> Iterator[Entry | Torn]:
    """Every question of files, and of the three forms in folders."""
    for path in map(Path, paths):
        found = [one for name in FOLDERS for one in sorted((path / name).glob("*.json"))] if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: holds none of {', '.join(FOLDERS)}")
        yield from items(tuple(map(str, found)))


class Fillers:
    """Turns that have nothing to do with a preference. records: filler records, of which dialogues are drawn."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self.turns = sum(len(one["messages"]) // 2 for one in records)

    def sessions(self, turns: int, draw: Draw) -> list[Session]:
        """So many turns, of drawn dialogues one after the other; the last is cut."""
        sessions: list[Session] = []
        for one in draw.shuffled(self._records) if turns else []:
            messages = one["messages"][: 2 * min(turns, len(one["messages"]) // 2)]
            sessions.append(Session(one["id"], messages, what="filler"))
            turns -= len(messages) // 2
            if not turns:
                break
        return sessions


class Importer:
    """Makes the question of an item. turns: of filler between preference and question, a history for each number;
    put_history: where these go; without_options: questions for which none were found."""

    def __init__(
        self,
        turns: tuple[int, ...],
        fillers: Fillers,
        *,
        seed: int,
        put_history: Callable[[Record], None] | None = None,
    ) -> None:
        self._histories = Histories(SOURCE, put_history)
        self._turns, self._fillers, self._seed = turns, fillers, seed
        self._options: dict[Path, list[Record]] = {}
        self.without_options = 0

    def __call__(self, entry: Entry) -> Made:
        """The question."""
        item, topic = entry.record, Path(entry.file).name.partition(".")[0]
        preference, asked = (text(item.get(name), f"/{name}") for name in ("preference", "question"))
        form, shown = _shown(item, preference)
        key = [form, topic, preference, asked]
        user = f"{topic}: {asked}"  # the three forms of one preference hang together
        own_id = make_id("q", SOURCE, key)
        offered = self._offered(item, entry, asked)
        self.without_options += not offered
        named = {"id": f"{persona_id(SOURCE, user)}/u01", "kind": None, "text": preference, "topic": topic}
        told = {"owner": {"who": "self", "relation": None}, "updates": None, "reason": None, "forget": False}
        placed: Record = {}
        for turns in self._turns:
            placed |= self._placed(turns, key, user, own_id, shown)
        made = question(
            SOURCE,
            key,
            user=user,
            query=asked,
            answer=offered[0] if offered else text(item.get("explanation"), "/explanation"),
            labels={"form": form, "topic": topic},
            histories=placed,
            snippet=shown,
            case="own",
            preference=named | told,
            topic=topic,
            **(choices(offered, 0, self._seed, own_id) if offered else {}),
        )
        return Made([made])

    def _placed(self, turns: int, key: list[str], user: str, own_id: str, shown: list[Message]) -> Record:
        """The question's history with so many turns between."""
        filler = self._fillers.sessions(turns, Draw(self._seed, own_id, "filler"))
        sessions = [Session(key[0], shown), *filler]
        whole = (*key, turns, *(one.id for one in filler))
        told = self._histories.told(whole, f"{turns}-turns", user, lambda: (None, sessions))
        return told.reference(len(shown) - 1)

    def _offered(self, item: Record, entry: Entry, asked: str) -> list[str]:
        """The options for a question: its own, or those in the topic's file that stand for it; the right one first."""
        found = item if "classification_task_options" in item else self._row(entry, asked)
        given = found.get("classification_task_options", [])
        if not isinstance(given, list):
            raise RecordError("expected a list", reason="schema", pointer="/classification_task_options")
        return [text(one, "/classification_task_options") for one in given]

    def _row(self, entry: Entry, asked: str) -> Record:
        file = Path(entry.file)
        places = [folder / OPTIONS / file.name for folder in list(file.absolute().parents)[1:3]]
        path = next((one for one in places if one.is_file()), places[0])
        if path not in self._options:
            listed = items((str(path),)) if path.is_file() else iter(())
            self._options[path] = [one.record if isinstance(one, Entry) else {} for one in listed]
        rows = self._options[path]
        there = [*rows[entry.number - 1 : entry.number], *rows]  # the same place first: questions may come again
        return next((one for one in there if str(one.get("question")).strip() == asked), {})


def _shown(item: Record, preference: str) -> tuple[str, list[Message]]:
    """The form, and the messages that show the preference."""
    told = item.get("conversation")
    if told is None:
        return "explicit", _dialogue([(preference, HEARD)])
    if not isinstance(told, dict) or not told:
        raise RecordError("expected an object with what was said", reason="schema", pointer="/conversation")
    if "query" in told:
        names = (("query", "assistant_options"), ("user_selection", "assistant_acknowledgment"))
        said = [tuple(text(told.get(one), f"/conversation/{one}") for one in pair) for pair in names]
        return "choice-based", _dialogue(said)
    turns = sorted(told, key=lambda name: int(name) if name.isdecimal() else -1)
    return "persona-driven", _dialogue([_pair(told[name], f"/conversation/{name}") for name in turns])


def _pair(turn: Any, pointer: str) -> tuple[str, ...]:
    if not isinstance(turn, dict):
        raise RecordError("expected user and assistant", reason="schema", pointer=pointer)
    return tuple(text(turn.get(one), f"{pointer}/{one}") for one in ("user", "assistant"))


def _dialogue(said: list[tuple[str, ...]]) -> list[Message]:
    return [
        {"role": role, "content": content}
        for pair in said
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]
