"""Rows to questions, with their histories and personas."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pmem
from pmem.choices import LETTERS
from pmem.draws import Draw, fingerprint, make_id
from pmem.errors import RecordError
from pmem.formats.imported import sound
from pmem.formats.personamem_v2 import cells, histories, layout, personas
from pmem.formats.personamem_v2.labels import Labels
from pmem.formats.personamem_v2.layout import KEPT, SOURCE, WINDOWS, Row
from pmem.formats.personamem_v2.personas import Known
from pmem.stream.made import Made
from pmem.stream.source import Entry

Put = Callable[[dict[str, Any]], None]
Found = TypeVar("Found")


class Meant(NamedTuple):
    """What a row asks about."""

    case: str
    who: str
    kind: str | None
    text: str  # the preference's; "" if there is none
    before: str  # that of the one it replaced; "" if there is none


class Importer:
    """Makes the question of each row; the histories and personas that rows name, where they are met first.

    put_history, put_persona: where these go (None: nowhere). missing: linked files that aren't there.
    """

    def __init__(
        self, labels: Labels, *, seed: int, put_history: Put | None = None, put_persona: Put | None = None
    ) -> None:
        self._labels = labels
        self._seed = seed
        self._put_history, self._put_persona = put_history, put_persona
        self._personas: dict[str, Known | RecordError] = {}
        self._links: dict[str, bool | RecordError] = {}
        self._seen: Counter[str] = Counter()
        self.missing: set[str] = set()

    def __call__(self, entry: Entry) -> Made:
        """The question of a row."""
        row: Row = entry.record
        who = self._persona(row, entry.file)
        links = {window: row[f"chat_history_{window}_link"] for window in WINDOWS}
        there = [window for window, link in links.items() if link and self._there(row, window, entry.file, who)]
        digest = fingerprint(row)
        made = self._question(row, entry.file, who, there, self._seen[digest])
        self._seen[digest] += 1
        return Made([made])

    def _persona(self, row: Row, file: str) -> Known:
        own_id = personas.persona_id(row)

        def read() -> Known:
            path = self._linked(row["raw_persona_file"], file)
            record = personas.persona(row, personas.block_of(path, row) if path else None, self._labels)
            found = personas.known(record, row)
            if self._put_persona:
                self._put_persona(record)
            return found

        return _once(self._personas, own_id, read)

    def _there(self, row: Row, window: str, file: str, who: Known) -> bool:
        """Whether the linked history is there; it is read, and goes out, when it is met first."""
        link = row[f"chat_history_{window}_link"]

        def read() -> bool:
            path = self._linked(link, file)
            if path and self._put_history:
                self._put_history(histories.history(path, row, window, who.card))
            return path is not None

        return _once(self._links, link, read)

    def _linked(self, link: str, file: str) -> Path | None:
        path = layout.linked(link, file) if link else None
        if link and path is None:
            self.missing.add(link)
        return path

    def _question(self, row: Row, file: str, who: Known, there: list[str], again: int) -> dict[str, Any]:
        own_id = make_id("q", SOURCE, row, again)
        meant = _meant(row, self._labels)
        scenario = self._labels.column("conversation_scenario", row["conversation_scenario"], "scenario")
        wrong = cells.json_list("incorrect_answers", row["incorrect_answers"])
        answers = [row["correct_answer"], *wrong]
        order = Draw(self._seed, own_id, "options").shuffled(range(len(answers))) if wrong else []
        split, folder = layout.place(file)
        made = {
            "type": "qa",
            "id": own_id,
            "persona_id": who.id,
            "case": meant.case,
            **_preferences(row, meant, who),
            "secret": _secret(row, wrong, who) if meant.case == "sensitive" else None,
            "scenario": scenario[1] if scenario else None,
            "topic": row["topic_preference"] or None,
            "query": cells.query(row["user_query"]),
            "query_topic": cells.topic(row["topic_query"]) or None,
            "answer": row["correct_answer"],
            "distractors": [{"text": text, "made": "imported"} for text in wrong],
            "options": [answers[place] for place in order] if wrong else None,
            "gold": LETTERS[order.index(0)] if wrong else None,
            "snippet": cells.json_list("related_conversation_snippet", row["related_conversation_snippet"]),
            "histories": {window: _reference(row, window) for window in there},
            "split": split,
            "votes": [],
            "provenance": {"stage": "import", "pmem": pmem.__version__, "seed": self._seed, "source": SOURCE},
        }
        sound("qa", made)
        kept = self._kept(row, made, who)
        if folder != cells.own_folder(made):
            kept[KEPT + "folder"] = folder
        return {**made, "labels": kept} if kept else made

    def _kept(self, row: Row, made: dict[str, Any], who: Known) -> dict[str, str]:
        own = cells.cells(made, self._labels)
        own |= {f"chat_history_{w}_link": histories.file_of(w, one["id"]) for w, one in made["histories"].items()}
        own["raw_persona_file"] = personas.file_of(who.id)
        if personas.columns(row) == who.columns:  # they go with the persona
            own |= {column: row[column] for column in ("short_persona", "expanded_persona")}
        return cells.kept(row, own)


def _meant(row: Row, labels: Labels) -> Meant:
    kind = labels.column("pref_type", row["pref_type"], "case", "kind")
    owner = labels.column("who", row["who"], "who")
    who = owner[1] if owner else "self"
    text, before = row["preference"].strip(), row["prev_pref"].strip()
    secret, updated = (cells.boolean(column, row[column]) for column in ("sensitive_info", "updated"))
    about = kind[1] if kind and kind[0] == "kind" else None
    if kind == ("case", "forgotten"):
        quoted = cells.FORGET.fullmatch(text)
        return Meant("forgotten", who, None, quoted[1] if quoted else before or text, "")
    if kind == ("case", "sensitive") or text == cells.SENSITIVE or (secret and not about):
        return Meant("sensitive", who, None, "" if text == cells.SENSITIVE else text, "")
    case = "other" if who != "self" else "updated" if updated and before else "own"
    return Meant(case, who, about, text, before if text else "")


def _preferences(row: Row, meant: Meant, who: Known) -> dict[str, Any]:
    """The preference, and the one that it replaced, by the persona's where it has one of this text."""
    if not meant.text:
        return {"preference": None, "previous": None}
    previous = _preference(meant.before, meant.kind, who) if meant.before else None
    found = _preference(meant.text, meant.kind, who)
    owner = {"who": meant.who, "relation": None}
    if found["owner"]["who"] == meant.who:
        owner = found["owner"]
    told = {
        "kind": meant.kind or found["kind"],
        "topic": row["topic_preference"] or found["topic"],
        "owner": owner,
        "updates": previous["id"] if previous else found["updates"],
        "forget": meant.case == "forgotten",
    }
    return {"preference": found | told, "previous": previous}


