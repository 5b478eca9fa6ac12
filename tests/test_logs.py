"""People's own logs: exports of ChatGPT and Claude, ShareGPT, messages; from the file to the history."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem import check
from pmem.errors import InputError, RecordError
from pmem.formats import chatgpt, claude, messages
from pmem.formats.exports import conversations
from pmem.formats.logs import Chat, Log, Said, time_of
from pmem.stream.made import Made
from pmem.stream.source import Entry
from tests.chat_exports import Record, Tree, chatgpt_zip, claude_zip, instructions, of_claude, picture, text, zipped
from tests.command import lines, peak, pmem, records
from tests.record import lines_of


def said(tree: Tree) -> list[tuple[str, str]]:
    return [(one.message["role"], one.message["content"]) for one in chatgpt.chat(tree.item).said]


def tree(*turns: str, date: str = "2025-03-01T10:00") -> Tree:
    return Tree(1, "A chat", date).chat(*turns)


# ---- ChatGPT: the tree -------------------------------------------------------------------------------------------


def test_the_branch_that_its_user_saw_last() -> None:
    one = Tree(1, "Tea", "2025-03-01T10:00")
    first = one.say("user", "Which tea?")
    one.say("assistant", "Green.")
    one.say("assistant", "Black.", after=first)  # another try
    one.say("user", "And with milk?")
    assert said(one) == [("user", "Which tea?"), ("assistant", "Black."), ("user", "And with milk?")]
    one.item["current_node"] = next(name for name, node in one.item["mapping"].items() if _text(node) == "Green.")
    assert said(one) == [("user", "Which tea?"), ("assistant", "Green.")]


def _text(node: Record) -> str:
    return str(node["message"]["content"]["parts"][0]) if node["message"] else ""


@pytest.mark.parametrize("current", [None, "gone", 7, []])
def test_without_a_current_node_the_newest_end_counts(current: Any) -> None:
    one = Tree(1, "Tea", "2025-03-01T10:00")
    first = one.say("user", "Which tea?")
    one.say("assistant", "Green.", wait=60)
    one.say("assistant", "Black.", after=first, wait=-30)
    one.item["current_node"] = current
    assert said(one)[1:] == [("assistant", "Green.")]
    del one.item["current_node"]
    assert said(one)[1:] == [("assistant", "Green.")]


def test_only_what_user_and_assistant_show_each_other_counts() -> None:
    one = Tree(1, "Weather", "2025-03-01T10:00")
    one.say("user", **instructions("I keep bees.", "Be brief."))
    one.say("user", "Will it rain?")
    one.say("assistant", {"content_type": "thoughts", "thoughts": [{"summary": "s", "content": "Hm."}]})
    one.say("assistant", {"content_type": "reasoning_recap", "content": "Thought for 3 seconds"})
    one.say("assistant", {"content_type": "code", "language": "unknown", "text": "search('rain')"}, recipient="web")
    one.say("tool", {"content_type": "tether_browsing_display", "result": "R", "summary": ""}, name="web")
    one.say("tool", {"content_type": "tether_quote", "url": "u", "text": "Quoted.", "title": "t"}, name="web")
    one.say("assistant", "The user keeps bees.", recipient="bio")
    one.say("tool", "Model set context updated.", name="bio")
    one.say("tool", {"content_type": "execution_output", "text": "1.5"}, name="python")
    one.say("assistant", {"content_type": "model_editable_context", "model_set_context": "1. Bees."})
    one.say("assistant", "Thinking aloud.", channel="analysis")
    one.say("assistant", "A stopped answer.", weight=0)
    one.say("user", "Hidden.", metadata={"is_visually_hidden_from_conversation": True})
    one.say("assistant", "", channel="final")
    one.say(
        "assistant", "It \ue203will\ue204 rain.\ue200cite\ue202turn0search1\ue202turn0search2\ue201", channel="final"
    )
    one.say("assistant", {"content_type": "code", "language": "python", "text": "print(1)"})
    one.say("assistant", {"content_type": "of_tomorrow", "text": "Something new."})
    assert said(one) == [
        ("user", "Will it rain?"),
        ("assistant", "It will rain."),
        ("assistant", "```\nprint(1)\n```"),
        ("assistant", "Something new."),
    ]
    assert chatgpt.chat(one.item).about == "I keep bees.\n\nBe brief."


def test_images_files_and_speech_become_text() -> None:
    one = Tree(1, "Mixed", "2025-03-01T10:00")
    files = [
        {"id": "file-1", "name": "IMG_2041.jpg", "mimeType": "image/jpeg", "size": 9},
        {"id": "file-2", "name": "cv.pdf", "mime_type": "application/pdf", "size": 9},
    ]
    look = text(picture("file-1"), picture("file-9"), "What is it?", kind="multimodal_text")
    one.say("user", look, metadata={"attachments": files})
    made = picture("file-3", dalle={"gen_id": "g", "prompt": "A red boat", "seed": 1})
    one.say("tool", text(made, kind="multimodal_text"), name="dalle.text2im", metadata={"attachments": files})
    unsaid = picture("file-6", dalle={"gen_id": "g", "prompt": ""}, generation={"gen_id": "h"})
    one.say("tool", text(unsaid, kind="multimodal_text"), name="t2uay3k.sj1i4kz")
    one.say("assistant", {"content_type": "of_tomorrow", "parts": None})
    one.say("tool", text(picture("file-4"), "Page 1", kind="multimodal_text"), name="myfiles_browser")
    spoken = {"content_type": "audio_transcription", "text": "Turn it blue", "direction": "in", "decoding_id": None}
    sound = {"content_type": "real_time_user_audio_video_asset_pointer", "frames_asset_pointers": []}
    one.say("user", text(spoken, sound, None, kind="multimodal_text"))
    one.say("user", text(picture("file-5"), kind="multimodal_text"))
    assert said(one) == [
        ("user", "[photo: IMG_2041.jpg]\n[photo]\nWhat is it?\n[file: cv.pdf]"),
        ("assistant", "[photo: A red boat]"),
        ("assistant", "[photo]"),
        ("user", "Turn it blue"),
        ("user", "[photo]"),
    ]


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ('By \ue200entity\ue202["people","Ada Byron",0]\ue201.', "By Ada Byron."),
        ("By \ue200entity\ue202[broken\ue201.", "By ."),
        ("See \ue200url\ue202the page\ue202https://example.com\ue201", "See the page"),
        ("So it is【12†source】, and 【not this】.", "So it is, and 【not this】."),
        ("Torn \ue200cite\ue202turn0", "Torn citeturn0"),
    ],
)
def test_marks_of_sources_are_taken_out_of_answers(answer: str, left: str) -> None:
    one = tree("Who?", answer)
    assert said(one)[1][1] == left
    assert said(tree(answer, "Yes."))[0][1] == answer.strip()  # a user's words stay as they are


def test_a_tree_that_is_broken_is_told_with_its_place() -> None:
    sound = tree("Hi.", "Hello.", "How?", "So.")
    for change, reason in _broken():
        one = copy.deepcopy(sound)
        change(one.item)
        with pytest.raises(RecordError, match=reason):
            chatgpt.chat(one.item)
    chatgpt.chat(sound.item)


def _broken() -> list[tuple[Callable[[Record], Any], str]]:
    def node(item: Record, number: int) -> Record:
        return list(item["mapping"].values())[number]  # type: ignore[no-any-return]

    return [
        (lambda item: item.pop("mapping"), "no conversation of ChatGPT: expected mapping; found title"),
        (lambda item: item.update(mapping=[]), "no conversation of ChatGPT"),
        (lambda item: item.update(chat_messages=item.pop("mapping")), "`pmem import claude` reads such files"),
        (lambda item: item["mapping"].pop(list(item["mapping"])[3]), "-4/parent: the message that it follows isn't"),
        (lambda item: node(item, 2).update(parent=item["current_node"]), "follow each other in a circle"),
        (lambda item: node(item, 2).update(parent=7), "-2/parent: the message that it follows isn't there"),
        (lambda item: item["mapping"].update(x=None), "/mapping/x: expected a node"),
        (lambda item: node(item, 3).update(message="Hi."), "-3/message: expected a message or null"),
        (lambda item: node(item, 3)["message"].pop("author"), "-3/message/author: expected an author with a role"),
        (lambda item: node(item, 3)["message"].update(content="Hi."), "-3/message/content: expected content with"),
        (lambda item: node(item, 3)["message"]["content"].update(parts=7), "content/parts: expected a list of parts"),
        (lambda item: node(item, 3)["message"]["content"].update(parts=[7]), "parts/0: expected text or an object"),
        (lambda item: node(item, 3)["message"].update(create_time="noon"), "-3/message/create_time: expected a time"),
        (lambda item: item.update(create_time=1e300), "/create_time: expected a time"),
    ]


WRONG: list[Any] = [None, 7, "x", "", [], {}, [[]], [{}], {"a": []}, True, 1e300, float(10**12)]


@pytest.mark.parametrize("value", WRONG)
def test_wrong_types_anywhere_are_reasons_and_no_tracebacks(value: Any) -> None:
    """Every value in an export is replaced in turn; and every key taken out."""
    one = Tree(1, "Mixed", "2025-03-01T10:00")
    one.say("user", **instructions("I keep bees.", ""))
    picked = text(picture("file-1", dalle={"prompt": "p"}), {"content_type": "x", "text": "t"}, kind="multimodal_text")
    one.say("user", picked, metadata={"attachments": [{"id": "file-1", "name": "n"}]})
    one.say("tool", picked)
    pasted = {"text": "x", "attachments": [{"file_name": "", "extracted_content": "p"}], "files": [{"file_name": "f"}]}
    other = of_claude(1, "Chat", "2025-03-01T10:00", "Hi.", pasted) | {"current_leaf_message_uuid": "x"}
    shared = {"conversations": [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "So."}], "id": "1"}
    parts = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "u"}}, {"type": "input_audio"}]
    plain = {"id": 1, "title": "t", "date": "2025-01-01", "messages": [{"role": "user", "content": parts}]}
    for item, read in (
        (one.item, lambda item: Log("x").add("u", chatgpt.chat(item), item)),
        (other, lambda item: (claude.account(item), Log("x").add("u", claude.chat(item), item))),
        (shared, lambda item: messages.maker("sharegpt", Log("x"), None)(Entry(item, b"", "f", 1))),
        (shared, lambda item: messages.maker("sharegpt", Log("x"), "u")(Entry(item, b"", "f", 1))),
        (plain, lambda item: messages.maker("messages", Log("x"), None)(Entry(item, b"", "f", 1))),
        (plain, lambda item: messages.maker("messages", Log("x"), "u")(Entry(item, b"", "f", 1))),
    ):
        for path in _paths(item):
            changed = copy.deepcopy(item)
            inside: Any = changed
            for step in path[:-1]:
                inside = inside[step]
            inside[path[-1]] = value
            try:
                read(changed)
            except RecordError as fault:
                assert fault.reason in ("schema", "type")


def _paths(value: Any) -> list[list[Any]]:
    """Where every value inside a value stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, one in inside for path in ([key], *([key, *rest] for rest in _paths(one)))]


