"""verl's configuration: every preset composes and passes verl's own checks, and what is wrong is said before a start."""

from pathlib import Path
from typing import Any

import click
import pytest

pytest.importorskip("tests.verl_quietly")

from omegaconf import OmegaConf

from pmem.cli import main
from pmem.train.verl import compose, estimate
from pmem.train.verl.measure import Load
from pmem.train.verl.presets import names, preset
from pmem.train.verl.settings import ALWAYS, Memories, Task, agents_of, settings_of

pytestmark = [pytest.mark.verl, pytest.mark.filterwarnings("ignore")]

STAGES = ("sft", "grpo", "memtrain")


def options(stage: str, chosen: str | None = None) -> dict[str, Any]:
    """A command's options as click reads them, with a preset's."""
    command = main.get_command(click.Context(main), stage)  # type: ignore[attr-defined]
    arguments = ["-o", "out", *(["--preset", chosen] if chosen else ["--engine", "verl"])]
    arguments += [] if chosen and preset(chosen, stage).shape else ["-m", "local:x"]
    return dict(command.make_context(stage, arguments).params)


def task(stage: str, given: dict[str, Any] | None = None, **more: Any) -> Task:
    given = given or options(stage)
    memories = (
        Memories(
            given["chunk_tokens"], given["memory_tokens"], given["memory_tokens"], "o200k_base", "bullets", True, 7
        )
        if stage == "memtrain"
        else None
    )
    limit = given["max_tokens"] or 512
    made = Task(
        stage,
        "/models/it's a {model}=1",
        given["steps"] or 500,
        given,
        limit,
        4096,
        0,
        "/runs/a b",
        held_out=True,
        memories=memories,
    )
    return made._replace(**more)


def composed(
    stage: str, *keys: str, chosen: str | None = None, given: dict[str, Any] | None = None, **more: Any
) -> Any:
    found = preset(chosen, stage) if chosen else None
    given = options(stage, chosen) | (given or {})
    made = task(stage, given, **more)
    return compose.composed(made, found.keys if found else {}, keys, {}).config


# ---- what composes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("chosen", [None, *names()])
def test_presets_compose_and_pass_verls_own_checks(stage: str, chosen: str | None) -> None:
    config = composed(stage, chosen=chosen)
    assert config.trainer.experiment_name == stage


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("chosen", [None, *names()])
def test_every_key_that_is_set_is_verls_and_holds_the_value(stage: str, chosen: str | None) -> None:
    """Those said to be new are in verl's dataclasses, or ours."""
    name = "sft_trainer_engine" if stage == "sft" else "ppo_trainer"
    known = set(compose._keys(compose.plain(name)))
    found = preset(chosen, stage) if chosen else None
    settings = settings_of(task(stage, options(stage, chosen)))
    config = composed(stage, chosen=chosen)
    for key, setting in settings.items():
        assert (key not in known) == setting.new, key
    for key, value in (found.keys if found else {}).items():
        bare = key.lstrip("+")
        assert (bare in known) == (bare == key), key
        now = OmegaConf.select(config, bare)
        assert (OmegaConf.to_container(now) if OmegaConf.is_config(now) else now) == value


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("chosen", names())
def test_a_preset_never_goes_round_an_option(stage: str, chosen: str) -> None:
    settings = settings_of(task(stage, options(stage, chosen)))
    assert not {key for key in preset(chosen, stage).keys if settings.get(key) and settings[key].option}


def test_the_papers_settings() -> None:
    config = composed("memtrain", chosen="paper-4b-8xh100")
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    assert (config.data.train_batch_size, rollout.n, config.trainer.total_training_steps) == (32, 8, 500)
    assert actor.ppo_mini_batch_size == 32 * 8  # conversations of a rollout, times prompts: one update a step
    agent = agents_of(task("memtrain", options("memtrain", "paper-4b-8xh100")))[0]
    assert (agent["chunk_tokens"], agent["memory_tokens"]) == (5000, 2048)
    sft = composed("sft", chosen="paper-4b-8xh100")
    assert (sft.data.train_batch_size, sft.trainer.total_training_steps) == (64, 300)


