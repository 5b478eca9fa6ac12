"""The six checks of a question (SYSTEM, section 3), each by several votes. `verdicts.py` decides by them."""

from typing import Any, NamedTuple

from pmem.backends.model import Model, NoValidReply
from pmem.choices import LETTERS
from pmem.dataset import wording
from pmem.dataset.verdicts import BLIND_TRIES, CHECKS, LENGTH_RULE
from pmem.prompts import Prompts, describe
from pmem.prompts.replies import VERDICT, choice, user
from pmem.stream.made import together

NEEDS = {
    "own": ("preference",),
    "updated": ("preference", "previous"),
    "forgotten": ("preference",),
    "other": ("preference",),
    "sensitive": ("secret",),
}
"""Case -> what a judge is told of."""


class Setup(NamedTuple):
    """What a run judges with."""

    model: Model
    prompts: Prompts
    votes: int
    longest: float = wording.LONGEST
    shortest: float = wording.SHORTEST


class Ballot(NamedTuple):
    """One vote to be cast: the check, its number, the prompt, and which option it is about, where it is one."""

    check: str
    n: int
    prompt: str
    option: str | None = None


async def judged(qa: dict[str, Any], setup: Setup) -> dict[str, Any]:
    """The question with its votes; votes of earlier judging are replaced."""
    votes = await cast(qa, CHECKS, setup)
    return {**qa, "votes": [*votes, _length_vote(qa, setup)]}


async def cast(qa: dict[str, Any], checks: tuple[str, ...], setup: Setup) -> list[dict[str, Any]]:
    """The model's votes on some checks."""
    votes = [_blind_vote(qa, turn, order, setup) for turn, order in enumerate(_blind(qa)) if "blind" in checks]
    votes += [_vote(qa, ballot, setup) for ballot in _others(qa, checks, setup)]
    return await together(votes)


def _blind(qa: dict[str, Any]) -> list[list[int]]:
    """Orders of the options for the blind tries: a rotation each, so that the right one stands once everywhere."""
    count = len(qa["options"])
    return [[(place + turn) % count for place in range(count)] for turn in range(BLIND_TRIES)]


async def _blind_vote(qa: dict[str, Any], turn: int, order: list[int], setup: Setup) -> dict[str, Any]:
    shown = describe.options([qa["options"][place] for place in order])
    prompt = setup.prompts.render("judge/blind", query=qa["query"], options=shown)
    call = f"judge/{qa['id']}/blind"
    try:
        reply = await setup.model.chat(user(prompt), call=call, n=turn, schema=choice(len(order)))
    except NoValidReply as fault:
        return _ballot_paper("blind", turn, setup, "unclear", None, fault.message)
    chosen = LETTERS[order[LETTERS.index(reply.parsed["choice"])]]
    verdict = "fail" if chosen == qa["gold"] else "pass"
    return _ballot_paper("blind", turn, setup, verdict, chosen, reply.parsed["reason"])


def _others(qa: dict[str, Any], checks: tuple[str, ...], setup: Setup) -> list[Ballot]:
    facts, rule = describe.facts(qa), describe.rule(qa, setup.prompts)
    shown = describe.options(qa["options"])
    fields = {"query": qa["query"], "facts": facts, "rule": rule, "options": shown, "answer": qa["answer"]}
    fields["knowledge"] = describe.knowledge(qa)
    ballots = []
    for check in (one for one in checks if one != "blind"):
        about = [letter for letter in LETTERS[: len(qa["options"])] if letter != qa["gold"]]
        for option in about if check == "distractors" else [None]:
            text = qa["options"][LETTERS.index(option)] if option else ""
            prompt = setup.prompts.render(f"judge/{check}", option=text, **fields)
            ballots += [Ballot(check, n, prompt, option) for n in range(setup.votes)]
    return ballots


async def _vote(qa: dict[str, Any], ballot: Ballot, setup: Setup) -> dict[str, Any]:
    call = f"judge/{qa['id']}/{ballot.check}" + (f"-{ballot.option}" if ballot.option else "")
    try:
        reply = await setup.model.chat(user(ballot.prompt), call=call, n=ballot.n, step=ballot.check, schema=VERDICT)
    except NoValidReply as fault:
        return _ballot_paper(ballot.check, ballot.n, setup, "unclear", ballot.option, fault.message)
    return _ballot_paper(ballot.check, ballot.n, setup, reply.parsed["verdict"], ballot.option, reply.parsed["reason"])


def _ballot_paper(check: str, n: int, setup: Setup, verdict: str, choice: str | None, reason: str) -> dict[str, Any]:
    return {"check": check, "n": n, "judge": setup.model.name, "verdict": verdict, "choice": choice, "reason": reason}


def _length_vote(qa: dict[str, Any], setup: Setup) -> dict[str, Any]:
    """A vote by a rule, not a model: does the right option's length give it away?"""
    wrong = list(qa["options"])
    right = wrong.pop(LETTERS.index(qa["gold"]))
    tells = wording.length_tells(right, wrong, longest=setup.longest, shortest=setup.shortest)
    verdict, reason = "fail" if tells else "pass", wording.lengths_in_words(right, wrong)
    return {"check": "form", "n": 0, "judge": LENGTH_RULE, "verdict": verdict, "choice": None, "reason": reason}