# ---- Claude -------------------------------------------------------------------------------------------------------


def of(item: Record) -> list[tuple[str, str]]:
    return [(one.message["role"], one.message["content"]) for one in claude.chat(item).said]


def test_claude_says_things_in_blocks() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "summaries": []}
    told = {"type": "tool_use", "name": "web_search", "input": {"query": "rain"}}
    found = {"type": "tool_result", "name": "web_search", "content": [{"type": "text", "text": "R"}]}
    answer = [thought, told, found, {"type": "text", "text": "It will "}, {"type": "text", "text": "rain."}]
    placeholder = "This block is not supported on your current device yet."
    item = of_claude(
        1,
        "Weather",
        "2025-03-01T10:00",
        "Will it rain?",
        {"text": placeholder, "content": answer},
        {"text": "An old export has no blocks.", "content": []},
        {"text": placeholder, "content": [thought, told, found]},
    )
    assert of(item) == [
        ("user", "Will it rain?"),
        ("assistant", "It will \nrain."),
        ("user", "An old export has no blocks."),
    ]


def test_claude_keeps_pastes_as_attachments() -> None:
    paste = {"file_name": "", "file_size": 9, "file_type": "txt", "extracted_content": "A long letter."}
    named = {"file_name": "paste-2.txt", "extracted_content": "Another."}
    work = {"file_name": "report.docx", "extracted_content": "All of a report."}
    given = {"text": "", "attachments": [paste, named, work], "files": [{"file_name": "cat.PNG"}, {"file_name": ""}]}
    only = {"text": "", "files": [{"file_name": "dog.jpg"}]}
    item = of_claude(1, "", "2025-03-01T10:00", given, "Well.", only)
    assert of(item) == [
        ("user", "A long letter.\nAnother.\n[file: report.docx]\n[photo: cat.PNG]"),
        ("assistant", "Well."),
        ("user", "[photo: dog.jpg]"),
    ]


