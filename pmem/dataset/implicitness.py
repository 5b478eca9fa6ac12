"""Does a conversation keep its preference between the lines? A rule for plain statements, and votes by judges."""

import re
from typing import Any, NamedTuple

from pmem.backends.model import Invalid, Model, NoValidReply
from pmem.dataset.likeness import content_words
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import TEXT, closed, user
from pmem.reward.open_ended import passes
from pmem.stream.made import together

_TASTE = re.compile(
    r"\bI(?:['’]m|['’]ve)?(?: (?:am|do|have|really|just|absolutely|always|also|still|much|so|truly|generally|usually"
    r"|personally|simply))* (?:like|love|prefer|preferred|hate|enjoy|adore|dislike|detest|loathe|loved|hated"
    r"|can(?:['’]?t|not) (?:stand|bear)|(?:a )?(?:big |huge |great )?fan of|fond of|partial to|keen on|into)\b"
    r"|\bmy (?:\w+ )?favou?rites?\b|\bas (?:someone|somebody|a person|one) who\b"
    r"|\bI(?:['’]d| would) (?:always )?rather\b",
    re.IGNORECASE,
)
"""How English speakers announce a taste of their own."""
_SENTENCE = re.compile(r"[.!?\n]+")
_SHARED, _PART = 2, 0.3
"""So many of the preference's content words, and this part of them, in a sentence that announces a taste state it."""

_VERDICT = closed(
    "implicit",
    {
        "reason": TEXT,
        "inferable": {"type": "string", "enum": ["yes", "no"]},
        "stated": {"type": "string", "enum": ["no", "yes"]},
    },
)


class Judging(NamedTuple):
    """How a run judges: by so many votes of a model on each conversation (0: not at all)."""

    model: Model
    prompts: Prompts
    votes: int


def check_stated(preference: dict[str, Any], said: list[str]) -> None:
    """Invalid if the user's messages state the preference: word for word, or as a taste in the first person.

    What is only tried out ("what if I liked ...") may be put in the first person. English only; judges see the rest.
    """
    text = preference["text"]
    if text.rstrip(".").lower() in " ".join(said).lower():
        raise Invalid("the user states the preference in its very words")
    if preference["owner"]["who"] == "hypothetical":
        return
    wanted = content_words(text)
    for sentence in (part for message in said for part in _SENTENCE.split(message)):
        shared = len(wanted & content_words(sentence)) if _TASTE.search(sentence) else 0
        if shared >= _SHARED and shared >= _PART * len(wanted):
            raise Invalid(f"the user states the preference outright: {sentence.strip()[:80]!r}")


async def votes_on(conversation: dict[str, Any], judging: Judging, *, call: str) -> list[dict[str, Any]]:
    """Votes on whether the preference can be inferred from the user's messages and is not stated in them."""
    preference = conversation["preference"]
    told = [message for message in conversation["messages"] if message["role"] == "user"]
    owner = describe.whose(preference)
    prompt = judging.prompts.render(
        "judge/implicit",
        whose="the user" if preference["owner"]["who"] == "self" else "somebody's taste",
        preference=preference["text"],
        owner=f"{owner[0].upper()}{owner[1:]}.",
        messages=describe.transcript(told, conversation.get("image", {}).get("caption", "")),
    )

    async def one(n: int) -> dict[str, Any]:
        try:
            cast = await judging.model.chat(user(prompt), call=call, n=n, step="implicit", schema=_VERDICT)
        except NoValidReply as fault:
            return _paper(n, judging.model.name, "unclear", fault.message)
        return _paper(n, judging.model.name, *_verdict(cast.parsed))

    return await together(one(n) for n in range(judging.votes))


def _verdict(reply: dict[str, str]) -> tuple[str, str]:
    """(pass or fail, reason) of a judge's reply."""
    if reply["inferable"] == "yes" and reply["stated"] == "no":
        return "pass", reply["reason"]
    why = "stated outright" if reply["stated"] == "yes" else "can't be inferred"
    return "fail", f"{why}: {reply['reason']}"


def _paper(n: int, judge: str, verdict: str, reason: str) -> dict[str, Any]:
    return {"check": "implicit", "n": n, "judge": judge, "verdict": verdict, "choice": None, "reason": reason}


def why_not(votes: list[dict[str, Any]]) -> str | None:
    """None if more than half of all votes say pass (unclear ones count among all), else the count and a reason."""
    if passes(votes):
        return None
    against = sorted((vote for vote in votes if vote["verdict"] != "pass"), key=lambda vote: str(vote["verdict"]))
    return f"{len(against)} of {len(votes)} votes not for it: {against[0]['reason']}"  # "fail" before "unclear"
