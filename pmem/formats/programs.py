"""Python programs as text: without comments, the difference of two, a bug put in, what a function takes and needs."""

import ast
import difflib
import io
import sys
import token
import tokenize
import warnings
from typing import NamedTuple

from pmem.draws import Draw

BUGS = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "+": "-",
    "-": "+",
    "and": "or",
    "or": "and",
    "True": "False",
    "False": "True",
}
"""What a bug makes of an operator or constant."""


class Change(NamedTuple):
    """A difference: the number (from 1) of the old line, or of the one before a new line; None: no such line."""

    n: int
    old: str | None
    new: str | None


def parsed(code: str) -> ast.Module | None:
    """The syntax tree; None where the code isn't Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def tokens_of(code: str) -> list[tokenize.TokenInfo]:
    """The tokens; none where the code isn't Python."""
    try:
        return list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError):
        return []


def plain(code: str) -> tuple[str, str]:
    """A Python module without comments and texts that stand by themselves, and the first such text; else as it is."""
    tree = parsed(code)
    if tree is None:
        return code.strip("\n"), ""
    lines: list[str | None] = list(code.splitlines())
    texts = []
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            texts.append(node.value.value)
            lines[node.lineno - 1 : node.end_lineno] = [None] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    for one in tokens_of(code):
        line = lines[one.start[0] - 1] if one.type == token.COMMENT else None
        if line is not None:
            lines[one.start[0] - 1] = line[: one.start[1]].rstrip() or None
    kept = "\n".join(line.rstrip() for line in lines if line is not None)
    return kept.strip("\n"), texts[0] if texts else ""


def changes(old: str, new: str) -> list[Change]:
    """What has to be done to the old lines; blank lines and spaces at the ends don't count."""
    before = [(n, line.rstrip()) for n, line in enumerate(old.splitlines(), 1) if line.strip()]
    after = [line.rstrip() for line in new.splitlines() if line.strip()]
    found = []
    matcher = difflib.SequenceMatcher(None, [line for _, line in before], after, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            continue
        for place in range(max(b - a, d - c)):
            n, was = before[a + place] if a + place < b else (before[max(a, b) - 1][0] if b else 0, None)
            found.append(Change(n, was and was.strip(), after[c + place].strip() if c + place < d else None))
    return found


def difference(old: str, new: str) -> str:
    """The lines that differ as a diff without its head."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def with_bug(code: str, draw: Draw, *, after_line: int) -> str | None:
    """The code with one operator or constant exchanged, below a line; None if there is nothing to exchange."""
    places = [one for one in tokens_of(code) if one.string in BUGS and one.start[0] > after_line]
    if not places:
        return None
    one = draw.pick(places)
    lines = code.splitlines()
    line = lines[one.start[0] - 1]
    lines[one.start[0] - 1] = line[: one.start[1]] + BUGS[one.string] + line[one.end[1] :]
    made = "\n".join(lines)
    return made if parsed(made) else None


def arguments(code: str, name: str) -> str:
    """`a: int` and `b`: the arguments of a function as they are declared; "" if it has none or isn't there."""
    tree = parsed(code)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.FunctionDef) and node.name == name:
            declared = [f"`{ast.unparse(one)}`" for one in node.args.args]
            return " and ".join(part for part in (", ".join(declared[:-1]), *declared[-1:]) if part)
    return ""


def imports(code: str) -> list[str]:
    """The modules that it imports, in alphabetical order."""
    tree = parsed(code)
    found = set()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return sorted(found)


def comes_with_python(module: str) -> bool:
    """Whether it is part of the standard library."""
    return module in sys.stdlib_module_names


def checks(test: str, name: str) -> list[tuple[str, str]]:
    """(call, result) of each `assert candidate(...) == result` in a test, with the function's name put in."""
    tree = parsed(test)
    found = []
    for node in ast.walk(tree) if tree else ():
        match node:
            case ast.Assert(test=ast.Compare(left=ast.Call(func=ast.Name(id="candidate")) as call, ops=[ast.Eq()])):
                call.func = ast.Name(name)
                found.append((ast.unparse(call), ast.unparse(node.test.comparators[0])))  # type: ignore[attr-defined]
    return found
