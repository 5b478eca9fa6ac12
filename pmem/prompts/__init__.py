"""Prompts as text files, one folder per stage, filled in one pass.

`{{name}}` in a file is replaced by a field; what a field holds is never looked at again, so that braces in user text
are safe. `--prompts DIR` replaces any file by one of the same name in DIR.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pmem
from pmem.draws import fingerprint
from pmem.errors import PmemError

HERE = Path(__file__).parent
FIELD = re.compile(r"\{\{(\w+)\}\}")


class Prompts:
    """The prompts of one run. Remembers which ones a stage used, for `provenance`."""

    def __init__(self, replaced: Path | None = None) -> None:
        self.replaced = replaced
        self._texts: dict[str, str] = {}
        self._hashes: dict[str, str] = {}
        if replaced:
            self._refuse_strangers(replaced)

    @staticmethod
    def _refuse_strangers(folder: Path) -> None:
        for file in folder.rglob("*.txt"):
            name = file.relative_to(folder)
            if not (HERE / name).is_file():
                known = ", ".join(sorted(str(path.relative_to(HERE)) for path in HERE.rglob("*.txt")))
                raise PmemError(f"{file}: pmem has no prompt '{name}' to replace; there are: {known}")

    def text(self, name: str) -> str:
        """The prompt file `name` ("converse/conversation") as it is, unfilled."""
        if name not in self._texts:
            own = self.replaced / f"{name}.txt" if self.replaced else None
            path = own if own and own.is_file() else HERE / f"{name}.txt"
            self._texts[name] = path.read_text(encoding="utf-8")
        return self._texts[name]

    def render(self, name: str, **fields: object) -> str:
        """The prompt filled in. Every placeholder needs a field; a field without a placeholder is left out."""

        def filled(match: re.Match[str]) -> str:
            try:
                return str(fields[match[1]])
            except KeyError:
                raise PmemError(
                    f"prompt {name}.txt: no field '{match[1]}'; there are: {', '.join(sorted(fields))}"
                ) from None

        return FIELD.sub(filled, self.text(name)).strip()

    def _hash(self, name: str) -> str:
        if name not in self._hashes:
            self._hashes[name] = fingerprint(self.text(name), 12)
        return self._hashes[name]

    def provenance(self, stage: str, model: str, seed: int, names: Iterable[str]) -> dict[str, Any]:
        """A record's `provenance`: stage and version that made it, model, seed, and hashes of the prompts' texts."""
        hashes = {name: self._hash(name) for name in sorted(names)}
        return {"stage": stage, "pmem": pmem.__version__, "model": model, "prompts": hashes, "seed": seed}
