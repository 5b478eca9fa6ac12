"""Results as rows of a table: a column for each field, and one for each label."""

from typing import Any

import orjson

Record = dict[str, Any]
FIELDS = (
    "id", "qa_id", "history_id", "persona_id", "model", "judge_model", "mode", "context", "window", "scoring",
    "permutation", "gold", "choice", "parsed", "correct", "error_category", "prompt_tokens", "reply_tokens",
)  # fmt: skip
LAST = ("votes_pass", "votes_fail", "votes_unclear", "options", "reply")
LABEL = "label_"


class Table:
    """Gathers results; labels that some lack are empty there."""

    def __init__(self) -> None:
        self.rows: list[Record] = []
        self._labels: set[str] = set()

    def add(self, result: Record) -> None:
        """One more row."""
        votes = [vote["verdict"] for vote in result["votes"]]
        options = None if result["options"] is None else orjson.dumps(result["options"]).decode()
        labels = {LABEL + name: value for name, value in result["labels"].items()}
        self._labels.update(labels)
        counts = {f"votes_{verdict}": votes.count(verdict) for verdict in ("pass", "fail", "unclear")}
        told = {name: result[name] for name in FIELDS} | counts
        self.rows.append({**told, "options": options, "reply": result["reply"], **labels})

    @property
    def columns(self) -> list[str]:
        """Their names, in order."""
        return [*FIELDS, *sorted(self._labels), *LAST]

    def csv(self) -> str:
        """All as CSV: a header, a row for each result; nothing for null, `true` and `false`."""
        import csv
        import io

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        for row in self.rows:
            values = [row.get(name) for name in self.columns]
            writer.writerow([str(one).lower() if isinstance(one, bool) else one for one in values])
        return text.getvalue()

    def parquet(self) -> bytes:
        """All as a parquet file, by pyarrow, which has to be there."""
        import pyarrow
        import pyarrow.parquet

        whole = {"permutation", "prompt_tokens", "reply_tokens", *(name for name in LAST if name.startswith("votes_"))}
        types = {**dict.fromkeys(whole, pyarrow.int64()), **dict.fromkeys(("parsed", "correct"), pyarrow.bool_())}
        schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in self.columns])
        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(self.rows, schema), sink, compression="zstd")
        content: bytes = sink.getvalue().to_pybytes()
        return content
