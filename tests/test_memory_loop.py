"""The loop: causal, Markovian, incremental, capped; shown with a model whose reply is a hash of all it was sent."""

import asyncio
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmem import tokens
from pmem.check import first_fault, schema
from pmem.memory.lineage import _Words, continued, edited, of_record
from pmem.memory.previous import Before
from pmem.memory.text import TOPICS, Entry, parsed, trimmed, written
from tests.memory_model import Model, Record, hashed, history, run

HERE = Path(__file__).parent
CHATS = [[f"Message {n} of chat {chat}, about tea, boats and the weather." for n in range(6)] for chat in range(8)]


def records(history: Record, model: Model | None = None, before: Any = None, **options: Any) -> list[Record]:
    found = [one.record for one in asyncio.run(run(history, model or Model(), before, **options))]
    assert all(first_fault(schema("memory"), record) is None for record in found if not _valid(record))
    return found


def _valid(record: Record) -> bool:
    from pmem.check import validator

    return validator("memory")(record)


# ---- the three principles --------------------------------------------------------------------------------------


def test_a_memory_depends_on_its_chunk_and_the_memory_before_and_nothing_else() -> None:
    base = [one["text"] for one in records(history(*CHATS), chunk=150)]
    assert len(set(base)) == len(base) > 5
    for changed in range(len(CHATS)):
        chats = [chat if n != changed else [*chat[:5], "Something else."] for n, chat in enumerate(CHATS)]
        other = [one["text"] for one in records(history(*chats), chunk=150)]
        first = next(n for n, (old, new) in enumerate(zip(base, other, strict=False)) if old != new)
        assert base[:first] == other[:first]  # no later chunk reaches back
        assert all(old != new for old, new in zip(base[first:], other[first:], strict=False))


def test_a_memory_is_made_of_the_memory_before_and_the_chunk_alone() -> None:
    """A model that forgets all but the last entry: whatever led to the same memory, the next one is the same."""
    model = Model(lambda messages: "- Always the same." if "chat 3" not in str(messages) else hashed(messages))
    other = [["Quite another beginning."] * 6, *CHATS[1:]]
    one, two = (records(history(*chats), model, chunk=150, evidence=False) for chats in (CHATS, other))
    assert [step["text"] for step in one][-3:] == [step["text"] for step in two][-3:]


def test_nothing_but_messages_reaches_the_model() -> None:
    """No persona, no question, no preference of a session, no id."""
    past = history(*CHATS) | {
        "persona": {"id": "p-" + "1" * 16, "name": "Zed", "language": "en", "summary": "SECRET-1"}
    }
    past["sessions"][0] |= {"topic": "SECRET-2", "scenario": "chat_message"}
    past["system"] = "SECRET-3"
    model = Model()
    records(past, model)
    assert not [text for text in model.sent if "SECRET" in text or "Zed" in text or past["user_id"] in text.split()]


# ---- entries and their past --------------------------------------------------------------------------------------


@given(*[st.lists(st.sampled_from(["tea", "Tea", "the", "boat", "boat", "a"]), max_size=9).map(" ".join)] * 2)
def test_words_in_any_order_are_a_bound_of_words_in_order(one: str, other: str) -> None:
    """difflib's own bound, which is slow; so no pair that is alike is passed over."""
    matcher = SequenceMatcher(None, one.casefold().split(), other.casefold().split(), autojunk=False)
    assert _Words(one).at_most_alike(_Words(other)) == matcher.quick_ratio() >= matcher.ratio()


# ---- night after night -----------------------------------------------------------------------------------------


def entries_of(record: Record) -> list[tuple[Any, ...]]:
    return [(one["text"], one["since_chunk"], one["changed_chunk"]) for one in record["entries"]]


def test_nights_that_end_at_chunks_ends_equal_one_go() -> None:
    whole = records(history(*CHATS), chunk=120)
    assert len(whole) == len(CHATS)  # each chat fills a chunk
    last: Record | None = None
    made = []
    for night, end in enumerate((2, 3, 8)):
        made += records(history(*CHATS[:end], number=night), before=last, chunk=120)
        last = made[-1]
    same = ("id", "previous_id", "text", "chunk", "tokens")
    assert [[one[key] for key in same] for one in made] == [[one[key] for key in same] for one in whole]
    assert [entries_of(one) for one in made] == [entries_of(one) for one in whole]
    assert made[-1]["read"] == whole[-1]["read"] and made[-1]["chunks"] == whole[-1]["chunks"]


