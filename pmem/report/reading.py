"""Records as text that people read: a conversation as a conversation, a question with its options and votes."""

import textwrap
from collections.abc import Callable, Iterable
from typing import Any

import click
import orjson

from pmem import check
from pmem.choices import LETTERS
from pmem.report.cited import Words, message_text
from pmem.report.memory_text import lines as memory_lines

Record = dict[str, Any]
WIDTH = 100


def rendered(record: Record, words: Words | None = None) -> str:
    """A record of any type, with styles for a terminal (`click.unstyle` takes them away).

    words: of the messages that memories rest on.
    """
    head = click.style(f"{record['type']} {record.get('id', '')}".strip(), bold=True)
    if record["type"] == "memory":
        return "\n".join([head, *memory_lines(record, words), ""])
    return "\n".join([head, *RENDERERS.get(record["type"], _plain)(record), ""])


def _wrapped(text: str, indent: str = "") -> str:
    """Text in lines of WIDTH, its own line breaks kept."""
    lines = []
    for line in text.splitlines() or [""]:
        lines += textwrap.wrap(line, WIDTH - len(indent), break_long_words=False, break_on_hyphens=False) or [""]
    return "\n".join((indent + line).rstrip() for line in lines)


def _said(messages: Iterable[Record]) -> list[str]:
    lines = []
    for message in messages:
        colour = "cyan" if message["role"] == "user" else "green"
        lines += ["", click.style(message["role"].capitalize(), fg=colour, bold=True)]
        lines.append(_wrapped(message_text(message), "  "))
    return lines


def _taste(preference: Record) -> str:
    owner = preference["owner"]
    notes = [preference["kind"].replace("_", "-") if preference["kind"] else "kind not known"]
    notes += [owner["relation"] or owner["who"]] if owner["who"] != "self" else []
    notes += [f"replaces {preference['updates'].split('/')[1]}"] if preference["updates"] else []
    notes += ["to be forgotten"] if preference["forget"] else []
    return f"{preference['id'].split('/')[1]}  {preference['text']} ({', '.join(notes)}; {preference['topic']})"


def _persona(record: Record) -> list[str]:
    lines = [_wrapped(f"{record['name']}: {record['summary']}"), _wrapped(f'grown from: "{record["seed"]}"')]
    for area, attributes in record["profile"].items():
        shown = [
            f"{name}: {', '.join(value) if isinstance(value, list) else value}" for name, value in attributes.items()
        ]
        lines.append(_wrapped(f"{area}: {'; '.join(shown)}", "  "))
    lines += ["", "Preferences", *(_wrapped(_taste(one), "  ") for one in record["preferences"])]
    secrets = [
        f"  {one['id'].split('/')[1]}  {one['kind'].replace('_', ' ')}: {one['value']}" for one in record["secrets"]
    ]
    return [*lines, *(["", "Made-up secrets", *secrets] if secrets else [])]


def _conversation(record: Record) -> list[str]:
    facts = [record["scenario"].replace("_", " "), record["topic"], "/".join(record["languages"]), record["event"]]
    lines = [" | ".join(facts), _wrapped(f"user: {record['persona']['name']}, {record['persona']['summary']}")]
    if record["preference"]:
        lines.append(_wrapped(f"shows: {_taste(record['preference'])}"))
    lines += [f"secret: {one['kind'].replace('_', ' ')}: {one['value']}" for one in record["secrets"]]
    lines += [_wrapped(f"photo: {record['image']['caption']}")] if "image" in record else []
    return lines + _said(record["messages"]) + _votes(record.get("votes", []))


def _history(record: Record) -> list[str]:
    share = f" of {record['budget']:,}" if record["budget"] else ""
    lines = [
        f"window {record['window']} | {record['tokens']:,} tokens{share}, {record['filler_tokens']:,} of filler",
    ]
    for session in record["sessions"]:
        about = " ".join(str(session[key]).replace("_", " ") for key in ("scenario", "event") if session[key])
        title = f"{session['date'] or ''} {session['what']} {about} | at token {session['token_start']:,}"
        lines += ["", click.style(" ".join(title.split()), fg="yellow")]
        lines += _said(record["messages"][session["start"] : session["end"]])
    return lines


