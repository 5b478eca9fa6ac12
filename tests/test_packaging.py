"""The wheel: what is in it, that it works by itself, and that a missing extra is said in one line."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout and unpacked where nothing of the checkout is near."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def pmem(unpacked: Path, code: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run Python code with the unpacked wheel in front of everything, far from the checkout."""
    env = {**os.environ, "PYTHONPATH": str(unpacked), "HOME": str(unpacked)}
    return subprocess.run([sys.executable, "-c", code], input=stdin, cwd=unpacked, env=env, capture_output=True)


RUN = "import sys; from pmem.cli import main; main({!r}, prog_name='pmem')"


def test_the_wheel_holds_what_is_needed_and_nothing_else(unpacked: Path) -> None:
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    schemas = {path.name for path in (ROOT / "schemas").iterdir()}
    assert {f"pmem/schemas/{name}" for name in schemas} <= names
    for needed in (
        "pmem/prompts/qa/query.txt",
        "pmem/lists/topics.toml",
        "pmem/demo/recorded.jsonl",
        "pmem/py.typed",
        "pmem/report/paper.toml",
        "pmem/report/base.css",
        "pmem/report/page/page.js",
        "pmem/report/timeline/page.js",
        "pmem/formats/lm_eval_task/task.yaml.txt",
    ):
        assert needed in names
    assert {name.split("/")[0] for name in names} == {"pmem", "pmem-0.1.0.dist-info"}


def test_schemas_are_found_inside_the_wheel(unpacked: Path) -> None:
    done = pmem(unpacked, "import pmem.check; print(pmem.check.schema_dir())")
    assert done.stdout.decode().strip() == str(unpacked / "pmem" / "schemas")


def test_commands_work_from_the_wheel(unpacked: Path) -> None:
    record = (ROOT / "tests" / "records").glob("qa*.json")
    line = b"".join(path.read_bytes().replace(b"\n", b" ") + b"\n" for path in record)
    assert b"Commands:" in pmem(unpacked, RUN.format(["--help"])).stdout
    assert b"0.1.0" in pmem(unpacked, RUN.format(["--version"])).stdout
    assert pmem(unpacked, RUN.format(["validate"]), line).returncode == 0
    assert pmem(unpacked, RUN.format(["filter"]), line).returncode == 0


def test_nothing_heavy_is_imported(unpacked: Path) -> None:
    heavy = "{'torch', 'transformers', 'openai', 'aiohttp', 'jsonschema', 'asyncio', 'tqdm', 'vllm', 'ray', 'verl'}"
    code = "\n".join(
        [
            "import sys, atexit",
            f"atexit.register(lambda: print(sorted({heavy} & set(sys.modules)), file=sys.stderr))",
            RUN.format(["filter"]),
        ]
    )
    assert pmem(unpacked, code).stderr.decode().strip().splitlines()[-1] == "[]"


def test_a_missing_extra_is_one_line(unpacked: Path) -> None:
    """An environment without torch is played by making its import fail."""
    blocked = "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None; "
    question = next((ROOT / "tests" / "records").glob("qa*.json")).read_bytes().replace(b"\n", b" ") + b"\n"
    command = ["eval", "-m", "local:smollm2", "--context", "none", "--no-cache", "-q"]
    done = pmem(unpacked, blocked + RUN.format(command), question)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "pmem: local models needs the extra 'local', which is not installed: pip install 'pmem[local]'"
    ]
