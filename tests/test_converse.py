"""What a conversation has to be before it goes out: implicit, private details planted only, photos where drawn."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem.backends.base import Completion, Likelihood, Request
from pmem.backends.model import Invalid, Model
from pmem.dataset.conversations import Album, Setup, conversations
from pmem.dataset.implicitness import Judging, check_stated, why_not
from pmem.dataset.plans import plans
from pmem.dataset.privacy import check_private
from pmem.fakes import KINDS
from pmem.images import Image
from pmem.lists import scenarios, secrets
from pmem.prompts import Prompts
from pmem.stream.made import Made

HERE = Path(__file__).parent
DEMO_IMAGES = HERE.parent / "pmem" / "demo" / "images"
MUG = Image("kitchen_shelf.png", "A shelf with a mug.", ())

Reply = dict[str, Any]


class Author:
    """A backend that says what a function of the call's id and the prompt says; it remembers the calls."""

    cacheable = False

    def __init__(self, say: Callable[[str, str], Any]) -> None:
        self.say = say
        self.calls: list[tuple[str, str]] = []

    def identify(self) -> Reply:
        return {"kind": "author"}

    async def complete(self, request: Request) -> Completion:
        prompt = request.messages[-1]["content"]
        self.calls.append((request.call, prompt))
        said = self.say(request.call, prompt)
        return Completion(said if isinstance(said, str) else orjson.dumps(said).decode())

    async def likelihood(self, request: Request, texts: list[str]) -> list[Likelihood]:
        raise AssertionError("no stage of the data set asks for likelihoods")

    async def close(self) -> None: ...


def preference(number: int = 1, **more: Any) -> Reply:
    return {
        "id": f"p-0000000000000001/s{number:02d}",
        "kind": "neutral",
        "text": "Prefers sourdough rye bread with caraway over white bread.",
        "topic": "bread baking",
        "owner": {"who": "self", "relation": None},
        "updates": None,
        "reason": None,
        "forget": False,
        **more,
    }


def persona(preferences: list[Reply], secrets: list[Reply] | None = None) -> Reply:
    return {
        "type": "persona", "id": "p-0000000000000001", "name": "Ada Lund", "language": "da", "summary": "A cook.",
        "profile": {"work": {"job": "cook"}}, "preferences": preferences, "secrets": secrets or [],
    }  # fmt: skip


def turns(count: int, first: str = "Polish this, please.", answer: str = "Done.") -> Reply:
    return {"turns": [{"user": first if n == 0 else "Shorter.", "assistant": answer} for n in range(count)]}


def turns_in(prompt: str) -> int:
    return int(prompt.split("Length: ")[1].split()[0])


def made(
    one: Reply, say: Callable[[str, str], Any], *, votes: int = 0, album: Album | None = None, attempts: int = 3
) -> tuple[Made, Author]:
    author = Author(say)
    model = Model("author", author, cache=None)
    setup = Setup(model, Prompts(), 0, Judging(model, Prompts(), votes), attempts, album)
    return asyncio.run(conversations(one, None, setup)), author


# ---- stated outright ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        "Look: prefers sourdough rye bread with caraway over white bread, that's me.",
        "I love rye bread with caraway!",
        "Well, I really prefer a sourdough rye.",
        "Sourdough with rye is my favourite.",
        "As someone who eats rye and caraway bread daily, which flour?",
        "I can't stand white bread, so rye it is.",
        "I'm a big fan of rye breads.",
        "I’d rather have rye bread.",
        "I've always loved caraway in bread",
    ],
)
def test_plain_statements_are_refused(said: str) -> None:
    with pytest.raises(Invalid, match="states the preference"):
        check_stated(preference(), ["Hello.", said])


@pytest.mark.parametrize(
    "said",
    [
        "The crumb of my rye came out dense, and the caraway is all at the bottom. How long do I proof it?",
        "I love how you shortened it. Add a line on bread.",
        "I like it. Rye, caraway and the sourdough pot are packed, so tell him I need no white bread.",
        "I would like a table of flours: rye, white, spelt.",
        "I looked into it. Two loaves of rye a week.",
        "He likes rye bread. I like tea.",
    ],
)
def test_hints_are_not_statements(said: str) -> None:
    check_stated(preference(), [said])


def test_what_is_tried_out_may_be_said_in_the_first_person() -> None:
    tried = preference(owner={"who": "hypothetical", "relation": None})
    check_stated(tried, ["What if I love rye bread with caraway?"])
    with pytest.raises(Invalid):
        check_stated(tried, [tried["text"]])


# ---- private details ---------------------------------------------------------------------------------------------