def test_a_night_that_ends_inside_a_chunk_begins_a_new_one() -> None:
    last = records(history([*CHATS[0][:2]]), chunk=120)[-1]
    model = Model()
    found = records(history(*CHATS[:2], number=1), model, last, chunk=120)
    assert [one["chunk"] for one in found] == [2, 3]
    assert [text.count("Message ") for text in model.sent] == [6, 4]


MESSAGE = st.sampled_from(["yes", "no", "thanks", "tea?", "coffee", "a longer message about boats"])
CHAT = st.lists(MESSAGE, min_size=1, max_size=5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(CHAT, max_size=3), min_size=1, max_size=4), st.data())
def test_no_message_is_read_twice_or_missed(nights: list[list[list[str]]], data: st.DataObject) -> None:
    """Each night the whole log comes again, old chats grown, new ones among them, in another order."""
    chats: list[list[str]] = []
    last: Record | None = None
    heard: list[str] = []
    for night, new in enumerate(nights):
        for chat in chats:
            chat += data.draw(st.lists(MESSAGE, max_size=2))
        chats = data.draw(st.permutations([*chats, *([*chat] for chat in new)]))
        if not chats:
            continue
        model = Model()
        found = records(history(*chats, number=night), model, last, chunk=60, evidence=False)
        for text in model.sent:
            inside = text.split("<chats>\n")[1].split("\n</chats>")[0]
            heard += [line.split(": ", 1)[1] for line in inside.splitlines() if ": " in line]
        last = found[-1]
        assert sorted(heard) == sorted(message for chat in chats for message in chat)


def test_a_night_with_the_new_chats_only() -> None:
    last = records(history(*CHATS[:3]), chunk=150)[-1]
    model = Model()
    found = records(history(*CHATS[3:], number=1), model, last, chunk=150)
    assert sum(text.count("Message ") for text in model.sent) == 6 * 5
    # and then the whole log again
    again = records(history(*CHATS, number=2), Model(), found[-1], chunk=150)
    assert [one["id"] for one in again] == [found[-1]["id"]]
    assert sorted(again[0]["read"]) == sorted(found[-1]["read"])


def test_a_night_without_chats_gives_the_memory_as_it_was() -> None:
    last = records(history(*CHATS))[-1]
    model = Model()
    (same,) = records(history(*CHATS), model, last)
    assert same == last and not model.sent


def test_evidence_of_earlier_histories_keeps_their_ids() -> None:
    model = Model(lambda _: "- Drinks tea [1, 2, 99]\n- Sails [3]")
    first = records(history(["I drink tea.", "Nice.", "I sail."]), model)[-1]
    assert [one["evidence"] for one in first["entries"]] == [[0, 1], [2]]
    second = records(history(["Tea again!"], number=1), model, first)[-1]
    assert second["entries"][0]["evidence"] == [0]
    assert second["entries"][0]["earlier"] == [{"history_id": first["history_id"], "messages": [0, 1]}]
    assert second["text"] == "- Drinks tea\n- Sails"


# ---- edits by hand -----------------------------------------------------------------------------------------------


def test_what_the_user_wrote_stays_until_a_chat_changes_it() -> None:
    told = Model(lambda _: "## About\n\n- Lives in Porto\n- Drinks tea")
    last = records(history(["Hi."]), told)[-1]
    text = "## About\n\n- Lives in Lisbon\n- Has a cat called Miso"
    by_hand, after = records(history(["Hi."], ["More."], number=1), told, Before(last, text))
    assert by_hand["edited"] and by_hand["previous_id"] == last["id"] and by_hand["text"] == text
    changed = {"from": "Lives in Porto", "to": "Lives in Lisbon"}
    assert by_hand["edits"] == {"came": ["Has a cat called Miso"], "changed": [changed], "went": ["Drinks tea"]}
    assert not after["edited"] and after["previous_id"] == by_hand["id"] and after["edits"] == by_hand["edits"]
    # the model has a new version of the town, and says nothing of the cat
    assert after["text"] == "## About\n\n- Has a cat called Miso\n- Lives in Porto\n- Drinks tea"
    assert [one.get("edited", False) for one in after["entries"]] == [True, False, False]


def test_moving_an_entry_is_an_edit_and_setting_it_differently_is_none() -> None:
    told = Model(lambda _: "## About\n\n- Lives in Porto")
    last = records(history(["Hi."]), told)[-1]
    (moved,) = records(history(["Hi."]), told, Before(last, "## Changes\n\n- Lives in Porto"))
    assert moved["edited"] and moved["edits"] == {"came": [], "changed": [], "went": []}
    (same,) = records(history(["Hi."]), told, Before(last, "# About\n* Lives in\n  Porto"))
    assert same == last


