"""Imports go down only; start-up imports nothing heavy; help says what the commands say."""

import ast
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pmem.cli import COMMANDS, main

PACKAGE = Path(__file__).parent.parent / "pmem"
LEVELS = (
    ("__main__",),
    ("cli",),
    ("stages",),
    ("reinforcement",),
    ("elsewhere",),
    ("engines",),
    ("training",),
    ("models", "shown"),
    ("train",),
    ("audit", "cluster", "dataset", "evaluation", "formats", "report"),
    ("reward", "memory"),
    ("backends", "prompts", "stream", "lists"),
    (
        "check",
        "children",
        "choices",
        "columns",
        "draws",
        "tokens",
        "fakes",
        "demographics",
        "errors",
        "images",
        "private",
        "records",
        "turns",
    ),
)
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
HEAVY = (
    "torch",
    "transformers",
    "vllm",
    "verl",
    "ray",
    "openai",
    "peft",
    "matplotlib",
    "sklearn",
    "statsmodels",
    "aiohttp",
    "jsonschema",
    "asyncio",
    "tqdm",
    "phonenumbers",
    "stdnum",
    "numpy",
    "scipy",
    "sklearn",
    "statsmodels",
)
CLICK = {
    "errors",
    "stream",
    "cluster",
    "models",
    "shown",
    "training",
    "elsewhere",
    "engines",
    "reinforcement",
    "stages",
    "cli",
    "report",
    "backends",
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it, by their full names."""
    found = set()
    package = ("pmem", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            found |= {f"{name}.{alias.name}" for alias in node.names} if name == "pmem" else {name}
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def test_every_room_has_a_level() -> None:
    assert {room_of(path) for path in FILES} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = room_of(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "pmem" or len(parts) == 1 or parts[1] == "__version__":
            continue
        other = parts[1]
        if other == own:
            assert own != "stages", f"a stage imports a stage: {name}"
        elif LEVEL[own] == len(LEVELS) - 1:  # single files at the bottom lean on each other, without a circle
            assert LEVEL[other] == LEVEL[own]
        else:
            assert LEVEL[other] > LEVEL[own], f"{own} imports {name}"


def test_the_memory_knows_no_backend() -> None:
    """The same loop runs in commands and in training."""
    for path in (PACKAGE / "memory").glob("*.py"):
        assert not {name for name in imported(path) if name.startswith(("pmem.backends", "pmem.stream", "torch"))}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_click_stays_where_people_are_spoken_to(path: Path) -> None:
    if "click" in imported(path):
        assert room_of(path) in CLICK


@pytest.mark.parametrize("arguments", [["--help"], ["filter"], ["validate"]], ids=" ".join)
def test_start_up_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print(*({set(HEAVY)!r} & set(sys.modules)), file=sys.stderr))\n"
        f"from pmem.cli import main; main({arguments!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_complete_and_true(name: str) -> None:
    command = main.get_command(click.Context(main), name)  # type: ignore[attr-defined]
    assert command.help.splitlines()[0] == COMMANDS[name]
    assert "Example" in command.epilog
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, option.name


@pytest.mark.parametrize("title", ["import", "export"])
def test_help_of_formats_is_complete_and_true(title: str) -> None:
    group = main.get_command(click.Context(main), title)  # type: ignore[attr-defined]
    for name, member in group.members.items():
        command = group.get_command(click.Context(group), name)
        assert command.help.splitlines()[0] == member.help
        assert "Example" in command.epilog
        assert all(option.help for option in command.params if isinstance(option, click.Option))
