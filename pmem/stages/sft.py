"""`pmem sft`: supervised fine-tuning on right replies."""

from pathlib import Path
from typing import Any

import click

from pmem.elsewhere import Elsewhere
from pmem.engines import TO_MODEL, Engine, engine_options
from pmem.memory.loop import form_of
from pmem.prompts import Prompts
from pmem.reward.rewards import Rewards
from pmem.shown import written_options
from pmem.stream.options import INPUT, seed_option, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.progress import counted
from pmem.stream.source import records
from pmem.train.questions import Questions
from pmem.train.reading import Reading
from pmem.train.targets import Epochs, Gold, Lesson, chosen, known
from pmem.train.trajectories import Teacher, Update, name, updates_of
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
@click.option("--trajectories", type=INPUT, metavar="TRACE",
              help="Records of `memdump --trace`: learn to write these memories, too, where --targets FILE ended right "
              "by them (implies --context memory).")  # fmt: skip
@written_options
@training_options(steps=300, batch=64, rate=1e-5, schedule="cosine", mix="mcq=0.8,open=0.2")
def command(
    pipe: Pipe,
    model: str,
    prompts: str | None,
    seed: int,
    targets: str,
    trajectories: str | None,
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
    if trajectories:
        _check(targets, given)
        given |= {"context": "memory", "memories": given["memories"] or trajectories}
    given |= {"targets": targets, "trajectories": trajectories}
    training = Training(pipe, model, texts, seed, sampling, given)
    written = ("tokenizer", "memory_style", "memory_tokens", "evidence")
    reading = Reading(training.asking, form_of(texts, *(given[name] for name in written)), given["chunk_tokens"])
    teacher = Teacher(training.asking, reading)

    async def work(questions: list[Record]) -> None:
        lessons, steps = _lessons(training, questions), given["steps"]
        if engine.elsewhere:
            taught = [lesson for step in range(steps) for lesson in lessons.batch(step, given["batch_size"])]
            held_out = _held_out(training)
            await Elsewhere(engine, training, steps, taught, held_out, teacher=teacher).run()
            return
        opened = training.open(questions, given["steps"], Rewards((), texts), n=1, temperature=0.0)
        from pmem.train import sft
        from pmem.train.answers import ids_of
        from pmem.train.batches import Conversation

        async def conversation(lesson: Lesson | Update) -> Conversation:
            request, reply = await teacher.said(lesson)
            prompt = ids_of(request, opened.policy.loaded.tokenizer, name(lesson))
            return opened.policy.conversation(prompt, reply, name(lesson))

        async def batch(step: int) -> list[Conversation]:
            return [await conversation(lesson) for lesson in lessons.batch(step, given["batch_size"])]

        ask = opened.answers.held_out
        if trajectories:  # the memories of held-out histories are the policy's own
            from pmem.train.memories import Memories

            ask = Memories(opened.sampler(given["memory_tokens"]), opened.answers, reading).held_out
        await conversation(max(lessons.batch(0, len(lessons)), key=_size))
        await sft.train(opened.policy, batch, opened.run, training.measuring(ask, opened.clock), opened.clock)

    pipe.gather(work, reads="qa")


def _check(targets: str, given: Record) -> None:
    """Usage error for options that don't go with --trajectories."""
    if targets == "gold":
        raise click.UsageError(
            "--trajectories needs --targets FILE: results that tell which memories led to a right reply"
        )
    if not given["histories"]:
        raise click.UsageError("--trajectories needs --histories FILE: what the memories were written from")


def _size(lesson: Lesson | Update) -> int:
    """The longest lesson is tried before the first step; updates, whose chunks are of one size, only where alone."""
    return size_of(lesson.ask) if isinstance(lesson, Lesson) else 0


def _held_out(training: Training) -> list[Lesson]:
    """Right replies to the questions of --eval-set."""
    asks = training.held_out()
    if not asks:
        return []
    gold = Gold(Questions([ask.qa for ask in asks], {"mcq": 1.0}, 0), training.prompts, training.given["reply_form"])
    return [Lesson(ask, gold.reply(ask)) for ask in asks]


def _lessons(training: Training, questions: list[Record]) -> Gold | Epochs[Lesson] | Epochs[Lesson | Update]:
    asked, given = training.questions(questions), training.given
    if given["targets"] == "gold":
        return Gold(asked, training.prompts, given["reply_form"])
    right = chosen(records((given["targets"],), "result"), known(questions), given["reply_form"])
    answers = [one.lesson for one in right]
    if not given["trajectories"]:
        return Epochs(answers, training.seed)
    updates = updates_of(records((given["trajectories"],), "memory"), [one.memory_id for one in right])
    training.pipe.notes.append(
        lambda: f"{counted(len(updates), 'update')} and {counted(len(answers), 'answer')} to learn"
    )
    both: list[Lesson | Update] = [*updates, *answers]
    return Epochs(both, training.seed)
