"""Personas: from a row and its raw persona file to a record, and back to the file's block."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import orjson

import pmem
from pmem import lists
from pmem.draws import fingerprint, make_id
from pmem.errors import RecordError
from pmem.formats.personamem_v2.cells import UNKNOWN
from pmem.formats.personamem_v2.labels import Labels
from pmem.formats.personamem_v2.layout import KEPT, SOURCE, Row, json_object, sound

UNDETERMINED = "und"
"""ISO 639 for a language that isn't known."""
OWN_COLUMNS = ("persona_id", "raw_persona_file", "short_persona", "expanded_persona")
OWN_ID = re.compile("p-[0-9a-f]{16}")
RAW = KEPT + "raw."
"""Before a key of a raw persona file: the label that keeps, as JSON, what the record doesn't give back."""
SCENARIOS = "conversations"
"""The one key that is not kept: the rows and histories over again."""
Block = dict[str, Any]


class Known(NamedTuple):
    """What rows need of their persona: its record without the profile, preferences by their text, and the row's own
    columns as they stood when it was first met."""

    id: str
    card: dict[str, str]
    preferences: dict[str, dict[str, Any]]
    secrets: list[dict[str, Any]]
    columns: str


def persona_id(row: Row) -> str:
    """pmem's own id where a row has one, else one that follows from the published number and the raw file's name."""
    given = row["persona_id"]
    if OWN_ID.fullmatch(given):
        return given
    return make_id("p", SOURCE, given, row["raw_persona_file"])


def known(record: dict[str, Any], row: Row) -> Known:
    """What to keep of a persona while its rows are read."""
    return Known(
        record["id"],
        {key: record[key] for key in ("id", "name", "language", "summary")},
        {_plain(preference["text"]): preference for preference in record["preferences"]},
        record["secrets"],
        columns(row),
    )


def columns(row: Row) -> str:
    """A digest of the persona's descriptions in a row."""
    return fingerprint([row["short_persona"], row["expanded_persona"]])


def preference_of(known: Known, text: str) -> dict[str, Any] | None:
    """The persona's preference with this text."""
    return known.preferences.get(_plain(text))


def _plain(text: str) -> str:
    return text.strip(" .\n").casefold()


# ---- from the published files ---------------------------------------------------------------------------------------


def block_of(path: Path, row: Row) -> Block:
    """The persona's block in a raw persona file."""
    data = json_object(path)
    block = data.get(row["persona_id"], next(iter(data.values()), None))
    if not isinstance(block, dict):
        raise RecordError(f"{path}: holds no persona '{row['persona_id']}'", reason="schema")
    return block


def persona(row: Row, block: Block | None, labels: Labels) -> dict[str, Any]:
    """The persona of a row. Without its raw file, preferences and secrets stay empty."""
    own_id = persona_id(row)
    if block and isinstance(block.get("pmem"), dict):
        return sound("persona", block["pmem"])
    expanded = _expanded(row["expanded_persona"])
    name, short = _text(expanded.get("name")), row["short_persona"].strip()
    record = {
        "type": "persona",
        "id": own_id,
        "seed": short or UNKNOWN,
        "name": name or f"Persona {row['persona_id']}".strip(),
        "language": _language(expanded),
        "summary": short or UNKNOWN,
        "profile": _profile(expanded),
        "draws": {},
        "preferences": _preferences(own_id, block or {}, labels),
        "secrets": _secrets(own_id, block or {}, labels),
        "provenance": {"stage": "import", "pmem": pmem.__version__, "source": SOURCE},
    }
    kept = {KEPT + column: row[column] for column in OWN_COLUMNS}
    if block:
        own = _block({**record, "labels": kept}, labels)
        left = {key for key in block if key != SCENARIOS and block[key] != own.get(key)}
        kept |= {RAW + key: _json(block[key]) for key in sorted(left)}
    return sound("persona", {**record, "labels": kept})


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _expanded(cell: str) -> Block:
    try:
        value = orjson.loads(cell)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _language(expanded: Block) -> str:
    """The native language as a code, by the list of languages that personas speak, whose native one says so."""
    spoken = expanded.get("languages_spoken") or expanded.get("languages") or expanded.get("native_language") or ""
    said = [str(one) for one in (spoken if isinstance(spoken, list) else [spoken])]
    first = next((one for one in said if "native" in one.casefold()), said[0] if said else "")
    names = {name.casefold(): code for code, name in lists.languages().items()}
    return names.get(first.split("(")[0].strip().casefold(), UNDETERMINED)