def test_claudes_abandoned_branches_are_left_out() -> None:
    item = of_claude(1, "Tea", "2025-03-01T10:00", "Which tea?", "Green.", "Why?", "So.")
    first, green, why, so = item["chat_messages"]
    edited = {**first, "uuid": "e", "text": "Which coffee?", "content": [], "created_at": "2025-03-01T11:00:00Z"}
    answer = {**green, "uuid": "a", "parent_message_uuid": "e", "text": "Any.", "content": []}
    answer["created_at"] = "2025-03-01T11:01:00Z"
    item["chat_messages"] = [first, green, why, so, edited, answer]
    assert of(item) == [("user", "Which coffee?"), ("assistant", "Any.")]
    item["current_leaf_message_uuid"] = so["uuid"]
    assert [said for _, said in of(item)] == ["Which tea?", "Green.", "Why?", "So."]
    # a message that isn't there breaks no chat: what follows it stands where the list has it
    item["chat_messages"] = [first, why, so]
    assert [said for _, said in of(item)] == ["Which tea?", "Why?", "So."]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chat_messages": None}, "no conversation of Claude: expected chat_messages; found uuid"),
        ({"chat_messages": [{"sender": "system"}]}, "/chat_messages/0: expected a message whose sender is human or"),
        ({"uuid": None}, "/uuid: expected the conversation's uuid"),
        ({"created_at": "noon"}, "/created_at: expected a time"),
    ],
)
def test_what_is_no_conversation_of_claude(change: Record, reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        claude.chat({**of_claude(1, "Tea", "2025-03-01T10:00", "Hi."), **change})


def test_an_organisations_export_makes_a_history_for_each_account(tmp_path: Path) -> None:
    chats = [of_claude(n, "Tea", f"2025-03-0{n + 1}T10:00", f"Chat {n}.", account=f"acc-{n % 2}") for n in range(4)]
    (tmp_path / "export.zip").write_bytes(claude_zip(chats))
    ran = pmem("import", "claude", "export.zip", folder=tmp_path)
    assert [(one["user_id"], len(one["sessions"])) for one in ran.records] == [("acc-0", 2), ("acc-1", 2)]
    mixed = pmem("import", "claude", "export.zip", "--user", "ana", folder=tmp_path)
    assert mixed.status == 1 and "not all chats are ana's" in mixed.err and not mixed.out


# ---- the log ------------------------------------------------------------------------------------------------------


def gathered(*chats: Chat, user: str = "me") -> Record:
    log = Log("x")
    for one in chats:
        assert log.add(user, one, {}) == Made([])
    (pieces,) = log.histories()
    record: Record = orjson.loads(b"".join(pieces))
    assert check.validator("history")(record)
    return record


def chat_of(name: str, *times: float | None, begun: float | None = None, **more: Any) -> Chat:
    said = [Said({"role": "user", "content": f"{name} {n}"}, when) for n, when in enumerate(times)]
    return Chat(name, None, said, begun, **more)


DAY = 86_400.0


def test_chats_stand_in_time_order_whatever_order_they_come_in() -> None:
    chats = [chat_of("b", 5 * DAY), chat_of("a", 2 * DAY), chat_of("no", None), chat_of("c", None, begun=3 * DAY)]
    made = gathered(*chats)
    assert [(one["id"], one["date"]) for one in made["sessions"]] == [
        ("no", None), ("a", "1970-01-03"), ("c", "1970-01-04"), ("b", "1970-01-06"),
    ]  # fmt: skip
    assert gathered(*reversed(chats)) == made
    assert [one["content"] for one in made["messages"]] == ["no 0", "a 0", "c 0", "b 0"]
    assert made["tokens"] == sum(one["tokens"] for one in made["sessions"])
    assert [(one["start"], one["end"]) for one in made["sessions"]] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    starts = [one["token_start"] for one in made["sessions"]]
    assert starts == [sum(one["tokens"] for one in made["sessions"][:n]) for n in range(4)]


def test_a_chat_that_goes_on_for_months_makes_a_session_for_each_sitting() -> None:
    made = gathered(chat_of("coach", DAY, DAY + 60, None, 9 * DAY, 9 * DAY + 3600), chat_of("other", 5 * DAY))
    assert [(one["id"], one["end"] - one["start"], one["date"]) for one in made["sessions"]] == [
        ("coach", 3, "1970-01-02"), ("other", 1, "1970-01-06"), ("coach#2", 2, "1970-01-10"),
    ]  # fmt: skip


def test_a_chat_that_comes_twice_counts_once_as_far_as_it_goes() -> None:
    short, long = chat_of("a", DAY), chat_of("a", DAY, DAY + 60)
    assert gathered(short, long) == gathered(long, short) == gathered(long)


def test_the_latest_instructions_are_the_systems() -> None:
    new, old = chat_of("a", 9 * DAY, about="Now."), chat_of("b", DAY, about="Before.")
    made = gathered(new, old, chat_of("c", 2 * DAY, systems=("Be brief.", "Be brief.")))
    assert made["system"] == "Now.\n\nBe brief."
    assert gathered(chat_of("a", DAY))["system"] is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, None), ("", None), (0, None), (0.0, None), (86400, DAY), (1.7e9, 1.7e9), (1.7e12, 1.7e9),
        ("1970-01-02", DAY), ("1970-01-02T00:00:00Z", DAY), ("1970-01-02T01:00:00+01:00", DAY), ("1970-01-02 00:00", DAY),
    ],
)  # fmt: skip
def test_times(value: Any, found: float | None) -> None:
    assert time_of(value, "/t") == found


