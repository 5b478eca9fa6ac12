"""Presets: our options and verl's keys for a setup that belongs together, as readable TOML files in `presets/`."""

from pathlib import Path
from typing import Any, NamedTuple

from pmem.errors import UsageError

FOLDER = Path(__file__).with_name("presets")


class Preset(NamedTuple):
    """options: of ours, as on the command line; keys: of verl's configuration, with a + where they are new in it;
    environment: variables to set; shape: numbers of the model's config.json, {} if the preset is for no one model."""

    name: str
    options: dict[str, Any]
    keys: dict[str, Any]
    environment: dict[str, str]
    shape: dict[str, Any]


def names() -> list[str]:
    """All presets there are."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def preset(name: str, stage: str) -> Preset:
    """A preset for a stage. Usage error if there is none of that name."""
    import tomllib

    path = FOLDER / f"{name}.toml"
    if name not in names():
        raise UsageError(f"--preset: no preset '{name}'; there are {', '.join(names())}")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    options = {key: value for key, value in table["options"].items() if not isinstance(value, dict)}
    verl = table["verl"]
    keys = {**({} if stage == "sft" else verl.get("rl", {})), **verl.get(stage, {})}
    return Preset(
        name,
        {**options, **table["options"].get(stage, {})},
        keys,
        table.get("environment", {}),
        table.get("shape", {}),
    )
