"""What commands that train have in common: their options, and a run opened by them."""

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import orjson

from pmem.draws import fingerprint as fingerprint_of
from pmem.models import POSITIVE, Finite
from pmem.prompts import Prompts
from pmem.reward.rewards import Rewards
from pmem.shown import CONTEXTS, open_scenes, reply_form_option, shown_options
from pmem.stream.options import INPUT, Command, bundle
from pmem.stream.pipe import Pipe
from pmem.stream.progress import counted
from pmem.stream.source import records
from pmem.train.questions import Ask, Asking, Questions, mix_of, refuse_shared

if TYPE_CHECKING:
    from pmem.train.answers import Answers
    from pmem.train.grpo import Held, Reference
    from pmem.train.policy import Policy
    from pmem.train.rollout import Sampler
    from pmem.train.run import Clock, Run

    Measure = Callable[[list[Ask]], Awaitable[dict[str, float]]]

Record = dict[str, Any]
REPLY = 512
"""Most tokens of a reply if nothing is said."""
COUNT = click.IntRange(min=1)
_SHOWN = ("histories", "memories", "top_k", "with_system", "truncate", "tokenizer", "images", "images_as_text")


class Mix(click.ParamType[Any]):
    """Shares of modes: "mcq=0.8,open=0.2"."""

    name = "shares"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, dict):
            return value
        try:
            return mix_of(value)
        except ValueError as fault:
            self.fail(f"{fault}.", param, ctx)


def training_options(
    *, steps: int | None, batch: int, rate: float, schedule: str, mix: str
) -> Callable[[Command], Command]:
    """Options of how long, how fast and on what a model is trained, with a command's defaults."""
    return bundle(
        click.option("--context", type=click.Choice(CONTEXTS), default="full", show_default=True,
                     help="What the model sees before the question."),
        click.option("--window", help="Which of a question's histories to show (default: the smallest)."),
        shown_options,
        reply_form_option,
        click.option("--mix", type=Mix(), default=mix, show_default=True, metavar="MODE=SHARE,...",
                     help="Shares of multiple-choice (mcq) and open-ended (open) questions."),
        click.option("--steps", type=COUNT, default=steps, show_default=steps is not None,
                     help="Steps to take." if steps else "Steps to take (default: one epoch)."),
        click.option("--batch-size", type=COUNT, default=batch, show_default=True,
                     help="Questions in a step."),
        click.option("--learning-rate", type=POSITIVE, default=rate, show_default=True, help="Its peak."),
        click.option("--schedule", type=click.Choice(["cosine", "constant"]), default=schedule, show_default=True,
                     help="Of the learning rate after the warm-up."),
        click.option("--warmup", type=click.FloatRange(0, 1), default=0.05, show_default=True,
                     help="Share of the steps over which the learning rate rises."),
        click.option("--weight-decay", type=Finite(min=0), default=0.01, show_default=True, help="AdamW's."),
        click.option("--clip-norm", type=POSITIVE, default=1.0, show_default=True,
                     help="Gradients are scaled down to this norm."),
        click.option("--tokens-at-once", type=COUNT, default=16_384, show_default=True,
                     help="Computed at once, padding included; gradients of parts add up."),
        click.option("--checkpointing", is_flag=True, help="Keep fewer activations, and compute them twice."),
        click.option("--lora", type=click.IntRange(min=0), default=0, show_default=True, metavar="RANK",
                     help="Train adapters of this rank instead of all weights (extra 'train'; 0: all weights)."),
        click.option("--save-every", type=click.IntRange(min=0), default=50, show_default=True,
                     help="Steps between checkpoints, from which the same command goes on (0: none)."),
        click.option("--eval-set", type=INPUT, help="Questions on other personas, to measure accuracy on meanwhile."),
        click.option("--eval-every", type=click.IntRange(min=0), default=0, show_default=True,
                     help="Steps between measurements on --eval-set, from before the first (0: at the end)."),
        click.option("--eval-limit", type=COUNT, default=200, show_default=True,
                     help="Most questions of --eval-set to ask."),
    )  # fmt: skip


sampling_options = bundle(
    click.option("-m", "--model", required=True, metavar="local:NAME", help="Model to begin with: local:NAME-or-path."),
    click.option("--max-tokens", type=click.IntRange(1, 2**31), help="Limit of replies to --eval-set."),
    click.option("--thinking/--no-thinking", default=None,
                 help="Whether the model reasons first, where its chat template has that switch."),
    click.option("--context-length", type=COUNT, help="Most tokens of prompt and reply together, for --truncate."),
    click.option("--dtype", type=click.Choice(["float32", "bfloat16"]),
                 help="What is computed in (default: float32 on a CPU, bfloat16 on a GPU); weights are float32."),
    click.option("--prompts", type=click.Path(exists=True, file_okay=False),
                 help="Folder with prompts that replace pmem's own of the same name."),
)  # fmt: skip


class Opened(NamedTuple):
    """A run that is ready to go."""

    policy: "Policy"
    run: "Run"
    answers: "Answers"
    sampler: Callable[[int], "Sampler"]
    """Makes a sampler of replies, by the limit of their tokens."""
    clock: "Clock"
    reference: Callable[[float], "Reference"]
    """Makes what tells log-probabilities under the model at the start, at a temperature."""