@pytest.mark.parametrize("value", [True, False, "noon", [], 1e300, -1e300, float("nan"), float("inf")])
def test_what_is_no_time(value: Any) -> None:
    with pytest.raises(RecordError, match="/t: expected a time"):
        time_of(value, "/t")


# ---- files --------------------------------------------------------------------------------------------------------


def exported(folder: Path, *trees: Tree, name: str = "export.zip", shards: int = 0) -> Path:
    path = folder / name
    path.write_bytes(chatgpt_zip(trees, shards))
    return path


def test_a_zip_a_folder_and_a_file_are_the_same(tmp_path: Path) -> None:
    trees = [Tree(n, f"Chat {n}", f"2025-0{n + 1}-01T10:00").chat("Hi.", f"Hello {n}.") for n in range(5)]
    (tmp_path / "out").mkdir()
    exported(tmp_path, *trees)
    exported(tmp_path, *trees, name="shards.zip", shards=3)
    items = [one.item for one in trees]
    (tmp_path / "out" / "conversations.json").write_bytes(orjson.dumps(items))
    (tmp_path / "out" / "user.json").write_text("{}")
    first = pmem("import", "chatgpt", "export.zip", folder=tmp_path)
    assert first.status == 0 and "5 in, 1 out" in first.err
    for source in ("shards.zip", "out", "out/conversations.json", "-"):
        ran = pmem("import", "chatgpt", source, folder=tmp_path, input=orjson.dumps(items, option=orjson.OPT_INDENT_2))
        assert ran.out == first.out, source
    (made,) = first.records
    assert made["user_id"] == "me" and [one["topic"] for one in made["sessions"]] == [f"Chat {n}" for n in range(5)]
    assert [one["id"] for one in made["sessions"]] == [one.id for one in trees]