def test_values_arrive_as_they_are() -> None:
    config = composed("grpo", "+actor_rollout_ref.rollout.engine_kwargs.vllm.seed=1", prompts="/p/${x}\\")
    assert config.actor_rollout_ref.model.path == "/models/it's a {model}=1"
    assert config.trainer.default_local_dir == "/runs/a b/checkpoints"
    assert OmegaConf.to_container(config.pmem, resolve=False)["prompts"] == "/p/\\${x}\\"
    assert config.actor_rollout_ref.rollout.engine_kwargs.vllm.seed == 1


def test_variables_of_ones_own_go_to_verls_processes() -> None:
    where = "+ray_kwargs.ray_init.runtime_env.env_vars"
    for stage in ("sft", "grpo"):
        found = composed(stage, f"{where}.NCCL_DEBUG=INFO", f"{where}.NCCL_IB_DISABLE=1").ray_kwargs.ray_init
        assert (found.runtime_env.env_vars.NCCL_DEBUG, found.runtime_env.env_vars.NCCL_IB_DISABLE) == ("INFO", "1")
        assert found.runtime_env.env_vars.VERL_FILE_LOGGER_PATH == "/runs/a b/verl.jsonl"


def test_gpus_that_share_a_conversation_compute_a_part_of_it_each() -> None:
    alone, shared = (
        composed("sft", "trainer.n_gpus_per_node=2", f"engine.ulysses_sequence_parallel_size={share}", longest=40_960)
        for share in (1, 2)
    )
    assert (alone.data.max_token_len_per_gpu, shared.data.max_token_len_per_gpu) == (40_960, 20_480)
    actor = composed("grpo", chosen="paper-4b-8xh100", longest=38_912).actor_rollout_ref.actor
    assert (actor.ppo_max_token_len_per_gpu, actor.ulysses_sequence_parallel_size) == (20_480, 2)


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "keys", "given", "said"),
    [
        ("grpo", ["actor_rollout_ref.actor.ppo_epoch=2"], {}, "no key actor_rollout_ref.actor.ppo_epoch; did you mean actor_rollout_ref.actor.ppo_epochs?"),
        ("sft", ["data.train_batch=2"], {}, "no key data.train_batch; did you mean data.train_batch_size?"),
        ("grpo", ["data.train_batch_size=16"], {}, "contradicts --batch-size, by which verl's data.train_batch_size is 32"),
        ("sft", ["optim.lr=1e-3"], {}, "contradicts --learning-rate, by which verl's optim.lr is 1e-05"),
        ("grpo", ["actor_rollout_ref.rollout.engine_kwargs.vllm={seed:1}"], {}, "no key actor_rollout_ref.rollout.engine_kwargs.vllm.seed"),
        ("grpo", ["data.shuffle=true"], {}, "contradicts what pmem relies on: data.shuffle is False"),
        ("grpo", ["pmem.votes=1"], {}, "contradicts what pmem relies on: pmem is"),
        ("grpo", ["trainer.nnodes=two"], {}, "verl's trainer.nnodes is a number"),
        ("grpo", ["actor_rollout_ref.model.use_remove_padding=3"], {}, "use_remove_padding is true or false"),
        ("grpo", ["nonsense"], {}, "not KEY=VALUE"),
        ("grpo", ["trainer.nnodes=1,2"], {}, "one value"),
        ("grpo", ["~trainer.nnodes"], {}, "one value"),
        ("grpo", ["trainer.n_gpus_per_node=7"], {"batch_size": 3}, "--batch-size, --mini-batches and --group make updates of 24 conversations, which 7 ranks"),
        ("grpo", ["data.max_prompt_length=30000"], {}, "--tokens-at-once is too small"),
        ("grpo", ["actor_rollout_ref.rollout.max_model_len=100"], {}, "max_model_len 100 is below"),
        ("grpo", ["actor_rollout_ref.rollout.tensor_model_parallel_size=3"], {}, "groups of 3"),
        ("grpo", ["actor_rollout_ref.actor.loss_agg_mode=tokens"], {}, "verl refuses its configuration: Invalid loss_agg_mode: tokens"),
        ("grpo", ["actor_rollout_ref.actor.use_dynamic_bsz=false"], {}, "verl refuses its configuration: [actor] Please set at least one of"),
        ("sft", ["trainer.n_gpus_per_node=7"], {}, "--batch-size 64 can't be shared equally by 7 ranks"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_our_option_and_verls_key(
    stage: str, keys: list[str], given: dict[str, Any], said: str
) -> None:
    with pytest.raises(click.UsageError) as fault:
        composed(stage, *keys, given=given)
    assert said in fault.value.message


def test_a_fault_of_verls_names_the_options_behind_its_keys() -> None:
    keys = ["actor_rollout_ref.actor.use_dynamic_bsz=false", "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1"]
    with pytest.raises(click.UsageError) as fault:
        composed("memtrain", *keys, "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1")
    assert "train_batch_size (32) must be >= actor.ppo_mini_batch_size (256)" in fault.value.message
    assert "--batch-size sets data.train_batch_size" in fault.value.message


def test_what_pmem_says_itself_may_be_said_again() -> None:
    assert composed("grpo", "data.train_batch_size=32", "data.shuffle=false").data.train_batch_size == 32


def test_an_unknown_preset() -> None:
    with pytest.raises(click.UsageError, match="no preset 'gpu'; there are cpu, paper-4b-8xh100"):
        preset("gpu", "sft")


# ---- estimates ---------------------------------------------------------------------------------------------------


def test_tokens_of_a_step_full_context_against_memory() -> None:
    """The paper's sizes: 7 chunks of 5,000 tokens instead of 32,000 at once cost more input a step, in far shorter
    conversations. One answer's input is what shrinks, 16 times."""
    full, memory = (composed(stage, chosen="paper-4b-8xh100") for stage in ("grpo", "memtrain"))
    whole = estimate.tokens_of(full, "grpo", Load(1, 32_700, 2048, 32_768))
    parts = estimate.tokens_of(memory, "memtrain", Load(8, 7 * (5_000 + 700 + 2_048) + 2_748, 8 * 2048, 10_240, 7))
    assert whole == {"conversations": 256, "prompts": 256 * 32_700, "replies": 256 * 2048}
    assert parts == {"conversations": 2048, "prompts": 256 * 56_984, "replies": 2048 * 2048}


def test_parameters_of_the_papers_model() -> None:
    shape = estimate.shape_of("nowhere", preset("paper-4b-8xh100", "grpo").shape)
    assert shape
    assert shape.parameters == pytest.approx(4.02e9, rel=0.002)  # Qwen3-4B: 4.0 billion, 3.6 without embeddings
    assert shape.parameters - shape.vocabulary * shape.width == pytest.approx(3.6e9, rel=0.01)
    assert 2 * shape.cached == 147_456  # bytes that a token leaves in the cache in bfloat16


@pytest.mark.parametrize("stage", STAGES)
def test_an_estimate_is_a_few_lines_of_plain_numbers(stage: str) -> None:
    config = composed(stage, chosen="paper-4b-8xh100")
    shape = estimate.shape_of("nowhere", preset("paper-4b-8xh100", stage).shape)
    text = estimate.estimate(config, stage, Load(1, 32_700, 2048, 32_768), shape)
    assert (
        "4.0"
        in text.splitlines()[
            [*map(str.split, text.splitlines())].index(["weights", "and", "gradients,", "float32", "4.0"])
        ]
    )
    assert "nan" not in text and "inf" not in text
    assert "isn't at hand" in estimate.estimate(config, stage, Load(1, 1, 1, 1), None)
    assert ALWAYS not in text


def test_the_model_is_found_by_its_config(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from tests.tiny_models import saved

    folder = saved(tmp_path / "model", "llama", tie_word_embeddings=True)
    shape = estimate.shape_of(str(folder), {})
    assert shape
    assert shape.parameters == sum(one.numel() for one in AutoModelForCausalLM.from_pretrained(folder).parameters())
    assert torch.float32.itemsize == 4