def _profile(expanded: Block) -> dict[str, dict[str, str | list[str]]]:
    profile: dict[str, dict[str, str | list[str]]] = {}
    for key, value in expanded.items():
        if key in ("short_persona", "name"):
            continue
        if isinstance(value, dict):
            profile[key] = {name: _value(one) for name, one in value.items()}
        else:
            profile.setdefault("general", {})[key] = _value(value)
    return profile


def _value(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [one if isinstance(one, str) else _json(one) for one in value]
    return value if isinstance(value, str) else _json(value)


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str) and one.strip()] if isinstance(value, list) else []


def _preferences(own_id: str, block: Block, labels: Labels) -> list[dict[str, Any]]:
    found = []
    for key, texts in block.items():
        if labels.knows("preferences", key):
            kind = labels.own("preferences", key)
            found += [preference(f"{own_id}/{kind[0]}{n:02d}", kind, text) for n, text in enumerate(_texts(texts), 1)]
    changes = block.get("preference_updates")
    by_text = {_plain(one["text"]): one for one in found}
    for n, (before, after) in enumerate(changes.items() if isinstance(changes, dict) else (), 1):
        old = by_text.get(_plain(before))
        if old and isinstance(after, str) and after.strip():  # of one that isn't in the lists, nothing is known
            found.append(preference(f"{own_id}/u{n:02d}", old["kind"], after) | {"updates": old["id"]})
    return found


def preference(own_id: str, kind: str | None, text: str) -> dict[str, Any]:
    """A preference of the user's own of which no more is known."""
    owner = {"who": "self", "relation": None}
    more = {"owner": owner, "updates": None, "reason": None, "forget": False}
    return {"id": own_id, "kind": kind, "text": text, "topic": UNKNOWN, **more}


def _secrets(own_id: str, block: Block, labels: Labels) -> list[dict[str, Any]]:
    given = block.get("sensitive_information")
    values = [
        (labels.own("secret", key), value)
        for key, value in (given.items() if isinstance(given, dict) else ())
        if labels.knows("secret", key) and isinstance(value, str) and value.strip()
    ]
    return [{"id": f"{own_id}/x{n:02d}", "kind": kind, "value": value} for n, (kind, value) in enumerate(values, 1)]


# ---- to the published files -----------------------------------------------------------------------------------------


def cells(record: dict[str, Any]) -> Row:
    """The persona's own columns: as they were imported, or as its fields say."""
    kept = record.get("labels", {})
    expanded = {
        "short_persona": record["seed"],
        "name": record["name"],
        **{key: value for key, value in record["draws"].items() if value is not None},
        "native_language": lists.languages().get(record["language"], record["language"]),
        "summary": record["summary"],
        **record["profile"],
    }
    own = {
        "persona_id": record["id"],
        "raw_persona_file": file_of(record["id"]),
        "short_persona": record["seed"],
        "expanded_persona": orjson.dumps(expanded, option=orjson.OPT_INDENT_2).decode(),
    }
    return {column: kept.get(KEPT + column, cell) for column, cell in own.items()}


def file_of(own_id: str) -> str:
    """Where a persona's raw file is written if no row says otherwise."""
    return f"data/raw_data/{own_id}.json"


def content(record: dict[str, Any], labels: Labels) -> bytes:
    """A raw persona file: a block under the persona's number, with
    the published keys; of pmem's own personas, the whole record stands under "pmem"."""
    block = _block(record, labels)
    updates = block.pop("preference_updates")  # stands last in the published files
    kept = {key: value for key, value in record.get("labels", {}).items() if key.startswith(RAW)}
    block |= {key.removeprefix(RAW): orjson.loads(value) for key, value in kept.items()}
    block["preference_updates"] = block.pop("preference_updates", updates)
    if record["provenance"].get("source") != SOURCE:
        block["pmem"] = record
    return orjson.dumps({cells(record)["persona_id"]: block}, option=orjson.OPT_INDENT_2)


def _block(record: dict[str, Any], labels: Labels) -> Block:
    """What the fields of a persona say under the published keys."""
    block = _expanded(cells(record)["expanded_persona"])
    block |= {labels.published("preferences", kind): [] for kind in _kinds(record)}
    texts = {one["id"]: one["text"] for one in record["preferences"]}
    updates = {}
    for one in record["preferences"]:
        if one["updates"] in texts:
            updates[texts[one["updates"]]] = one["text"]
        elif one["kind"] and one["owner"]["who"] == "self":
            block[labels.published("preferences", one["kind"])].append(one["text"])
    secrets = {labels.published("secret", one["kind"]): one["value"] for one in record["secrets"]}
    return {**block, "sensitive_information": secrets, "preference_updates": updates}


def _kinds(record: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(one["kind"] for one in record["preferences"] if one["kind"]))
