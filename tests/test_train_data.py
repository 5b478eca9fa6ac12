"""What training reads: the asks of each step, targets, and prompts token for token as eval sends them."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pmem.cli import main
from pmem.errors import InputError
from pmem.evaluation.question import FORMS
from pmem.evaluation.scenes import Scenes, View
from pmem.prompts import Prompts
from pmem.reward import mcq
from pmem.stream.lookup import Lookup, finished
from pmem.train.questions import Ask, Asking, Questions, mix_of, refuse_shared
from pmem.train.targets import Epochs, Gold, chosen, known
from tests.command import lines, records, sample
from tests.tiny_models import one_thread, saved


def question(number: int, **more: Any) -> dict[str, Any]:
    qa = sample("qa")
    return {**qa, "id": f"q-{number:016x}", "persona_id": f"p-{number // 3:016x}", **more}


def questions(count: int) -> list[dict[str, Any]]:
    return [question(number) for number in range(count)]


# ---- the asks of a step ------------------------------------------------------------------------------------------


def test_an_epoch_asks_each_question_once_and_the_next_in_another_order() -> None:
    asked = Questions(questions(20), {"mcq": 1.0}, seed=1)
    first, second = asked.batch(0, 20), asked.batch(1, 20)
    assert sorted(ask.qa["id"] for ask in first) == sorted(ask.qa["id"] for ask in second)
    assert [ask.qa["id"] for ask in first] != [ask.qa["id"] for ask in second]
    assert {ask.permutation for ask in first + second} == {0, 1, 2, 3}


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    asked = Questions(questions(7), {"mcq": 0.5, "open": 0.5}, seed=1)
    steps = [asked.batch(step, 5) for step in range(6)]
    assert Questions(questions(7), {"mcq": 0.5, "open": 0.5}, seed=1).batch(4, 5) == steps[4]
    assert Questions(questions(7), {"mcq": 0.5, "open": 0.5}, seed=2).batch(4, 5) != steps[4]


def test_the_mix_holds_in_every_beginning_of_an_epoch() -> None:
    asks = Questions(questions(100), mix_of("mcq=0.8, open=0.2"), seed=3).epoch(0)
    for end in range(1, 101):
        assert abs(Counter(ask.mode for ask in asks[:end])["open"] - 0.2 * end) <= 1


def test_a_question_without_options_is_asked_openly_or_left_out() -> None:
    bare = [question(n, options=None, gold=None, distractors=[]) for n in range(4)]
    mixed = Questions([*questions(4), *bare], {"mcq": 0.5, "open": 0.5}, seed=0)
    assert all(ask.mode == "open" for ask in mixed.epoch(0) if not ask.qa["options"])
    assert Questions([*questions(4), *bare], {"mcq": 1.0}, seed=0).left_out == 4
    with pytest.raises(InputError, match="none of 4 questions can be asked as mcq"):
        Questions(bare, {"mcq": 1.0}, seed=0)
    with pytest.raises(InputError, match="no question"):
        Questions([], {"mcq": 1.0}, seed=0)


def test_the_right_option_moves_with_its_letter() -> None:
    qa = question(1)
    for permutation in range(4):
        ask = Ask(qa, "mcq", permutation)
        assert ask.options["ABCD".index(ask.gold)] == qa["answer"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [("mcq", "MODE=SHARE"), ("mcq=0.5,oral=1", "no mode 'oral'"), ("mcq=-1", "0 or more"), ("mcq=0,open=0", "above 0"), ("mcq=nan", "0 or more")],
)  # fmt: skip
def test_a_mix_that_is_none(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        mix_of(text)


def test_personas_of_the_evaluation_set_are_refused() -> None:
    refuse_shared(questions(6), [question(6), question(7)])
    with pytest.raises(InputError, match="share persona p-0000000000000001 with --eval-set"):
        refuse_shared(questions(6), [question(5, id="q-ffffffffffffffff")])
    nobodys = question(1, persona_id=None)
    with pytest.raises(InputError, match="share history"):
        refuse_shared([nobodys], [{**nobodys, "id": "q-ffffffffffffffff"}])


# ---- targets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", ["own", "updated", "forgotten", "other", "sensitive"])
def test_a_gold_target_is_what_the_reward_takes_for_right(form: str, case: str) -> None:
    qa = question(1, case=case, previous=question(1)["preference"])
    gold = Gold(Questions([qa], {"mcq": 1.0}, seed=0), Prompts(), form)
    for permutation in range(4):
        ask = Ask(qa, "mcq", permutation)
        reply = gold.reply(ask)
        assert mcq.by_reply(reply, ask.gold, 4).correct
        assert ("</think>" in reply) == (form == "think")
        assert ("\n" in reply) == (form != "line")


def test_a_target_never_tells_a_secret_or_what_is_to_be_forgotten() -> None:
    secret = {**(question(1)["secret"] or {"id": "p-x/x01", "kind": "phone_number"}), "value": "+1 202 555 0143"}
    told = question(1, case="sensitive", secret=secret)
    gold = Gold(Questions([told], {"mcq": 1.0}, seed=0), Prompts(), "think")
    assert secret["value"] not in gold.reply(Ask(told, "mcq"))
    forgotten = question(1, case="forgotten")
    assert forgotten["preference"]["text"] not in gold.reply(Ask(forgotten, "mcq"))


def result(qa: dict[str, Any], **more: Any) -> dict[str, Any]:
    ask = Ask(qa, "mcq", more.get("permutation", 0))
    own = {"qa_id": qa["id"], "mode": "mcq", "options": ask.options, "gold": ask.gold, "permutation": ask.permutation}
    return {**sample("result"), "settings": {}, **own, "reply": f"So.\nAnswer: {ask.gold}", "correct": True, **more}


def test_right_replies_become_targets_and_wrong_ones_do_not() -> None:
    asked = questions(4)
    results = [result(qa, permutation=n, correct=n != 2) for n, qa in enumerate(asked)]
    taught = [one.lesson for one in chosen([*results, result(asked[0], reply="")], known(asked), "steps")]
    assert {lesson.ask.qa["id"]: lesson.ask.permutation for lesson in taught} == {asked[n]["id"]: n for n in (0, 1, 3)}
    assert all(mcq.by_reply(lesson.reply, lesson.ask.gold, 4).correct for lesson in taught)
    epochs = Epochs(taught, seed=1)
    assert epochs.batch(5, 2) == Epochs(taught, seed=1).batch(5, 2)
    assert sorted(map(str, epochs.batch(1, len(epochs)))) == sorted(map(str, taught))


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"qa_id": "q-ffffffffffffffff"}, "no question q-f"),
        ({"settings": {"form": "think"}}, "asked for with --reply-form think, not steps"),
        ({"options": ["w", "x", "y", "z"]}, "shows other options"),
        ({"correct": False}, "ended right"),
    ],
)
def test_results_that_teach_nothing_are_refused(more: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        chosen([result(question(0), **more)], known([question(0)]), "steps")


# ---- prompts -----------------------------------------------------------------------------------------------------


@pytest.mark.local
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["mcq", "open"])
@pytest.mark.parametrize("context", ["full", "snippet", "memory"])
def test_training_sees_the_very_tokens_that_eval_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, mode: str, context: str
) -> None:
    pytest.importorskip("transformers")
    from transformers import AutoTokenizer

    from pmem.backends.local import prompt_ids
    from pmem.backends.local_decode import Decoder

    model = saved(tmp_path / "model")
    history, qa, memory = sample("history"), sample("qa"), sample("memory")
    place = {**next(iter(qa["histories"].values())), "id": history["id"]}
    qa = {**qa, "histories": {"32k": place}}
    memory |= {"history_id": history["id"], "chunk": 2, "chunks": 2}
    for name, record in (("q", qa), ("h", history), ("m", memory)):
        (tmp_path / name).write_bytes(lines([record]))

    sent: list[list[int]] = []
    join = Decoder.join

    def noted(self: Decoder, row: Any) -> None:
        sent.append(row.prompt)
        join(self, row)

    monkeypatch.setattr(Decoder, "join", noted)
    command = ["eval", str(tmp_path / "q"), "--histories", str(tmp_path / "h"), "--memories", str(tmp_path / "m"), "-q"]
    command += ["-m", f"local:{model}", "--max-tokens", "3", "--no-cache", "--mode", mode, "--context", context]
    command += ["--judge-model", f"local:{model}", "--reply-form", form, "-o", str(tmp_path / "out"), "--votes", "1"]
    with one_thread():
        main([*command, "--rejects", str(tmp_path / "rejects")], standalone_mode=False)
    assert records((tmp_path / "out").read_bytes())[0]["settings"].get("form", "steps") == form

    async def ours() -> list[int]:
        histories = Lookup(tmp_path / "h", "history")
        memories = Lookup(tmp_path / "m", "memory", key=finished)
        scenes = Scenes(View(), Prompts(), histories=histories, memories=memories, reply=3)
        request = await Asking(scenes, Prompts(), context, None, form).request(Ask(qa, mode))
        await histories.close()
        await memories.close()
        return prompt_ids(request, AutoTokenizer.from_pretrained(model), "model")

    assert sent[0] == asyncio.run(ours())
