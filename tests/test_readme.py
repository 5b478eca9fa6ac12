"""The README's examples: every console block gives what it shows; every sh block runs, against the stub server."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ana import ana
from tests.chat_exports import chatgpt_zip
from tests.stub import running

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SETUP = ("quickstart.sh", "test.sh", "dataset.sh", "git clone", "pip install")


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall(README) if found == kind]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a checkout's demo files, and an export of chats."""
    (tmp_path / "pmem").mkdir()
    shutil.copytree(ROOT / "pmem" / "demo", tmp_path / "pmem" / "demo")
    (tmp_path / "export.zip").write_bytes(chatgpt_zip(ana()))
    return tmp_path


def run(command: str, folder: Path, url: str = "") -> subprocess.CompletedProcess[str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("PMEM_", "OPENAI_", "XDG_"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    own = {"PATH": path, "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "100"}
    server = {"OPENAI_API_KEY": "sk-readme", "OPENAI_BASE_URL": url} if url else {}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env={**keep, **own, **server}, capture_output=True, text=True, timeout=120
    )


def plain(text: str) -> str:
    return re.sub(r"\d+\.\d s\b", "T s", text).strip()


@pytest.mark.parametrize("block", blocks("console"), ids=lambda block: block.splitlines()[0][2:50])
def test_console_blocks_show_what_comes_out(block: str, here: Path) -> None:
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    assert parts
    for part in parts:
        lines = part.splitlines()
        count = next(n for n, line in enumerate(lines, 1) if not line.endswith("\\"))
        done = run("\n".join(lines[:count]), here)
        assert plain(done.stdout + done.stderr) == plain("\n".join(lines[count:]))


@pytest.mark.parametrize("block", [b for b in blocks("sh") if not any(word in b for word in SETUP)])
def test_sh_blocks_run(block: str, here: Path) -> None:
    with running(reply=ROOT / "tests" / "stub_author.py") as stub:
        done = run("set -euo pipefail\n" + block, here, stub.url)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_is_in_the_readme() -> None:
    from pmem.cli import COMMANDS

    assert [name for name in COMMANDS if f"`{name}`" not in README] == []
