"""What the page shows of every question: the records of all runs, put together by question, without repetition."""

from typing import Any

from pmem.choices import LETTERS
from pmem.report.runs import OF_ANSWERS, Result, Run, run_of
from pmem.tokens import text_of

Record = dict[str, Any]


class Questions:
    """Gathers results by question."""

    def __init__(self, known: dict[str, Record]) -> None:
        """known: question records by id, as far as there are any."""
        self.known = known
        self.runs: list[Run] = []
        self._shown: dict[str, Record] = {}
        self._places: dict[str, dict[str, int]] = {}  # of each text among a question's options
        self._seen: set[str] = set()

    def add(self, result: Result) -> None:
        """Put one result with its question; one that came before counts once."""
        if result["id"] in self._seen:
            return
        self._seen.add(result["id"])
        run = run_of(result)
        if run not in self.runs:
            self.runs.append(run)
        own_id = result["qa_id"]
        if own_id not in self._shown:
            self._shown[own_id] = {"id": own_id, "labels": {}, "options": [], "answers": {}, **self._of(own_id)}
        question = self._shown[own_id]
        question["labels"] = {**_labels(result), **question["labels"]}
        question["answers"].setdefault(self.runs.index(run), []).append(self._answer(question, result))

    def shown(self) -> list[Record]:
        """The questions, in the order in which they came; `answers` has a list for each run."""
        return [
            {**one, "answers": [one["answers"].get(number, []) for number in range(len(self.runs))]}
            for one in self._shown.values()
        ]

    def _of(self, own_id: str) -> Record:
        """What the question's own record tells."""
        qa = self.known.get(own_id)
        if qa is None:
            return {}
        known = {"query": qa["query"], "answer": qa["answer"], "topic": qa["query_topic"]}
        about = {name: qa[name]["text"] for name in ("preference", "previous") if qa[name]}
        if qa["secret"]:
            about["secret"] = f"{qa['secret']['kind'].replace('_', ' ')}: {qa['secret']['value']}"
        made = {one["text"]: one["made"] for one in qa["distractors"]}
        snippet = [{"role": one["role"], "text": text_of(one["content"])} for one in qa["snippet"]]
        places = {window: _place(place) for window, place in qa["histories"].items()}
        return {**known, "about": about, "made": made, "snippet": snippet, "places": places}

    def _answer(self, question: Record, result: Result) -> Record:
        options: list[str] = result["options"] or []
        places = self._places.setdefault(question["id"], {})
        for text in options:
            if text not in places:
                places[text] = len(places)
                question["options"].append(text)
        if options and result["gold"]:
            question["right"] = places[options[LETTERS.index(result["gold"])]]
        told = {
            "order": [places[text] for text in options],
            "choice": result["choice"],
            "correct": result["correct"],
            "parsed": result["parsed"],
            "reply": result["reply"],
            "tokens": [result["prompt_tokens"], result["reply_tokens"]],
            "window": result["window"],
            "permutation": result["permutation"],
            "votes": [[vote["judge"], vote["verdict"], vote["reason"]] for vote in result["votes"]],
            "likelihoods": [one["logprob"] for one in result.get("likelihoods", [])],
            "error": result["error_category"],
            "why": result.get("error_reason"),
        }
        return {name: value for name, value in told.items() if value not in (None, [])}


def _labels(result: Result) -> dict[str, str]:
    """Labels of the question; what an answer did is told with the answer."""
    return {name: value for name, value in result["labels"].items() if name not in OF_ANSWERS}


def _place(place: Record) -> list[int | None]:
    """Where the snippet ends in a history, and how long this is, in tokens."""
    size = (place["relevant_tokens"] or 0) + (place["filler_tokens"] or 0)
    known = place["distance_tokens"] is not None and size
    return [max(0, size - place["distance_tokens"]) if known else None, size or None]
