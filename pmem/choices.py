"""THE parser of a model's choice: a letter. Strict: what isn't plainly said is not guessed.

One parser serves evaluation, rewards and tests; a reply that it can't read counts as wrong, and is counted apart.
"""

import re

THINKING = re.compile(r"<(think|thinking|thought|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
UNFINISHED = re.compile(r"<(think|thinking|thought|reasoning)>.*\Z", re.DOTALL | re.IGNORECASE)
STRAY_END = re.compile(r"\A.*</(think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)

_MARK = r"[\s*_`$\"'“”‘’(\[{]*"  # bold, code, brackets, quotation marks around the letter
_END = r"(?![A-Za-z0-9'’]|\s*(?:or|and|/|&|,)\s*[*_(\"]*[A-J]\b)"  # not the start of a word, nor of "A or B"
ANSWER = re.compile(
    rf"(?:final\s+answer|answer|choice|option\s+i\s+choose)\s*(?:is|was|=|:|：)+{_MARK}(?:option\s+)?(?:\\boxed\{{)?"
    rf"{_MARK}([A-J]){_END}",
    re.IGNORECASE,
)
BOXED = re.compile(r"\\boxed\{\s*(?:\\text\{)?\s*\(?([A-J])\)?\s*\}?\s*\}", re.IGNORECASE)
ALONE = re.compile(r"[\s*_`\"'“”(\[]*(?:option\s+)?([A-J])[\s*_`\"'“”)\].:]*", re.IGNORECASE)
NEGATED = re.compile(r"\b(?:not|isn't|isn’t|never|neither)\b[^.\n]{0,12}\Z", re.IGNORECASE)


def without_thinking(reply: str) -> str:
    """The reply without its reasoning block, if it has one; "" if it never came out of it."""
    said = THINKING.sub("", reply)
    said = STRAY_END.sub("", said)  # some servers cut off the opening tag
    return UNFINISHED.sub("", said).strip()


def letter(reply: str, count: int = 4) -> str | None:
    """The option that a reply names, as a capital letter among the first `count`; None if it names none plainly.

    Read, in this order: a boxed letter; "Answer: X" or "the answer is X"; a reply that is nothing but a letter. Where
    one form names several letters, the last one stands if it comes in the last line; else the reply is contradictory.
    """
    said = without_thinking(reply)
    for pattern in (BOXED, ANSWER):
        matches = [m for m in pattern.finditer(said) if not NEGATED.search(said[: m.start(1)][-24:])]
        if matches:
            return _decided(said, matches, count)
    lone = ALONE.fullmatch(said)
    return _within(lone[1], count) if lone else None


def _decided(said: str, matches: list[re.Match[str]], count: int) -> str | None:
    named = {match[1].upper() for match in matches}
    last = matches[-1]
    if len(named) > 1 and "\n" in said[last.end() :].strip():
        return None
    return _within(last[1], count)


def _within(found: str, count: int) -> str | None:
    found = found.upper()
    return found if found in "ABCDEFGHIJ"[:count] else None
