"""`pmem sft`: supervised fine-tuning on right replies."""

from pathlib import Path
from typing import Any

import click

from pmem.engines import TO_MODEL, Elsewhere, Engine, engine_options
from pmem.prompts import Prompts
from pmem.reward.rewards import Rewards
from pmem.stream.options import seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.source import records
from pmem.train.questions import Questions
from pmem.train.targets import Chosen, Gold, Lesson, known
from pmem.training import Training, sampling_options, size_of, training_options

Record = dict[str, Any]


@click.command(
    epilog="Examples: pmem sft train.jsonl --histories histories.jsonl -m local:smollm2 -o started > metrics.jsonl; "
    "pmem sft train.jsonl --targets results.jsonl --histories histories.jsonl -m local:smollm2 -o started"
)
@stream_options(to=TO_MODEL)
@engine_options
@sampling_options
@seed_option
@click.option("--targets", default="gold", show_default=True, metavar="gold|FILE",
              help="Replies to learn: right answers, or those in eval's results that ended right.")  # fmt: skip
@training_options(steps=300, batch=64, rate=1e-5, schedule="cosine", mix="mcq=0.8,open=0.2")
def command(
    pipe: Pipe,
    model: str,
    prompts: str | None,
    seed: int,
    targets: str,
    max_tokens: int | None,
    thinking: bool | None,
    context_length: int | None,
    dtype: str | None,
    engine: Engine,
    **given: Any,
) -> None:
    """Fine-tune a model on right replies.

    Prompts are those of eval, replies have the form that it reads and `grpo` rewards. Metric records go to stdout, the
    model to the folder -o, which `local:` loads. The same command goes on from its last checkpoint (FOLDER.part).
    """
    texts = Prompts(Path(prompts) if prompts else None)
    sampling = {"max_tokens": max_tokens, "thinking": thinking, "context_length": context_length, "dtype": dtype}
    training = Training(pipe, model, texts, seed, sampling, {**given, "targets": targets})

    async def work(questions: list[Record]) -> None:
        lessons, steps = _lessons(targets, training, questions), given["steps"]
        if engine.elsewhere:
            taught = [lesson for step in range(steps) for lesson in lessons.batch(step, given["batch_size"])]
            held_out = _held_out(training)
            await Elsewhere(engine, training, {**given, "targets": targets}, steps, taught, held_out).run()
            return
        opened = training.open(questions, given["steps"], Rewards((), texts), n=1, temperature=0.0)
        from pmem.train import sft
        from pmem.train.batches import Conversation

        async def conversation(lesson: Lesson) -> Conversation:
            qa = lesson.ask.qa
            return opened.policy.conversation(
                await opened.answers.ids(lesson.ask), lesson.reply, f"question {qa['id']}"
            )

        async def batch(step: int) -> list[Conversation]:
            return [await conversation(lesson) for lesson in lessons.batch(step, given["batch_size"])]

        await conversation(max(lessons.batch(0, len(lessons)), key=lambda lesson: size_of(lesson.ask)))
        await sft.train(opened.policy, batch, opened.run, opened.held_out)

    pipe.gather(work, reads="qa")


def _held_out(training: Training) -> list[Lesson]:
    """Right replies to the questions of --eval-set."""
    asks = training.held_out()
    if not asks:
        return []
    gold = Gold(Questions([ask.qa for ask in asks], {"mcq": 1.0}, 0), training.prompts, training.given["reply_form"])
    return [Lesson(ask, gold.reply(ask)) for ask in asks]


def _lessons(targets: str, training: Training, questions: list[Record]) -> Gold | Chosen:
    asked = training.questions(questions)
    form = training.given["reply_form"]
    if targets == "gold":
        return Gold(asked, training.prompts, form)
    return Chosen(records((targets,), "result"), known(questions), form, training.seed)
