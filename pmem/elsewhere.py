"""Training that isn't made in this process: verl's trainers on a ray cluster; files for somebody's own."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import orjson

from pmem.backends.opening import Judging
from pmem.draws import fingerprint as fingerprint_of
from pmem.engines import Engine
from pmem.errors import BackendError, InputError
from pmem.train.questions import Ask
from pmem.train.targets import Lesson
from pmem.train.trajectories import Teacher, Update

if TYPE_CHECKING:
    from pmem.memory.loop import Form
    from pmem.train.verl.measure import Load
    from pmem.train.verl.settings import Task
    from pmem.training import Training

Record = dict[str, Any]


class Written(NamedTuple):
    """How memories are written in rollouts; as of memdump. update: most tokens of a reply."""

    form: "Form"
    chunk_tokens: int
    update: int
    tokenizer: str


class Elsewhere(NamedTuple):
    """A run that isn't made in this process. train, held_out: what is asked, in order (SFT: lessons)."""

    engine: Engine
    training: "Training"
    steps: int
    train: Iterable[Ask] | Iterable[Lesson | Update]
    held_out: Iterable[Ask] | Iterable[Lesson | Update]
    temperature: float = 1.0
    judging: Judging = Judging()
    memories: Written | None = None
    teacher: Teacher | None = None

    async def run(self) -> None:
        """Write the files, or train."""
        if self.engine.export:
            assert self.training.pipe.folder
            self.training.pipe.folder.count = await self._write(self.training.pipe.folder.part)
            return
        from pmem.train.verl.compose import require_extra

        require_extra()
        self._refuse()
        if self.engine.dry_run:
            with tempfile.TemporaryDirectory(prefix="pmem-") as folder:
                await self._dry_run(Path(folder))
        else:
            await self._trained()

    def _refuse(self) -> None:
        """Usage error for what only the engine in this process can do."""
        given = self.training.given
        if given["lora"]:
            raise click.UsageError("--lora is for --engine local")
        if given.get("rollouts") == "vllm":
            raise click.UsageError("--rollouts is for --engine local")
        if self.training.sampling["dtype"]:
            raise click.UsageError("--dtype is for --engine local: verl has keys for it (--set; mixed_precision)")
        if self.memories and given["mini_batches"] > 1:
            raise click.UsageError(
                "--mini-batches of memories are for --engine local: verl's are of conversations, not of rollouts"
            )
        if self.training.pipe.usage:
            raise click.UsageError("--usage is for --engine local: verl's processes ask the judges")
        held_out, size = len(list(self.held_out)), given["batch_size"]
        if self.engine.stage == "sft" and 0 < held_out < size:
            raise click.UsageError(f"--eval-set: verl measures whole batches of {size}, not {held_out} questions")

    # ---- its data -----------------------------------------------------------------------------------------------

    async def _write(self, folder: Path) -> int:
        """train.parquet and, if there is something in it, val.parquet; rows of both."""
        from pmem.train.verl.rows import write

        held_out = list(self.held_out)
        count = 0
        for name, asks in (("train", self.train), ("val", held_out)):
            if name == "train" or held_out:
                count += await write(folder / f"{name}.parquet", self._rows(asks))
        return count

    def _rows(self, asks: Iterable[Any]) -> AsyncIterator[Record]:
        from pmem.train.verl.rows import rl_rows, sft_rows

        if self.engine.stage == "sft":
            assert self.teacher
            return sft_rows(asks, self.teacher)
        return rl_rows(asks, self.training.asking, reading=bool(self.memories))

    async def _once(self, folder: Path) -> None:
        """The files, unless an earlier run of the same settings has left them there whole."""
        if not (folder / "train.parquet").exists():
            with tempfile.TemporaryDirectory(dir=folder, prefix="data-") as part:
                await self._write(Path(part))
                for name in ("val", "train"):  # train last: it stands for both
                    if (file := Path(part) / f"{name}.parquet").exists():
                        file.replace(folder / file.name)

    # ---- its settings -------------------------------------------------------------------------------------------

    def _task(self, folder: Path, load: "Load") -> "Task":
        from pmem.train.verl import settings
        from pmem.train.verl.measure import rounded

        training, memories = self.training, self.memories
        written = memories and settings.Memories(
            memories.chunk_tokens, memories.form.most, memories.update, memories.tokenizer, memories.form.style,
            memories.form.evidence, load.updates,
        )  # fmt: skip
        return settings.Task(
            stage=self.engine.stage,
            model=self._model(),
            steps=self.steps,
            given=training.given,
            limit=training.limit,
            longest=rounded(load.longest),
            seed=training.seed,
            folder=str(folder),
            held_out=(folder / "val.parquet").exists(),
            thinking=training.sampling["thinking"],
            temperature=self.temperature,
            prompts=str(training.prompts.replaced.resolve()) if training.prompts.replaced else None,
            judging=self.judging,
            memories=written,
        )

    def _model(self) -> str:
        """The model for verl: a folder, absolute, or a hub id. BackendError: a file that verl can't read."""
        from pmem.backends.local_model import locate

        where = locate(self.training.name)
        if isinstance(where, Path) and where.is_file():
            raise BackendError(f"local model '{self.training.name}': verl reads Hugging Face folders, no GGUF files")
        return str(where.resolve()) if isinstance(where, Path) else where

    def _known(self) -> str:
        """The model, by its files where they are here: another one in their place isn't the same."""
        from pmem.backends.local_model import fingerprint

        where = self._model()
        return fingerprint(where)[:16] if Path(where).is_dir() else where

    def _measured(self, folder: Path) -> "Load":
        from pmem.train.verl import measure

        count = measure.counter(self._model(), self.training.sampling["thinking"], guess=self.engine.dry_run)
        limit = self.training.limit

        def of(path: Path) -> "Load":
            if self.engine.stage == "sft":
                return measure.of_lessons(path, count)
            if not self.memories:
                return measure.of_prompts(path, count, limit)
            form, chunk_tokens, update, _ = self.memories
            return measure.of_memories(path, count, form, chunk_tokens, update, limit)

        load, held_out = of(folder / "train.parquet"), folder / "val.parquet"
        if not held_out.exists():
            return load
        # steps are of the questions to train on, but there has to be room for these, too
        return load._replace(longest=max(load.longest, of(held_out).longest))

    # ---- what is done -------------------------------------------------------------------------------------------

    async def _dry_run(self, folder: Path) -> None:
        from pmem.train.verl.estimate import estimate, shape_of

        await self._write(folder)
        load = self._measured(folder)
        found = self._composed(self._task(folder, load), load)
        preset = self.engine.preset
        shape = shape_of(self._model(), preset.shape if preset else {})
        tables = "".join(f"# {line}\n" for line in estimate(found.config, self.engine.stage, load, shape).splitlines())
        text = found.text().replace(str(folder), f"{self.training.folder or 'FOLDER'}.part")
        self.training.pipe.tell(f"{tables}\n{text}".encode())

    def _composed(self, task: "Task", load: "Load") -> Any:
        from pmem.train.verl.compose import composed

        preset = self.engine.preset
        keys, environment = (preset.keys, preset.environment) if preset else ({}, {})
        found = composed(task, keys, self.engine.keys, environment)
        sft = self.engine.stage == "sft"
        room = found.config.data.max_length if sft else found.config.data.max_prompt_length
        if load.longest > room:
            what, key = ("conversation", "max_length") if sft else ("prompt", "max_prompt_length")
            raise InputError(
                f"the longest {what} has some {load.longest:,} tokens: more than verl's data.{key}, {room:,}; see"
                " --set, --context-length with --truncate, and --context"
            )
        return found

    async def _trained(self) -> None:
        from pmem.train.checkpoints import Checkpoints
        from pmem.train.verl.attempts import latest
        from pmem.train.verl.launch import Run, launch
        from pmem.train.verl.settings import agents_of

        training = self.training
        checkpoints = Checkpoints(training.folder, self._told())
        training.pipe.attached.append(checkpoints)
        folder = checkpoints.part
        try:
            await self._once(folder)
            load = self._measured(folder)
            task = self._task(folder, load)
            found = self._composed(task, load)
        except BaseException:
            if not latest(folder):  # nothing has been learnt: the next try may well have other settings
                shutil.rmtree(folder)
            raise
        if self.engine.stage != "sft":
            (folder / "agents.yaml").write_bytes(orjson.dumps(agents_of(task)))  # JSON is YAML

        def show(step: int, values: Any) -> None:
            shown = {name: values[name] for name in ("loss", "reward/mean") if name in values}
            training.pipe.bar.measure(step, self.steps, shown)

        environment = self.engine.preset.environment if self.engine.preset else {}
        run = Run(folder, checkpoints.lock, self.engine.stage, self.steps, training.pipe.tell, show)
        left = await launch(run, found, environment)

        def put(to: Path) -> None:
            shutil.copytree(left, to, dirs_exist_ok=True)

        checkpoints.leave(put)

    def _told(self) -> Record:
        """What determines the run's outcome: a run goes on only with the same."""
        training = self.training
        told = {**training.sampling, **training.given, "engine": "verl", "set": self.engine.keys, "seed": training.seed}
        told |= {"preset": self.engine.preset.name if self.engine.preset else None, "steps": self.steps}
        told |= {"model": self._known(), "judges": self.judging.judges, "prompts": str(training.prompts.replaced)}
        told["questions"] = fingerprint_of([_named(list(self.train)), _named(list(self.held_out))])
        return dict(orjson.loads(orjson.dumps(told, default=str)))


def _named(asks: Iterable[Any]) -> list[Any]:
    """Asks, lessons and updates as plain values."""
    return [[[*one.ask], one.reply] if isinstance(one, Lesson) else [*one] for one in asks]