def test_files_that_are_no_exports_are_told(tmp_path: Path) -> None:
    for content, said in (
        (zipped({"user.json": {}, "chat.html": b"x"}), "holds no conversations.json; found chat.html, user.json"),
        (zipped({}), "holds no conversations.json; found nothing"),
        (chatgpt_zip([tree("x" * 9000, "Hello.")])[:-40], "not JSON"),
        (_spoilt(chatgpt_zip([tree("x" * 9000, "Hello.")])), "can't be read"),
    ):
        (tmp_path / "x.zip").write_bytes(content)
        ran = pmem("import", "chatgpt", "x.zip", "-o", "h.jsonl", folder=tmp_path)
        assert ran.status == 1 and said in ran.err and not (tmp_path / "h.jsonl").exists(), ran.err
    piped = pmem("import", "chatgpt", folder=tmp_path, input=chatgpt_zip([tree("Hi.")]))
    assert piped.status == 1 and "<stdin>: a zip file can't be read from a pipe: name the file" in piped.err
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no conversations\.json; found nothing"):
        list(conversations((str(tmp_path / "empty"),)))


def _spoilt(content: bytes) -> bytes:
    """A zip file of which a byte of the conversations is another one."""
    at = content.index(b"conversations.json") + 60
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


def test_broken_chats_are_rejected_and_can_be_fed_in_again(tmp_path: Path) -> None:
    sound, broken = tree("Hi.", "Hello."), Tree(2, "Broken", "2025-04-01T10:00").chat("Oh.")
    quiet, secret = Tree(3, "Nothing", "2025-05-01T10:00"), Tree(4, "Secret", "2025-06-01T10:00").chat("Psst.")
    secret.item["is_do_not_remember"] = True
    spoilt = broken.item["mapping"].pop(f"{broken.id}-1")
    exported(tmp_path, sound, broken, quiet, secret)
    arguments = ("import", "chatgpt", "export.zip", "--dropped", "d.jsonl")
    stopped = pmem(*arguments, folder=tmp_path)
    assert stopped.status == 1 and "export.zip/conversations.json:2: /mapping/" in stopped.err and not stopped.out
    ran = pmem(*arguments, "--rejects", "r.jsonl", "-o", "h.jsonl", folder=tmp_path)
    assert ran.status == 3 and "4 in, 1 out, 2 dropped, 1 rejected" in ran.err
    assert [one["message"] for one in lines_of(tmp_path / "d.jsonl")] == [
        "nobody says anything in it", "its user asked for it not to be remembered",
    ]  # fmt: skip
    (reject,) = lines_of(tmp_path / "r.jsonl")
    assert reject["message"] == "the message that it follows isn't there" and reject["record"] == broken.item
    reject["record"]["mapping"][f"{broken.id}-1"] = spoilt
    again = pmem("import", "chatgpt", "-", folder=tmp_path, input=lines([reject]))
    assert [one["content"] for one in again.records[0]["messages"]] == ["Oh."]
    assert pmem("validate", "h.jsonl", folder=tmp_path).status == 0


