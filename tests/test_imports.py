"""Other benchmarks as records: every record of the samples, and layouts and traps made by hand."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pmem import check, tokens
from pmem.errors import InputError, RecordError
from pmem.formats import locomo, longmemeval, messages, personamem_v1, prefeval
from pmem.formats.items import items
from pmem.reward import open_ended
from pmem.stream.made import Made
from pmem.stream.source import Entry, Torn
from tests.command import lines, pmem
from tests.record import lines_of
from tests.stub import running

Record = dict[str, Any]
DATA = Path(__file__).parents[2] / "shared" / "data"


def made(found: Iterable[Entry | Torn], make: Callable[[Entry], Made]) -> tuple[list[Record], list[str]]:
    """The records of entries, and why others make none."""
    records: list[Record] = []
    reasons = []
    for one in found:
        try:
            if isinstance(one, Torn):
                raise one.fault
            records += make(one).records
        except RecordError as fault:
            reasons.append(str(fault))
    return records, reasons


def write(path: Path, value: Any) -> Path:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(value))
    return path


# ---- objects out of files ----------------------------------------------------------------------------------------


def parts(path: Path) -> list[Any]:
    return [str(one.fault) if isinstance(one, Torn) else one.record for one in items((str(path),))]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('[{"a":1},\n {"a":2}]', [{"a": 1}, {"a": 2}]),
        ('{"a":1}\n\n{"a":2}\n', [{"a": 1}, {"a": 2}]),
        ('\ufeff{"a":\n 1}', [{"a": 1}]),
        ('{"a":1}', [{"a": 1}]),
        ("[]", []),
        ("", []),
        ("\n \n", []),
        ('[{"a":1}, 7, {"a":2}]', [{"a": 1}, "expected a JSON object", {"a": 2}]),
        ('[{"a":1}, {"a":', [{"a": 1}, "not JSON: Expecting value"]),
        ('[{"a":1}', [{"a": 1}, "not JSON: the list isn't closed"]),
        ('[{"a":1}] {"a":2}', [{"a": 1}, "not JSON: something stands after the end"]),
        ("nothing", ["not JSON: Expecting value"]),
    ],
)
def test_objects_of_a_file(tmp_path: Path, content: str, found: list[Any]) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, "utf-8")
    assert parts(path) == found


def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a":\n{"a":2}\n["b"]\n{"a":"\\ud800"}\n')
    found = parts(path)
    assert found[1] == {"a": 2} and found[2] == "expected a JSON object"
    assert found[0].startswith("not JSON") and found[3].startswith("not JSON")


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'[{"a":"\xff"}, {"a":2}]')
    found = parts(tmp_path / "x.json")
    assert found[0].startswith("not JSON") and found[1] == {"a": 2}


def test_a_deep_list_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 200_000)
    assert parts(tmp_path / "x.json") == ["not JSON: too deep"]


# ---- PersonaMem, version 1 ---------------------------------------------------------------------------------------

ASKED = "User: Ada\n\nWhat now?"
OPTIONS = "\n\n(a) Tea.\n(b) A walk (c) or two.\n(c) Rest."
DOCUMENT = "[SYSTEM] Ada is a pilot.\n\n[USER] Hello.\n\n[USER] I like [USER] manuals.\n\n[ASSISTANT] Good."


def query(**more: Any) -> Record:
    meta = {"persona_id": 7, "question_type": "facts", "topic": "work"}
    return {"id": "q1", "query": ASKED + OPTIONS, "gold_answers": ["(b) A walk", "b"], "gold_ids": ["d1", "d2"],
            "meta": meta, **more}  # fmt: skip


def of_queries(folder: Path, *queries: Record, documents: bool = True) -> tuple[list[Record], list[str], list[Record]]:
    path = write(folder / "my_32k" / "queries.json", queries)
    if documents:
        told = [{"id": f"d{n}", "content": DOCUMENT} for n in (1, 2)]
        write(folder / "my_32k" / "documents.json", told)
    histories: list[Record] = []
    records, reasons = made(personamem_v1.entries((str(path),)), personamem_v1.Importer(histories.append))
    return records, reasons, histories


def test_options_are_taken_out_of_a_query(tmp_path: Path) -> None:
    (qa,), _, (history,) = of_queries(tmp_path, query())
    assert qa["query"] == ASKED
    assert qa["options"] == ["Tea.", "A walk (c) or two.", "Rest."] and qa["gold"] == "B"
    assert qa["answer"] == "A walk (c) or two." and [one["text"] for one in qa["distractors"]] == ["Tea.", "Rest."]
    assert qa["labels"] == {"benchmark": "personamem-v1", "question_type": "facts", "topic": "work"}
    assert qa["histories"]["32k"]["id"] == history["id"] and qa["persona_id"] == history["persona_id"]
    assert history["system"] == "Ada is a pilot."  # once, though each document begins with it
    assert [one["content"] for one in history["messages"]] == ["Hello.", "I like [USER] manuals.", "Good."] * 2
    assert [(one["start"], one["end"]) for one in history["sessions"]] == [(0, 3), (3, 6)]
    assert history["tokens"] == tokens.count_messages(history["messages"])
    assert history["sessions"][1]["token_start"] * 2 == history["tokens"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"query": ASKED}, "expected options (a), (b) and so on, found none"),
        ({"query": f"{ASKED}\n(a) Tea.\n(c) Rest."}, "expected options (a), (b) and so on, found (a), (c)"),
        ({"query": f"{ASKED}\n(a) Tea.\n(b) Tea. "}, "options A and B are the same text, and one of them is the right one"),
        ({"gold_answers": ["d"]}, "the right answer is none of the options"),
        ({"gold_answers": []}, "the right answer is none of the options"),
        ({"gold_answers": None}, "the right answer is none of the options"),
        ({"query": 7}, "expected options (a), (b) and so on, found none"),
    ],
)  # fmt: skip
def test_a_query_that_cannot_be_asked_is_rejected(tmp_path: Path, change: Record, reason: str) -> None:
    records, reasons, _ = of_queries(tmp_path, {**query(), **change})
    assert not records and reason in reasons[0]


def test_wrong_options_may_be_equal(tmp_path: Path) -> None:
    (qa,), _, _ = of_queries(tmp_path, {**query(), "query": f"{ASKED}\n(a) Tea.\n(b) Rest.\n(c) Tea."})
    assert qa["gold"] == "B" and len(qa["distractors"]) == 2


def test_without_its_documents_a_question_names_no_history(tmp_path: Path) -> None:
    (qa,), _, histories = of_queries(tmp_path, query(), documents=False)
    assert qa["histories"] == {} and not histories
    (other,), _, _ = of_queries(tmp_path, {**query(), "gold_ids": ["d1", "gone"]})
    assert other["histories"] == {}


def test_the_published_table(tmp_path: Path) -> None:
    row = {
        "persona_id": "7", "question_id": "1", "question_type": "facts", "topic": "work",
        "user_question_or_message": "What now?", "correct_answer": "(b)", "all_options": "['(a) Tea.', \"(b) It's a walk.\"]",
        "shared_context_id": "s", "end_index_in_shared_context": "5", "distance_to_ref_in_tokens": "12",
    }  # fmt: skip
    with (tmp_path / "questions_128k.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(row))
        table.writeheader()
        table.writerows([row, {**row, "all_options": "Tea"}, {**row, "shared_context_id": "gone"}])
    said = [
        ("system", "Ada."),
        ("user", "Hi."),
        ("assistant", "Hello."),
        ("system", "Ada."),
        ("user", "Now."),
        ("user", "x"),
    ]
    context = [{"role": role, "content": content} for role, content in said]
    (tmp_path / "shared_contexts_128k.jsonl").write_bytes(lines([{"s": context}]))
    histories: list[Record] = []
    importer = personamem_v1.Importer(histories.append)
    records, reasons = made(personamem_v1.entries((str(tmp_path),)), importer)
    assert reasons == ["/all_options: expected a list of options (a) ..."] and importer.unplaced == 1
    assert records[0]["options"] == ["Tea.", "It's a walk."] and records[0]["gold"] == "B"
    assert records[0]["histories"]["128k"]["distance_tokens"] == 12 and records[1]["histories"] == {}
    assert histories[0]["system"] == "Ada." and [one["content"] for one in histories[0]["messages"]] == [
        "Hi.",
        "Hello.",
        "Now.",
    ]


# ---- LongMemEval -------------------------------------------------------------------------------------------------


def remembered(**more: Any) -> Record:
    said = [{"role": "user", "content": "I got a dog.", "has_answer": True}, {"role": "assistant", "content": "Nice."}]
    later = [{"role": "user", "content": "And tea."}, {"role": "assistant", "content": ""}]
    return {
        "question_id": "1", "question_type": "multi-session", "question": "Which pet?", "question_date": "2023/06/01 (Thu) 00:58",
        "answer": "A dog", "haystack_session_ids": ["s1", "s2", "s3"], "haystack_sessions": [said, [], later],
        "haystack_dates": ["2023/05/25 (Thu) 20:21", "2023/05/26 (Fri) 08:00", "2023/05/27 (Sat) 10:20"], **more,
    }  # fmt: skip


def long(folder: Path, name: str, *found: Record) -> tuple[list[Record], list[str], list[Record]]:
    path = write(folder / name, found)
    histories: list[Record] = []
    records, reasons = made(items((str(path),)), longmemeval.Importer(histories.append))
    return records, reasons, histories


def test_sessions_keep_their_dates_and_evidence(tmp_path: Path) -> None:
    (qa,), _, (history,) = long(tmp_path, "longmemeval_s.json", remembered())
    assert qa["query"] == "[2023/06/01 (Thu) 00:58] Which pet?" and qa["answer"] == "A dog" and qa["options"] is None
    assert qa["labels"] == {"benchmark": "longmemeval", "question_type": "multi-session"}
    assert [one["content"] for one in qa["snippet"]] == ["[2023/05/25 (Thu) 20:21] I got a dog."]
    assert [one["date"] for one in history["sessions"]] == ["2023-05-25", "2023-05-27"]  # nothing was said in one
    assert [one["content"] for one in history["messages"]][2] == "[2023/05/27 (Sat) 10:20] And tea."
    rest = tokens.count_messages(history["messages"][1:])
    assert qa["histories"] == {
        "s": {"id": history["id"], "distance_tokens": rest, "relevant_tokens": history["tokens"], "filler_tokens": 0}
    }


@pytest.mark.parametrize(
    ("given", "answer"), [(3, "3"), (["a", "b"], "a / or: b"), ([7], "7"), (1.5, "1.5"), (" x ", "x")]
)
def test_answers_of_any_kind(tmp_path: Path, given: Any, answer: str) -> None:
    (qa,), _, _ = long(tmp_path, "x.json", remembered(answer=given))
    assert qa["answer"] == answer and list(qa["histories"]) == ["whole"]


@pytest.mark.parametrize("given", [[], "", True, [None], {}])
def test_no_answer_is_a_reason(tmp_path: Path, given: Any) -> None:
    assert long(tmp_path, "x.json", remembered(answer=given))[1] == ["/answer: expected text"]


def test_what_the_history_does_not_tell_is_judged_so(tmp_path: Path) -> None:
    (qa,), _, _ = long(tmp_path, "x.json", remembered(question_id="1_abs", answer="A cat was never mentioned."))
    assert qa["labels"]["abstention"] == "yes" and open_ended.rubric(qa) == open_ended.ABSTENTION


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"haystack_dates": ["2023/05/25"]}, "sessions, their ids and dates are not as many"),
        ({"haystack_sessions": 7}, "/haystack_sessions: expected a list"),
        ({"haystack_sessions": [[{"role": "tool", "content": "x"}], [], []]}, "expected user or assistant, found tool"),
        ({"question": None}, "expected question_id, question and answer"),
    ],
)
def test_faults_are_told(tmp_path: Path, change: Record, reason: str) -> None:
    records, reasons, _ = long(tmp_path, "x.json", {**remembered(), **change})
    assert not records and reason in reasons[0]


# ---- LoCoMo ------------------------------------------------------------------------------------------------------


def chat(*asked: Record) -> Record:
    first = [
        {"speaker": "Eve", "dia_id": "D1:1", "text": "Look!", "img_url": ["u"], "blip_caption": "a red kite"},
        {"speaker": "Bo", "dia_id": "D1:2", "text": "Lovely."},
    ]
    told = {
        "speaker_a": "Eve", "speaker_b": "Bo", "session_2": [{"speaker": "Bo", "dia_id": "D2:1", "text": "I sold it."}],
        "session_1": first, "session_1_date_time": "1:56 pm on 8 May, 2023", "session_2_date_time": "soon", "session_3_date_time": "x",
    }  # fmt: skip
    return {"sample_id": "conv-1", "conversation": told, "qa": list(asked)}


def asked(folder: Path, *found: Record) -> tuple[list[Record], list[str], list[Record]]:
    path = write(folder / "locomo.json", [chat(*found)])
    histories: list[Record] = []
    records, reasons = made(locomo.entries((str(path),)), locomo.Importer(histories.append))
    return records, reasons, histories


def test_two_people_are_user_and_assistant(tmp_path: Path) -> None:
    question = {"question": "When?", "answer": 2022, "evidence": ["D1:2; D2:1 D9:9"], "category": 2}
    (qa,), _, (history,) = asked(tmp_path, question)
    assert [(one["role"], one["content"]) for one in history["messages"]] == [
        ("user", "[1:56 pm on 8 May, 2023] Eve: Look!\n[photo: a red kite]"),
        ("assistant", "Bo: Lovely."),
        ("assistant", "[soon] Bo: I sold it."),
    ]
    assert [(one["id"], one["date"]) for one in history["sessions"]] == [
        ("session_1", "2023-05-08"),
        ("session_2", None),
    ]
    assert qa["answer"] == "2022" and qa["labels"] == {"benchmark": "locomo", "category": "2"}
    assert [one["content"] for one in qa["snippet"]] == ["Bo: Lovely.", "Bo: I sold it."]
    assert qa["histories"]["whole"]["distance_tokens"] == 0


def test_category_5_is_judged_by_what_is_known(tmp_path: Path) -> None:
    trap = {"question": "Is it Bo's?", "adversarial_answer": "Yes", "evidence": [], "category": 5}
    (unknown, denied), _, _ = asked(tmp_path, trap, {**trap, "answer": "No"})
    assert unknown["labels"]["abstention"] == "yes" and open_ended.rubric(unknown) == open_ended.ABSTENTION
    assert "abstention" not in denied["labels"] and denied["answer"] == "No"
    assert open_ended.rubric(denied) == open_ended.REFERENCE
    assert {one["labels"]["adversarial_answer"] for one in (unknown, denied)} == {"Yes"}
    assert unknown["histories"]["whole"]["distance_tokens"] is None


def test_what_is_no_question_is_rejected_alone(tmp_path: Path) -> None:
    right = {"question": "When?", "answer": "Now", "category": 1}
    records, reasons, _ = asked(tmp_path, {"question": "Who?", "category": 1}, right, "x")  # type: ignore[arg-type]
    assert len(records) == 1 and reasons == ["/answer: expected text", "/answer: expected text"]


# ---- PrefEval ----------------------------------------------------------------------------------------------------

ROW = {"preference": "I avoid nuts.", "question": "What to eat?", "explanation": "Nuts are common."}
CHOICE = {
    "query": "Lunch?",
    "assistant_options": "A or B.",
    "user_selection": "B.",
    "assistant_acknowledgment": "Fine.",
}
DRIVEN = {str(n): {"user": f"u{n}", "assistant": f"a{n}"} for n in (1, 0, 10, 2)}


@pytest.fixture
def preferences(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmark_dataset"
    write(folder / "explicit_preference" / "food.json", [ROW])
    write(folder / "implicit_preference" / "choice-based" / "food.json", [{**ROW, "conversation": CHOICE}])
    write(folder / "implicit_preference" / "persona-driven" / "food.json", [{**ROW, "conversation": DRIVEN}])
    options = [
        {**ROW, "preference": "I strictly avoid nuts.", "classification_task_options": ["Soup", "Nuts", "Pesto", "Pie"]}
    ]
    write(folder / "mcq_options" / "food.json", options)
    return folder


def preferred(
    path: Path, *turns: int, filler: list[Record] | None = None, seed: int = 0
) -> tuple[list[Record], list[str], list[Record]]:
    histories: list[Record] = []
    fillers = prefeval.Fillers(filler or [])
    importer = prefeval.Importer(turns or (0,), fillers, seed=seed, put_history=histories.append)
    records, reasons = made(prefeval.entries((str(path),)), importer)
    return records, reasons, histories


def test_three_forms_of_a_preference(preferences: Path) -> None:
    records, _, histories = preferred(preferences)
    assert [one["labels"]["form"] for one in records] == ["explicit", "choice-based", "persona-driven"]
    assert len({one["persona_id"] for one in records}) == 1  # they hang together
    for one in records:
        assert one["options"]["ABCD".index(one["gold"])] == one["answer"] == "Soup" and len(one["distractors"]) == 3
        assert one["preference"]["text"] == "I avoid nuts." and open_ended.rubric(one) == open_ended.CASE
        assert one["histories"]["0-turns"]["distance_tokens"] == 0
    said = [[message["content"] for message in one["messages"]] for one in histories]
    assert said[0] == ["I avoid nuts.", prefeval.HEARD] and said[1] == ["Lunch?", "A or B.", "B.", "Fine."]
    assert said[2] == ["u0", "a0", "u1", "a1", "u2", "a2", "u10", "a10"]


def test_options_stand_in_a_drawn_order(preferences: Path) -> None:
    assert len({preferred(preferences, seed=seed)[0][0]["gold"] for seed in range(20)}) == 4


def test_without_options_the_explanation_answers(preferences: Path) -> None:
    (preferences / "mcq_options" / "food.json").unlink()
    records, _, _ = preferred(preferences)
    assert records[0]["options"] is None and records[0]["answer"] == "Nuts are common."


def test_options_alone_are_explicit_questions(preferences: Path) -> None:
    (qa,), _, _ = preferred(preferences / "mcq_options" / "food.json")
    assert qa["labels"]["form"] == "explicit" and qa["answer"] == "Soup"


def test_filler_turns_stand_between(preferences: Path) -> None:
    def dialogue(number: int) -> Record:
        said = [{"role": role, "content": f"{role} {number} {n}"} for n in range(2) for role in ("user", "assistant")]
        return {"id": f"f-{number:016x}", "messages": said}

    records, _, histories = preferred(preferences, 0, 3, filler=[dialogue(n) for n in range(5)])
    long = histories[1]
    assert long["window"] == "3-turns" and len(long["messages"]) == 2 + 6
    assert [one["what"] for one in long["sessions"]] == ["imported", "filler", "filler"]
    between = tokens.count_messages(long["messages"][2:])
    assert records[0]["histories"]["3-turns"]["distance_tokens"] == between == long["filler_tokens"]
    assert len({histories[n]["sessions"][1]["id"] for n in (1, 3, 5)}) > 1  # drawn for each question


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": ""}, "/question: expected text"),
        ({"conversation": []}, "/conversation: expected an object with what was said"),
        ({"conversation": {"0": "x"}}, "/conversation/0: expected user and assistant"),
        ({"conversation": {"query": "x"}}, "/conversation/assistant_options: expected text"),
        ({"classification_task_options": ["Soup", "Soup"]}, "options A and B are the same text"),
        ({"classification_task_options": "Soup"}, "/classification_task_options: expected a list"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path: Path, change: Record, reason: str) -> None:
    path = write(tmp_path / "food.json", [{**ROW, **change}])
    records, reasons, _ = preferred(path)
    assert not records and reason in reasons[0]


# ---- chats -------------------------------------------------------------------------------------------------------


def test_chats_become_histories(tmp_path: Path) -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi.", "name": "x"}]
    sessions = {
        "user": "ada",
        "sessions": [{"messages": said, "date": "2024-02-03T10:00"}, {"id": "z", "messages": said[1:]}],
    }
    found = [
        {"id": "c1", "messages": said, "score": 3},
        sessions,
        {"text": "Hi."},
        {"messages": [*said, {"role": "narrator", "content": "Then."}]},
        {"messages": [said[0], said[0]]},
        {"messages": []},
    ]
    path = tmp_path / "chats.jsonl"
    path.write_bytes(lines(found))
    records, reasons = made(items((str(path),)), messages.importer)
    assert all(check.validator("history")(one) for one in records)
    assert records[0]["system"] == "Be brief." and records[0]["messages"] == [{"role": "user", "content": "Hi."}]
    assert records[0]["user_id"] == "c1" and records[0]["labels"] == {"id": "c1", "score": "3"}
    assert [(one["id"], one["date"]) for one in records[1]["sessions"]] == [("session 1", "2024-02-03"), ("z", None)]
    assert reasons == [
        "no chat: expected a list messages, or sessions that have one; found text",
        f"/messages/{len(said)}/role: expected user, assistant, system or tool, found narrator",
        "its history has no messages",
        "its history has no messages",
    ]


# ---- the samples -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "sample", "counts", "histories"),
    [
        ("personamem-v1", "personamem_v1_32k", "105 in, 104 out, 1 rejected", 7),
        ("longmemeval", "longmemeval/questions_150.json", "150 in, 150 out", 0),
        ("longmemeval", "longmemeval/evidence_turns_150.jsonl", "150 in, 150 out", 150),
        ("locomo", "locomo/locomo10_3conv.json", "500 in, 500 out", 3),
        ("locomo", "locomo/msc_personas_sample.json", "1 in, 0 out, 1 rejected", 0),
        ("prefeval", "prefeval", "723 in, 723 out", 723),
    ],
)
def test_every_record_of_the_samples(tmp_path: Path, layout: str, sample: str, counts: str, histories: int) -> None:
    if not (DATA / sample).exists():
        pytest.skip("the sample is not here")
    written = ("-o", "q.jsonl", "--histories", "h.jsonl", "--rejects", "r.jsonl")
    ran = pmem("import", layout, str(DATA / sample), *written, folder=tmp_path)
    assert f"pmem import {layout}: {counts};" in ran.err
    questions = lines_of(tmp_path / "q.jsonl")
    assert len({one["id"] for one in questions}) == len(questions)
    assert pmem("validate", "q.jsonl", "h.jsonl", folder=tmp_path).status == 0
    named = {one["id"] for qa in questions for one in qa["histories"].values()}
    assert named == {one["id"] for one in lines_of(tmp_path / "h.jsonl")} and len(named) == histories


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("conversations_messages", "75 in, 75 out"),
        ("raw_messages", "820 in, 0 out, 820 rejected"),
        ("open_assistant_en_100_tree", "97 in, 0 out, 97 rejected"),
    ],
)
def test_real_chats(tmp_path: Path, name: str, counts: str) -> None:
    source = DATA / "oasst1_en_validation" / f"{name}.jsonl"
    if not source.exists():
        pytest.skip("the sample is not here")
    ran = pmem("import", "messages", str(source), "-o", "h.jsonl", "--rejects", "r.jsonl", folder=tmp_path)
    assert f"pmem import messages: {counts};" in ran.err
    assert all(one["message"].startswith("no chat") for one in lines_of(tmp_path / "r.jsonl"))


def test_options_of_the_sample_by_themselves() -> None:
    files = sorted((DATA / "prefeval" / "mcq_options").glob("*.json"))
    if not files:
        pytest.skip("the sample is not here")
    importer = prefeval.Importer((0,), prefeval.Fillers([]), seed=0)
    records, reasons = made(prefeval.entries(tuple(map(str, files))), importer)
    assert len(records) == 241 and not reasons and importer.without_options == 0


def test_a_sample_is_asked_from_end_to_end(tmp_path: Path) -> None:
    if not (DATA / "personamem_v1_32k").exists():
        pytest.skip("the sample is not here")
    source = str(DATA / "personamem_v1_32k")
    pmem(
        "import",
        "personamem-v1",
        source,
        "-o",
        "q.jsonl",
        "--histories",
        "h.jsonl",
        "--rejects",
        "r.jsonl",
        folder=tmp_path,
    )
    again = pmem("import", "personamem-v1", "r.jsonl", "--rejects", "still.jsonl", folder=tmp_path)
    assert "1 in, 0 out, 1 rejected" in again.err
    with running() as stub:
        model = ("-m", "openai:stub", "--base-url", stub.url)
        ran = pmem(
            "eval", "q.jsonl", "--histories", "h.jsonl", "--with-system", *model, "-o", "results.jsonl", folder=tmp_path
        )
    assert ran.status == 0 and "104 in, 104 out" in ran.err
    table = pmem("eval", "--summary", "--by", "question_type", "results.jsonl", folder=tmp_path).out.decode()
    assert "recall_user_shared_facts" in table and "of 104" in table


WRONG: list[Any] = [None, 7, "x", [], {}, [[]], [{}], {"a": []}, True]


@pytest.mark.parametrize("value", WRONG)
def test_wrong_types_are_reasons_and_no_tracebacks(tmp_path: Path, value: Any) -> None:
    for key in query():
        of_queries(tmp_path, {**query(), key: value})
    for key in remembered():
        long(tmp_path, "x.json", {**remembered(), key: value})
    for key in ("question", "answer", "evidence", "category", "adversarial_answer"):
        asked(tmp_path, {"question": "When?", "answer": "Now", "category": 1, key: value})
    for key in ("speaker", "dia_id", "text", "img_url", "blip_caption"):
        turn = {"speaker": "Eve", "dia_id": "D1:1", "text": "Hi.", key: value}
        sample = {
            "sample_id": "s",
            "conversation": {"session_1": [turn, value]},
            "qa": [{"question": "?", "answer": 1}],
        }
        for given in (sample, {**sample, "conversation": {"session_1": [turn]}}, {**sample, "conversation": value}):
            made(locomo.entries((str(write(tmp_path / "l.json", [given])),)), locomo.Importer())
    for key in (*ROW, "conversation", "classification_task_options"):
        preferred(write(tmp_path / "food.json", [{**ROW, key: value}]))
    for key in ("id", "messages", "sessions", "date"):
        chats = write(tmp_path / "c.json", [{"messages": [{"role": "user", "content": value}], key: value}])
        made(items((str(chats),)), messages.importer)


def test_tables_that_are_none_are_told(tmp_path: Path) -> None:
    path = tmp_path / "questions_32k.csv"
    for content, said in ((b"a,b\n1,2\n", "expected the columns of PersonaMem"), (b"\xff\xfe", "not UTF-8")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=said):
            list(personamem_v1.entries((str(path),)))


def test_folders_without_the_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds none of questions\*\.csv"):
        list(personamem_v1.entries((str(tmp_path),)))
    with pytest.raises(InputError, match="holds none of explicit_preference"):
        list(prefeval.entries((str(tmp_path),)))
