"""What there is to count in a record: values of fields, and sizes."""

from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, NamedTuple

from pmem.tokens import text_of

Record = dict[str, Any]
Fields = dict[str, str | list[str] | None]
"""Name of a field to its value, several values, or None where the record has none."""
Sizes = dict[str, float]
CountTokens = Callable[[list[Record]], int]
"""Messages to their number of tokens."""

HIDDEN = ("check", "verdict")
"""Fields for cross counts only: `vote` shows both together."""


class Facts(NamedTuple):
    """One thing to count: a record, or a part of one such as a persona's preference.

    section: the table it belongs to; persona_id: whose it is, if known; above: the fields of the record that it is a
    part of, for cross counts.
    """

    section: str
    fields: Fields
    sizes: Sizes
    persona_id: str | None = None
    above: Fields | None = None


def facts(record: Record, count_tokens: CountTokens | None = None) -> Iterator[Facts]:
    """What a record gives to count, its parts after itself. count_tokens: also count tokens that it does not tell."""
    given = FACTS[record["type"]](record, count_tokens)
    labels: Fields = {f"labels.{name}": value for name, value in record.get("labels", {}).items()}
    for number, one in enumerate(given):
        yield one._replace(above=(one.above or {}) | labels) if number else one._replace(fields=one.fields | labels)


def _persona(record: Record, _count: CountTokens | None) -> Iterator[Facts]:
    fields: Fields = {"language": record["language"], "secret": [one["kind"] for one in record["secrets"]]}
    sizes: Sizes = {"preferences": len(record["preferences"]), "secrets": len(record["secrets"])}
    for name, value in record["draws"].items():
        if isinstance(value, int | float):
            sizes[f"draws.{name}"] = value
        else:
            fields[f"draws.{name}"] = value
    yield Facts("persona", fields, sizes)
    for one in record["preferences"]:
        own = {
            "kind": one["kind"],
            "owner": one["owner"]["who"],
            "updates": _yes(one["updates"]),
            "forget": _yes(one["forget"]),
            "topic": one["topic"],
        }
        yield Facts("preference", own, {}, record["id"], fields)


def _conversation(record: Record, count: CountTokens | None) -> Iterator[Facts]:
    fields: Fields = {
        "event": record["event"],
        **_taste(record["preference"]),
        "scenario": record["scenario"],
        "language": record["languages"],
        "secret": [one["kind"] for one in record["secrets"]],
        "topic": record["topic"],
    }
    yield Facts("conversation", fields, _dialogue(record, count), record["persona_id"])


def _filler(record: Record, count: CountTokens | None) -> Iterator[Facts]:
    yield Facts("filler", {"domain": record["domain"], "source": record["source"]}, _dialogue(record, count))


def _history(record: Record, _count: CountTokens | None) -> Iterator[Facts]:
    window, tokens = record["window"], record["tokens"]
    sizes: Sizes = {key: record[key] for key in ("tokens", "relevant_tokens", "filler_tokens")}
    if record["budget"]:
        sizes["fill_percent"] = round(100 * tokens / record["budget"], 1)
    sizes["sessions"] = len(record["sessions"])
    sizes["left_out"] = len(record.get("dropped", ()))
    days = [day for session in record["sessions"] if (day := _day(session["date"]))]
    if days:
        sizes["days"] = max(days) - min(days)
    fields: Fields = {"tokenizer": record["tokenizer"]}
    yield Facts(f"history {window}", fields, sizes, record["persona_id"])
    for session in record["sessions"]:
        own: Fields = {}
        size: Sizes = {"tokens": session["tokens"]}
        if session["what"] != "filler":
            own = {
                "event": session["event"],
                **_taste(session["preference"]),
                "scenario": session["scenario"],
                "topic": session["topic"],
            }
        if session["what"] == "conversation" and tokens:
            depth = 100 * (session["token_start"] + session["tokens"] / 2) / tokens
            size["depth_percent"] = round(depth, 1)
            own["depth"] = _tenth(depth)
        yield Facts(f"{session['what']} in {window}", own, size, record["persona_id"], fields)


