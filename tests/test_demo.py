"""The recorded demo: complete, of the promised breadth, and free of what its own prompts forbid."""

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pmem.dataset.implicitness import check_stated
from pmem.dataset.verdicts import CHECKS, fallen
from pmem.lists import scenarios
from pmem.private import found
from pmem.tokens import text_of
from tests.record import lines_of

DEMO = Path(__file__).parent.parent / "pmem" / "demo"
NUMBERS = "stereotypical=3,anti_stereotypical=2,neutral=2,health=1,therapy=1"
STATED = re.compile(
    r"\b(i (really |do |just )?(like|love|prefer|hate|enjoy|can't stand)\b|my favou?rites?\b|as someone who\b)",
    re.IGNORECASE,
)

Record = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Record]]:
    """What the quickstart makes, file by file."""
    folder = tmp_path_factory.mktemp("demo")
    script = f"""
    set -euo pipefail
    pmem personas {DEMO}/seeds.jsonl -m recorded:demo --seed 997 --preferences {NUMBERS} -o personas.jsonl -q
    pmem converse personas.jsonl -m recorded:demo --seed 997 --images {DEMO}/images -o conversations.jsonl -q
    pmem assemble conversations.jsonl --seed 997 --window 6k --filler {DEMO}/filler.jsonl -o histories.jsonl -q
    pmem qa histories.jsonl -m recorded:demo --seed 997 -o questions.jsonl -q
    pmem judge questions.jsonl -m recorded:demo --seed 997 -o judged.jsonl -q
    pmem filter judged.jsonl -o kept.jsonl -q
    head -1 histories.jsonl | pmem memdump -m recorded:demo --seed 997 --chunk-tokens 2000 --trace -o memories.jsonl -q
    pmem eval kept.jsonl -m recorded:demo --seed 997 --context snippet --context none -o results.jsonl -q \\
      --images {DEMO}/images --images-as-text
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["bash", "-c", script], cwd=folder, env={**os.environ, "PATH": path}, check=True)
    return {file.stem: lines_of(file) for file in folder.glob("*.jsonl")}


def test_breadth(made: dict[str, list[Record]]) -> None:
    preferences = [preference for persona in made["personas"] for preference in persona["preferences"]]
    assert len(made["personas"]) == 3
    assert len(preferences) >= 24
    assert {p["kind"] for p in preferences} == {"stereotypical", "anti_stereotypical", "neutral", "health", "therapy"}
    assert {p["owner"]["who"] for p in preferences} == {"self", "other", "hypothetical"}
    assert any(p["updates"] for p in preferences)
    assert any(p["forget"] for p in preferences)
    assert all(persona["secrets"] for persona in made["personas"])
    assert {c["scenario"] for c in made["conversations"]} == set(scenarios())
    assert all(len(c["messages"]) >= 6 for c in made["conversations"] if c["scenario"] == "knowledge_query")
    assert {q["case"] for q in made["kept"]} == {"own", "updated", "forgotten", "other", "sensitive"}


def test_nobody_states_the_preference(made: dict[str, list[Record]]) -> None:
    """Users may say "i like" of the text that they want changed; of the user's life they may not. By reading, none do:
    what is left here are the phrases that the prompt forbids outright."""
    stated = [
        (conversation["id"], found[0])
        for conversation in made["conversations"]
        if conversation["event"] != "asks_to_forget"
        for message in conversation["messages"]
        if message["role"] == "user" and (found := STATED.search(text_of(message["content"])))
    ]
    assert stated == []


def test_the_rule_for_plain_statements_lets_every_conversation_pass(made: dict[str, list[Record]]) -> None:
    for conversation in made["conversations"]:
        if conversation["event"] != "asks_to_forget":
            told = [text_of(m["content"]) for m in conversation["messages"] if m["role"] == "user"]
            check_stated(conversation["preference"], told)


def test_nothing_looks_private_but_what_is_planted(made: dict[str, list[Record]]) -> None:
    for conversation in made["conversations"]:
        planted = [secret["value"] for secret in conversation["secrets"]]
        finds = [(m["role"], one.value) for m in conversation["messages"] for one in found(text_of(m["content"]))]
        assert finds == [("user", value) for value in planted]


def test_questions_fall_at_several_checks_and_most_stay(made: dict[str, list[Record]]) -> None:
    fell = Counter(faults[0][0] for q in made["judged"] if (faults := fallen(q)))
    assert set(fell) <= set(CHECKS)
    assert len(fell) >= 3
    assert len(made["kept"]) == len(made["judged"]) - sum(fell.values()) >= 15


def test_the_right_option_is_not_told_by_its_length(made: dict[str, list[Record]]) -> None:
    ranks = Counter(sorted(map(len, q["options"])).index(len(q["answer"])) for q in made["kept"])
    assert max(ranks.values()) <= len(made["kept"]) / 2


def test_gold_letters_are_spread(made: dict[str, list[Record]]) -> None:
    assert len({q["gold"] for q in made["questions"]}) == 4


def test_the_memory_is_of_its_person(made: dict[str, list[Record]]) -> None:
    """What the persona likes now, not what was before, what others like or what is to be forgotten."""
    first, _, last = made["memories"]
    assert "thrash" in first["text"] and "Listens to spoken history" in last["text"]
    assert "Listens to loud" not in last["text"] and not last["trimmed"]
    own, others = last["text"].split("## Other people's")
    assert "dark chocolate" in others and "dark chocolate" not in own and "thunderstorms" not in own
    assert "letters" not in last["text"] and "grief" not in last["text"] and "her father" in others
    secrets = [secret["value"] for secret in made["personas"][0]["secrets"]]
    assert secrets and not any(secret in last["text"] for secret in secrets)
    assert all(entry["evidence"] for entry in last["entries"])


def test_filler_is_sound(made: dict[str, list[Record]]) -> None:
    histories = made["histories"]
    assert all(history["filler_tokens"] > 0 and history["tokens"] <= 6000 for history in histories)


def test_examples_of_the_quickstart_exist(made: dict[str, list[Record]]) -> None:
    conversation, question = (DEMO / "examples.txt").read_text().split()
    assert conversation in {c["id"] for c in made["conversations"]}
    assert question in {q["id"] for q in made["kept"]}


def test_answers_are_unique_and_tied_to_their_prompts() -> None:
    from pmem.backends.base import Request
    from pmem.backends.recorded import RecordedBackend

    calls = [line["call"] for line in lines_of(DEMO / "recorded.jsonl")]
    assert len(calls) == len(set(calls))
    assert {call.split("/")[0] for call in calls} == {"personas", "converse", "qa", "judge", "eval", "memdump"}
    with pytest.raises(Exception, match="prompt has changed"):
        asyncio.run(RecordedBackend("demo").complete(Request([{"role": "user", "content": "other"}], call=calls[0])))