def _qa(record: Record) -> list[str]:
    lines = [f"case {record['case']} | {record['scenario']} | {record['query_topic']}"]
    lines += [_wrapped(f"about: {_taste(record['preference'])}")] if record["preference"] else []
    lines += [_wrapped(f"before: {record['previous']['text']}")] if record["previous"] else []
    lines += (
        [f"secret: {record['secret']['kind'].replace('_', ' ')}: {record['secret']['value']}"]
        if record["secret"]
        else []
    )
    lines += ["", click.style("Query", bold=True), _wrapped(record["query"], "  ")]
    made = {one["text"]: one["made"] for one in record["distractors"]}
    for letter, option in zip(LETTERS, record["options"] or [record["answer"]], strict=False):
        right = option == record["answer"]
        mark = click.style("right", fg="green", bold=True) if right else made.get(option, "wrong").replace("_", " ")
        lines += ["", f"{letter}  ({mark})", _wrapped(option, "   ")]
    for window, place in record["histories"].items():
        distance = place["distance_tokens"]
        far = "" if distance is None else f", {distance:,} tokens before its end"
        lines += ["", f"in {window} history {place['id']}{far}"]
    return lines + _votes(record["votes"])


def _votes(votes: list[Record]) -> list[str]:
    lines = ["", click.style("Votes", bold=True)] if votes else []
    for vote in votes:
        colour = {"pass": "green", "fail": "red"}.get(vote["verdict"], "yellow")
        verdict = click.style(f"{vote['verdict']:<7}", fg=colour)
        lines.append(f"  {vote['check']:<11} {vote['choice'] or '-'} {verdict} {vote['reason'] or ''}")
    return lines


def _result(record: Record) -> list[str]:
    verdict = click.style("correct", fg="green") if record["correct"] else click.style("wrong", fg="red")
    note = "" if record["parsed"] else ", no answer could be read"
    facts = [record["model"], record["mode"], f"context {record['context']}", record["scoring"], f"{verdict}{note}"]
    lines = [" | ".join(facts), f"question {record['qa_id']}"]
    ranked = record.get("likelihoods") or []
    for number, option in enumerate(record["options"] or []):
        letter = LETTERS[number]
        marks = [word for word, at in (("gold", record["gold"]), ("chosen", record["choice"])) if at == letter]
        marks += [f"log-likelihood {ranked[number]['logprob']:.1f}"] if ranked else []
        lines += ["", f"{letter}  ({', '.join(marks)})" if marks else letter, _wrapped(option, "   ")]
    lines += ["", click.style("Reply", bold=True), _wrapped(record["reply"], "  ")] if record["reply"] else []
    return lines + _votes(record["votes"])


def _dialogue(record: Record) -> list[str]:
    return [f"{record['domain']} | {record['source']}", *_said(record["messages"])]


def _error(record: Record) -> list[str]:
    place = f"{record['file']}:{record['line']}" if record["file"] else ""
    facts = [record["stage"], record["reason"], place, record["pointer"] or "", record["call"] or ""]
    inside = record["record"]
    held: list[str] = []
    if inside and inside.get("type") in [*RENDERERS, "memory"]:
        whole = check.validator(inside["type"])(inside)  # what was rejected may be broken
        held = ["", *(rendered(inside).splitlines() if whole else _plain(inside))]
    return [" | ".join(fact for fact in facts if fact), _wrapped(record["message"]), *held]


def _plain(record: Record) -> list[str]:
    try:
        return [orjson.dumps(record, option=orjson.OPT_INDENT_2).decode()]
    except orjson.JSONEncodeError as fault:  # it reads values nested deeper than it writes
        return [f"(can't be shown: {fault})"]


RENDERERS: dict[str, Callable[[Record], list[str]]] = {
    "persona": _persona,
    "conversation": _conversation,
    "history": _history,
    "qa": _qa,
    "result": _result,
    "filler": _dialogue,
    "error": _error,
}
