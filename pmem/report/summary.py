"""Result records to figures: accuracy with intervals, run by run, broken down by labels; what else a run shows."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pmem import check
from pmem.report.groups import USUAL, Groups, unasked
from pmem.report.intervals import LEVEL
from pmem.report.positions import Positions
from pmem.report.runs import ALIASES, FIELDS, Result, Run, heads, in_order, persona_of, run_of
from pmem.report.tally import Tally

RATES = ("forget_compliance", "forgotten_used", "secrets_told")
"""Rates of their own, beside accuracy: right answers where the user had asked to forget something; of these questions,
answers that use it nevertheless; of questions about secrets, answers that repeat one. The last two rest on labels that
`pmem eval` gives: what was chosen, what was said."""


class Column:
    """What is counted of one run."""

    def __init__(self, by: list[str] | None) -> None:
        """by: the labels to break down by; None: those that come."""
        self.all = Tally()
        self.groups = Groups(by)
        self.rates = {name: Tally() for name in RATES}
        self.positions = Positions()
        self.errors: Counter[str] = Counter()
        self.questions: set[str] = set()
        self.unparsed = self.prompt = self.reply = 0
        self.chance = 0.0

    def add(self, result: Result) -> None:
        """One more result."""
        persona, right = persona_of(result), result["correct"]
        self.all.add(persona, right)
        self.questions.add(result["qa_id"])
        self.unparsed += not result["parsed"]
        self.prompt += result["prompt_tokens"]
        self.reply += result["reply_tokens"]
        self.groups.add(result)
        for name, counts in _rates(result).items():
            self.rates[name].add(persona, counts)
        if not right and result["error_category"]:
            self.errors[result["error_category"]] += 1
        if result["options"] and result["gold"]:
            self.chance += 1 / len(result["options"])
            self.positions.add(result)

    def figures(self, labels: list[str]) -> dict[str, Any]:
        """All of it for JSON, broken down by `labels`. Tokens are means over answers; null where nothing told them."""
        share = self.all.share()
        answers = share.answers
        prompt, reply = self.prompt / answers, self.reply / answers
        assert share.share is not None
        return {
            "questions": len(self.questions),
            "accuracy": share.figures(),
            "unparsed": self.unparsed,
            "chance": round(self.chance / answers, 6) if self.chance else None,
            "prompt_tokens": round(prompt, 1) if prompt else None,
            "reply_tokens": round(reply, 1) if reply else None,
            "points_per_1000_tokens": round(100 * share.share / (prompt / 1000), 3) if prompt else None,
            **{
                name: found.figures() if (found := tally.share()).answers else None
                for name, tally in self.rates.items()
            },
            "positions": self.positions.figures(),
            "errors": dict(sorted(self.errors.items(), key=lambda one: (-one[1], one[0]))),
            "by": {label: _by_value(self.groups.of(label)) for label in labels},
        }


def _by_value(groups: dict[str, Tally]) -> dict[str, Any]:
    return {value: groups[value].share().figures() for value in sorted(groups, key=in_order)}


def breakdown(columns: Iterable[Column], by: list[str] | None, usual: Iterable[str] = USUAL) -> list[str]:
    """The labels to show of runs: those asked for, else what `unasked` finds among all that came."""
    if by is not None:
        return by
    values: dict[str, set[str]] = {}
    for column in columns:
        for label, known in column.groups.values().items():
            values.setdefault(label, set()).update(known)
    return unasked(values, usual)


def _rates(result: Result) -> dict[str, bool]:
    """The rates that a result counts for, and whether it counts among those that do it."""
    labels = result["labels"]
    found = {}
    if labels.get("case") == "forgotten":
        found["forget_compliance"] = result["correct"]
        if "chosen" in labels:
            found["forgotten_used"] = labels["chosen"] == "uses_forgotten"
    if "secret_told" in labels:
        found["secrets_told"] = labels["secret_told"] == "yes"
    return found


def strangers(columns: Iterable[Column], by: list[str] | None) -> str:
    """For the summary line: the labels of `by` that no result has, and those that there are; "" if there are none."""
    known = set[str]().union(*(column.groups.known for column in columns))
    unknown = [label for label in by or () if label not in FIELDS and ALIASES.get(label, label) not in known]
    if not known or not unknown:
        return ""
    return f"no result has the label {' or '.join(unknown)}; there are {', '.join(sorted(known))}"


class Summary:
    """Counts what comes: results, and, where they are given, failed calls (error records) and usage."""

    def __init__(self, by: list[str] | None, usual: Iterable[str] = USUAL) -> None:
        """by: the labels to break down by; None: the `usual` ones that come, else others."""
        self.by, self.usual = by, usual
        self.columns: dict[Run, Column] = {}
        self.usage: list[dict[str, Any]] = []
        self.failed: Counter[str] = Counter()
        self.repeated = 0
        self._seen: set[str] = set()

    def count(self, record: dict[str, Any]) -> None:
        """Note a record of any of the three types."""
        if record["type"] == "usage":
            self.usage.append(record)
        elif record["type"] == "error":
            self._error(record)
        else:
            self._result(record)

    def _result(self, result: Result) -> None:
        if result["id"] in self._seen:
            self.repeated += 1
            return
        self._seen.add(result["id"])
        run = run_of(result)
        if run not in self.columns:
            self.columns[run] = Column(self.by)
        self.columns[run].add(result)

    def _error(self, error: dict[str, Any]) -> None:
        held = error["record"]
        if held and held.get("type") == "result" and check.validator("result")(held):
            self._result(held)
        else:
            self.failed[error["reason"]] += len(error["items"] or [None])

    def figures(self) -> dict[str, Any]:
        """All of it for JSON: a list of runs; failed answers by reason; usage as it was given."""
        runs = list(self.columns)
        labels = breakdown(self.columns.values(), self.by, self.usual)
        named = [
            {"name": head, **run._asdict(), **self.columns[run].figures(labels)}
            for head, run in zip(heads(runs), runs, strict=True)
        ]
        failed = dict(sorted(self.failed.items()))
        return {"level": LEVEL, "runs": named, "failed": failed, "repeated": self.repeated, "usage": self.usage}
