"""What is asked about, in which windows, and how many questions."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pmem.backends.model import Invalid
from pmem.dataset import questions
from pmem.dataset.questions import Setup
from pmem.dataset.targets import Target, shown, targets
from pmem.prompts import Prompts
from pmem.stream.made import Group
from tests.command import asking, lines, pmem, sample
from tests.stub import Stub

AUTHOR = Path(__file__).parent / "stub_author.py"
PERSONA = "p-00000000000000aa"


def preference(name: str, *, updates: str | None = None, who: str = "self") -> dict[str, Any]:
    return {
        "id": f"{PERSONA}/{name}",
        "kind": "neutral",
        "text": f"Prefers the colour number {name}.",
        "topic": "colours",
        "owner": {"who": who, "relation": "sister" if who == "other" else None},
        "updates": updates and f"{PERSONA}/{updates}",
        "reason": "It palled." if updates else None,
        "forget": False,
    }


def history(window: str, *told: tuple[dict[str, Any], str]) -> dict[str, Any]:
    """A history of one exchange for each preference and event told."""
    sessions, messages = [], []
    for number, (one, event) in enumerate(told):
        session = {"id": f"c-{event}-{one['id'][-3:]}", "what": "conversation", "start": 2 * number}
        session |= {"end": 2 * number + 2, "token_start": 10 * number, "tokens": 10, "date": None, "event": event}
        sessions.append({**session, "preference": one, "scenario": "chat_message", "topic": "colours"})
        messages += [{"role": "user", "content": f"Say {number}."}, {"role": "assistant", "content": f"{number}."}]
    known = {"persona_id": PERSONA, "user_id": PERSONA, "window": window, "tokens": 10 * len(told)}
    return {**sample("history"), **known, "sessions": sessions, "messages": messages}


def cases(found: list[Target]) -> dict[str, str]:
    return {target.item.split("/")[1]: target.case for target in found}


FIRST, SECOND, THIRD = preference("n01"), preference("n02", updates="n01"), preference("n03", updates="n02")
FREE, HERS = preference("n04"), preference("n05", who="other")


def test_the_last_state_of_each_chain_is_asked_about() -> None:
    whole = history("32k", *((one, "reveals") for one in (FIRST, SECOND, THIRD, FREE, HERS)), (FREE, "asks_to_forget"))
    found = targets(whole)
    assert cases(found) == {"n03": "updated", "n04": "forgotten", "n05": "other"}
    assert [target.previous for target in found] == [SECOND, None, None]


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ([(SECOND, "updates")], {}),  # what it replaced is not there
        ([(FREE, "asks_to_forget")], {}),  # never revealed
        ([(FIRST, "reveals")], {"n01": "own"}),  # the update was left out
        ([], {}),
    ],
)
def test_no_question_about_half_a_chain(told: list[tuple[dict[str, Any], str]], asked: dict[str, str]) -> None:
    assert cases(targets(history("32k", *told))) == asked


def test_a_question_names_only_the_windows_that_show_its_evidence() -> None:
    small = history("32k", (FIRST, "reveals"), (FREE, "reveals"))
    large = history("128k", (FIRST, "reveals"), (FREE, "reveals"), (SECOND, "updates"), (HERS, "reveals"))
    found = {one.target.item.split("/")[1]: one for one in shown([small, large])}
    assert {name: [one["window"] for one in each.histories] for name, each in found.items()} == {
        "n01": ["32k"], "n04": ["32k", "128k"], "n02": ["128k"], "n05": ["128k"]}  # fmt: skip
    # token_start of the snippet, its 10 tokens, the size of the window: what lies between it and the end
    reference = questions._reference(large, found["n04"].target)
    assert reference["distance_tokens"] == 40 - 10 - 10


TWO = lines(
    [history("32k", (FREE, "reveals"), (HERS, "reveals")), history("128k", (FREE, "reveals"), (HERS, "reveals"))]
)


def test_attempts_make_different_questions(tmp_path: Path, stub: Stub) -> None:
    stub.restart(reply=AUTHOR)
    both = pmem("qa", *asking(stub), "--attempts", "2", folder=tmp_path, input=TWO)
    assert both.status == 0, both.err
    assert len({qa["id"] for qa in both.records}) == len({qa["query"] for qa in both.records}) == 4
    single = [pmem("qa", *asking(stub), "--attempt", n, folder=tmp_path, input=TWO) for n in "01"]
    assert sorted(map(repr, both.records)) == sorted(map(repr, single[0].records + single[1].records))
    assert stub.counts()["requests"] == stub.counts()["distinct"] == 8  # the later runs' replies were in the cache
    assert "qa/again" in single[1].records[0]["provenance"]["prompts"]
    assert "qa/again" not in single[0].records[0]["provenance"]["prompts"]


def test_only_what_is_owed_is_asked_about(tmp_path: Path, stub: Stub) -> None:
    stub.restart(reply=AUTHOR)
    owed = {**sample("owed"), "id": HERS["id"], "persona_id": PERSONA, "case": "other"}
    (tmp_path / "owed.jsonl").write_bytes(lines([owed]))
    again = ["qa", *asking(stub), "--only", "owed.jsonl", "--attempt", "1"]
    ran = pmem(*again, folder=tmp_path, input=TWO)
    assert [qa["preference"]["id"] for qa in ran.records] == [HERS["id"]]
    (tmp_path / "owed.jsonl").write_bytes(b"")
    assert pmem(*again, folder=tmp_path, input=TWO).records == []
    wrong = pmem(*again[:-2], folder=tmp_path, input=TWO)
    assert wrong.status == 2 and "--attempt" in wrong.err
    (tmp_path / "owed.jsonl").write_bytes(TWO)
    assert "expected an owed record" in pmem(*again, folder=tmp_path, input=TWO).err


def made(texts: dict[str, str], target: Target, wrong: str = "") -> str | None:
    """What `_check_options` says of replies."""
    try:
        questions._check_options(texts, target, wrong)
    except Invalid as fault:
        return str(fault)
    return None


OWN = Target(FREE["id"], "own", FREE, None, None, ["c-1"])
FOUR = {
    name: f"{name[:5]} goes by the early train." for name in ("right", "random_preference", "stereotype", "generic")
}


def test_options_that_betray_the_answer_are_refused() -> None:
    assert made({**FOUR, "stereotype": "Go by bike, see the river."}, OWN) is None
    long = made({**FOUR, "right": FOUR["right"] * 2, "stereotype": "Go by bike, see the river."}, OWN)
    assert long == "the right option has 60 characters, the others 26 to 30"
    assert made(FOUR | {"generic": FOUR["right"].upper()}, OWN) == "two of the four replies are the same"
    assert made(FOUR | {"generic": "Sure, go by the early train"}, OWN) == "generic begins like a chatbot's preamble"
    assert made(FOUR | {"generic": " "}, OWN) == "generic is empty"
    assert "in form" in str(made(FOUR | {"right": "- the early\n- train, if any"}, OWN))


def test_requests_that_leak_are_refused() -> None:
    secret = {"id": f"{PERSONA}/x01", "kind": "phone_number", "value": "+1 202 555 0143"}
    private = Target(secret["id"], "sensitive", FREE, None, secret, ["c-1"])
    with pytest.raises(Invalid, match="private detail"):
        questions._check_query("Write a note with 1-202-555-0143 in it.", private)
    with pytest.raises(Invalid, match="by its words: colour, number"):
        questions._check_query("Which colour has a number?", OWN)
    changed = Target(SECOND["id"], "updated", {**SECOND, "text": "Walks."}, FREE, None, ["c-1", "c-2"])
    with pytest.raises(Invalid, match="by its words"):
        questions._check_query("Which colour has a number?", changed)
    questions._check_query("Which colour has a number?", private)
    questions._check_query("What should I wear tomorrow?", OWN)


def test_a_part_is_found_by_its_item_or_with_its_number() -> None:
    asked = []

    class Silent:
        name = "silent"

        async def chat(self, _messages: Any, *, call: str, n: int, **_: Any) -> Any:
            asked.append(f"{call}/{n}")
            raise Invalid("enough")

    def run(items: list[str] | None, attempts: range, only: frozenset[str] | None = None) -> list[str]:
        asked.clear()
        group = Group([history("32k", (FREE, "reveals"), (HERS, "reveals"))], items)
        setup = Setup(Silent(), Prompts(), 0, attempts, only)  # type: ignore[arg-type]
        with pytest.raises(Invalid):
            asyncio.run(questions.questions(group, setup))  # type: ignore[arg-type]
        return [call.split("/", 2)[2].replace("/query", "") for call in asked]

    assert run(None, range(2)) == ["n04/0", "n04/1", "n05/0", "n05/1"]
    assert run([f"{FREE['id']}/1"], range(2)) == ["n04/1"]
    assert run([FREE["id"]], range(2, 4)) == ["n04/2", "n04/3"]
    assert run([FREE["id"]], range(1, 2), frozenset([HERS["id"]])) == ["n04/1"]
    assert run(None, range(1, 2), frozenset([HERS["id"]])) == ["n05/1"]
