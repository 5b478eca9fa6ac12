"""Questions to train on: which are asked at a step, in which mode and order of options, and what the model is sent.

Everything is a function of the questions, the seed and the step, so that a run that goes on needs no more than its
step's number.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pmem.backends.base import Request
from pmem.draws import Draw
from pmem.errors import InputError, RecordError
from pmem.evaluation.question import Put, scene, turned, window_of
from pmem.evaluation.scenes import OF_HISTORY, Scenes
from pmem.prompts import Prompts

Record = dict[str, Any]
MODES = ("mcq", "open")


class Ask(NamedTuple):
    """A question as it is asked once. mode: one of MODES; permutation: of its options, as in results."""

    qa: Record
    mode: str
    permutation: int = 0

    @property
    def name(self) -> str:
        """For messages."""
        return f"question {self.qa['id']}"

    @property
    def options(self) -> list[str]:
        """In the order in which they are offered; none for an open-ended question."""
        return turned(self.qa, self.permutation)[0] if self.mode == "mcq" else []

    @property
    def gold(self) -> str:
        """The right option's letter; "" for an open-ended question."""
        return turned(self.qa, self.permutation)[1] if self.mode == "mcq" else ""


class Asking(NamedTuple):
    """How a run asks. context, window, form: as in eval; thinking: the chat template's switch, if it has one."""

    scenes: Scenes
    prompts: Prompts
    context: str = "full"
    window: str | None = None
    form: str = "steps"
    thinking: bool | None = None

    async def request(self, ask: Ask) -> Request:
        """What eval would send for it. `backends.local.messages_of` makes messages of it, `prompt_ids` tokens.

        InputError: a file lacks what it needs, or the prompt is too long for --context-length.
        """
        try:
            window = window_of(ask.qa, self.window) if self.context in OF_HISTORY else None
            put = Put(ask.qa, ask.mode, self.context, window, ask.options, self.form)
            shown, _ = await scene(put, self.scenes, self.prompts)
        except RecordError as fault:
            raise InputError(f"{ask.name}: {fault}") from None
        return Request(shown.messages, shown.prefix, call=f"train/{ask.qa['id']}/{ask.mode}", thinking=self.thinking)


class Questions:
    """The asks of every step: epochs without end, each in an order of its own.

    mix: share of each mode, held within one question at any time as far as the questions allow. Questions that can be
    asked in none of these modes are left out; `left_out` counts them. InputError if none is left.
    """

    def __init__(self, questions: Sequence[Record], mix: Mapping[str, float], seed: int) -> None:
        whole = sum(mix.values())
        self._mix = {mode: share / whole for mode, share in mix.items() if share > 0}
        self._questions = [qa for qa in questions if self._modes(qa)]
        self._seed = seed
        self._epoch: tuple[int, list[Ask]] = (-1, [])
        self.left_out = len(questions) - len(self._questions)
        if not questions:
            raise InputError("there is no question to train on")
        if not self._questions:
            raise InputError(f"none of {len(questions):,} questions can be asked as {' or '.join(self._mix)}")

    def __len__(self) -> int:
        """Questions in an epoch."""
        return len(self._questions)

    def batch(self, step: int, size: int) -> list[Ask]:
        """The asks of a step (from 0), `size` of them; a step may reach from one epoch into the next."""
        return [self._ask(number) for number in range(step * size, (step + 1) * size)]

    def epoch(self, number: int) -> list[Ask]:
        """All questions once, mixed."""
        order = Draw(self._seed, "", f"train/order {number}").shuffled(self._questions)
        asked = dict.fromkeys(self._mix, 0)
        asks = []
        for done, qa in enumerate(order):
            mode = max(self._modes(qa), key=lambda mode: self._mix[mode] * (done + 1) - asked[mode])
            asked[mode] += 1
            turns = len(qa["options"]) if mode == "mcq" else 1
            asks.append(Ask(qa, mode, Draw(self._seed, qa["id"], f"train/options {number}").below(turns)))
        return asks

    def _ask(self, number: int) -> Ask:
        epoch, place = divmod(number, len(self))
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.epoch(epoch))
        return self._epoch[1][place]

    def _modes(self, qa: Record) -> list[str]:
        return [mode for mode in self._mix if mode == "open" or (qa["options"] and qa["gold"])]


def mix_of(text: str) -> dict[str, float]:
    """Shares of modes as of "mcq=0.8,open=0.2"; ValueError with what is wrong."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        mode, _, share = part.strip().partition("=")
        try:
            shares[mode] = float(share)
        except ValueError:
            raise ValueError(f"'{part}' is not MODE=SHARE") from None
        if mode not in MODES:
            raise ValueError(f"no mode '{mode}': expected {' or '.join(MODES)}")
        if not 0 <= shares[mode] < float("inf"):
            raise ValueError(f"a share is 0 or more, not {share}")
    if not any(shares.values()):
        raise ValueError("no share is above 0")
    return shares


def refuse_shared(questions: Sequence[Record], held_out: Sequence[Record]) -> None:
    """InputError if training questions are about a persona (or, where none is named, a history) of the evaluation set,
    or are among it."""
    for what, keys_of in SHARED.items():
        common = sorted(set().union(*map(keys_of, questions)) & set().union(*map(keys_of, held_out)))
        if common:
            more = f" and {len(common) - 1:,} more" if len(common) > 1 else ""
            raise InputError(
                f"the questions to train on share {what} {common[0]}{more} with --eval-set: what is measured there "
                "would have been learnt by heart (see `pmem split`)"
            )


def _personas(qa: Record) -> set[str]:
    return {qa["persona_id"]} - {None}


def _histories(qa: Record) -> set[str]:
    return set() if qa["persona_id"] else {one["id"] for one in qa["histories"].values()}


def _ids(qa: Record) -> set[str]:
    return {qa["id"]}


SHARED = {"persona": _personas, "history": _histories, "question": _ids}