def test_planted_and_made_up_details_may_stand() -> None:
    check_private(["Call +44 7700 900051 or mail ada@example.com.", "DOB 3 May 1984"], ["3 May 1984"])


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Call (212) 828-7250.", "phone number"),
        ("mail ada.lund@gmail.com", "email address"),
        ("card 4111 1111 1111 1111", "credit card"),
        ("my date of birth: 3 May 1984", "date of birth"),  # no date is provably nobody's
        ("to DE89 3704 0044 0532 0130 00", "bank account"),
    ],
)
def test_other_details_are_refused_and_not_quoted(text: str, kind: str) -> None:
    with pytest.raises(Invalid, match=f"nobody made up: {kind}") as refused:
        check_private(["Fine.", text], ["3 May 1985"])
    assert text.split(" ", 1)[1] not in str(refused.value)


def secret(value: str = "+44 7700 900051", kind: str = "phone_number") -> Reply:
    return {"id": "p-0000000000000001/x01", "kind": kind, "value": value}


def plan_with_secret() -> Reply:
    """A persona whose one conversation carries a phone number."""
    for number in range(1, 100):
        one = persona([preference(number)], [secret()])
        if plans(one, 0)[0].secrets:
            return one
    raise AssertionError("no place for a secret in a hundred")


@pytest.mark.parametrize(
    ("said", "answer", "why"),
    [
        ("Call me.", "Done.", "don't contain the phone number word for word"),
        ("Call +44 7700 900051.", "Call +44 7700 900051.", "the assistant repeats the phone number"),
        ("Call +44 7700 900051 or (212) 828-7250.", "Done.", "a private detail that nobody made up"),
        ("Call +44 7700 900051.", "Write to mayor@springfield.org.", "a private detail that nobody made up"),
    ],
)
def test_a_conversation_holds_its_secret_once_and_no_other(said: str, answer: str, why: str) -> None:
    result, author = made(plan_with_secret(), lambda _, prompt: turns(turns_in(prompt), said, answer))
    assert not result.records and why in result.failures[0].fault.message
    assert len(author.calls) == 4  # asked again
    fine, _ = made(plan_with_secret(), lambda _, prompt: turns(turns_in(prompt), "Call +44 7700 900051."))
    assert fine.records[0]["secrets"] == [secret()]


def test_secrets_fall_where_they_would_really_occur() -> None:
    assert set(secrets()) == set(KINDS)
    assert {scenario for places in secrets().values() for scenario in places} <= set(scenarios())
    placed = 0
    for number in range(60):
        wanted = [{"id": f"p-1/x{n:02d}", "kind": kind, "value": kind} for n, kind in enumerate(KINDS)]
        one = {**persona([preference(n) for n in range(1, 30)], wanted), "id": f"p-{number:016x}"}
        told = [(plan.scenario, entry["kind"]) for plan in plans(one, number) for entry in plan.secrets]
        assert all(scenario in secrets()[kind] for scenario, kind in told)
        placed += len(told)
    assert placed > 0.9 * 60 * len(KINDS)


# ---- votes -------------------------------------------------------------------------------------------------------

PASS = {"reason": "the flour", "inferable": "yes", "stated": "no"}
FAIL = {"reason": "it says so", "inferable": "yes", "stated": "yes"}


def test_a_conversation_is_written_anew_until_the_votes_pass() -> None:
    def say(call: str, prompt: str) -> Any:
        if "implicit" in call:
            return PASS if "second" in prompt else FAIL
        return turns(turns_in(prompt), "The second draft." if call.endswith("/1") else "The first draft.")

    result, author = made(persona([preference()]), say, votes=3)
    record = result.records[0]
    assert record["messages"][0]["content"] == "The second draft." and list(record)[-1] == "messages"
    assert [vote["verdict"] for vote in record["votes"]] == ["pass"] * 3
    assert {vote["check"] for vote in record["votes"]} == {"implicit"}
    assert [call.split("/", 2)[2] for call, _ in author.calls] == [
        *("s01/0", *(f"s01-implicit-0/{n}" for n in range(3))),
        *("s01/1", *(f"s01-implicit-1/{n}" for n in range(3))),
    ]
    assert "Done." not in author.calls[1][1], "judges see the user's messages"


def test_after_all_attempts_it_is_rejected_with_the_reason() -> None:
    result, author = made(
        persona([preference()]), lambda call, prompt: FAIL if "implicit" in call else turns(turns_in(prompt)), votes=1,
        attempts=2,
    )  # fmt: skip
    fault = result.failures[0].fault
    assert not result.records
    assert fault.message == (
        "no implicit conversation in 2 attempts: 1 of 1 votes not for it: stated outright: it says so"
    )
    assert fault.call == "converse/p-0000000000000001/s01/1"
    assert len(author.calls) == 4


def test_unreadable_votes_are_no_votes_for_it() -> None:
    def say(call: str, prompt: str) -> Any:
        if "implicit" not in call:
            return turns(turns_in(prompt))
        return PASS if call.split("/")[3] == "0" else "I'd say yes"

    result, _ = made(persona([preference()]), say, votes=2)
    assert "1 of 2 votes not for it: author: no valid reply" in result.failures[0].fault.message


