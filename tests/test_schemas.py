"""The schemas: sound, described throughout, closed, equal where they share a shape, and the same as the types."""

import copy
import json
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import jsonschema
import jsonschema_rs
import pytest

from pmem import records

ROOT = Path(__file__).parent.parent
TYPES: dict[str, Any] = {
    "persona": records.Persona,
    "conversation": records.Conversation,
    "filler": records.Filler,
    "history": records.History,
    "qa": records.QA,
    "owed": records.Owed,
    "result": records.Result,
    "memory": records.Memory,
    "metric": records.Metric,
    "usage": records.Usage,
    "error": records.ErrorRecord,
}
OPEN = {"profile", "draws", "labels", "values", "prompts", "histories", "record"}
EXAMPLES = sorted(path.stem for path in (ROOT / "tests/records").glob("*.json"))


@cache
def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / f"schemas/{name}.schema.json").read_text(encoding="utf-8"))
    return loaded


def example(name: str) -> Any:
    return json.loads((ROOT / f"tests/records/{name}.json").read_text(encoding="utf-8"))


def type_of(name: str) -> str:
    return name.split("-")[0]


def subschemas(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every schema inside a schema, itself included, with where it stands."""
    if not isinstance(node, dict):
        return
    yield path, node
    for key in ("properties", "$defs"):
        for name, inner in node.get(key, {}).items():
            yield from subschemas(inner, (*path, key, name))
    for key in ("items", "additionalProperties"):
        yield from subschemas(node.get(key), (*path, key))
    for n, inner in enumerate(node.get("anyOf", [])):
        yield from subschemas(inner, (*path, "anyOf", str(n)))


@pytest.fixture(params=list(TYPES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_there_is_a_schema_per_type_and_no_other() -> None:
    assert {path.name for path in (ROOT / "schemas").iterdir()} == {f"{name}.schema.json" for name in TYPES}


def test_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))
    assert jsonschema_rs.meta.is_valid(schema(name))
    assert schema(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema(name)["$id"] == f"{name}.schema.json"
    assert schema(name)["title"] and schema(name)["description"]


def test_subschemas_are_all_found(name: str) -> None:
    """No keyword outside of those that this file walks and compares can hide a schema."""
    known = {
        "$schema", "$id", "$defs", "$ref", "title", "description", "type", "const", "enum", "pattern", "minLength",
        "minimum", "items", "minItems", "maxItems", "properties", "required", "additionalProperties", "anyOf",
    }  # fmt: skip
    for path, node in subschemas(schema(name)):
        assert not set(node) - known, path


def test_every_property_is_described(name: str) -> None:
    for path, node in subschemas(schema(name)):
        named = len(path) >= 2 and path[-2] in ("properties", "$defs")
        if named or path[-1:] == ("additionalProperties",):
            assert node.get("description", "").endswith("."), path


def test_objects_are_closed_except_the_open_maps(name: str) -> None:
    for path, node in subschemas(schema(name)):
        if "object" not in node.get("type", ()) or "$ref" in node:
            continue
        if "properties" in node:
            assert node["additionalProperties"] is False, path
        else:
            assert "additionalProperties" in node, path
            assert {part for part in path if part in OPEN}, f"{path} is open, but not on the list"


def test_patterns_are_anchored(name: str) -> None:
    for path, node in subschemas(schema(name)):
        pattern = node.get("pattern", "^$")
        assert pattern.startswith("^") and pattern.endswith("$"), path


def test_shared_shapes_are_the_same_in_every_file() -> None:
    seen: dict[str, tuple[str, str]] = {}
    for name in TYPES:
        for shape, node in schema(name).get("$defs", {}).items():
            text = json.dumps(node)  # the order of keys counts
            first, before = seen.setdefault(shape, (name, text))
            assert text == before, f"$defs/{shape} differs between {first} and {name}"
    assert {"preference", "owner", "secret", "message", "persona_card", "provenance", "vote"} <= set(seen)


def test_every_shape_is_used(name: str) -> None:
    used = {node["$ref"] for _, node in subschemas(schema(name)) if "$ref" in node}
    assert used == {f"#/$defs/{shape}" for shape in schema(name).get("$defs", {})}


def test_messages_are_the_last_key_of_a_history() -> None:
    assert list(schema("history")["properties"])[-1] == "messages"
    assert list(get_type_hints(records.History))[-1] == "messages"
    for name in EXAMPLES:
        if type_of(name) == "history":
            assert list(example(name))[-1] == "messages"


# Types and schemas, each as the set of what a value may be: comparable, constraints on text and numbers left out.

PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", Any: "anything"}


def of_hint(hint: Any) -> frozenset[Any]:
    """What a value of this type may be."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return frozenset([PLAIN[hint]])
    if origin in (types.UnionType, Union):
        return frozenset().union(*map(of_hint, args))
    if origin is Literal:
        return frozenset([("string", args)])
    if origin is list:
        return frozenset([("array", of_hint(args[0]))])
    if origin is dict:
        assert args[0] is str
        return frozenset([("map", of_hint(args[1]))])
    assert is_typeddict(hint), hint
    keys = []
    for key, inner in get_type_hints(hint, include_extras=True).items():
        optional = get_origin(inner) is NotRequired
        keys.append((key, not optional, of_hint(get_args(inner)[0] if optional else inner)))
    return frozenset([("object", tuple(keys))])


def of_schema(node: Any, root: dict[str, Any]) -> frozenset[Any]:
    """What a value under this schema may be."""
    if node is True:
        return frozenset(["anything"])
    if "$ref" in node:
        shape = root["$defs"][node["$ref"].removeprefix("#/$defs/")]
        return of_schema({**shape, **{key: node[key] for key in node if key != "$ref"}}, root)
    if "const" in node:
        return frozenset([("string", (node["const"],))])
    if "type" not in node:
        return frozenset().union(*(of_schema(inner, root) for inner in node["anyOf"]))
    named = [node["type"]] if isinstance(node["type"], str) else node["type"]
    return frozenset(_of_one(kind, node, root) for kind in named)


def _of_one(kind: str, node: dict[str, Any], root: dict[str, Any]) -> Any:
    if kind == "string" and "enum" in node:
        assert (None in node["enum"]) == ("null" in node["type"])
        return ("string", tuple(label for label in node["enum"] if label is not None))
    if kind == "array":
        return ("array", of_schema(node["items"], root))
    if kind == "object" and "properties" in node:
        assert set(node["required"]) <= set(node["properties"])
        keys = node["properties"].items()
        return ("object", tuple((key, key in node["required"], of_schema(inner, root)) for key, inner in keys))
    if kind == "object":
        return ("map", of_schema(node["additionalProperties"], root))
    return kind


def test_types_say_what_the_schemas_say(name: str) -> None:
    """Keys and their order, which are required, value types, labels and their order, at every depth."""
    assert of_hint(TYPES[name]) == of_schema(schema(name), schema(name))


def test_the_comparison_sees_a_difference() -> None:
    for path, change in [
        (("required",), ["type"]),
        (("properties", "domain", "enum"), ["maths", "code"]),
        (("properties", "source", "type"), ["string", "null"]),
        (("$defs", "message", "properties", "role", "enum"), ["user", "assistant", "system"]),
    ]:
        changed = copy.deepcopy(schema("filler"))
        put(changed, path, change)
        assert of_schema(changed, changed) != of_hint(records.Filler), path


def test_conditions_that_types_cannot_say() -> None:
    """anyOf beside properties (which the comparison skips) stands in one place only."""
    found = [
        (name, path) for name in TYPES for path, node in subschemas(schema(name)) if {"anyOf", "type"} <= set(node)
    ]
    assert found == [("metric", ())]


# Records, right and wrong, before both validators.


@cache
def validators(name: str) -> tuple[Any, Any]:
    return jsonschema.Draft202012Validator(schema(name)), jsonschema_rs.validator_for(schema(name))


def pointers(name: str, record: Any) -> list[str]:
    """Where the faults are, as JSON pointers: what both validators say, which must be the same."""
    python, rust = validators(name)
    by_python = {"".join(f"/{part}" for part in fault.absolute_path) for fault in python.iter_errors(record)}
    by_rust = {"".join(f"/{part}" for part in fault.instance_path) for fault in rust.iter_errors(record)}
    assert by_python == by_rust
    return sorted(by_python)


GONE = object()


def put(value: Any, path: tuple[str | int, ...], new: Any) -> None:
    """Change what stands at `path` to `new`, or take it away (GONE)."""
    for part in path[:-1]:
        value = value[part]
    if new is GONE:
        del value[path[-1]]
    else:
        value[path[-1]] = new


def parts(pointer: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in pointer.split("/")[1:])


def test_every_type_has_an_example() -> None:
    assert {type_of(name) for name in EXAMPLES} == set(TYPES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_valid(name: str) -> None:
    assert pointers(type_of(name), example(name)) == []


def test_examples_show_every_key(name: str) -> None:
    """Between them the examples hold every key of the record, optional ones included."""
    shown = set().union(*(example(one) for one in EXAMPLES if type_of(one) == name))
    assert shown == set(schema(name)["properties"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_required_keys_are_missed_and_others_are_not(name: str) -> None:
    kind = type_of(name)
    for key in example(name):
        record = example(name)
        del record[key]
        needed = key in schema(kind)["required"] or kind == "metric"  # a metric needs one of two pairs
        assert pointers(kind, record) == ([""] if needed else []), key


# example, where it is changed, what then stands there, where the fault is
FAULTS = [
    ("persona", "/type", "person", "/type"),
    ("persona", "/id", "p-3f9a01c2d4e5", "/id"),
    ("persona", "/language", "Turkish", "/language"),
    ("persona", "/profile/traits/habits", 3, "/profile/traits/habits"),
    ("persona", "/profile/traits", "calm", "/profile/traits"),
    ("persona", "/draws/age", {"years": 41}, "/draws/age"),
    ("persona", "/preferences/1/kind", "anti-stereotypical", "/preferences/1/kind"),
    ("persona", "/preferences/1/id", "p-3f9a01c2d4e5b607/s7", "/preferences/1/id"),
    ("persona", "/preferences/1/owner/who", "sister", "/preferences/1/owner/who"),
    ("persona", "/preferences/1/owner/relation", GONE, "/preferences/1/owner"),
    ("persona", "/preferences/1/updates", "s02", "/preferences/1/updates"),
    ("persona", "/preferences/1/forget", "no", "/preferences/1/forget"),
    ("persona", "/preferences/1", None, "/preferences/1"),
    ("persona", "/secrets/0/kind", "shoe_size", "/secrets/0/kind"),
    ("persona", "/secrets/0/id", "p-3f9a01c2d4e5b607/s01", "/secrets/0/id"),
    ("persona", "/secrets/0", None, "/secrets/0"),
    ("persona", "/labels/region", 5, "/labels/region"),
    ("persona", "/provenance/prompts/persona", "0123", "/provenance/prompts/persona"),
    ("persona", "/provenance/stage", GONE, "/provenance"),
    ("persona", "/provenance/host", "node-3", "/provenance"),
    ("conversation", "/event", "mentions", "/event"),
    ("conversation", "/event", None, "/event"),
    ("conversation", "/scenario", "email", "/scenario"),
    ("conversation", "/languages", [], "/languages"),
    ("conversation", "/after/0", "f-0a1b2c3d4e5f6071", "/after/0"),
    ("conversation", "/persona", None, "/persona"),
    ("conversation", "/persona/seed", "...", "/persona"),
    ("conversation", "/preference/kind", "odd", "/preference/kind"),
    ("conversation", "/messages", [], "/messages"),
    ("conversation", "/messages/0/role", "system", "/messages/0/role"),
    ("conversation", "/messages/1/content", "", "/messages/1/content"),
    ("conversation", "/messages/1/content", [], "/messages/1/content"),
    ("conversation", "/messages/1/name", "bot", "/messages/1"),
    ("conversation-photo", "/messages/0/content/0/type", "image_url", "/messages/0/content/0"),
    ("conversation-photo", "/messages/0/content/1/image_url", "images/lens.png", "/messages/0/content/1"),
    ("conversation-photo", "/messages/0/content/1/image_url/url", GONE, "/messages/0/content/1"),
    ("filler", "/domain", "math", "/domain"),
    ("filler", "/id", "c-00ff11ee22dd33cc", "/id"),
    ("filler", "/source", "", "/source"),
    ("filler", "/messages/1/role", "tool", "/messages/1/role"),
    ("filler", "/persona_id", None, ""),
    ("history", "/persona_id", "defne", "/persona_id"),
    ("history", "/user_id", "", "/user_id"),
    ("history", "/budget", "32k", "/budget"),
    ("history", "/tokens", -1, "/tokens"),
    ("history", "/tokens", 90.5, "/tokens"),
    ("history", "/persona/language", "TR", "/persona/language"),
    ("history", "/system", ["You are helpful."], "/system"),
    ("history", "/sessions/0/what", "chat", "/sessions/0/what"),
    ("history", "/sessions/1/date", "20.03.2025", "/sessions/1/date"),
    ("history", "/sessions/1/end", None, "/sessions/1/end"),
    ("history", "/sessions/1/event", "forgets", "/sessions/1/event"),
    ("history", "/sessions/1/preference/topic", GONE, "/sessions/1/preference"),
    ("history", "/sessions/1/secrets/0/value", 2025550143, "/sessions/1/secrets/0/value"),
    ("history", "/dropped/0/why", GONE, "/dropped/0"),
    ("history", "/messages/2/role", "system", "/messages/2/role"),
    ("qa", "/case", "others", "/case"),
    ("qa", "/previous/reason", 4, "/previous/reason"),
    ("qa", "/secret", "+1 202 555 0143", "/secret"),
    ("qa", "/answer", "", "/answer"),
    ("qa", "/answer", None, "/answer"),
    ("qa", "/distractors/2/made", "boring", "/distractors/2/made"),
    ("qa", "/options", ["only one"], "/options"),
    ("qa", "/options/2", "", "/options/2"),
    ("qa", "/gold", "b", "/gold"),
    ("qa", "/gold", "BC", "/gold"),
    ("qa", "/histories/32k/id", "q-5566778899aabbcc", "/histories/32k/id"),
    ("qa", "/histories/128k/distance_tokens", GONE, "/histories/128k"),
    ("qa", "/split", "test", "/split"),
    ("qa", "/votes/0/check", "blindness", "/votes/0/check"),
    ("qa", "/votes/0/n", -1, "/votes/0/n"),
    ("qa", "/votes/1/verdict", None, "/votes/1/verdict"),
    ("qa", "/votes/1/reason", GONE, "/votes/1"),
    ("owed", "/id", "s07", "/id"),
    ("owed", "/case", None, "/case"),
    ("owed", "/kind", "sensitive", "/kind"),
    ("owed", "/asked", 0, "/asked"),
    ("owed", "/persona_id", GONE, ""),
    ("result", "/mode", "multiple_choice", "/mode"),
    ("result", "/context", "history", "/context"),
    ("result", "/scoring", "logprob", "/scoring"),
    ("result", "/choice", "Based", "/choice"),
    ("result", "/reply", None, "/reply"),
    ("result", "/correct", None, "/correct"),
    ("result", "/permutation", "0", "/permutation"),
    ("result", "/labels/case", True, "/labels/case"),
    ("result-likelihood", "/likelihoods/1/logprob", None, "/likelihoods/1/logprob"),
    ("result-likelihood", "/likelihoods/1/none", GONE, "/likelihoods/1"),
    ("result-open", "/votes/0/check", "closed", "/votes/0/check"),
    ("memory", "/chunk", 0, "/chunk"),
    ("memory", "/text", None, "/text"),
    ("memory", "/previous_id", "h-abcdefabcdef0123", "/previous_id"),
    ("memory", "/edited", 1, "/edited"),
    ("memory", "/query", "What do I eat?", ""),
    ("memory", "/entries/0/evidence/0", -2, "/entries/0/evidence/0"),
    ("memory", "/entries/0/changed_chunk", GONE, "/entries/0"),
    ("metric", "/value", "0.53", "/value"),
    ("metric", "/step", -1, "/step"),
    ("metric", "/run", "", "/run"),
    ("metric", "/time", 12.5, ""),
    ("metric-values", "/values/loss", "high", "/values/loss"),
    ("usage", "/role", "embedder", "/role"),
    ("usage", "/calls", -1, "/calls"),
    ("usage", "/cost_usd", "0.20", "/cost_usd"),
    ("usage", "/prices", GONE, ""),
    ("error", "/reason", "timeout", "/reason"),
    ("error", "/line", 0, "/line"),
    ("error", "/items/0", 7, "/items/0"),
    ("error", "/record", "{}", "/record"),
    ("error-json", "/message", "", "/message"),
    ("error-json", "/raw", {"type": "qa"}, "/raw"),
]


@pytest.mark.parametrize(("name", "at", "new", "fault"), FAULTS)
def test_faults_are_found_where_they_are(name: str, at: str, new: Any, fault: str) -> None:
    record = example(name)
    put(record, parts(at), new)
    assert pointers(type_of(name), record) == [fault]


def test_every_type_has_faults() -> None:
    kinds = [type_of(fault[0]) for fault in FAULTS]
    assert min(kinds.count(kind) for kind in TYPES) >= 4