def test_a_page_without_a_record_is_the_users_own() -> None:
    found = records(history(["Hi."]), Model(lambda _: "- Drinks tea"), Before(None, "Sails on Sundays."))
    assert [one["previous_id"] for one in found] == [None]
    assert {one["text"]: one.get("edited") for one in found[0]["entries"]} == {
        "Sails on Sundays.": True,
        "Drinks tea": None,
    }


def test_a_topic_taken_out_by_hand_may_come_back() -> None:
    reply = Model(lambda _: f"- Drinks coffee\n\n## {TOPICS}\n\n- coffee")
    last = records(history(["Forget the coffee."]), reply)[-1]
    assert last["text"] == f"## {TOPICS}\n\n- coffee"
    model = Model(lambda _: "- Drinks coffee")
    assert "Drinks" not in records(history(["Coffee!"], number=1), model, last)[-1]["text"]
    assert "Drinks" in records(history(["Coffee!"], number=1), model, Before(last, ""))[-1]["text"]


# ---- the text ------------------------------------------------------------------------------------------------------


REPLY = """<think>hm</think>
```markdown
# Memory
**About**
Ana is a nurse. She works
nights at Dr. Mota's clinic.

Tastes:
* Likes tea:
   - green
   - black
1. Sails on
   Sundays
### Not to be remembered
- coffee
```"""


def test_parsing_is_lenient() -> None:
    from pmem.choices import without_thinking

    entries = parsed(without_thinking(REPLY))
    assert [(one.section, one.text) for one in entries] == [
        ("About", "Ana is a nurse."),
        ("About", "She works nights at Dr. Mota's clinic."),
        ("About", "Tastes:"),
        ("About", "Likes tea: green; black"),
        ("About", "Sails on Sundays"),
        ("Not to be remembered", "coffee"),
    ]
    assert entries[-1].is_topic


def test_a_paragraph_after_an_empty_line_is_one_of_its_own() -> None:
    assert written(parsed("1\n-\na")) == written(parsed("1\n\na")) == "1\n\na"
    assert written(parsed("1\na")) == "1 a"


@settings(deadline=None)
@given(st.text(st.sampled_from("ab.-*# \n1)[]:é!A"), max_size=120))
def test_what_is_written_is_read_the_same(text: str) -> None:
    once = written(parsed(text))
    assert written(parsed(once)) == once


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.builds(Entry, st.text("abc", min_size=1), st.sampled_from(["", "A", TOPICS]), st.booleans())),
    st.integers(0, 60),
)
def test_trimming_leaves_whole_entries_and_topics_longest(entries: list[Entry], most: int) -> None:
    left = trimmed(entries, most, tokens.count)
    assert tokens.count(written(left)) <= most
    assert all(entry in entries for entry in left)
    gone = len(entries) - len(left)
    if gone and any(not entry.is_topic for entry in left):
        assert [e for e in left if e.is_topic] == [e for e in entries if e.is_topic]


def test_an_update_is_trimmed_and_says_so() -> None:
    reply = "\n".join(f"- Statement number {n}." for n in range(50)) + f"\n\n## {TOPICS}\n- coffee"
    (one,) = records(history(["Hi."]), Model(lambda _: reply), most=60)
    assert one["trimmed"] and one["tokens"] <= 60
    assert one["text"].startswith("- Statement number 0.") and one["text"].endswith("- coffee")


def test_an_entry_that_is_too_long_by_itself_takes_nothing_away() -> None:
    replies = iter(["- Drinks tea", "- Drinks " + "tea " * 100])
    found = records(history(*CHATS[:2]), Model(lambda _: next(replies)), chunk=120, most=60)
    assert [(one["text"], one["trimmed"]) for one in found] == [("- Drinks tea", False), ("- Drinks tea", True)]


@pytest.mark.parametrize(
    "reply", ["", "- [1]", "(nothing yet)", "<think>never ends", "```\n```", "<memory>\n</memory>"]
)
def test_a_reply_without_entries_leaves_the_memory(reply: str) -> None:
    replies = iter(["- Drinks tea", reply])
    found = records(history(*CHATS[:2]), Model(lambda _: next(replies)), chunk=200)
    assert [one["text"] for one in found] == ["- Drinks tea"] * 2


def test_continued() -> None:
    before = ["Likes tea a lot", "Works at a clinic", "Sails"]
    after = ["Works at a clinic in Porto", "Sails.", "Has a cat", "Likes tea a lot"]
    assert continued(before, after) == [1, 2, None, 0]


def test_edits_that_change_nothing_are_none() -> None:
    (record,) = records(history(["Hi."]), Model(lambda _: "- A\n- B"))
    memory = of_record(record, record["history_id"])
    same, edits = edited(memory, record["text"], 1)
    assert same == memory and not any(edits)
