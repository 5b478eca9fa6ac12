"""How far judges can be trusted: which faults made by rule they notice, what they fail of the rest, how they agree."""

from collections import Counter
from typing import Any

from pmem.choices import LETTERS
from pmem.columns import aligned
from pmem.dataset.negatives import TARGETS, negatives
from pmem.dataset.verdicts import CHECKS, LENGTH_RULE, fallen
from pmem.dataset.votes import Setup, cast, judged
from pmem.draws import Draw
from pmem.stream.made import together

VERDICTS = ("pass", "fail", "unclear")


class Calibration:
    """Judges questions like `judged`, some of them with faults as well, and counts."""

    def __init__(self, amount: float, setup: Setup, seed: int) -> None:
        """amount: below 1 each question's chance to be taken; else the first so many are."""
        self._amount, self._setup, self._seed = amount, setup, seed
        self._taken = 0
        self._unmodified, self._with_faults = 0, 0  # judged
        self._failed: Counter[str] = Counter()  # check -> unmodified questions that it fails
        self._made: Counter[str] = Counter()  # fault -> questions made
        self._caught: Counter[tuple[str, str]] = Counter()  # fault, check
        self._ballots: dict[str, Counter[tuple[int, ...]]] = {check: Counter() for check in CHECKS}

    def _takes(self, qa: dict[str, Any]) -> bool:
        if self._amount < 1:
            return Draw(self._seed, qa["id"], "calibrate").chance(self._amount)
        return self._taken < self._amount

    async def judged(self, qa: dict[str, Any]) -> dict[str, Any]:
        """The question with its votes; what was made of it is judged at the same time, and only counted."""
        faulty = negatives(qa, self._seed) if self._takes(qa) else []
        self._taken += bool(faulty)

        async def tried(spoilt: dict[str, Any], targets: tuple[str, ...]) -> dict[str, Any]:
            return {**spoilt, "votes": await cast(spoilt, targets, self._setup)}

        done = await together([judged(qa, self._setup), *(tried(one.qa, one.targets) for one in faulty)])
        self._count(done[0])
        self._with_faults += bool(faulty)
        for one, spoilt in zip(faulty, done[1:], strict=True):
            self._made[one.fault] += 1
            caught = {check for check, _ in fallen(spoilt)}
            self._caught.update((one.fault, check) for check in one.targets if check in caught)
        return done[0]

    def _count(self, qa: dict[str, Any]) -> None:
        """A question as it came."""
        self._unmodified += 1
        self._failed.update({check for check, _ in fallen({**qa, "votes": _by_models(qa)})})
        for (check, _), votes in _ballots(qa).items():
            seen = Counter(vote["choice"] if check == "blind" else vote["verdict"] for vote in votes)
            kinds = (*LETTERS, None) if check == "blind" else VERDICTS
            self._ballots[check][tuple(seen[kind] for kind in kinds)] += 1

    def document(self) -> dict[str, Any]:
        """What was found, a row per check: rates as shares with 95% intervals (Wilson), agreement as Fleiss' kappa.

        None where there is nothing to say: no fault can be made, or all votes were the same.
        """
        rows = []
        for check in CHECKS:
            faults = [fault for fault, targets in TARGETS.items() if check in targets]
            rows.append(
                {
                    "check": check,
                    "faults": {fault: _rate(self._caught[fault, check], self._made[fault]) for fault in faults},
                    "fails_unmodified": _rate(self._failed[check], self._unmodified),
                    **_agreement(self._ballots[check]),
                }
            )
        return {
            "judge": self._setup.model.name,
            "votes": self._setup.votes,
            "seed": self._seed,
            "questions": self._unmodified,
            "questions_with_faults": self._with_faults,
            "checks": rows,
        }


def _by_models(qa: dict[str, Any]) -> list[dict[str, Any]]:
    return [vote for vote in qa["votes"] if vote["judge"] != LENGTH_RULE]


def _ballots(qa: dict[str, Any]) -> dict[tuple[str, str | None], list[dict[str, Any]]]:
    """Votes on the same thing: of one check, and about one option where it goes option by option."""
    found: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for vote in _by_models(qa):
        about = vote["choice"] if vote["check"] == "distractors" else None
        found.setdefault((vote["check"], about), []).append(vote)
    return found


def _rate(number: int, of: int) -> dict[str, Any]:
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(number, of, method="wilson") if of else (None, None)
    bounds = [None if bound is None else round(float(bound), 6) for bound in (low, high)]
    return {"number": number, "of": of, "rate": round(number / of, 6) if of else None, "interval": bounds}


def _agreement(ballots: Counter[tuple[int, ...]]) -> dict[str, Any]:
    """Percent agreement of pairs of votes, and Fleiss' kappa, over everything that was voted on several times."""
    import numpy as np
    from statsmodels.stats.inter_rater import fleiss_kappa

    several = {counts: number for counts, number in sorted(ballots.items()) if sum(counts) > 1}
    if not several:
        return {"agreement": None, "kappa": None}
    table = np.repeat(np.array(list(several)), list(several.values()), axis=0)
    voters = table.sum(axis=1)
    alike = float(np.mean((table * (table - 1)).sum(axis=1) / (voters * (voters - 1))))
    used = table[:, table.any(axis=0)]
    kappa = float(fleiss_kappa(used)) if used.shape[1] > 1 else None
    return {"agreement": round(alike, 6), "kappa": None if kappa is None else round(kappa, 6)}


def text(found: dict[str, Any]) -> str:
    """The document as a table."""
    rows = [["check", "made faulty", "caught", "fails among unmodified", "votes agree", "kappa"]]
    for row in found["checks"]:
        faults = row["faults"] or {"-": None}
        for place, (fault, rate) in enumerate(faults.items()):
            first = place == 0
            share = "-" if row["agreement"] is None else f"{row['agreement']:.0%}"
            kappa = "-" if row["kappa"] is None else f"{row['kappa']:.2f}"
            about = [_shown(row["fails_unmodified"]), share, kappa] if first else ["", "", ""]
            rows.append([row["check"] if first else "", fault, _shown(rate), *about])
    head = (
        f"calibration: {found['questions_with_faults']:,} of {found['questions']:,} questions judged with faults, too"
    )
    return "\n".join([head, *aligned(rows)])


def _shown(rate: dict[str, Any] | None) -> str:
    if not rate or rate["rate"] is None:
        return "-"
    low, high = rate["interval"]
    return f"{rate['number']:,} of {rate['of']:,}, {rate['rate']:.0%} [{100 * low:.0f}, {100 * high:.0f}]"
