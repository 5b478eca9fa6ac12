"""`pmem export inspect`: results as evaluation logs, for `inspect view`."""

import click
import orjson

from pmem.report.inspect_log import Logs
from pmem.stream.folder import Folder
from pmem.stream.options import INPUT, TO_FOLDER, stream_options
from pmem.stream.pipe import Pipe
from pmem.stream.source import records


@click.command(
    epilog="Example: pmem export inspect results.jsonl --questions questions.jsonl -o logs; inspect view --log-dir logs"
)
@stream_options(to=TO_FOLDER)
@click.option("--questions", type=INPUT, help="The questions that were asked, for their text.")
@click.option("--force", is_flag=True, help="Set a folder that is already there aside, as FOLDER.old.")
def command(pipe: Pipe, questions: str | None, force: bool) -> None:
    """Results as evaluation logs of inspect-ai.

    Reads results; writes a folder with a log for each run (a model in a mode and a context), which `inspect view` and
    `inspect_ai.log.read_eval_log` open: each question with its options, the reply, the score, and its labels as
    metadata. Orders of the options are epochs. Records hold no times, so that logs are dated 1970.
    """
    assert pipe.output
    folder = Folder(pipe.output, force=force)
    logs = Logs({qa["id"]: qa for qa in records((questions,), "qa")} if questions else {})

    def end() -> None:
        for name, log in logs.logs().items():
            folder.file(name, orjson.dumps(log, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))

    pipe.fill(folder, logs.add, end, reads="result")
