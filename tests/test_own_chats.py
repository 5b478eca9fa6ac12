"""From ChatGPT's zip file to a memory to read: the README's example, on half a year of a made-up person's chats."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.ana import PASTE, ana
from tests.chat_exports import Tree, chatgpt_zip
from tests.command import asking, bash, pmem
from tests.stub import Stub, running

HOOK = Path(__file__).parent / "stub_memory.py"
MEMORY = """\
# What is remembered of ana

## About

- Is coeliac: no wheat, rye or barley
- Lives in a flat in Leipzig

## How they like to be answered

- Wants recipes in grams
- Writes informally, also to the property managers

## People

- Has a beagle called Pippa

## Work and study

- Teaches chemistry, among others class 10b

## Tastes and habits

- Swims, since a bad knee put an end to running

## Health and wellbeing

- Can't tell red from green

## Not to be remembered

- divorce / separation
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Stub]:
    with running(reply=HOOK) as stub:
        yield stub


def export(folder: Path, trees: list[Tree]) -> None:
    (folder / "export.zip").write_bytes(chatgpt_zip(trees))


def test_the_readmes_example(server: Stub, tmp_path: Path) -> None:
    export(tmp_path, ana())
    line = f"pmem import chatgpt export.zip --user ana | pmem memdump {' '.join(asking(server))} --format md"
    ran = bash(f"set -o pipefail; {line}", folder=tmp_path)
    assert ran.status == 0, ran.err
    assert ran.out == b"memories/ana.md\n" and "11 in, 1 out, 2 dropped" in ran.err
    page = (tmp_path / "memories" / "ana.md").read_text()
    assert page.startswith(MEMORY) and page.count("\n") == MEMORY.count("\n") + 2


def test_what_the_history_holds(tmp_path: Path) -> None:
    export(tmp_path, ana())
    (made,) = pmem("import", "chatgpt", "export.zip", "--user", "ana", folder=tmp_path).records
    sessions = made["sessions"]
    assert [(one["date"], one["topic"], one["end"] - one["start"]) for one in sessions] == [
        ("2025-01-12", "Bread without wheat", 4),
        ("2025-01-20", "Brief an die Hausverwaltung", 4),
        ("2025-02-03", None, 3),
        ("2025-02-18", "Average of marks", 2),
        ("2025-03-02", "Running coach", 2),
        ("2025-03-15", "Summary", 2),
        ("2025-04-01", "Running coach", 2),
        ("2025-04-20", "Talking", 4),
        ("2025-05-30", "Poster", 3),
        ("2025-06-02", "Answer a mail", 2),
        ("2025-06-10", "Running coach", 2),
    ]
    assert made["system"] == "Ana, 41, teaches chemistry.\n\nShort answers, metric units."
    text = orjson.dumps(made["messages"]).decode()
    for hidden in (
        "rye bread",
        "at the shop",
        "Bread Buddy",
        "A teacher?",
        "sum([",
        '"2.5\\n',
        "Thought for",
        "gamble",
    ):
        assert hidden not in text
    assert PASTE[:5000] in text and "\ue200" not in text and "†" not in text


def test_the_next_nights_export_is_read_from_where_the_last_one_ended(server: Stub, tmp_path: Path) -> None:
    """The same chats again, one of them goes on, one is new; then the same export once more."""
    line = f"pmem import chatgpt export.zip --user ana -q | pmem memdump {' '.join(asking(server))} --chunk-tokens 2000"
    night = f"set -o pipefail; {line} --previous memories --format md"
    trees = ana()
    export(tmp_path, trees)
    first = bash(night, folder=tmp_path)
    assert first.status == 0, first.err
    before = server.counts()["requests"]
    trees[-1].say("user", "It rose well, thanks.", wait=200 * 24 * 60)  # the oldest chat
    trees.insert(0, Tree(12, "Lanes", "2025-08-02T08:00").chat("I've taken up swimming, did you know?", "I do."))
    export(tmp_path, trees)
    second = bash(night, folder=tmp_path)
    assert "1 chunks read" in second.err and "30 messages known already" in second.err, second.err
    assert server.counts()["requests"] == before + 1
    record = orjson.loads((tmp_path / "memories" / "ana.json").read_bytes())
    (swims,) = [one for one in record["entries"] if one["text"].startswith("Swims")]
    assert (
        len(swims["evidence"]) == 1 and len(swims["earlier"]) == 1 and swims["since_chunk"] < swims["changed_chunk"] + 1
    )
    third = bash(night, folder=tmp_path)
    assert "0 chunks read" in third.err and "33 messages known already" in third.err
    assert server.counts()["requests"] == before + 1
    assert (tmp_path / "memories" / "ana.md").read_text().count("\n- ") == MEMORY.count("\n- ")


def test_private_details_can_be_kept_from_the_model(tmp_path: Path) -> None:
    """`--redact` masks the phone number of the letter."""
    (tmp_path / "reply.py").write_text(
        "import pathlib\n"
        "def reply(body):\n"
        "    with pathlib.Path(__file__).with_name('sent.txt').open('a') as file:\n"
        "        file.write(body['messages'][-1]['content'])\n"
        "    return '- Tea'\n"
    )
    export(tmp_path, ana())
    with running(reply=tmp_path / "reply.py") as stub:
        line = f"pmem import chatgpt export.zip | pmem memdump {' '.join(asking(stub))} --redact"
        assert bash(line, folder=tmp_path).status == 0
    sent = (tmp_path / "sent.txt").read_text()
    assert "Meine Nummer ist [phone number]." in sent and "23456789" not in sent


@pytest.mark.parametrize("turns", [("\n" * 9 + "?",), ("👍",), ("[photo]", "[photo]"), ("a" * 200_000, "Fine.")])
def test_odd_chats_do_no_harm(server: Stub, tmp_path: Path, turns: tuple[str, ...]) -> None:
    export(tmp_path, [Tree(1, "", "2025-01-01T00:00").chat(*turns)])
    line = f"pmem import chatgpt export.zip | pmem memdump {' '.join(asking(server))}"
    ran: Any = bash(line, folder=tmp_path)
    assert ran.status == 0 and len(ran.records) == 1, ran.err
