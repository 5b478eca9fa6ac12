"""The dataset card: what the header declares, and what was counted while the rows went by."""

from collections import Counter
from pathlib import Path
from string import Template
from typing import Any

import orjson

from pmem.formats.hugging_face.columns import features
from pmem.stream.progress import counted

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
KINDS = {"questions": "qa", "histories": "history", "personas": "persona"}
"""Name of a config -> type of its records."""
Record = dict[str, Any]
Files = dict[str, dict[str, str]]
"""Config -> split -> file."""


class Counts:
    """What the card tells about the records."""

    def __init__(self) -> None:
        self.splits: Counter[str] = Counter()
        self.by: dict[str, Counter[tuple[str, str]]] = {key: Counter() for key in ("case", "kind", "scenario", "owner")}
        self.personas: Counter[tuple[str, str]] = Counter()  # questions of each, by split
        self.languages: dict[str, str] = {}  # of each persona
        self.windows: dict[str, list[int]] = {}  # tokens of each history
        self.made: dict[tuple[str, str], set[str]] = {}  # stage, model and seed to prompts
        self.judges: Counter[str] = Counter()
        self.imported: set[str] = set()

    def question(self, qa: Record, split: str) -> None:
        """Note a question."""
        preference = qa["preference"]
        self.splits[split] += 1
        told = {"case": qa["case"], "scenario": qa["scenario"]}
        told |= {"kind": preference["kind"], "owner": preference["owner"]["who"]} if preference else {}
        for key, counter in self.by.items():
            counter[str(told.get(key) or "not known"), split] += 1
        self.personas[qa["persona_id"] or "", split] += 1
        self.judges.update({vote["judge"] for vote in qa["votes"]})
        self.provenance(qa)

    def history(self, history: Record) -> None:
        """Note a history."""
        self.windows.setdefault(history["window"], []).append(history["tokens"])
        if history["persona"]:
            self.languages[history["persona"]["id"]] = history["persona"]["language"]
        self.provenance(history)

    def persona(self, persona: Record) -> None:
        """Note a persona."""
        self.languages[persona["id"]] = persona["language"]
        self.provenance(persona)

    def provenance(self, record: Record) -> None:
        """Note how a record was made."""
        how = record["provenance"]
        prompts = {f"`{name}` {digest}" for name, digest in how.get("prompts", {}).items()}
        said = [f"model {how['model']}"] if how.get("model") else []
        said += [f"seed {how['seed']}"] if how.get("seed") is not None else []
        said += [f"from {how['source']}"] if how.get("source") else []
        line = ", ".join([f"pmem {how['pmem']}", *said])
        self.made.setdefault((how["stage"], line), set()).update(prompts)
        if how.get("source"):
            self.imported.add(how["source"])


def card(title: str, files: Files, counts: Counts, audit: Record | None) -> bytes:
    """README.md of the folder. audit: what `pmem audit` found; None if nobody looked."""
    import yaml

    header = yaml.safe_dump(_header(title, files, counts), sort_keys=False, allow_unicode=True, width=120)
    loading = [f'{name} = load_dataset("{title}", "{name}")' for name in files]
    tables = {**counts.by, "native language": _by_language(counts)}
    fields = {
        "title": title,
        "loading": "\n".join(loading),
        "contents": "\n".join(_contents(files, counts)),
        "tables": "\n\n".join(_table(key, counter, list(counts.splits)) for key, counter in tables.items()),
        "making": "\n".join(_making(counts)),
        "audit": _audit(audit),
        "imported": f", except for what came from {', '.join(sorted(counts.imported))}" if counts.imported else "",
        "votes": _judged(counts),
        "splits": ", ".join(f"{name} {count:,}" for name, count in counts.splits.items()) or "none",
    }
    text = Template(Path(__file__).with_name("card.md").read_text(encoding="utf-8")).substitute(fields)
    return f"---\n{header}---\n\n{text}".encode()


def _header(title: str, files: Files, counts: Counts) -> Record:
    total = counts.splits.total()
    return {
        "pretty_name": title,
        "license": "other",
        "license_name": "to-be-chosen",
        "task_categories": ["multiple-choice", "question-answering", "text-generation"],
        "tags": ["personalization", "memory", "long-context", "synthetic", "pmem"],
        "size_categories": [next((name for limit, name in SIZES if total < limit), "n>1M")],
        "configs": [
            {
                "config_name": name,
                "data_files": [{"split": split, "path": path} for split, path in paths.items()],
                **({"default": True} if name == "questions" else {}),
            }
            for name, paths in files.items()
        ],
        "dataset_info": [{"config_name": name, "features": features(KINDS[name])} for name in files],
    }


def _contents(files: Files, counts: Counts) -> list[str]:
    asked = len({own_id for own_id, _ in counts.personas})
    lines = [f"* `questions`: {counts.splits.total():,} of {counted(asked, 'persona')}"]
    for window, tokens in counts.windows.items():
        mean = sum(tokens) / len(tokens)
        lines.append(
            f"* `histories`, {window}: {len(tokens):,}, of {mean:,.0f} tokens on average, {max(tokens):,} at most"
        )
    if "histories" not in files:
        lines.append("* The histories are not part of it.")
    if "personas" in files:
        lines.append("* `personas`: the invented users, with their preferences and made-up secrets")
    return lines


def _table(key: str, counter: Counter[tuple[str, str]], splits: list[str]) -> str:
    values = sorted({value for value, _ in counter})
    lines = [f"| {key} | {' | '.join(splits)} | all |", f"|---|{'---|' * (len(splits) + 1)}"]
    for value in values:
        each = [counter[value, split] for split in splits]
        lines.append(f"| {value} | {' | '.join(f'{one:,}' for one in each)} | {sum(each):,} |")
    return "\n".join(lines)


def _by_language(counts: Counts) -> Counter[tuple[str, str]]:
    """Questions by the native language of their persona, where it is known."""
    found: Counter[tuple[str, str]] = Counter()
    for (own_id, split), count in counts.personas.items():
        found[counts.languages.get(own_id, "not known"), split] += count
    return found


def _making(counts: Counts) -> list[str]:
    lines = []
    for (stage, line), prompts in sorted(counts.made.items()):
        lines.append(f"* `{stage}`: {line}" + (f"; prompts {', '.join(sorted(prompts))}" if prompts else ""))
    return lines


def _judged(counts: Counts) -> str:
    if not counts.judges:
        return "no votes of judges are in the rows"
    said = [f"{name} on {count:,}" for name, count in counts.judges.most_common()]
    return f"`votes` holds what judges said of {counts.splits.total():,} ({', '.join(said)})"


def _audit(found: Record | None) -> str:
    if found is None:
        return (
            "**Not audited.** Nobody measured with `pmem audit` what a cheater could gain from the form of the\n"
            "options, or its result was not at hand when this card was written."
        )
    plain = {key: value for key, value in found.items() if isinstance(value, str | int | float | bool)}
    lines = [f"* {key.replace('_', ' ')}: {value}" for key, value in plain.items()]
    whole = orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()
    said = "\n".join(lines) or "See what it found:"
    details = f"<details><summary>All that it found</summary>\n\n```json\n{whole}\n```\n\n</details>"
    return f"By `pmem audit`:\n\n{said}\n\n{details}"
