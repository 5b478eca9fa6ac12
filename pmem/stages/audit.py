"""`pmem audit`: what a cheater who never saw the history could exploit; the gate before questions are released."""

from typing import TYPE_CHECKING, Any

import click

from pmem.backends.model import Model
from pmem.errors import NOT_PASSED
from pmem.models import model_options
from pmem.prompts import Prompts
from pmem.stream.made import Made
from pmem.stream.options import OUTPUT, seed_option, stream_options
from pmem.stream.pipe import Pipe

if TYPE_CHECKING:
    from pmem.audit.audit import Answers, Terms
    from pmem.audit.corpus import Corpus

READS = ("untouched", "balanced", "all")


class Reading:
    """What an audit has read so far."""

    def __init__(self, corpus: "Corpus") -> None:
        self.corpus = corpus
        self.counts = {"open_ended": 0, "left_out": 0}
        self.replies: dict[int, tuple[float, float]] = {}  # question -> credit at least, at most
        self.verdict = "inconclusive"

    def answers(self) -> "Answers | None":
        """The blind model's answers, where one was asked."""
        if not self.replies:
            return None
        import numpy as np

        from pmem.audit.audit import Answers

        table = np.full((2, len(self.corpus)), np.nan)
        for number, credit in self.replies.items():
            table[:, number] = credit
        return Answers(table[0], table[1])


@click.command(
    epilog="Examples: pmem audit questions.jsonl --json audit.json && publish; "
    "pmem audit questions.jsonl -m openai:gpt-5-mini"
)
@stream_options()
@model_options(optional=True)
@seed_option
@click.option("--margin", type=click.FloatRange(0, 75, min_open=True), default=5, show_default=True, metavar="POINTS",
              help="Points over chance that must be ruled out.")  # fmt: skip
@click.option("--min-questions", type=click.IntRange(min=2), default=100, show_default=True,
              help="Fewer in a half, and a case is inconclusive.")  # fmt: skip
@click.option("--min-personas", type=click.IntRange(min=2), default=20, show_default=True,
              help="Fewer in a half, and a case is inconclusive.")  # fmt: skip
@click.option("--read", type=click.Choice(READS), default="untouched", show_default=True,
              help="Which of them, where `pmem filter --balance` acted on one half.")  # fmt: skip
@click.option("--json", type=OUTPUT, help="Write everything that was found here, too.")
def command(
    pipe: Pipe,
    model: Model | None,
    prompts: Prompts,
    seed: int,
    margin: float,
    min_questions: int,
    min_personas: int,
    read: str,
    json: str | None,
) -> None:
    """Find what a cheater who never saw the history could exploit.

    Strategies: the right option's position, length, words that it shares with the query, how much it is like the
    others, how common its words are; classifiers of its words and of all cues; with -m, a model that sees only the
    question. Each is tuned on one half of the personas and measured on the other, in all questions and by case.

    Verdicts: pass (shown to be less than --margin over chance), fail (not so, and a gain is shown), inconclusive
    (neither, or too few questions). One fail fails the audit. The exit status is 0 if it is passed, else 5.
    """
    from pmem.audit import need_extra

    need_extra("pmem audit")
    from pmem.audit.audit import Terms
    from pmem.audit.corpus import Corpus

    reading = Reading(Corpus(seed))
    terms = Terms(margin / 100, min_questions, min_personas)

    async def make(qa: dict[str, Any], _items: list[str] | None) -> Made:
        await _look(qa, reading, model, prompts, read=read, seed=seed)
        return Made([])

    pipe.ending = lambda: _conclude(pipe, reading, terms, seed, json)
    pipe.notes.append(lambda: _note(reading, read))
    pipe.run(make, reads="qa", writes="qa")
    if not pipe.plan and reading.verdict != "pass":
        raise SystemExit(NOT_PASSED)


async def _look(
    qa: dict[str, Any], reading: Reading, model: Model | None, prompts: Prompts, *, read: str, seed: int
) -> None:
    """Take in a question (before anything is waited for, so that they come in order), and ask the blind model."""
    from pmem.audit.halves import first_half, is_balanced, persona_of

    if not qa["options"] or not qa["gold"]:
        reading.counts["open_ended"] += 1
        return
    if read != "all" and is_balanced(qa) != (read == "balanced"):
        reading.counts["left_out"] += 1
        return
    number = reading.corpus.add(qa)
    if model is None or first_half(persona_of(qa), seed, "audit"):
        return
    from pmem.audit.blind import chosen

    letter = await chosen(qa, model, prompts)
    reading.replies[number] = (float(letter == qa["gold"]), float(letter in (qa["gold"], None)))


def _conclude(pipe: Pipe, reading: Reading, terms: "Terms", seed: int, path: str | None) -> None:
    """Measure, and write what was found."""
    from pmem.audit.audit import audited
    from pmem.audit.findings import document, text

    unread = sum(least != most for least, most in reading.replies.values())
    about = {"questions": len(reading.corpus), **reading.counts, "unreadable_replies": unread}
    found = document(audited(reading.corpus, terms, reading.answers()), terms, seed=seed, about=about)
    reading.verdict = found["verdict"]
    pipe.say(text(found))
    if path:
        pipe.document(path, found)


def _note(reading: Reading, read: str) -> str:
    open_ended, left_out = reading.counts["open_ended"], reading.counts["left_out"]
    parts = [f"{open_ended:,} without options"] if open_ended else []
    if left_out:
        parts.append(f"{left_out:,} left out, {'not ' * (read == 'balanced')}balanced by `pmem filter`")
    return ", ".join(parts)
