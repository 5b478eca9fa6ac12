"""What SFT teaches to reply, in the form that is rewarded: right answers, or a teacher's replies that ended right."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from pmem.draws import Draw
from pmem.errors import InputError
from pmem.evaluation.question import FORMS, choice_line, replied
from pmem.prompts import Prompts
from pmem.train.questions import Ask, Questions

Record = dict[str, Any]
T = TypeVar("T")
NEEDED = {"own": ("preference",), "updated": ("preference", "previous")}
"""What has to be known of a question for thoughts on it, by its case."""


class Lesson(NamedTuple):
    """A question as it is asked, and the reply to learn."""

    ask: Ask
    reply: str


class Gold:
    """Lessons from the data alone: what a question's annotations say as thoughts, then the right answer."""

    def __init__(self, questions: Questions, prompts: Prompts, form: str) -> None:
        self._questions, self._prompts, self._form = questions, prompts, form

    def __len__(self) -> int:
        return len(self._questions)

    def batch(self, step: int, size: int) -> list[Lesson]:
        """The lessons of a step."""
        return [Lesson(ask, self.reply(ask)) for ask in self._questions.batch(step, size)]

    def reply(self, ask: Ask) -> str:
        """The reply that is taught to a question."""
        said = choice_line(ask.gold) if ask.mode == "mcq" else ask.qa["answer"]
        return replied(_thoughts(ask.qa, self._prompts), said, mode=ask.mode, form=self._form)


def _thoughts(qa: Record, prompts: Prompts) -> str:
    """What is to be thought about a question before it is answered; "" if its record doesn't tell."""
    if qa["case"] is None or not all(qa[name] for name in NEEDED.get(qa["case"], ())):
        return ""
    known = {name: qa[name]["text"] for name in ("preference", "previous") if qa[name]}
    return prompts.render(f"train/thoughts_{qa['case']}", **known)


class Epochs(Generic[T]):
    """Lessons of every step: epochs without end, each in an order of its own."""

    def __init__(self, lessons: Sequence[T], seed: int) -> None:
        self._lessons, self._seed = lessons, seed
        self._epoch: tuple[int, list[T]] = (-1, [])

    def __len__(self) -> int:
        return len(self._lessons)

    def batch(self, step: int, size: int) -> list[T]:
        """The lessons of a step."""
        return [self._lesson(number) for number in range(step * size, (step + 1) * size)]

    def _lesson(self, number: int) -> T:
        epoch, place = divmod(number, len(self))
        if self._epoch[0] != epoch:
            self._epoch = (epoch, Draw(self._seed, "", f"train/order {epoch}").shuffled(self._lessons))
        return self._epoch[1][place]


class Right(NamedTuple):
    """A reply that ended right. memory_id: of the memory that it was made from, if it was."""

    lesson: Lesson
    memory_id: str | None


def chosen(results: Iterable[Record], questions: Mapping[str, Record], form: str) -> list[Right]:
    """Lessons from results of eval: replies that ended right (rejection sampling), a teacher's or the model's own.

    InputError if a result belongs to no question, asks for replies of another form, or if none ended right.
    """
    found = [
        Right(_lesson(one, questions, form), one.get("memory_id"))
        for one in results
        if one["correct"] and one["reply"].strip()
    ]
    if not found:
        raise InputError("--targets: no result there holds a reply that ended right")
    return found


def _lesson(result: Record, questions: Mapping[str, Record], form: str) -> Lesson:
    qa = questions.get(result["qa_id"])
    if qa is None:
        raise InputError(f"--targets: there is no question {result['qa_id']} among those to train on")
    asked = (result.get("settings") or {}).get("form", FORMS[0])
    if asked != form:
        raise InputError(f"--targets: result {result['id']} was asked for with --reply-form {asked}, not {form}")
    ask = Ask(qa, result["mode"], result["permutation"])
    if ask.mode == "mcq" and ask.options != result["options"]:
        raise InputError(f"--targets: result {result['id']} shows other options than question {qa['id']}")
    return Lesson(ask, result["reply"])


def known(questions: Sequence[Record]) -> dict[str, Record]:
    """Questions by id."""
    return {qa["id"]: qa for qa in questions}