def test_a_tie_is_no_majority_and_inference_counts_too() -> None:
    vote = {"check": "implicit", "n": 0, "judge": "j", "choice": None, "reason": "r"}
    assert why_not([{**vote, "verdict": "pass"}, {**vote, "verdict": "fail"}]) == "1 of 2 votes not for it: r"
    assert why_not([{**vote, "verdict": "pass"}] * 2 + [{**vote, "verdict": "unclear"}]) is None
    unclear = {**PASS, "inferable": "no"}
    result, _ = made(
        persona([preference()]),
        lambda call, prompt: unclear if "implicit" in call else turns(turns_in(prompt)),
        votes=1,
    )
    assert "can't be inferred: the flour" in result.failures[0].fault.message


def test_requests_to_forget_are_not_judged() -> None:
    result, author = made(
        persona([preference(forget=True)]),
        lambda call, prompt: PASS if "implicit" in call else turns(turns_in(prompt) if "Length" in prompt else 1),
        votes=1,
    )
    assert [("votes" in record) for record in result.records] == [True, False]
    assert not any("forget-implicit" in call for call, _ in author.calls)


def test_without_votes_no_judge_is_asked_and_none_recorded() -> None:
    result, author = made(persona([preference()]), lambda _, prompt: turns(turns_in(prompt)))
    assert "votes" not in result.records[0] and len(author.calls) == 1


# ---- what is drawn -----------------------------------------------------------------------------------------------


def many(**more: Any) -> Reply:
    return persona([preference(n, **more) for n in range(1, 2001)])


def test_knowledge_questions_go_on_for_three_turns_or_more() -> None:
    drawn = [plan for plan in plans(many(), 1) if plan.scenario == "knowledge_query"]
    assert len(drawn) > 150 and min(plan.turns for plan in drawn) == 3
    assert min(plan.turns for plan in plans(many(), 1)) == 2


def test_photo_queries_take_their_share_and_change_nothing_else() -> None:
    without, with_images = plans(many(), 1), plans(many(), 1, [MUG])
    photos = [plan for plan in with_images if plan.scenario == "photo_query"]
    weights = [entry["weight"] for entry in scenarios().values() if "neutral" in entry["suits"]]
    expected = 2000 * scenarios()["photo_query"]["weight"] / sum(weights)
    assert abs(len(photos) - expected) < 5 * expected**0.5  # 5 standard deviations
    assert all(plan.image == MUG for plan in photos)
    assert [plan for plan in with_images if plan.scenario != "photo_query"] == [
        plan for plan, other in zip(without, with_images, strict=True) if other.scenario != "photo_query"
    ]


@pytest.mark.parametrize(
    ("topics", "fits"), [(("bread baking",), True), (("drinks_and_baking",), True), ((), True), (("lawn care",), False)]
)
def test_images_are_drawn_by_topic_where_they_name_some(topics: tuple[str, ...], fits: bool) -> None:
    image = Image("a.png", "A.", topics)
    assert any(plan.image for plan in plans(many(), 1, [image])) == fits


def test_images_of_the_topic_go_before_images_of_none() -> None:
    fitting, any_topic = Image("a.png", "A.", ("bread baking",)), Image("b.png", "B.", ())
    assert {plan.image for plan in plans(many(), 1, [any_topic, fitting])} == {None, fitting}


@pytest.mark.parametrize("who", ["other", "hypothetical"])
def test_photos_are_of_the_users_own_taste(who: str) -> None:
    owner = {"who": who, "relation": "sister" if who == "other" else None}
    assert not any(plan.image for plan in plans(many(owner=owner), 1, [MUG]))


# ---- photos in messages ------------------------------------------------------------------------------------------


def photo_persona() -> Reply:
    for number in range(1, 500):
        one = persona([preference(number)])
        if plans(one, 0, [MUG])[0].image:
            return one
    raise AssertionError("no photo in five hundred")


@pytest.mark.parametrize("form", ["path", "url", "words"])
def test_the_first_message_holds_the_photo(form: str) -> None:
    def say(call: str, prompt: str) -> Any:
        if "implicit" in call:
            assert "A shelf with a mug." in prompt
            return PASS
        assert "The photo shows: A shelf with a mug." in prompt
        return turns(turns_in(prompt), "What is that stain?")

    result, _ = made(photo_persona(), say, album=Album(DEMO_IMAGES, [MUG], form), votes=1)
    record = result.records[0]
    assert record["scenario"] == "photo_query"
    assert record["image"] == {"file": "kitchen_shelf.png", "caption": "A shelf with a mug."}
    first = record["messages"][0]["content"]
    if form == "words":
        assert first == "[photo: A shelf with a mug.]\n\nWhat is that stain?"
        return
    assert first[0] == {"type": "text", "text": "What is that stain?"}
    url = first[1]["image_url"]["url"]
    assert url == "kitchen_shelf.png" if form == "path" else url.startswith("data:image/png;base64,iVBOR")
    assert all(isinstance(message["content"], str) for message in record["messages"][1:])
