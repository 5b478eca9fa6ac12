"""Position bias: does a model like a letter more than it should?"""

from collections import Counter
from typing import Any

from pmem.choices import LETTERS
from pmem.report.runs import persona_of
from pmem.report.tally import Tally


class Positions:
    """Counts where the right option stood, which letter was chosen, and whether the order made a difference."""

    def __init__(self) -> None:
        self.permutations: set[int] = set()
        self._gold: Counter[str] = Counter()
        self._chosen: Counter[str] = Counter()
        self._by_gold: dict[str, Tally] = {}
        self._options: dict[str, list[str | None]] = {}

    def add(self, result: dict[str, Any]) -> None:
        """Note a result with options."""
        gold, choice, options = result["gold"], result["choice"], result["options"]
        self.permutations.add(result["permutation"])
        self._gold[gold] += 1
        self._chosen[choice or ""] += 1
        self._by_gold.setdefault(gold, Tally()).add(persona_of(result), result["correct"])
        place = LETTERS.index(choice) if choice else len(options)
        self._options.setdefault(result["qa_id"], []).append(options[place] if place < len(options) else None)

    def figures(self) -> dict[str, Any] | None:
        """By letter: the share of right options there, of choices, and the accuracy; None without results.

        same_option: the share of questions, of those asked in several orders, in which all orders got the same option
        chosen.
        """
        answers = self._gold.total()
        if not answers:
            return None
        letters = sorted({*self._gold, *self._chosen} - {""})
        by_letter = {
            letter: {
                "right_options": round(self._gold[letter] / answers, 6),
                "choices": round(self._chosen[letter] / answers, 6),
                "accuracy": self._by_gold.get(letter, Tally()).share().figures(),
            }
            for letter in letters
        }
        several = [chosen for chosen in self._options.values() if len(chosen) > 1]
        same = sum(len(set(chosen)) == 1 and chosen[0] is not None for chosen in several)
        share = round(same / len(several), 6) if several else None
        return {"permutations": len(self.permutations), "letters": by_letter, "same_option": share}
