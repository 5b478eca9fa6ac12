"""`pmem export lm-eval`: questions as a task of lm-evaluation-harness."""

from typing import Any

import click
import orjson

from pmem.errors import InputError
from pmem.formats import lm_eval_task
from pmem.stream.folder import Folder
from pmem.stream.options import INPUT, TO_FOLDER, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.source import records

LINE = orjson.OPT_APPEND_NEWLINE


@click.command(
    epilog="Example: pmem export lm-eval questions.jsonl --context full --histories histories.jsonl -o task && "
    "lm_eval --model hf --model_args pretrained=MODEL --include_path task --tasks pmem"
)
@stream_options(to=TO_FOLDER)
@click.option("--context", type=click.Choice(["full", "snippet", "none"]), default="none", show_default=True,
              help="What stands before a question.")  # fmt: skip
@click.option("--histories", type=INPUT, help="full: history records; those that questions name are written.")
@click.option("--window", help="full: which of a question's histories (default: its first).")
@click.option("--name", default="pmem", show_default=True, help="Of the task.")
@click.option("--force", is_flag=True, help="Set a folder that is already there aside, as FOLDER.old.")
def command(pipe: Pipe, context: str, histories: str | None, window: str | None, name: str, force: bool) -> None:
    """Questions as a task of lm-evaluation-harness.

    Reads questions with options; writes a folder for `--include_path`, with the task's definition, questions.jsonl,
    contexts.jsonl, and the few lines of Python that load them. The harness scores by the likelihood of each option's
    text.
    """
    assert pipe.output
    if (context == "full") != bool(histories):
        raise click.UsageError("--context full and --histories FILE go together")
    if not lm_eval_task.NAME.fullmatch(name):
        raise click.UsageError(f"--name {name}: letters, digits, '_', '.' and '-' only")
    folder = Folder(pipe.output, force=force)
    wanted: dict[str, bool] = {}  # histories by id: whether it has been written

    def put(qa: dict[str, Any]) -> None:
        row = lm_eval_task.row(qa, context, window)
        folder.append(lm_eval_task.QUESTIONS, orjson.dumps(row, option=LINE))
        if context == "snippet" and row["context"]:
            told = lm_eval_task.context(row["context"], qa["snippet"])
            folder.append(lm_eval_task.CONTEXTS, orjson.dumps(told, option=LINE))
        elif row["context"]:
            wanted[row["context"]] = False

    def end() -> None:
        for history in records((histories,), "history") if histories else ():
            if wanted.get(history["id"]) is False:
                wanted[history["id"]] = True
                told = lm_eval_task.context(history["id"], history["messages"])
                folder.append(lm_eval_task.CONTEXTS, orjson.dumps(told, option=LINE))
        missing = [own_id for own_id, written in wanted.items() if not written]
        if missing:
            raise InputError(
                f"{histories} holds no history {missing[0]}" + f", nor {len(missing) - 1} others" * (len(missing) > 1)
            )
        about = f"{folder.count} questions, context {context}"
        for file, content in lm_eval_task.files(name, about).items():
            folder.file(file, content)

    pipe.fill(folder, put, end, reads="qa")
