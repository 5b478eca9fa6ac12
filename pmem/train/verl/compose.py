"""verl's own configuration, composed by Hydra from its files and ours, and checked before anything starts."""

import contextlib
import difflib
import functools
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pmem.errors import MissingExtra, UsageError, first_line
from pmem.train.verl.overrides import (
    Given,
    line,
    of_preset,
    parsed,
    refuse_contradiction,
    refuse_other_kind,
)
from pmem.train.verl.settings import ALWAYS, VARIABLES, VERSION, Setting, Task, settings_of

SHARE = re.compile(r"(actor_rollout_ref\.actor|engine)\.ulysses_sequence_parallel_size")
INNER = re.compile(r"[Kk]ey '([^']+)' is not in struct")


class Composed(NamedTuple):
    """config: as verl's trainers take it; settings: what pmem sets of it."""

    config: Any
    settings: Mapping[str, Setting]

    def text(self) -> str:
        """As YAML, with verl's references to other keys left as they are."""
        from omegaconf import OmegaConf

        return str(OmegaConf.to_yaml(self.config))

    def variables(self) -> dict[str, str]:
        """For the environment of verl's processes."""
        from omegaconf import OmegaConf

        return dict(OmegaConf.select(self.config, VARIABLES))


def composed(task: Task, keys: Mapping[str, Any], given: Sequence[str], environment: Mapping[str, str]) -> Composed:
    """The configuration of a run. keys: a preset's; given: KEY=VALUE of --set, which go before it.

    Usage error, naming our option and verl's key, for what is unknown, of the wrong kind, or contradicts something
    else. environment: variables that verl is imported with.
    """
    require_extra()
    os.environ.update(environment)
    theirs = [*map(of_preset, keys.items()), *map(parsed, given)]
    ours = settings_of(task, _share(theirs))
    for one in theirs:
        refuse_contradiction(one, ours)
    replaced = {one.key for one in theirs}
    lines = [line(key, one.value, new=one.new) for key, one in ours.items() if key not in replaced]
    name = "sft_trainer_engine" if task.stage == "sft" else "ppo_trainer"
    with _quietly():
        config = _composed(name, [*lines, *(one.raw for one in theirs)], theirs)
        for one in theirs:
            refuse_other_kind(one, plain(name))
            if one.key.startswith(f"{VARIABLES}.") and not isinstance(one.value, str):
                _as_text(config, one)
    found = Composed(config, ours)
    with _quietly():
        _check(found, task)
    return found


def _as_text(config: Any, one: Given) -> None:
    """A variable's value is text, and Hydra reads 1 as a number."""
    from omegaconf import OmegaConf

    OmegaConf.update(config, one.key, one.raw.partition("=")[2])


def _share(theirs: Sequence[Given]) -> int:
    """GPUs that hold a conversation together, by what is set."""
    found = [one.value for one in theirs if SHARE.fullmatch(one.key)]
    return found[-1] if found and isinstance(found[-1], int) and found[-1] > 0 else 1


def require_extra() -> None:
    """MissingExtra unless verl is installed."""
    import importlib.util

    if importlib.util.find_spec("verl") is None:
        raise MissingExtra("--engine verl", "verl")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """verl prints; stdout is for data."""
    import warnings

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _composed(name: str, lines: list[str], given: Sequence[Given]) -> Any:
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException

    with initialize_config_module("verl.trainer.config", version_base=None):
        try:
            return compose(name, overrides=lines)
        except HydraException as fault:
            why = f"{fault} {fault.__cause__}"
            said = next((one for one in given if f"'{one.key}'" in why), None)
            if not said or "struct" not in why:
                raise UsageError(f"verl {VERSION} can't take its configuration: {first_line(fault)}") from None
            known, key = _keys(compose(name)), said.key
            if key in known and (inner := INNER.search(why)):  # a mapping with a key that isn't there
                key = f"{key}.{inner[1]}"
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{said.said}: verl {VERSION} has no key {key}{hint} (+{key}=... would add it)") from None