class Training:
    """A training command's run by its options; usage error if they don't go together.

    sampling: the settings of replies; given: all other options by name, which stand in the checkpoints' settings.
    """

    def __init__(self, pipe: Pipe, model: str, prompts: Prompts, seed: int, sampling: Record, given: Record) -> None:
        kind, _, self.name = model.partition(":")
        if kind != "local" or not self.name:
            raise click.UsageError(f"no model '{model}' to train: expected local:NAME-or-path")
        if sampling["dtype"] == "float16":
            raise click.UsageError("--dtype float16 is too coarse for training: choose float32 or bfloat16")
        self._vllm = given.get("rollouts") == "vllm"
        if self._vllm and given["lora"]:
            raise click.UsageError("--lora is for --rollouts local")
        self.pipe, self.prompts, self.seed, self.sampling, self.given = pipe, prompts, seed, sampling, given
        self.limit: int = sampling["max_tokens"] or REPLY
        self.folder, pipe.output = pipe.output or "", None  # what goes to stdout are metrics
        shown = {name: given[name] for name in _SHOWN}
        length = sampling["context_length"]
        scenes = open_scenes(pipe, prompts, (given["context"],), context_length=length, reply=self.limit, **shown)
        window, form = given["window"], given["reply_form"]
        self.asking = Asking(scenes, prompts, given["context"], window, form, sampling["thinking"])

    def questions(self, records: list[Record]) -> Questions:
        """The questions to train on. InputError: there is none, or they share personas with --eval-set."""
        refuse_shared(records, self._held_out)
        found = Questions(records, self.given["mix"], self.seed)
        if found.left_out:
            self.pipe.notes.append(lambda: f"{counted(found.left_out, 'question')} without options left out")
        return found

    @cached_property
    def _held_out(self) -> list[Record]:
        return list(records((self.given["eval_set"],), "qa")) if self.given["eval_set"] else []

    def open(self, questions: list[Record], steps: int, rewards: Rewards, *, n: int, temperature: float) -> Opened:
        """Load the model, find the checkpoints. n, temperature: of rollouts."""
        from pmem.backends.local_model import fingerprint, require_extra

        require_extra()
        if self._vllm:
            from pmem.backends import vllm

            vllm.require_extra("--rollouts vllm")
        from pmem.train.answers import Answers
        from pmem.train.checkpoints import Checkpoints
        from pmem.train.policy import Setup, opened
        from pmem.train.run import Clock, Pace, Run

        given, settings = self.given, {name: self.given[name] for name in Setup._fields if name in self.given}
        settings |= {"steps": steps, "dtype": self.sampling["dtype"], "seed": self.seed}
        told = {**self.sampling, **given, **settings, "model": fingerprint(self.name)[:16]}
        told["questions"] = fingerprint_of([questions, self._held_out])
        checkpoints = Checkpoints(self.folder, orjson.loads(orjson.dumps(told)))
        self.pipe.attached.append(checkpoints)
        run = Run(self.pipe.stage, Pace(steps, given["save_every"], given["eval_every"]), checkpoints,
                  self.pipe.tell, self.pipe.bar.measure)  # fmt: skip
        policy, clock = opened(self.name, Setup(**settings)), Clock()
        sampler = self._sampler(policy, temperature)
        answers = Answers(sampler(self.limit), self.asking, rewards, policy.loaded.tokenizer, n=n, seed=self.seed,
                          clock=clock)  # fmt: skip
        self.pipe.notes.append(lambda: f"{run.told()}; {clock.told()}")

        def reference(temperature: float) -> "Reference":
            if policy.adapters:
                return lambda conversations: policy.at_start(conversations, temperature)
            start = opened(self.name, Setup(**settings))
            return lambda conversations: start.frozen(conversations, temperature)

        return Opened(policy, run, answers, sampler, clock, reference)

    def _sampler(self, policy: "Policy", temperature: float) -> Callable[[int], "Sampler"]:
        if not self._vllm:
            from pmem.train.rollout import Sampler

            return lambda limit: Sampler(policy, limit=limit, temperature=temperature)
        from pmem.train.vllm_rollout import PolicyEngine, VLLMSampler

        engine = PolicyEngine(policy, self.name, self.sampling["context_length"])
        self.pipe.attached.append(engine)
        return lambda limit: VLLMSampler(engine, limit=limit, temperature=temperature)

    def held_out(self) -> list[Ask]:
        """The questions of --eval-set that are asked meanwhile."""
        return [Ask(qa, "mcq") for qa in self._held_out if qa["options"] and qa["gold"]][: self.given["eval_limit"]]

    def measuring(self, ask: "Measure", clock: "Clock") -> "Held | None":
        """Measures the policy on --eval-set by asking its questions, if there is one."""
        asks = self.held_out()

        async def held_out() -> dict[str, float]:
            with clock("evaluation"):
                return await ask(asks)

        return held_out if asks else None


def size_of(ask: Ask) -> int:
    """Tokens of a question's history, as far as its record tells: the longest is tried before the first step."""
    places = ask.qa["histories"].values()
    return max(((one["relevant_tokens"] or 0) + (one["filler_tokens"] or 0) for one in places), default=0)
