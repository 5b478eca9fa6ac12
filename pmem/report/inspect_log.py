"""Results as evaluation logs of inspect-ai (version 2 of their JSON form): one log for each run.

A log says when it was made. Records hold no times, so that it is the beginning of Unix time.
"""

from typing import Any

import pmem
from pmem.draws import fingerprint
from pmem.report.clusters import right, spread
from pmem.report.runs import Result, Run, persona_of, run_of

Record = dict[str, Any]
CREATED = "1970-01-01T00:00:00+00:00"
SCORER = "pmem"


class Logs:
    """Gathers results by run."""

    def __init__(self, questions: dict[str, Record]) -> None:
        """questions: question records by id, as far as there are any; without its own a question has no text."""
        self.questions = questions
        self.runs: dict[Run, dict[str, Result]] = {}

    def add(self, result: Result) -> None:
        """One more result; the same one again counts once."""
        self.runs.setdefault(run_of(result), {})[result["id"]] = result

    def logs(self) -> dict[str, Record]:
        """A log for each run, by a name for its file."""
        return {_name(run): self._log(run, list(results.values())) for run, results in self.runs.items()}

    def _log(self, run: Run, results: list[Result]) -> Record:
        epochs: dict[str, int] = {}
        samples = []
        for result in results:
            epochs[result["qa_id"]] = epochs.get(result["qa_id"], 0) + 1
            samples.append(self._sample(result, epochs[result["qa_id"]]))
        task = f"pmem-{run.mode}-{run.context}"
        own_id = fingerprint(["inspect", list(run), [result["id"] for result in results]])
        told = run._asdict() | {"pmem": pmem.__version__}
        return {
            "version": 2,
            "status": "success",
            "eval": {
                "eval_id": own_id, "run_id": own_id, "task_id": own_id, "created": CREATED, "task": task,
                "dataset": {"name": "pmem", "samples": len(epochs), "sample_ids": list(epochs), "shuffled": False},
                "model": run.model.replace(":", "/", 1), "config": {"epochs": max(epochs.values())},
                "task_args": {name: value for name, value in told.items() if value},
                "packages": {"pmem": pmem.__version__}, "scorers": [{"name": SCORER}],
            },
            "plan": {"name": "plan", "steps": [{"solver": "generate", "params": {}}]},
            "results": _results(results),
            "stats": {"started_at": CREATED, "completed_at": CREATED, "model_usage": {}},
            "samples": samples,
        }  # fmt: skip

    def _sample(self, result: Result, epoch: int) -> Record:
        qa = self.questions.get(result["qa_id"])
        query = qa["query"] if qa else f"(the text of {result['qa_id']} is in its question record)"
        target = result["gold"] or (qa["answer"] if qa else "")
        said = {"role": "assistant", "content": result["reply"], "source": "generate"}
        tokens = result["prompt_tokens"], result["reply_tokens"]
        usage = {"input_tokens": tokens[0], "output_tokens": tokens[1], "total_tokens": sum(tokens)}
        model = result["model"].replace(":", "/", 1)
        told = {name: result[name] for name in ("context", "window", "permutation", "history_id", "persona_id")}
        return {
            "id": result["qa_id"], "epoch": epoch, "uuid": result["id"], "input": query,
            "choices": result["options"], "target": target,
            "messages": [{"role": "user", "content": query}, said],
            "output": {"model": model, "choices": [{"message": said, "stop_reason": "stop"}], "usage": usage},
            "scores": {SCORER: _score(result)},
            "metadata": {**told, "labels": result["labels"], "error_category": result["error_category"]},
        }  # fmt: skip


def _score(result: Result) -> Record:
    votes = [f"{vote['verdict']} ({vote['judge']}): {vote['reason'] or ''}" for vote in result["votes"]]
    unread = "no answer could be read" if not result["parsed"] else None
    explanation = "\n".join(votes) or unread
    return {"value": "C" if result["correct"] else "I", "answer": result["choice"], "explanation": explanation}


def _results(results: list[Result]) -> Record:
    """Accuracy with a standard error that respects personas: never below that of independent answers."""
    counts: dict[str, list[int]] = {}
    for result in results:
        held = counts.setdefault(persona_of(result), [0, 0])
        held[0] += 1
        held[1] += result["correct"]
    found = spread(right(*held) for held in counts.values())
    variance = max(found.variance, found.mean * (1 - found.mean) / found.answers)
    metrics = {
        "accuracy": {"name": "accuracy", "value": found.mean},
        "stderr": {"name": "stderr", "value": variance**0.5, "params": {"cluster": "persona"}},
    }
    score = {"name": SCORER, "scorer": SCORER, "params": {}, "metrics": metrics}
    return {"total_samples": len(results), "completed_samples": len(results), "scores": [score]}


def _name(run: Run) -> str:
    """A file name as inspect-ai lists them (time_task_id): the run in words, and digits that tell it from others."""
    readable = "-".join(part for part in (run.model, run.mode, run.context, run.window) if part)
    plain = "".join(char if char.isascii() and (char.isalnum() or char == ".") else "-" for char in readable)
    return f"{CREATED.replace(':', '-')}_{plain[:80].strip('.-')}_{fingerprint(list(run), 12)}.json"
