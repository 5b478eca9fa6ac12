"""Programming problems (HumanEval) and pairs of a buggy and a correct program (QuixBugs) as dialogues."""

import re
from typing import Any, NamedTuple

from pmem.draws import Draw
from pmem.errors import RecordError
from pmem.formats import programs
from pmem.formats.dialogue import Dialogue, Words
from pmem.lists import load

WAYS = {"write": 35, "complete": 25, "debug": 40}
FOLLOW_UPS = {0: 25, 1: 45, 2: 30}
"""Weights of what is asked for, and of how many questions follow."""
LONGEST = 120
"""Characters of a call and its result that are shown."""


class Program(NamedTuple):
    """A function: its name, its code, (call, result) pairs, what it is meant to do, and the language."""

    name: str
    code: str
    checks: list[tuple[str, str]]
    about: str = ""
    language: str = "python"


def problem_dialogue(row: dict[str, Any], draw: Draw) -> Dialogue:
    """{"prompt", "canonical_solution", "entry_point"?, "test"?}: to be written, finished or debugged, as drawn."""
    prompt, solution = row["prompt"].strip("\n"), row["canonical_solution"].rstrip()
    defined = re.findall(r"^def (\w+)", prompt, re.MULTILINE)
    name = str(row.get("entry_point") or (defined[-1] if defined else ""))
    if not name or programs.parsed(f"{prompt}\n{solution}") is None:
        message = "expected Python: the beginning of a function, and its body in canonical_solution"
        raise RecordError(message, reason="schema", pointer="/prompt")
    program = Program(name, f"{prompt}\n{solution}", _short(programs.checks(str(row.get("test")), name)))
    said = Dialogue(Words(load("filler")["code"], draw))
    body = solution.splitlines()
    buggy = programs.with_bug(program.code, draw, after_line=len(prompt.splitlines()))
    can = {"write": True, "complete": len(body) > 2, "debug": buggy is not None}
    way = draw.weighted({name: weight for name, weight in WAYS.items() if can[name]})
    if way == "debug":
        assert buggy
        _debug(said, buggy, program, draw)
    elif way == "complete":
        cut = draw.between(1, len(body) - 1)
        begun = "\n".join([prompt, *body[:cut]])
        rest = _fenced("\n".join(body[cut:]))
        said.turn(
            said.words.say("complete", {"code": _fenced(begun)}),
            said.words.say("completed", {"rest": rest, "code": _fenced(program.code)}),
        )
    else:
        said.turn(
            said.words.say("write", {"code": _fenced(prompt)}),
            said.words.say("written", {"code": _fenced(program.code)}),
        )
    _follow_ups(said, program, buggy if way == "debug" else None, draw)
    return said


def pair_dialogue(row: dict[str, Any], draw: Draw) -> Dialogue:
    """{"buggy", "correct", "name"?, "language"?, "testcases"?}: the bug is found and put right."""
    buggy, about = programs.plain(row["buggy"])
    correct, _ = programs.plain(row["correct"])
    if not programs.changes(buggy, correct):
        raise RecordError(
            "the two programs differ in comments at most: there is no bug to find", reason="schema", pointer="/correct"
        )
    name = str(row.get("name") or "")
    language = str(row.get("language") or "python")
    program = Program(name, correct, _cases(row.get("testcases"), name), _about(about, name), language)
    said = Dialogue(Words(load("filler")["code"], draw))
    _debug(said, buggy, program, draw)
    _follow_ups(said, program, buggy, draw)
    return said


def _cases(cases: Any, name: str) -> list[tuple[str, str]]:
    """[arguments, result] pairs as calls."""
    found = []
    for case in cases if isinstance(cases, list) and name else ():
        if isinstance(case, list) and len(case) == 2 and isinstance(case[0], list):
            found.append((f"{name}({', '.join(map(repr, case[0]))})", repr(case[1])))
    return _short(found)


def _short(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        (call, result) for call, result in pairs if len(call) + len(result) <= LONGEST and "\n" not in call + result
    ]


def _about(text: str, name: str) -> str:
    """A description without the function's name as its title and without runs of blank lines."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    lines = [line for line in lines if line != name]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _fenced(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}\n```"


def _debug(said: Dialogue, buggy: str, program: Program, draw: Draw) -> None:
    about = said.words.say("about", {"text": _fenced(program.about, "text")}) if program.about else ""
    example = ""
    if program.checks:
        call, value = draw.pick(program.checks)
        example = said.words.say("example", {"call": call, "value": value})
    ask = said.words.say("debug", {"code": _fenced(buggy, program.language), "about": about, "example": example})
    why = " ".join(_why(change, said.words) for change in programs.changes(buggy, program.code))
    said.turn(ask, said.words.say("fixed", {"why": why, "code": _fenced(program.code, program.language)}))


def _why(change: programs.Change, words: Words) -> str:
    if change.old is None:
        return words.say("added", {"n": change.n, "new": change.new})
    if change.new is None:
        return words.say("removed", {"n": change.n, "old": change.old})
    told = words.say("replaced", change._asdict())
    old, new = (re.findall(r"\w+|[^\w\s()\[\],]+|\S", line) for line in (change.old, change.new))
    different = [(a, b) for a, b in zip(old, new, strict=False) if a != b]
    if len(old) == len(new) and len(different) == 1:
        told += words.say("tokens", dict(zip(("old", "new"), different[0], strict=True)))
    return told


def _follow_ups(said: Dialogue, program: Program, buggy: str | None, draw: Draw) -> None:
    python = program.language == "python"
    facts: dict[str, Any] = {"arguments": programs.arguments(program.code, program.name) if python else ""}
    about = ["arguments"] if facts["arguments"] else []
    if python:
        about.append("imports")
        facts["imports"] = _imports(programs.imports(program.code))
    if buggy is not None:
        about.append("change")
        facts["diff"] = _fenced(programs.difference(buggy, program.code), "diff")
    if program.checks:
        about += ["tests", "call"]
        call, value = draw.pick(program.checks)
        shown = draw.sample(program.checks, 4)
        tests = "\n".join(f"assert {one} == {result}" for one, result in shown)
        facts |= {"call": call, "value": value, "tests": _fenced(tests)}
    for name in draw.sample(about, draw.weighted(FOLLOW_UPS)):
        said.exchange(name, facts)
    said.maybe_thanks(draw)


def _imports(modules: list[str]) -> str:
    foreign = [f"`{one}`" for one in modules if not programs.comes_with_python(one)]
    if foreign:
        return f"Yes: {', '.join(foreign)}."
    if modules:
        return f"No. It imports {', '.join(f'`{one}`' for one in modules)}, which Python brings along."
    return "No, it imports nothing."
