"""shell/paper.sh in small: a stub server as the models and the judge, a tiny model to train; killed and run again."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import orjson
import pytest

pytest.importorskip("transformers")

from tests import likes
from tests.command import Ran, ended, environment, lines, pmem, records, start, wait_for
from tests.preloaded import preloaded
from tests.stub import Stub, running

pytestmark = pytest.mark.local
ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "shell" / "paper.sh"
SMALL = {
    "DATA": "data", "MODELS": "openai:first openai:second", "JUDGE": "openai:judge", "VOTES": "1", "ERRORS": "4",
    "BASE": "tiny", "TEACHER": "openai:teacher", "FORM": "line", "MAX_TOKENS": "8", "SFT_STEPS": "2", "SFT_BATCH": "2",
    "STEPS": "2", "BATCH": "2", "GROUP": "2", "SAVE_EVERY": "1", "VAL_EVERY": "0", "CHUNK_TOKENS": "150",
    "MEMORY_TOKENS": "40", "JOBS": "4", "TRAIN_OPTIONS": "--learning-rate 1e-3",
}  # fmt: skip
TABLES = {f"{what}-{mode}.md" for what in ("models", "training", "mixes") for mode in ("mcq", "open")} | {"errors.md"}
PAGES = {"models.html", "training.html", "memory.html"}
TRAINED = {"sft", "sft-memory", "grpo-mixed", "grpo-mcq", "grpo-open", "memtrain"}


def written(folder: Path) -> None:
    """A data set as of shell/dataset.sh, of histories of about 250 and 400 tokens; and the model to train."""
    histories: list[Any] = []
    (folder / "data" / "splits").mkdir(parents=True)
    for seed, (split, people) in enumerate((("bench", 3), ("train", 4), ("val", 1)), start=1):
        asked = []
        for number in range(people):
            _, questions = likes.persona(number, seed, questions=2)
            for window, size in (("32k", 4), ("128k", 7)):
                own_id = f"h-{size:02x}{seed:02x}{number:012x}"
                history = likes.history_of(own_id, _said(questions[0]["answer"], Random(own_id), chats=size))
                persona = {"persona_id": questions[0]["persona_id"], "user_id": questions[0]["persona_id"]}
                histories.append({**history, **persona, "window": window})
                for qa in questions:
                    qa["histories"] = {**qa["histories"], window: {**qa["histories"]["32k"], "id": own_id}}
            asked += [{**qa, "split": split} for qa in questions]
        (folder / "data" / "splits" / f"{split}.jsonl").write_bytes(lines(asked))
    (folder / "data" / "histories.jsonl").write_bytes(lines(histories))
    likes.model(folder / "tiny", context=2048)


def _said(liked: str, draw: Random, *, chats: int) -> list[str]:
    talk = [" ".join(draw.choices(likes.TALK, k=20)) for _ in range(2 * chats)]
    return [f"like {liked} {talk[0]}", *talk[1:]]


class Script(NamedTuple):
    """The script with a quick pmem on its PATH, and the stub server that it asks if nothing else is said."""

    bin: Path
    stub: Stub

    def start(self, folder: Path, *words: str, stub: Stub | None = None, **settings: str) -> "subprocess.Popen[bytes]":
        """It, in a process group of its own."""
        own = {"OPENAI_BASE_URL": (stub or self.stub).url, "PATH": f"{self.bin}:{environment(folder)['PATH']}"}
        env = {**SMALL, **own, **settings}
        return start("bash", SCRIPT, *words, folder=folder, env=env, stdin=subprocess.DEVNULL, start_new_session=True)

    def run(self, folder: Path, *words: str, stub: Stub | None = None, **settings: str) -> Ran:
        return ended(self.start(folder, *words, stub=stub, **settings), seconds=300)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the cache's."""
    files = (path for path in folder.rglob("*") if path.is_file() and "cache.sqlite" not in path.name)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class Made(NamedTuple):
    """A folder in which the script has run through, and what it said."""

    folder: Path
    said: str


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    with running() as stub, preloaded(tmp_path_factory.mktemp("bin")) as bin:
        yield Script(bin, stub)