def test_an_empty_export_makes_nothing(tmp_path: Path) -> None:
    exported(tmp_path)
    ran = pmem("import", "chatgpt", "export.zip", folder=tmp_path)
    assert ran.status == 0 and ran.out == b"" and "0 in, 0 out" in ran.err
    assert pmem("import", "chatgpt", folder=tmp_path).out == b""


def test_a_large_export_takes_memory_for_what_is_said_not_for_the_file(tmp_path: Path) -> None:
    """Most of an export is what surrounds the messages; here, 48 of 50 MB."""
    source = tmp_path / "conversations.json"
    code = "from pmem.cli import main\nmain(['import', 'chatgpt', *sys.argv[1:]])"
    took = []
    for count in (1, 400):
        with source.open("wb") as file:
            file.write(b"[")
            for number in range(count):
                one = Tree(number, "Long", "2025-03-01T10:00")
                one.say("user", "x y " * 1000)
                one.say("assistant", "Well.", metadata={"search_result_groups": ["y" * 1000] * 120})
                file.write(b"," * bool(number) + orjson.dumps(one.item))
            file.write(b"]")
        took.append(peak(code, str(source), "-q", "-o", str(tmp_path / "h.jsonl"), folder=tmp_path))
    assert source.stat().st_size > 48e6
    assert took[1] - took[0] < 15, took