@functools.cache
def plain(name: str) -> Any:
    """A configuration as verl's own files have it."""
    return _composed(name, [], [])


def _keys(config: Any, prefix: str = "") -> list[str]:
    """All keys of a configuration, with dots."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(config, resolve=False) if not isinstance(config, dict) else config
    found = []
    for key, value in plain.items():
        found.append(f"{prefix}{key}")
        found += _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else []
    return found


def _check(found: Composed, task: Task) -> None:
    """Let verl check its configuration, then what only shows when it runs."""
    try:
        (_check_sft if task.stage == "sft" else _check_rl)(found.config)
    except UsageError:
        raise
    except Exception as fault:  # assertions, ValueErrors, and what Hydra makes of them
        raise UsageError(f"verl refuses its configuration: {_told(fault, found.settings)}") from None


def _check_rl(config: Any) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    rollout, actor, data = (
        config.actor_rollout_ref.rollout,
        omega_conf_to_dataclass(config.actor_rollout_ref.actor),
        config.data,
    )
    omega_conf_to_dataclass(rollout)
    omega_conf_to_dataclass(config.algorithm)
    gpus, ranks = _ranks(config, actor)
    split = rollout.tensor_model_parallel_size
    _refuse(gpus % split, f"{gpus} GPUs make no groups of {split} (rollout.tensor_model_parallel_size)")
    rows = actor.ppo_mini_batch_size * rollout.n
    _refuse(
        rows % ranks,
        f"--batch-size, --mini-batches and --group make updates of {rows} conversations, which {ranks} ranks can't"
        " share equally (ppo_mini_batch_size x rollout.n)",
    )
    room = data.max_prompt_length + data.max_response_length
    _check_room(actor, "ppo_max_token_len_per_gpu", actor.ppo_max_token_len_per_gpu, room)
    length = rollout.max_model_len
    _refuse(
        bool(length and length < room),
        f"rollout.max_model_len {length} is below max_prompt_length + max_response_length, {room} (--max-tokens)",
    )


def _check_sft(config: Any) -> None:
    from verl.utils.config import omega_conf_to_dataclass

    engine = omega_conf_to_dataclass(config.engine)
    omega_conf_to_dataclass(config.optim)
    omega_conf_to_dataclass(config.checkpoint)
    batch, (_, ranks) = config.data.train_batch_size, _ranks(config, engine)
    _refuse(batch % ranks, f"--batch-size {batch} can't be shared equally by {ranks} ranks (data.train_batch_size)")
    _check_room(engine, "data.max_token_len_per_gpu", config.data.max_token_len_per_gpu, config.data.max_length)


def _ranks(config: Any, engine: Any) -> tuple[int, int]:
    """GPUs, and how many parts a batch is divided into among them."""
    gpus, share = config.trainer.nnodes * config.trainer.n_gpus_per_node, engine.ulysses_sequence_parallel_size
    _refuse(gpus % share, f"{gpus} GPUs can't share sequences among {share} each (ulysses_sequence_parallel_size)")
    return gpus, gpus // share


def _check_room(engine: Any, key: str, tokens: int, longest: int) -> None:
    """A conversation of the longest has to be computable at once, by the GPUs that share it."""
    most = tokens * engine.ulysses_sequence_parallel_size
    _refuse(
        most < longest,
        f"--tokens-at-once is too small: {most:,} tokens at once ({key} x ulysses_sequence_parallel_size) hold no"
        f" conversation of {longest:,}",
    )


def _refuse(wrong: Any, why: str) -> None:
    if wrong:
        raise UsageError(why)


def _told(fault: Exception, settings: Mapping[str, Setting]) -> str:
    """A fault of verl's, and which of our options the keys in it come from."""
    text = first_line(fault.__cause__ or fault)
    named = {
        f"{setting.option} sets {key}"
        for key, setting in settings.items()
        if setting.option not in ("", ALWAYS) and re.search(rf"\b{re.escape(key.rpartition('.')[2])}\b", text)
    }
    return text + (f" ({'; '.join(sorted(named))})" if named else "")
