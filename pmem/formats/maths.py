"""A maths problem with a worked answer (GSM8K) as a dialogue in which nothing is said but what the answer holds."""

import ast
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from pmem.draws import Draw
from pmem.errors import RecordError
from pmem.formats.dialogue import Dialogue, Words
from pmem.lists import load

ANNOTATION = re.compile(r"<<([^<>=]*)=([^<>]*)>>")
"""GSM8K's notes for a calculator: `<<48/2=24>>`."""
CALCULATION = re.compile(r"[\d.+\-*/() ]{1,80}(?<=\d)[+\-*/ ()]+[\d.+\-*/() ]{1,80}")
WAYS = {"whole": 55, "portions": 25, "attempt": 20}
STYLES = {"numbered": 1, "bold": 1, "lines": 1}
FOLLOW_UPS = {0: 10, 1: 40, 2: 35, 3: 15}
"""Weights of how the answer is asked for, of how its steps are set, and of how many questions follow."""
OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class Step(NamedTuple):
    """A line of a worked answer: its place from 1, its text, and a calculation in it that is right, if there is one."""

    n: int
    text: str
    sum: str
    value: str


class Problem(NamedTuple):
    """A question, the steps to its answer, the answer."""

    question: str
    steps: list[Step]
    answer: str


def problem(row: dict[str, Any]) -> Problem:
    """The problem of a row {"question", "answer"}; RecordError if the answer doesn't end with `#### result`."""
    worked, mark, answer = row["answer"].rpartition("####")
    lines = [line.rpartition(" ** ")[2].strip() for line in worked.splitlines() if line.strip()]
    if not mark or not answer.strip() or not lines:
        message = "expected lines of a solution and, last, '#### ' with the result"
        raise RecordError(message, reason="schema", pointer="/answer")
    steps = [_step(n, line) for n, line in enumerate(lines, 1)]
    return Problem(row["question"].strip(), steps, answer.strip())


def _step(n: int, line: str) -> Step:
    text = ANNOTATION.sub("", line).strip()
    text = text if text.endswith((".", "!", "?", ":")) else f"{text}."
    for expression, value in ANNOTATION.findall(line):
        if CALCULATION.fullmatch(expression) and _is_right(expression, value):
            return Step(n, text, f"{expression.strip()} = {value.strip()}", value.strip())
    return Step(n, text, "", "")


def _is_right(expression: str, value: str) -> bool:
    """Whether a calculation gives the value that is noted, to two decimals."""
    try:
        found = _value(ast.parse(expression.strip(), mode="eval").body)
        return abs(found - float(value)) < 0.005
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return False


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=kind, right=right) if type(kind) in OPERATORS:
            return OPERATORS[type(kind)](_value(left), _value(right))
    raise ValueError("not plain arithmetic")


def dialogue(row: dict[str, Any], draw: Draw) -> Dialogue:
    """The row's problem as a drawn dialogue: whole, in portions, or with a wrong number in it; then follow-ups."""
    told = problem(row)
    said = Dialogue(Words(load("filler")["maths"], draw))
    style = draw.weighted(STYLES)
    sums = [step for step in told.steps if step.sum]
    way = draw.weighted({name: weight for name, weight in WAYS.items() if name != "attempt" or sums})
    if way == "portions" and len(told.steps) > 1:
        style = "lines"
        _portions(said, told, draw)
    elif way == "attempt":
        step = draw.pick(sums)
        facts = {**_facts(step, told, draw), "question": told.question}
        begin = said.words.say("correct", facts)
        said.turn(said.words.say("attempt", facts), _solution(said.words, told, begin, style))
    else:
        begin = said.words.say("begin", {})
        said.turn(said.words.say("whole", {"question": told.question}), _solution(said.words, told, begin, style))
    _follow_ups(said, told, style, draw)
    return said


def _portions(said: Dialogue, told: Problem, draw: Draw) -> None:
    cuts = sorted(draw.sample(range(1, len(told.steps)), draw.between(1, min(3, len(told.steps) - 1))))
    for start, end in zip([0, *cuts], [*cuts, len(told.steps)], strict=True):
        ask = said.words.say("next" if start else "portion", {"question": told.question})
        reply = " ".join(step.text for step in told.steps[start:end])
        last = end == len(told.steps)
        said.turn(ask, f"{reply} {said.words.say('end', {'answer': told.answer})}" if last else reply)


def _solution(words: Words, told: Problem, begin: str, style: str) -> str:
    lines = {
        "numbered": [f"{step.n}. {step.text}" for step in told.steps],
        "bold": [f"**Step {step.n}.** {step.text}" for step in told.steps],
        "lines": [step.text for step in told.steps],
    }[style]
    body = ("\n" if style == "numbered" else "\n\n").join(lines)
    return "\n\n".join(part for part in (begin, body, words.say("end", {"answer": told.answer})) if part)


def _follow_ups(said: Dialogue, told: Problem, style: str, draw: Draw) -> None:
    sums = [step for step in told.steps if step.sum]
    about = ["paragraph", "final"]
    about += ["where", "sums", "table"] if sums else []
    about += ["check", "mistake"] if sums and style != "lines" else []  # these speak of steps by their numbers
    facts: dict[str, Any] = {
        "answer": told.answer,
        "paragraph": " ".join(step.text for step in told.steps),
        "sums": "\n".join(step.sum for step in sums),
        "table": "\n".join(["| step | calculation |", "|---|---|", *(f"| {step.n} | {step.sum} |" for step in sums)]),
    }
    for name in draw.sample(about, draw.weighted(FOLLOW_UPS)):
        said.exchange(name, {**facts, **(_facts(draw.pick(sums), told, draw) if sums else {})})
    said.maybe_thanks(draw)


def _facts(step: Step, told: Problem, draw: Draw) -> dict[str, Any]:
    wrong = _wrong(step.value, told, draw)
    return {"n": step.n, "step": step.text, "sum": step.sum, "value": step.value, "wrong": wrong}


def _wrong(value: str, told: Problem, draw: Draw) -> str:
    """A number near the right one that occurs nowhere in the problem."""
    texts = [told.question, told.answer, *(f"{step.text} {step.sum}" for step in told.steps)]
    taken = set(re.findall(r"\d+(?:\.\d+)?", " ".join(texts).replace(",", "")))
    near = [f"{float(value) + off:.10g}" for off in draw.shuffled([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30])]
    return next((number for number in near if number not in taken), f"{float(value) + 100:.10g}")