# ---- ShareGPT and messages ---------------------------------------------------------------------------------------


def test_sharegpt(tmp_path: Path) -> None:
    chat = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Add 2 and 2."},
        {"from": "function_call", "value": "add(2, 2)"},
        {"from": "observation", "value": "4"},
        {"from": "GPT", "value": "Four."},
        {"from": "gpt", "value": " "},
    ]
    found = [
        {"id": "a_0", "conversations": chat, "model": "m"},
        {"id": "b", "conversations": [{"from": "narrator", "value": "Then."}]},
        {"id": "c", "conversations": [{"from": "human", "value": None}]},
        {"id": "d", "messages": []},
    ]
    ran = pmem("import", "sharegpt", "--rejects", "r.jsonl", folder=tmp_path, input=orjson.dumps(found))
    (made,) = ran.records
    assert [(one["role"], one["content"]) for one in made["messages"]] == [
        ("user", "Add 2 and 2."),
        ("assistant", "Four."),
    ]
    assert made["system"] == "Be brief." and made["user_id"] == "a_0" and made["labels"] == {"id": "a_0", "model": "m"}
    assert made["provenance"]["source"] == "sharegpt"
    reasons = [(one["pointer"], one["message"].split(":")[0]) for one in lines_of(tmp_path / "r.jsonl")]
    assert reasons == [
        ("/conversations/0", "expected from"),
        ("/messages/0/content", "expected text, or parts of text and images"),
        (None, "no chat of ShareGPT"),
    ]
    assert lines_of(tmp_path / "r.jsonl")[0]["record"] == found[1]
    by_line = pmem("import", "sharegpt", folder=tmp_path, input=lines(found[:1]))
    assert by_line.records == ran.records


def test_messages_with_tools_images_and_parts(tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    given = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "look"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "a cat"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "A cat.", "annotations": []}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]},
        {"role": "assistant", "content": None, "refusal": "I can't say."},
        {
            "role": "user",
            "content": [{"type": "input_audio", "input_audio": {"data": "x"}}, {"type": "text", "text": ""}],
        },
        {"role": "assistant", "content": ""},
        {"role": "system", "content": "Be kind."},
    ]
    (made,) = pmem("import", "messages", folder=tmp_path, input=lines([{"messages": given}])).records
    assert made["system"] == "Be brief.\n\nBe kind."
    assert [(one["role"], one["content"]) for one in made["messages"]] == [
        ("user", [{"type": "text", "text": "What is it?"}, image]),
        ("assistant", [{"type": "text", "text": "A cat."}]),
        ("user", [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]),
        ("assistant", "I can't say."),
        ("user", [{"type": "text", "text": "[input_audio]"}]),
    ]
    wrong = {"messages": [{"role": "user", "content": None}]}
    assert "/messages/0/content: expected text" in pmem("import", "messages", folder=tmp_path, input=lines([wrong])).err


def test_messages_of_one_user_are_one_log(tmp_path: Path) -> None:
    def chat(text: str, **more: Any) -> Record:
        return {"messages": [{"role": "user", "content": text, **more}]}

    found = [
        chat("c", timestamp=1_741_000_000) | {"id": 7},
        chat("a") | {"created_at": "2025-01-02T10:00:00Z"},
        chat("b") | {"date": "2025-01-03 (Fri)", "title": "Third"},
        chat("b") | {"date": "2025-01-03 (Fri)", "title": "Third"},
        chat("no date"),
        {"messages": []},
    ]
    ran = pmem("import", "messages", "--user", "ana", folder=tmp_path, input=lines(found))
    (made,) = ran.records
    assert "6 in, 1 out, 1 dropped" in ran.err
    assert made["user_id"] == "ana" and [one["content"] for one in made["messages"]] == ["no date", "a", "b", "c"]
    assert [one["date"] for one in made["sessions"]] == [None, "2025-01-02", "2025-01-03", "2025-03-03"]
    assert made["sessions"][2]["topic"] == "Third"
    assert records(pmem("import", "messages", "--user", "ana", folder=tmp_path, input=lines(found[::-1])).out) == [made]
