"""The audit: cues and rules by hand, bounds by another library, its error rates, what it finds of planted biases."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest

from pmem.audit import learnt, measure, rules
from pmem.audit.audit import Answers, Terms, audited, conclusion, judged, ruled
from pmem.audit.corpus import Corpus, words_of
from pmem.audit.cues import cues, places, ranks, words
from pmem.audit.halves import first_half
from tests.command import lines, pmem
from tests.planted import BIASES, drawn, questions
from tests.stub import running

CUES = ("characters", "words", "overlap", "likeness", "rarity")
FEW = Terms(min_questions=1, min_personas=1)


def collected(number: int, personas: int, *, bias: str | None = None, seed: int = 0, points: float = 10) -> Corpus:
    corpus = Corpus(seed)
    for qa in questions(number, personas, bias=bias, points=points, seed=seed):
        corpus.add(qa)
    return corpus


def one(query: str, options: list[str], gold: str = "A") -> dict[str, object]:
    return {"id": "q-1", "persona_id": "p-1", "case": "own", "query": query, "options": options, "gold": gold}


def test_words_are_read_in_every_script() -> None:
    assert words_of("Don't STOP, naïve 42!") == ["don", "t", "stop", "naïve", "42"]
    assert words_of("東京へ go") == ["東", "京", "へ", "go"]
    assert words_of("привет мир") == ["привет", "мир"]


def test_cues_by_hand() -> None:
    corpus = Corpus(0)
    corpus.add(one("red blue", ["red blue", "green", "green", "yellow pink sky"]))
    layout = corpus.layout()
    found = cues(corpus, layout, words(corpus))
    assert found["characters"].tolist() == [[8, 5, 5, 15]]
    assert found["words"].tolist() == [[2, 1, 1, 3]]
    assert found["overlap"].tolist() == [[1, 0, 0, 0]]  # equal texts, then none in common
    third = round(1 / 3, 5)
    assert found["likeness"].tolist() == [[0, third, third, 0]]  # like one of three others
    once, twice = 1 + np.log(5 / 2), 1 + np.log(5 / 3)  # of four options; scikit-learn's smoothed idf
    assert found["rarity"] == pytest.approx(np.array([[once, twice, twice, once]]), abs=1e-5)


def test_places_and_ties_by_hand() -> None:
    values = np.array([[3.0, 1, 1, 2], [5, 5, 5, 5], [1, 2, np.nan, np.nan]])
    at = places(values, np.array([1, 0, 1]))
    assert at.less.tolist() == [0, 0, 1] and at.equal.tolist() == [2, 4, 1]
    layout = drawn(3, 3, cues=(), seed=0)[0]._replace(options=np.array([4, 4, 2]))
    right = {rule.rank: rule.right.tolist() for rule in rules.rules("words", at, layout)}
    assert right == {"least": [0.5, 0.25, 0], "second least": [0.5, 0.25, 1], "second most": [0, 0.25, 0],
                     "most": [0, 0.25, 1]}  # fmt: skip
    assert ranks(values)[0].tolist() == [1, 1 / 6, 1 / 6, 2 / 3]


def test_bounds_are_those_of_statsmodels() -> None:
    from statsmodels.api import OLS

    rng = np.random.default_rng(1)
    persona = rng.integers(30, size=400)
    excess = rng.normal(0.02, 1, 400) + rng.normal(0, 0.5, 30)[persona]
    fit = OLS(excess, np.ones(400)).fit(cov_type="cluster", cov_kwds={"groups": persona}, use_t=True)
    found = measure.gain(excess, persona)
    low, high = fit.conf_int(alpha=0.1)[0]  # two-sided 90%: one-sided 95% each
    assert (found.mean, found.low, found.high) == pytest.approx((fit.params[0], low, high))
    assert found.p == pytest.approx(fit.pvalues[0] / 2 if fit.params[0] > 0 else 1 - fit.pvalues[0] / 2)


def test_bounds_where_nothing_varies() -> None:
    assert measure.gain(np.zeros(50), np.arange(50)) == (0, 0, 0, 1)
    assert measure.gain(np.full(50, 0.75), np.arange(50)) == (0.75, 0.75, 0.75, 0)
    assert measure.gain(np.ones(50), np.zeros(50, int)).high == 1  # one persona says nothing about others


@pytest.mark.parametrize(("low", "high", "p", "said"), [
    (-0.01, 0.04, 0.5, "pass"), (0.01, 0.049, 0.001, "pass"), (0.01, 0.05, 0.049, "fail"),
    (0.01, 0.09, 0.051, "inconclusive"), (-0.02, 0.09, 0.5, "inconclusive"),
])  # fmt: skip
def test_verdicts(low: float, high: float, p: float, said: str) -> None:
    assert measure.verdict(measure.Gain((low + high) / 2, low, high, p), p, 0.05) == said


def test_one_failure_fails_all_and_nothing_found_is_no_pass() -> None:
    assert measure.overall(["pass", "inconclusive", "fail"]) == "fail"
    assert measure.overall(["pass", "inconclusive"]) == "inconclusive"
    assert measure.overall(["pass"]) == "pass"
    assert measure.overall([]) == "inconclusive"


def test_holm_by_hand_and_as_statsmodels_has_it() -> None:
    from statsmodels.stats.multitest import multipletests

    assert measure.adjusted([]) == []
    assert measure.adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    ps = [0.2, 0.001, 0.9, 0.001, 0.012, 0.0, 1.0]
    assert measure.adjusted(ps) == pytest.approx(multipletests(ps, method="holm")[1])


def test_halves_are_even_and_independent() -> None:
    seen = Counter((first_half(f"p-{n}", 0, "balance"), first_half(f"p-{n}", 0, "audit")) for n in range(4_000))
    assert all(abs(number - 1_000) < 110 for number in seen.values())  # 4 standard deviations
    assert any(first_half(f"p-{n}", 0, "audit") != first_half(f"p-{n}", 1, "audit") for n in range(20))


def test_what_is_measured_plays_no_part_in_tuning() -> None:
    layout, at = drawn(2_000, 100, cues=CUES, seed=3)
    before = [trial.finding.tuned for trial in ruled(layout, at, Terms())]
    mixed = {
        name: place._replace(less=np.where(layout.measured, 3 - place.less, place.less)) for name, place in at.items()
    }
    flipped = layout._replace(gold=np.where(layout.measured, 3 - layout.gold, layout.gold))
    assert [trial.finding.tuned for trial in ruled(flipped, mixed, Terms())] == before


def test_a_classifier_learns_from_one_half_only() -> None:
    corpus = collected(600, 40, bias="words", points=75)
    layout = corpus.layout()
    rows = words(corpus).options
    known = learnt.right(rows, layout, ~layout.measured, layout.measured)
    assert np.isnan(known[~layout.measured]).all()
    assert known[layout.measured].mean() > 0.95
    layout = layout._replace(gold=np.where(layout.measured, layout.gold, (layout.gold + 1) % 4))
    assert learnt.right(rows, layout, ~layout.measured, layout.measured)[layout.measured].mean() < 0.3


def test_false_alarms_are_as_rare_as_the_level_says() -> None:
    """300 sets where questions of a persona depend on each other; at 5%, over 27 come once in a thousand times."""
    alarms, naive = 0, 0
    for seed in range(300):
        layout, at = drawn(1_000, 50, habit=0.5, cues=CUES, seed=seed)
        alarms += any(found.p is not None and found.p < 0.05 for found in judged(list(ruled(layout, at, FEW)), FEW))
        alone = layout._replace(persona=np.arange(1_000))
        naive += any(found.p is not None and found.p < 0.05 for found in judged(list(ruled(alone, at, FEW)), FEW))
    assert alarms <= 27
    assert naive > 120  # what it would be without regard to personas


def test_a_gain_at_the_margin_passes_as_rarely_as_the_level_says() -> None:
    passes = 0
    for seed in range(500):
        rng = np.random.default_rng(seed)
        persona = rng.integers(25, size=500)
        right = rng.random(500) < np.clip(0.3 + rng.normal(0, 0.1, 25), 0, 1)[persona]
        passes += measure.verdict(measure.gain(right - 0.25, persona), 1.0, 0.05) == "pass"
    assert passes <= 42  # 25 are expected; more than 42 come once in a thousand times


@pytest.mark.parametrize("bias", BIASES)
def test_each_planted_bias_is_found(bias: str) -> None:
    found = audited(collected(2_500, 150, bias=bias), Terms())
    assert conclusion(found) == "fail"
    strategy = bias.replace("words", "bag of words")
    there = next(finding for finding in found if (finding.case, finding.strategy) == ("all", strategy))
    assert there.verdict == "fail" and there.gain and 0.05 < there.gain.mean < 0.15


def test_balanced_data_pass() -> None:
    found = audited(collected(14_000, 600), Terms())
    assert {finding.verdict for finding in found if finding.case == "all"} == {"pass"}
    assert conclusion(found) != "fail"


def test_too_little_is_inconclusive() -> None:
    found = audited(collected(300, 30), Terms())
    assert {(finding.verdict, finding.gain) for finding in found} == {("inconclusive", None)}
    assert audited(Corpus(0), Terms()) == []


def test_a_blind_model_whose_replies_cannot_be_read_neither_passes_nor_fails() -> None:
    corpus = collected(1_000, 60)
    measured = corpus.layout().measured
    none, all_ = np.where(measured, 0.0, np.nan), np.where(measured, 1.0, np.nan)
    found = audited(corpus, Terms(), Answers(none, all_))
    assert {finding.verdict for finding in found if finding.strategy == "blind model"} == {"inconclusive"}
    found = audited(corpus, Terms(), Answers(all_, all_))
    assert "fail" in {finding.verdict for finding in found if finding.strategy == "blind model"}


def test_the_blind_model_is_asked_about_the_measured_half(tmp_path: Path) -> None:
    asked = list(questions(300, 40, seed=0))
    (tmp_path / "questions.jsonl").write_bytes(lines(asked))
    with running() as stub:
        command = ("audit", "questions.jsonl", "-m", "openai:x", "--base-url", stub.url, "--json", "audit.json",
                   "--min-questions", "10", "--min-personas", "5", "--cache", "cache")  # fmt: skip
        ran = pmem(*command, folder=tmp_path)
        halves = sum(not first_half(qa["persona_id"], 0, "audit") for qa in asked)
        assert f"{halves} calls to openai:x" in ran.err and ran.status == 5
        assert b"blind model" in ran.out
        again = pmem(*command, "-j", "1", folder=tmp_path)
        assert again.out == ran.out and f"{halves} from cache" in again.err


PUBLISHED = Path(__file__).parent.parent.parent / "shared" / "data" / "personamem_v1_32k" / "queries.json"


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs the published questions")
def test_published_questions_give_themselves_away_by_length() -> None:
    """105 questions of version 1, of 7 personas: too few by default; else the longest option is right in over half."""
    corpus = Corpus(1)
    for number, item in enumerate(orjson.loads(PUBLISHED.read_bytes())):
        query, *rest = re.split(r"\n+\(([a-d])\) ", item["query"])
        qa = {"id": f"q-{number}", "persona_id": item["user_id"], "case": None, "query": query, "options": rest[1::2]}
        corpus.add({**qa, "gold": item["gold_answers"][1].upper()})
    assert len(corpus) == 105
    assert conclusion(audited(corpus, Terms())) == "inconclusive"
    length = next(one for one in audited(corpus, Terms(0.05, 20, 2)) if one.strategy == "length")
    assert length.gain and length.gain.mean > 0.3 and length.tuned == "most by characters" and length.verdict == "fail"
