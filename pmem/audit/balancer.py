"""Balancing in a stream: takes note of each question that is kept, then says what becomes of its line."""

from array import array
from functools import cached_property
from typing import Any

import orjson

from pmem.audit.balance import LEAST, Plan, planned
from pmem.audit.corpus import Corpus
from pmem.audit.halves import BALANCED, first_half, persona_of
from pmem.choices import LETTERS
from pmem.draws import Draw

UNTOUCHED = -1


class Balancer:
    """Balances the half of the personas that `halves.first_half` names; the other half stays as it is."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._corpus = Corpus(seed)
        self._numbers = array("i")  # of the questions in their order: in the corpus, or UNTOUCHED
        self._next = 0

    def note(self, qa: dict[str, Any]) -> None:
        """One more question that is kept so far."""
        acts = qa["options"] and qa["gold"] and first_half(persona_of(qa), self._seed, "balance")
        self._numbers.append(self._corpus.add(qa) if acts else UNTOUCHED)

    @cached_property
    def _plan(self) -> Plan:
        return planned(self._corpus, self._seed)

    def again(self, line: bytes) -> bytes | str:
        """What becomes of the next question, in the order of `note`: its line, or the reason to drop it."""
        number = self._numbers[self._next]
        self._next += 1
        if number == UNTOUCHED:
            return line
        if number in self._plan.why:
            return self._plan.why[number]
        qa = orjson.loads(line)
        qa["labels"] = {**qa.get("labels", {}), BALANCED: "yes"}
        letter = self._plan.letters.get(number, qa["gold"])
        return orjson.dumps(moved(qa, letter, Draw(self._seed, qa["id"], "order")))

    def report(self) -> str:
        """What was done, for the end of the run."""
        acted = len(self._corpus)
        lines = [
            f"balance: {acted:,} of {len(self._numbers):,} questions are in the half that was balanced; "
            f"{len(self._plan.why):,} of them dropped, the right option spread evenly over letters"
        ]
        for case, number in self._plan.left.items():
            lines.append(f"balance: {case}: {number:,} questions are too few (under {LEAST}) to drop any")
        return "\n".join(lines)


def moved(qa: dict[str, Any], letter: str, draw: Draw) -> dict[str, Any]:
    """The question with its right option at a letter, the others in drawn order; votes name their options anew."""
    options = qa["options"]
    gold = LETTERS.index(qa["gold"])
    order = draw.shuffled([place for place in range(len(options)) if place != gold])
    order.insert(LETTERS.index(letter), gold)
    renamed = {LETTERS[old]: LETTERS[new] for new, old in enumerate(order)}
    votes = [
        {**vote, "choice": renamed.get(vote["choice"], vote["choice"])}
        if vote["check"] in ("blind", "distractors")
        else vote
        for vote in qa["votes"]
    ]
    return {**qa, "options": [options[place] for place in order], "gold": letter, "votes": votes}
