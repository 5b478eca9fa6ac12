"""Quotas: what is kept, what is owed, what a file of them may say."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pmem.dataset.quotas import Count, Quotas, load
from tests.command import lines, pmem, question, records


def asked(number: int, case: str = "own", kind: str = "neutral", *, persona: int = 0, item: int | None = None,
          passes: bool = True) -> dict[str, Any]:  # fmt: skip
    """A question about a preference (or secret) of its own, unless `item` names one."""
    persona_id = f"p-{persona:016x}"
    about = f"{persona_id}/n{number if item is None else item:02d}"
    made = question(number, passes=passes)
    secret = (
        {"id": about.replace("/n", "/x"), "kind": "password", "value": "Yubrosk76"} if case == "sensitive" else None
    )
    changed = {"id": about, "kind": kind}
    return {
        **made,
        "persona_id": persona_id,
        "case": case,
        "secret": secret,
        "preference": made["preference"] | changed,
    }


def sifted(quotas: Quotas, stream: list[dict[str, Any]]) -> tuple[list[int], list[int], Count]:
    """Numbers of the questions that were kept, of those owed, and the count."""
    count = Count(quotas)
    kept = []
    for qa in stream:
        if qa["votes"][-1]["verdict"] == "pass" and not any(vote["verdict"] == "fail" for vote in qa["votes"]):
            if count.surplus(qa) is None:
                kept.append(int(qa["id"][2:], 16))
        else:
            count.fell(qa)
    return kept, [int(one["id"].split("/")[1][1:]) for one in count.owed()], count


TOTAL, OWN, HEALTH = (None, None), ("own", None), (None, "health")


def test_survivors_beyond_a_quota_are_left_out_in_the_order_of_the_input() -> None:
    stream = [asked(n) for n in range(5)] + [asked(n, "other") for n in range(5, 8)]
    assert sifted(Quotas({OWN: 2}, {}), stream)[0] == [0, 1, 5, 6, 7]
    assert sifted(Quotas({TOTAL: 6}, {}), stream)[0] == [0, 1, 2, 3, 4, 5]
    assert sifted(Quotas({OWN: 0}, {}), stream)[0] == [5, 6, 7]


def test_a_total_keeps_room_for_what_finer_quotas_lack() -> None:
    common = [asked(n) for n in range(6)]
    assert sifted(Quotas({TOTAL: 5, HEALTH: 2}, {}), common)[0] == [0, 1, 2]
    rare = [asked(n, kind="health") for n in range(6, 10)]
    assert sifted(Quotas({TOTAL: 5, HEALTH: 2}, {}), common + rare)[0] == [0, 1, 2, 6, 7]
    assert sifted(Quotas({OWN: 5, ("own", "health"): 2}, {}), common + rare)[0] == [0, 1, 2, 6, 7]


def test_quotas_of_each_persona() -> None:
    stream = [asked(n, persona=n % 2) for n in range(6)]
    kept, _, count = sifted(Quotas({}, {TOTAL: 2}), stream)
    assert kept == [0, 1, 2, 3]
    assert list(count.rows([])) == [("total, each persona", 4, 4, 0)]


def test_one_question_about_each_preference_unless_more_are_wanted() -> None:
    stream = [asked(n, item=n % 2) for n in range(6)]
    assert sifted(Quotas({TOTAL: 9}, {}), stream)[0] == [0, 1]
    assert sifted(Quotas({TOTAL: 9}, {}, per_preference=2), stream)[0] == [0, 1, 2, 3]
    assert sifted(Quotas({TOTAL: 9}, {}, per_preference=2), [stream[0], stream[0]])[0] == [0]  # the same one again
    private = [asked(0, item=0), asked(1, "sensitive", item=0)]  # in the same conversation
    assert sifted(Quotas({TOTAL: 9}, {}), private)[0] == [0, 1]


def test_owed_is_what_lacks_a_survivor_and_counts_for_an_unmet_quota() -> None:
    stream = [asked(0, passes=False), asked(1), asked(2, "other", passes=False), asked(3, kind="health", passes=False)]
    assert sifted(Quotas({}, {}), stream)[1] == [0, 2, 3]  # without quotas, whatever lacks one
    assert sifted(Quotas({OWN: 9}, {}), stream)[1] == [0, 3]
    assert sifted(Quotas({OWN: 1}, {}), stream)[1] == []
    assert sifted(Quotas({HEALTH: 1}, {}), stream)[1] == [3]
    assert sifted(Quotas({TOTAL: 2, HEALTH: 1}, {}), stream)[1] == [3]  # the room that is left is health's
    assert sifted(Quotas({}, {OWN: 2}), stream)[1] == [0, 3]
    assert sifted(Quotas({OWN: 9}, {}), [*stream, asked(9, item=0)])[1] == [3]  # a later round's survivor


def test_owed_tells_what_it_is_about() -> None:
    count = Count(Quotas({}, {}))
    for number in range(2):
        count.fell(asked(number, "sensitive", "health", persona=7, item=3, passes=False))
    assert count.owed() == [
        {"type": "owed", "id": f"p-{7:016x}/x03", "persona_id": f"p-{7:016x}", "case": "sensitive", "kind": "health",
         "asked": 2}]  # fmt: skip


def test_no_more_is_owed_than_is_likely_to_do() -> None:
    """Of 30 half survive, 1 is missing: (30 + 2) / (15 + 1) questions bring one, and half as many again."""
    stream = [asked(n, passes=n % 2 == 0) for n in range(30)]
    assert sifted(Quotas({TOTAL: 16}, {}), stream)[1] == [1, 3, 5]
    # those that were asked about least often come first: 1 and 3 had their second chance
    again = [*stream, asked(31, item=1, passes=False), asked(33, item=3, passes=False)]
    assert sifted(Quotas({TOTAL: 16}, {}), again)[1] == [5, 7, 9, 11]  # 1.5 * 34 / 16, rounded up


def test_what_was_kept_stays_kept_as_rounds_come_in() -> None:
    draw = Random(1)
    stream = [
        asked(n, draw.choice(["own", "other"]), draw.choice(["neutral", "health"]), item=draw.randrange(150),
              passes=draw.random() < 0.3)
        for n in range(400)
    ]  # fmt: skip
    quotas = Quotas({TOTAL: 60, HEALTH: 20, OWN: 25}, {})
    first, all_of_it = sifted(quotas, stream[:200])[0], sifted(quotas, stream)[0]
    assert all_of_it[: len(first)] == first and len(all_of_it) > len(first)


FULL = """
total = 25_000
per_preference = 2
[case]
own = 12_500
[kind]
health = 2_500
[own]
health = 1_000
[persona]
total = 30
[persona.case]
sensitive = 2
[persona.own]
therapy = 1
"""


def test_a_file_says_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text(FULL)
    assert load(tmp_path / "q.toml") == Quotas(
        {TOTAL: 25_000, OWN: 12_500, HEALTH: 2_500, ("own", "health"): 1_000},
        {TOTAL: 30, ("sensitive", None): 2, ("own", "therapy"): 1},
        2,
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("total = -1", "total: expected a number of questions, found -1"),
        ("total = 1.5", "total: expected a number of questions, found 1.5"),
        ("total = true", "total: expected a number of questions, found True"),
        ("all = 3", "the file has no key 'all'; there are: total, case, kind, persona, per_preference, own,"),
        ("case = 3", "case: expected a table, found 3"),
        ("[case]\nhealth = 3", "case has no key 'health'; there are: own, updated, forgotten, other, sensitive"),
        ("[own]\nown = 3", "own has no key 'own'; there are: stereotypical,"),
        ("[persona]\nper_preference = 3", "persona has no key 'per_preference'"),
        ("[persona.kind]\nhealth = '3'", "persona.kind.health: expected a number of questions, found '3'"),
        ("total = 3\n[case]\nown = 2\nother = 2", "total: 3 questions, fewer than 4 for own, other"),
        ("[case]\nown = 1\n[own]\nhealth = 2", "own: 1 questions, fewer than 2 for own health"),
        ("[persona]\ntotal = 1\n[persona.case]\nown = 2", "persona.total: 1 questions, fewer than 2 for own"),
        ("total", "not a TOML file"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "q.toml").write_text(text)
    with pytest.raises(ValueError) as found:
        load(tmp_path / "q.toml")
    assert str(found.value).startswith(f"{tmp_path / 'q.toml'}: ") and fault in str(found.value)
    ran = pmem("filter", "--quota", "q.toml", folder=tmp_path)
    assert ran.status == 2 and ran.out == b""


def test_imported_questions_are_counted_and_never_owed(tmp_path: Path) -> None:
    bare = [{**asked(n, passes=n > 1), "persona_id": None, "preference": None} for n in range(4)]
    (tmp_path / "q.toml").write_text("total = 1\n[persona]\ntotal = 5")
    ran = pmem("filter", "--quota", "q.toml", "--owed", "o", folder=tmp_path, input=lines(bare))
    assert ran.records == bare[2:3] and (tmp_path / "o").read_bytes() == b""


def test_owed_is_written_with_the_rest_or_not_at_all(tmp_path: Path) -> None:
    stream = lines([asked(0), asked(1, passes=False)])
    (tmp_path / "o").write_bytes(b"old\n")
    assert pmem("filter", "--owed", "o", folder=tmp_path, input=stream + b"torn\n").status == 1
    assert (tmp_path / "o").read_bytes() == b"old\n"
    assert pmem("filter", "--owed", "o", "-q", folder=tmp_path, input=stream).status == 0
    assert [one["id"][-3:] for one in records((tmp_path / "o").read_bytes())] == ["n01"]
    clash = pmem("filter", "--owed", "o", "--dropped", "o", folder=tmp_path, input=stream)
    assert clash.status == 2 and "two outputs can't be one file" in clash.err


def test_reasons_name_the_quota(tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text("total = 3\n[case]\nown = 1\n[persona]\ntotal = 2")
    stream = [asked(0), asked(1), asked(2, item=0), asked(3, "other"), asked(4, "other")]
    pmem("filter", "--quota", "q.toml", "--dropped", "d", folder=tmp_path, input=lines(stream))
    assert Counter(error["message"] for error in records((tmp_path / "d").read_bytes())) == {
        "quota: no room for more of own": 1,
        f"quota: enough about p-{0:016x}/n00": 1,
        "quota: no room for more of total of one persona": 1,
    }