@pytest.fixture(scope="module")
def made(script: Script, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one run has gone through without disturbance."""
    folder = tmp_path_factory.mktemp("paper")
    written(folder)
    ran = script.run(folder, "work")
    assert ran.status == 0, ran.err
    assert script.stub.counts()["paid_again"] == 0
    return folder


def test_every_model_is_asked_in_each_window_and_mode(made: Path) -> None:
    results = {path.stem: records(path.read_bytes()) for path in (made / "work" / "results").glob("*l")}
    modes = ("mcq", "open")
    asked = {f"{m}-full-{w}-{mode}" for m in ("first", "second") for w in ("32k", "128k") for mode in modes}
    own = {f"{m}-full-32k-{mode}" for m in ("base", "sft", "grpo-mixed", "grpo-mcq", "grpo-open") for mode in modes}
    own |= {f"{m}-memory-32k-{mode}" for m in ("base", "memtrain") for mode in modes}
    for name in asked | own:
        _, context, window, mode = name.rsplit("-", 3)
        assert len(results[name]) == 6
        assert {(one["context"], one["window"], one["mode"]) for one in results[name]} == {(context, window, mode)}
    assert {one["settings"]["form"] for name in own for one in results[name]} == {"line"}
    assert len(results["errors"]) == 4


def test_mixes_are_trained_on_the_same_questions_as_many_times(made: Path) -> None:
    told = {
        name: orjson.loads((made / "work" / "models" / name / "pmem_training.json").read_bytes()) for name in TRAINED
    }
    same = ("model", "questions", "steps", "batch_size", "group", "seed", "window", "reply_form")
    first, *others = ({name: told[f"grpo-{mix}"][name] for name in same} for mix in ("mixed", "mcq", "open"))
    assert others == [first, first] and first["steps"] * first["batch_size"] == 4
    mixes = [{mode for mode, share in told[f"grpo-{mix}"]["mix"].items() if share} for mix in ("mixed", "mcq", "open")]
    assert mixes == [{"mcq", "open"}, {"mcq"}, {"open"}]
    steps = {path.stem: [one["step"] for one in records(path.read_bytes())] for path in metrics(made)}
    assert steps == {name: [1, 2] for name in TRAINED}
    measured = {path.stem for path in metrics(made) if "eval/accuracy" in records(path.read_bytes())[-1]["values"]}
    assert measured == TRAINED - {"sft", "sft-memory"}


def metrics(made: Path) -> list[Path]:
    return sorted((made / "work" / "metrics").iterdir())


def test_without_a_teacher_the_data_and_the_cold_start_do(made: Path, script: Script, tmp_path: Path) -> None:
    for name in ("data", "tiny"):
        shutil.copytree(made / name, tmp_path / name)
    ran = script.run(tmp_path, "work", "memtrain", "sft", TEACHER="", STEPS="1", SFT_STEPS="1", VAL_EVERY="none")
    assert ran.status == 0, ran.err
    assert {path.name for path in (tmp_path / "work" / "models").iterdir()} == {"sft", "memtrain"}
    assert orjson.loads((tmp_path / "work" / "models" / "sft" / "pmem_training.json").read_bytes())["targets"] == "gold"


def test_tables_and_figures_are_there(made: Path) -> None:
    paper = made / "work" / "paper"
    assert {path.name for path in paper.iterdir()} == TABLES | PAGES
    models = (paper / "models-mcq.md").read_text()
    assert "openai:first" in models and "128k" in models and "GPT-5-Chat" in models
    training = (paper / "training-open.md").read_text()
    assert "grpo-mcq" in training and "memtrain" in training and "Difference to" in training
    assert all(path.read_text().startswith("<!") for path in paper.glob("*.html"))


def test_once_more_asks_nothing_and_changes_nothing(made: Path, script: Script) -> None:
    before, requests = contents(made / "work"), script.stub.counts()["requests"]
    ran = script.run(made, "work")
    assert ran.status == 0 and script.stub.counts()["requests"] == requests
    assert contents(made / "work") == before
    assert "work/models" not in ran.err and "work/results" not in ran.err


def test_killed_while_it_asks_and_while_it_trains_it_ends_with_the_same_tables(
    made: Path, script: Script, tmp_path: Path
) -> None:
    for name in ("data", "tiny", "work"):
        shutil.copytree(made / name, tmp_path / name)
    work = tmp_path / "work"
    for gone in ("models/grpo-open", "paper"):
        shutil.rmtree(work / gone)
    for gone in ("cache.sqlite", "metrics/grpo-open.jsonl", "results/second-full-32k-open.jsonl"):
        (work / gone).unlink()
    for path in work.glob("results/grpo-open-*"):
        path.unlink()
    with running(latency=200) as slow:
        child = script.start(tmp_path, "work", JOBS="2", stub=slow)
        wait_for(lambda: slow.counts()["requests"] >= 4, 60)
        killed(child)
        child = script.start(tmp_path, "work", stub=slow)
        wait_for(lambda: (work / "models" / "grpo-open.part" / "step-00000001").exists(), 60)
        killed(child)
        ran = script.run(tmp_path, "work", stub=slow)
        assert ran.status == 0, ran.err
    expected = contents(made / "work")
    assert contents(work) == expected


def killed(child: "subprocess.Popen[bytes]") -> None:
    assert child.poll() is None
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def test_a_step_that_fails_says_which_and_how_to_go_on(made: Path, script: Script, tmp_path: Path) -> None:
    shutil.copytree(made / "data", tmp_path / "data")
    hurried = {"MODEL_OPTIONS": "--retries 0", "MODELS": "openai:first", "MODES": "mcq"}
    with running(fault="500=1") as broken:
        ran = script.run(tmp_path, "work", "base", **hurried, stub=broken)
        assert ran.status == 3 and "step base stopped with status 3 at\n  pmem eval data/splits/bench.jsonl" in ran.err
        assert "6 records failed: see work/results/first-full-32k-mcq.rejects.jsonl" in ran.err
        assert "goes on from here" in ran.err
        broken.restart()
        ran = script.run(tmp_path, "work", "base", **hurried, stub=broken)
    assert ran.status == 0, ran.err
    name = "work/results/first-full-32k-mcq.jsonl"
    assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


def test_a_plan_prints_what_is_left_and_makes_nothing(made: Path, script: Script, tmp_path: Path) -> None:
    for name in ("data", "tiny"):
        shutil.copytree(made / name, tmp_path / name)
    requests = script.stub.counts()["requests"]
    ran = script.run(tmp_path, "--plan", "work", MODELS="openai:gpt-5", TEACHER="")
    told = ran.out.decode()
    assert ran.status == 0 and script.stub.counts()["requests"] == requests and not (tmp_path / "work").exists()
    assert "pmem eval data/splits/bench.jsonl --histories data/histories.jsonl -m openai:gpt-5" in told
    assert "eval/mcq-full-128k      6 " in told and "openai:judge as judge" in told and "local:tiny\n" in told
    assert "# its calls can be counted once work/models/sft is there" in told
    assert "--targets gold" in told and "-m local:work/models/sft --mix mcq=0.8" in told
    done_already = script.run(made, "--plan", "work").out.decode()
    assert " -m " not in done_already and "pmem compare" in done_already


def test_published_data_are_imported_and_keep_their_splits(made: Path, script: Script, tmp_path: Path) -> None:
    splits = [str(path) for path in sorted((made / "data" / "splits").iterdir())]
    histories = made / "data" / "histories.jsonl"
    exported = pmem("export", "personamem-v2", *splits, "--histories", histories, "-o", "published", folder=tmp_path)
    assert exported.status == 0, exported.err
    ran = script.run(tmp_path, "work", "data", DATA="published")
    assert ran.status == 0, ran.err
    for split, count in (("bench", 6), ("train", 8), ("val", 2)):
        found = records((tmp_path / "work" / "data" / "splits" / f"{split}.jsonl").read_bytes())
        assert len(found) == count and all(set(qa["histories"]) == {"32k", "128k"} for qa in found)
    ran = script.run(tmp_path, "own", "data", DATA="published", SIZES="bench=4,train=8,val=2")
    assert ran.status == 0, ran.err
    assert len(records((tmp_path / "own" / "data" / "splits" / "bench.jsonl").read_bytes())) == 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"JUDGE": ""}, "JUDGE has to name a model"),
        ({"DATA": "nowhere"}, "DATA has to name a folder"),
        ({"MODELS": "openai:a/b openai:a-b"}, "two of MODELS would have the files of a-b"),
        ({"GROUP": "3"}, "work holds what was made with other settings"),
    ],
)
def test_settings_that_can_not_be(made: Path, script: Script, settings: dict[str, Any], said: str) -> None:
    ran = script.run(made, "work", **settings)
    assert ran.status == 2 and said in ran.err and "goes on from here" not in ran.err


def test_a_file_of_settings_goes_before_the_environment(made: Path, script: Script, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "settings.sh").write_text(f'DATA="{made}/data"\nMODELS="openai:from-the-file"\n')
    told = script.run(tmp_path, "--plan", "work", "base").out.decode()
    assert "-m openai:from-the-file" in told and "openai:first" not in told


def test_without_arguments_it_says_how_to_use_it(tmp_path: Path) -> None:
    ran = ended(start("bash", SCRIPT, folder=tmp_path))
    assert ran.status == 2 and "[--plan] WORK [STEP]" in ran.err and "MEMORY_TOKENS" in ran.err
    assert "pipefail" not in ran.err
    ran = ended(start("bash", SCRIPT, "work", "grop", folder=tmp_path))
    assert ran.status == 2 and "no step 'grop'" in ran.err
