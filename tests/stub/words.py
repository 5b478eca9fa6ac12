"""Readable English-like text from a random generator: about 10^11 different sentences."""
# ruff: noqa: SIM905 - word lists read better as text

from random import Random

ADJECTIVES = (
    "amber ancient brave bright broken busy calm careful cheap clever cold crooked curious dusty eager early "
    "faded famous fresh gentle golden green hidden hollow honest humble late lively loyal narrow noisy old "
    "patient plain polite proud quiet rare round rusty shy silver slow small stubborn tall tidy warm wooden"
).split()
NOUNS = (
    "apple atlas baker basket bicycle blanket boat bridge café camera candle carpet cellar clock cousin doctor "
    "drawer engine farmer fiddle garden gardener grandmother hammer harbour island jacket kettle ladder lantern "
    "letter library market mirror mountain neighbour notebook orchard painter pianist pillow pocket recipe river "
    "sailor sculptor teacher ticket violin window"
).split()
VERBS = (
    "admires borrows brings builds buys carries chooses cleans collects describes draws enjoys finds fixes follows "
    "forgets guards hides improves keeps leaves lends likes measures mentions misses moves notices offers orders "
    "paints photographs plans prefers promises recalls remembers repairs returns sells shares studies suggests "
    "trades visits wants waters wraps"
).split()
PLACES = (
    "above|across from|after work at|behind|beside|close to|far from|inside|near|next to|not far from|on the way "
    "to|opposite|outside|under|without leaving"
).split("|")
ADVERBS = "again always gladly hardly lately never often quietly rarely seldom sometimes still usually".split()


def sentence(rng: Random) -> str:
    """One sentence, for example: The shy baker rarely repairs a rusty clock near the old harbour."""
    a, b, c, d, e, f, g = (rng.random() for _ in range(7))
    return (
        f"The {pick(ADJECTIVES, a)} {pick(NOUNS, b)} {pick(ADVERBS, c)} {pick(VERBS, d)} the "
        f"{pick(ADJECTIVES, e)} {pick(NOUNS, f)} {pick(PLACES, g)} the {rng.choice(NOUNS)}."
    )


def pick(words: list[str], at: float) -> str:
    """The word at a fraction 0 <= at < 1 of the list."""
    return words[int(at * len(words))]


def paragraph(rng: Random, *, low: int = 0, high: int | None = None) -> str:
    """Text of `low` to `high` characters: one or two sentences, or as many as `low` needs, or words that fit."""
    parts = [sentence(rng)]
    if rng.random() < 0.4:
        parts.append(sentence(rng))
    while sum(len(part) + 1 for part in parts) <= low:
        parts.append(sentence(rng))
    text = " ".join(parts)
    if high is None or len(text) <= high:
        return text
    return _shortened(text if len(parts[0]) < high else text.removeprefix("The "), low, high)


def _shortened(text: str, low: int, high: int) -> str:
    """Cut after a word where `low` allows it, else anywhere; never with a space at an end."""
    cut = text[:high]
    words = cut.rpartition(" ")[0] if text[high : high + 1] not in ("", " ") else cut
    if words and len(words) >= low:
        return words.rstrip()
    return cut[:-1] + "s" if cut.endswith(" ") else cut