def _once(known: dict[str, Found | RecordError], key: str, read: Callable[[], Found]) -> Found:
    """What was read under a key when it was met first, or the fault that reading it had, again."""
    if key not in known:
        try:
            known[key] = read()
        except RecordError as fault:
            known[key] = fault
    found = known[key]
    if isinstance(found, RecordError):
        raise found
    return found


def _preference(text: str, kind: str | None, who: Known) -> dict[str, Any]:
    """The persona's preference of this text; else one of the row's kind, whose number follows from the text."""
    if known := personas.preference_of(who, text):
        return known | {"text": text}
    letter = kind[0] if kind else "u"
    return personas.preference(f"{who.id}/{letter}{int(fingerprint(text, 8), 16):02d}", kind, text)


def _secret(row: Row, wrong: list[Any], who: Known) -> dict[str, Any] | None:
    """The persona's secret that stands in the query or in a wrong answer; else the only one in the snippet."""
    asked = [row["user_query"], *map(str, wrong)]
    named = [one for one in who.secrets if any(one["value"] in text for text in asked)]
    shown = [one for one in who.secrets if one["value"] in row["related_conversation_snippet"]]
    if named:
        return named[0]
    return shown[0] if len(shown) == 1 else None


def _reference(row: Row, window: str) -> dict[str, Any]:
    def told(name: str) -> int | None:
        column = f"{name}_{window}"
        return cells.number(column, row[column])

    return {
        "id": histories.history_id(row[f"chat_history_{window}_link"]),
        "distance_tokens": told("distance_from_related_snippet_to_query"),
        "relevant_tokens": told("num_persona_relevant_tokens"),
        "filler_tokens": told("num_persona_irrelevant_tokens"),
    }
