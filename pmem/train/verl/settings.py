"""What pmem sets of verl's configuration, and which of our options says so."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pmem.backends.opening import Judging

VERSION = "0.9.1"
ROLES = "pkg://pmem.train.verl"
"""How verl is told where our classes are."""
VARIABLES = "ray_kwargs.ray_init.runtime_env.env_vars"
"""Where verl's configuration holds variables for ray's workers; ours are there for SFT, too, which has no such key."""
ALWAYS = "pmem"
"""Stands for an option where a run of ours needs the value."""

UNREWARDED = "unrewarded.txt"
"""The file of a run that says why the last reply without a reward has none. A step without any ends verl."""


class Setting(NamedTuple):
    """A value of verl's configuration. option: of ours, that it follows from ("": a good default, which presets and
    --set may replace); new: the key is not in verl's own files."""

    value: Any
    option: str = ""
    new: bool = False


class Memories(NamedTuple):
    """How memories are written in rollouts; as of memdump. updates: most there are in one rollout."""

    chunk_tokens: int
    memory_tokens: int
    update_limit: int
    tokenizer: str
    style: str
    evidence: bool
    updates: int


class Task(NamedTuple):
    """A run as verl is to make it. stage: "sft", "grpo" or "memtrain"; model: a folder or hub id; given: our options by
    name; limit: most tokens of an answer; longest: tokens of the longest prompt, rounded up (sft: prompt and reply);
    folder: where the run is kept, files of data included; held_out: whether there is a val.parquet; prompts: a folder
    of our prompts."""

    stage: str
    model: str
    steps: int
    given: Mapping[str, Any]
    limit: int
    longest: int
    seed: int
    folder: str
    held_out: bool = False
    thinking: bool | None = None
    temperature: float = 1.0
    prompts: str | None = None
    judging: Judging = Judging()
    memories: Memories | None = None


def settings_of(task: Task, share: int = 1) -> dict[str, Setting]:
    """verl's keys for a run, of `sft_trainer_engine` (sft) or `ppo_trainer`. share: GPUs that hold a conversation
    together (Ulysses)."""
    return _sft(task, share) if task.stage == "sft" else _rl(task, share)


def places(folder: str) -> dict[str, str]:
    """Variables by which verl's processes, wherever they run, write into the run's folder: its metrics, and the copy of
    the rows that it makes for itself."""
    return {"VERL_FILE_LOGGER_PATH": f"{folder}/verl.jsonl", "HF_DATASETS_CACHE": f"{folder}/datasets"}


