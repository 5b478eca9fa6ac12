"""Records as rows of fixed columns. Arrow knows no open maps and no values of two types, so that

* an open map becomes a list of its entries, each with its `name`: `{"32k": {"id": ...}}` turns into
  `[{"name": "32k", "id": ...}]`, `{"style": "short"}` into `[{"name": "style", "value": "short"}]`,
* a message's content becomes its text, and `images` the addresses of its images,
* any other value that may be of several types becomes text, or the JSON of it,
* every key is there, null where a record has none.

The columns follow from the record's JSON Schema.
"""

from typing import Any

import orjson

from pmem import check
from pmem.tokens import text_of

Schema = dict[str, Any]
ARROW = {"string": "string", "integer": "int64", "number": "float64", "boolean": "bool"}
OF_LINES = {"messages_sha256"}
"""What says something of a record's line as pmem writes it, and would not be true of a row."""
TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}


def row(kind: str, record: dict[str, Any]) -> dict[str, Any]:
    """A record as a row."""
    root = check.schema(kind)
    made: dict[str, Any] = _value(root, root, record)
    return made


def features(kind: str) -> list[dict[str, Any]]:
    """The columns of a record type, in the form of a dataset card's `dataset_info`."""
    root = check.schema(kind)
    return [{"name": name, **_feature(root, node)} for name, node in _columns(root, root).items()]


def _feature(root: Schema, node: Schema) -> dict[str, Any]:
    form, node = _form(root, node)
    if form == "struct":
        return {"struct": _fields(root, _columns(root, node))}
    if form == "map":
        return {"list": _fields(root, _entry(root, node))}
    if form == "list":
        inner = _feature(root, node["items"])
        # "sequence" of a plain type and "list" of columns are read by every version of the library
        return {"sequence": inner["dtype"]} if "dtype" in inner else {"list": inner["struct"]}
    return {"dtype": ARROW.get(form, "string")}


def _fields(root: Schema, columns: dict[str, Schema]) -> list[dict[str, Any]]:
    return [{"name": name, **_feature(root, node)} for name, node in columns.items()]


def _value(root: Schema, node: Schema, value: Any) -> Any:
    if value is None:
        return None
    form, node = _form(root, node)
    if form == "struct":
        given = _parted(value) if _is_message(node) else value
        return {name: _value(root, part, given.get(name)) for name, part in _columns(root, node).items()}
    if form == "map":
        return [_entry_value(root, node, name, one) for name, one in value.items()]
    if form == "list":
        return [_value(root, node["items"], one) for one in value]
    if form == "mixed":
        return value if isinstance(value, str) else orjson.dumps(value).decode()
    return value


def _form(root: Schema, node: Schema) -> tuple[str, Schema]:
    """How a node of a schema is laid out ("struct", "map", "list", "mixed" or a plain JSON type), and the node."""
    if "$ref" in node:
        node = root["$defs"][node["$ref"].removeprefix("#/$defs/")]
    if "const" in node:
        return "string", node
    types = [node["type"]] if isinstance(node["type"], str) else [one for one in node["type"] if one != "null"]
    if len(types) > 1:
        return "mixed", node
    if types == ["object"]:
        return "struct" if "properties" in node else "map", node
    return "list" if types == ["array"] else types[0], node


def _columns(root: Schema, node: Schema) -> dict[str, Schema]:
    columns: dict[str, Schema] = {name: one for name, one in node["properties"].items() if name not in OF_LINES}
    return {**columns, "content": TEXT, "images": TEXTS} if _is_message(node) else columns


def _is_message(node: Schema) -> bool:
    return set(node["properties"]) == {"role", "content"}


def _parted(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    parts = [] if isinstance(content, str) else content
    images = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return {"role": message["role"], "content": text_of(content), "images": images}


def _entry(root: Schema, node: Schema) -> dict[str, Schema]:
    inner = node["additionalProperties"]
    form, whole = _form(root, inner)
    return {"name": TEXT, **(_columns(root, whole) if form == "struct" else {"value": inner})}


def _entry_value(root: Schema, node: Schema, name: str, value: Any) -> dict[str, Any]:
    inner = node["additionalProperties"]
    made = _value(root, inner, value)
    return {"name": name, **(made if _form(root, inner)[0] == "struct" else {"value": made})}
