"""Records in words, for prompts: the same words wherever a person, a conversation or a question is described."""

from typing import Any

from pmem.choices import LETTERS
from pmem.errors import RecordError
from pmem.prompts import Prompts


def person(persona: dict[str, Any]) -> str:
    """A persona record: name, summary and every attribute, a line per area."""
    lines = [f"{persona['name']}: {persona['summary']}"]
    for area, attributes in persona["profile"].items():
        shown = "; ".join(f"{name}: {_value(value)}" for name, value in attributes.items())
        lines.append(f"- {area}: {shown}")
    return "\n".join(lines)


def _value(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def whose(preference: dict[str, Any]) -> str:
    """Whose preference it is, in the middle of a sentence."""
    owner = preference["owner"]
    if owner["who"] == "other":
        return f"it is that of the user's {owner['relation'] or 'acquaintance'}"
    if owner["who"] == "hypothetical":
        return "the user only put it on to try out the assistant"
    return "it is the user's own"


def transcript(messages: list[dict[str, Any]], caption: str = "") -> str:
    """Messages as a text to quote, speaker by speaker. caption: what an image in them shows."""
    from pmem.images import in_words
    from pmem.tokens import text_of

    told = []
    for message in messages:
        content = message["content"]
        images = [] if isinstance(content, str) else [part for part in content if part["type"] == "image_url"]
        text = "\n".join([text_of(content), *(in_words(caption) for _ in images)])
        told.append(f"{message['role'].capitalize()}: {text}")
    return "\n\n".join(told)


def options(texts: list[str]) -> str:
    """Options with their letters, a paragraph each."""
    return "\n\n".join(f"{LETTERS[number]}. {text}" for number, text in enumerate(texts))


def facts(qa: dict[str, Any]) -> str:
    """What is known about the user that bears on a question, as a judge needs it."""
    case = qa["case"]
    if case == "sensitive":
        secret = _known(qa, "secret")
        return f"A private detail that slipped into an earlier chat ({kind(secret)}): {secret['value']}"
    preference = _known(qa, "preference")
    if case == "updated":
        return f"What held earlier: {_known(qa, 'previous')['text']}\nWhat holds now: {preference['text']}"
    if case == "forgotten":
        return f"What the user asked the assistant to forget: {preference['text']}"
    if case == "other":
        return f"A taste that came up in earlier chats: {preference['text']}\nWhose it is: {whose(preference)}."
    return f"The user's preference: {preference['text']}"


def knowledge(qa: dict[str, Any]) -> str:
    """What a question must not give away."""
    if qa["case"] == "sensitive":
        return f"a private detail ({kind(_known(qa, 'secret'))})"
    return str(_known(qa, "preference")["text"])


def _known(qa: dict[str, Any], key: str) -> dict[str, Any]:
    """What a question is about; an imported one may not tell."""
    if qa[key] is None:
        raise RecordError(f"judges must know the question's {key}, which is null", reason="schema", pointer=f"/{key}")
    found: dict[str, Any] = qa[key]
    return found


def rule(qa: dict[str, Any], prompts: Prompts) -> str:
    """What the right answer to a question has to do."""
    return prompts.render(f"judge/rule_{qa['case']}")


def kind(secret: dict[str, Any]) -> str:
    """A kind of secret in words."""
    return str(secret["kind"]).replace("_", " ")