def _at_once(task: Task, tokens: int, share: int) -> int:
    """Tokens that a GPU computes at once: as many as are asked for, or its part of the longest conversation."""
    return max(int(task.given["tokens_at_once"]), -(-tokens // share))


def _trainer(task: Task) -> dict[str, Setting]:
    given = task.given
    return {
        "trainer.project_name": Setting("pmem"),
        "trainer.experiment_name": Setting(task.stage),
        "trainer.default_local_dir": Setting(f"{task.folder}/checkpoints", "-o"),
        "trainer.logger": Setting(["console", "file"]),
        "trainer.total_training_steps": Setting(task.steps, "--steps"),
        "trainer.total_epochs": Setting(1, ALWAYS),  # the file holds every step's questions, in order
        "trainer.save_freq": Setting(given["save_every"] or task.steps, "--save-every"),
        "trainer.resume_mode": Setting("auto", ALWAYS),
        "trainer.nnodes": Setting(1),
        "trainer.n_gpus_per_node": Setting(1),
        # a ray cluster that is there has an environment of its own
        **{f"{VARIABLES}.{name}": Setting(value, ALWAYS, new=True) for name, value in places(task.folder).items()},
    }


def _optimiser(task: Task) -> dict[str, Setting]:
    """AdamW's settings, and the learning rate's, which both of verl's trainers name alike."""
    given = task.given
    return {
        "optim.lr": Setting(given["learning_rate"], "--learning-rate"),
        "optim.lr_scheduler_type": Setting(given["schedule"], "--schedule"),
        "optim.lr_warmup_steps": Setting(_warmup(task), "--warmup"),
        "optim.lr_warmup_steps_ratio": Setting(0.0, "--warmup"),
        "optim.weight_decay": Setting(given["weight_decay"], "--weight-decay"),
        "optim.clip_grad": Setting(given["clip_norm"], "--clip-norm"),
    }


def _warmup(task: Task) -> int:
    """Steps before the full rate. verl's first step within a warm-up has the rate 0; a single one is none."""
    steps = round(task.given["warmup"] * task.steps)
    return steps if steps > 1 else 0


def _thinking(task: Task) -> dict[str, Any]:
    return {} if task.thinking is None else {"enable_thinking": task.thinking}


def _sft(task: Task, share: int) -> dict[str, Setting]:
    given = task.given
    return {
        "model.path": Setting(task.model, "--model"),
        "model.enable_gradient_checkpointing": Setting(given["checkpointing"], "--checkpointing"),
        "engine.strategy": Setting("fsdp2"),
        "engine.seed": Setting(task.seed, "--seed"),
        **_optimiser(task),
        "data.train_files": Setting(f"{task.folder}/train.parquet", ALWAYS),
        "data.val_files": Setting(f"{task.folder}/val.parquet" if task.held_out else None, "--eval-set"),
        "data.train_batch_size": Setting(given["batch_size"], "--batch-size"),
        "data.use_dynamic_bsz": Setting(True),
        "data.micro_batch_size_per_gpu": Setting(1),
        "data.max_token_len_per_gpu": Setting(_at_once(task, task.longest, share), "--tokens-at-once"),
        "data.max_length": Setting(task.longest),
        "data.truncation": Setting("error", ALWAYS),
        "data.pad_mode": Setting("no_padding", ALWAYS),
        "data.num_workers": Setting(0),
        "data.custom_cls.path": Setting(f"{ROLES}.lessons", ALWAYS),
        "data.custom_cls.name": Setting("Lessons", ALWAYS),
        "data.apply_chat_template_kwargs": Setting(_thinking(task), "--thinking"),
        "checkpoint.save_contents": Setting(["model", "optimizer", "extra", "hf_model"], ALWAYS),
        "trainer.seed": Setting(task.seed, "--seed"),
        "trainer.max_ckpt_to_keep": Setting(2),
        "trainer.test_freq": Setting((given["eval_every"] or task.steps) if task.held_out else -1, "--eval-every"),
        **_trainer(task),
    }


def _rl(task: Task, share: int) -> dict[str, Setting]:
    return {**_data(task), **_actor(task, share), **_rollout(task), **_reward(task), **_trainer(task), **_pace(task)}


def _data(task: Task) -> dict[str, Setting]:
    val = "val" if task.held_out else "train"  # verl wants a file, whether or not it is looked at
    return {
        "data.train_files": Setting(f"{task.folder}/train.parquet", ALWAYS),
        "data.val_files": Setting(f"{task.folder}/{val}.parquet", "--eval-set"),
        "data.train_batch_size": Setting(task.given["batch_size"], "--batch-size"),
        "data.max_prompt_length": Setting(task.longest),
        "data.max_response_length": Setting(_reply(task), "--max-tokens"),
        "data.shuffle": Setting(False, ALWAYS),
        "data.filter_overlong_prompts": Setting(False, ALWAYS),
        "data.truncation": Setting("error", ALWAYS),
        "data.dataloader_num_workers": Setting(0),
        "data.seed": Setting(task.seed, "--seed"),
        "data.apply_chat_template_kwargs": Setting(_thinking(task), "--thinking"),
    }


def _reply(task: Task) -> int:
    """Most tokens of any reply."""
    return max(task.limit, task.memories.update_limit if task.memories else 0)


def _actor(task: Task, share: int) -> dict[str, Setting]:
    given, conversations = task.given, (task.memories.updates if task.memories else 0) + 1
    at_once = _at_once(task, task.longest + _reply(task), share)
    ours = {
        "algorithm.adv_estimator": Setting("grpo"),
        "algorithm.norm_adv_by_std_in_grpo": Setting(True),
        "algorithm.use_kl_in_reward": Setting(False),
    }
    actor = {
        "strategy": Setting("fsdp2"),
        **_optimiser(task),
        "grad_clip": Setting(given["clip_norm"], "--clip-norm"),
        # verl counts conversations, and fills a batch up to whole mini-batches with empty rows
        "ppo_mini_batch_size": Setting(
            -(-given["batch_size"] // given["mini_batches"]) * conversations, "--mini-batches"
        ),
        "ppo_epochs": Setting(given["passes"], "--passes"),
        "use_dynamic_bsz": Setting(True),
        "ppo_max_token_len_per_gpu": Setting(at_once, "--tokens-at-once"),
        "use_kl_loss": Setting(given["kl"] > 0, "--kl"),
        "kl_loss_coef": Setting(given["kl"], "--kl"),
        "kl_loss_type": Setting("low_var_kl"),
        "entropy_coeff": Setting(0),
        "clip_ratio": Setting(given["clip"], "--clip"),
        "clip_ratio_low": Setting(given["clip"], "--clip"),
        "clip_ratio_high": Setting(given["clip_high"] or given["clip"], "--clip-high"),
        "clip_ratio_c": Setting(3.0),
        "loss_agg_mode": Setting("token-mean"),
        "data_loader_seed": Setting(task.seed % 2**31, "--seed"),
        "fsdp_config.seed": Setting(task.seed % 2**31, "--seed"),
        "checkpoint.save_contents": Setting(["model", "optimizer", "extra", "hf_model"], ALWAYS),
    }
    model = {
        "path": Setting(task.model, "--model"),
        "enable_gradient_checkpointing": Setting(given["checkpointing"], "--checkpointing"),
    }
    return ours | _under("actor_rollout_ref.actor", actor) | _under("actor_rollout_ref.model", model)


def _rollout(task: Task) -> dict[str, Setting]:
    room = task.longest + _reply(task)
    rollout = {
        "name": Setting("vllm"),
        "n": Setting(task.given["group"], "--group"),
        "temperature": Setting(task.temperature, "--temperature"),
        "top_p": Setting(1.0),
        "top_k": Setting(-1),
        "seed": Setting(task.seed % 2**31, "--seed"),
        "tensor_model_parallel_size": Setting(1),
        "max_model_len": Setting(room),
        "max_num_batched_tokens": Setting(max(8192, room)),
        "val_kwargs.n": Setting(1),
        "agent.agent_loop_config_path": Setting(f"{task.folder}/agents.yaml", ALWAYS),
        "agent.default_agent_loop": Setting("pmem", ALWAYS),
        "agent.agent_loop_manager_class": Setting("pmem.train.verl.rollouts.Rollouts", ALWAYS, new=True),
    }
    return _under("actor_rollout_ref.rollout", rollout)


def _reward(task: Task) -> dict[str, Setting]:
    given = task.given
    ours = {
        "prompts": task.prompts,
        "judging": {**task.judging._asdict(), "judges": list(task.judging.judges), "urls": list(task.judging.urls)},
        "votes": given["votes"],
        "length_penalty": given["length_penalty"],
        "format_reward": given["format_reward"],
        "answer_limit": task.limit,
        "alarm": f"{task.folder}/alarm.txt",
    }
    return {
        "reward.num_workers": Setting(1, "--jobs"),  # one process keeps to --jobs, --rpm and --max-cost
        "reward.reward_manager.source": Setting("importlib", ALWAYS),
        "reward.reward_manager.name": Setting("Manager", ALWAYS),
        "reward.reward_manager.module.path": Setting(f"{ROLES}.reward", ALWAYS),
        "pmem": Setting(ours, ALWAYS, new=True),
    }


def _pace(task: Task) -> dict[str, Setting]:
    return {
        "trainer.use_v1": Setting(True, ALWAYS),
        "trainer.v1.trainer_mode": Setting("sync"),
        "trainer.max_actor_ckpt_to_keep": Setting(2),
        "trainer.val_before_train": Setting(bool(task.held_out and task.given["eval_every"]), "--eval-every"),
        "trainer.test_freq": Setting((task.given["eval_every"] or task.steps) if task.held_out else -1, "--eval-every"),
    }


def _under(prefix: str, settings: dict[str, Setting]) -> dict[str, Setting]:
    return {f"{prefix}.{key}": setting for key, setting in settings.items()}


def agents_of(task: Task) -> list[dict[str, Any]]:
    """The agent loop of a run, as agents.yaml holds it."""
    if not task.memories:
        return [{"name": "pmem", "_target_": "pmem.train.verl.agents.Reply", "thinking": task.thinking}]
    memories = task.memories
    return [
        {
            "name": "pmem",
            "_target_": "pmem.train.verl.agents.Memory",
            "thinking": task.thinking,
            "chunk_tokens": memories.chunk_tokens,
            "memory_tokens": memories.memory_tokens,
            "update_limit": memories.update_limit,
            "answer_limit": task.limit,
            "tokenizer_name": memories.tokenizer,
            "style": memories.style,
            "evidence": memories.evidence,
            "form": task.given["reply_form"],
            "window": task.given["window"],
            "prompts": task.prompts,
        }
    ]