def _qa(record: Record, count: CountTokens | None) -> Iterator[Facts]:
    fields: Fields = {
        "case": record["case"],
        **_taste(record["preference"]),
        "scenario": record["scenario"],
        "split": record["split"],
        "secret": record["secret"] and record["secret"]["kind"],
        "distractors": [one["made"] for one in record["distractors"]],
        "gold": record["gold"],
        "histories": list(record["histories"]),
        "topic": record["topic"],
        "query_topic": record["query_topic"],
    }
    sizes: Sizes = {}
    for window, place in record["histories"].items():
        if place["distance_tokens"] is not None:
            sizes[f"distance_tokens {window}"] = place["distance_tokens"]
    if count:
        for key in ("query", "answer"):
            sizes[f"{key}_tokens"] = count([{"content": record[key]}])
        sizes["snippet_tokens"] = count(record["snippet"])
    yield Facts("qa", fields, sizes, record["persona_id"])
    for vote in record["votes"]:
        check, verdict = vote["check"], vote["verdict"]
        cast: Fields = {"check": check, "verdict": verdict, "vote": f"{check} {verdict}", "judge": vote["judge"]}
        yield Facts("vote", cast, {}, None, fields)


def _result(record: Record, _count: CountTokens | None) -> Iterator[Facts]:
    keys = ("model", "judge_model", "mode", "context", "window", "scoring", "error_category")
    fields: Fields = {key: record[key] for key in keys} | {"parsed": _yes(record["parsed"])}
    sizes: Sizes = {key: record[key] for key in ("prompt_tokens", "reply_tokens")}
    yield Facts("result", fields, sizes, record["persona_id"])


def _memory(record: Record, _count: CountTokens | None) -> Iterator[Facts]:
    fields: Fields = {key: _yes(record[key]) for key in ("trimmed", "edited")}
    yield Facts("memory", fields, {"tokens": record["tokens"], "entries": len(record["entries"])})


def _metric(record: Record, _count: CountTokens | None) -> Iterator[Facts]:
    names = [record["name"]] if "name" in record else list(record.get("values", ()))
    yield Facts("metric", {"run": record["run"], "name": names}, {"step": record["step"]})


def _usage(record: Record, _count: CountTokens | None) -> Iterator[Facts]:
    keys = ("calls", "from_cache", "prompt_tokens", "completion_tokens", "cost_usd")
    sizes: Sizes = {key: record[key] for key in keys if record[key] is not None}
    yield Facts("usage", {key: record[key] for key in ("stage", "role", "model")}, sizes)


def _error(record: Record, _count: CountTokens | None) -> Iterator[Facts]:
    """An error is counted as one: what it holds was left out, and belongs to no other table."""
    held = (record["record"] or {}).get("type")
    holds = held if isinstance(held, str) else "no record"
    yield Facts("error", {"stage": record["stage"], "reason": record["reason"], "holds": holds}, {})


def _taste(preference: Record | None) -> Fields:
    if preference is None:
        return {"kind": None, "owner": None, "preference_topic": None}
    return {
        "kind": preference["kind"],
        "owner": preference["owner"]["who"],
        "preference_topic": preference["topic"],
    }


def _dialogue(record: Record, count: CountTokens | None) -> Sizes:
    """Turns (user messages), characters, and tokens if they are to be counted."""
    messages = record["messages"]
    sizes: Sizes = {"turns": sum(message["role"] == "user" for message in messages)}
    sizes["characters"] = sum(len(text_of(message["content"])) for message in messages)
    if count:
        sizes["tokens"] = count(messages)
    return sizes


def _yes(value: Any) -> str:
    return "yes" if value else "no"


def _day(text: str | None) -> int | None:
    """The number of a day; None if it is no date of the calendar."""
    try:
        return date.fromisoformat(text).toordinal() if text else None
    except ValueError:
        return None


def _tenth(percent: float) -> str:
    low = min(int(percent // 10), 9) * 10
    return f"{low}-{low + 10}%"


FACTS: dict[str, Callable[[Record, CountTokens | None], Iterator[Facts]]] = {
    "persona": _persona,
    "conversation": _conversation,
    "filler": _filler,
    "history": _history,
    "qa": _qa,
    "result": _result,
    "memory": _memory,
    "metric": _metric,
    "usage": _usage,
    "error": _error,
}
