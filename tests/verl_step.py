"""One step of verl's own trainer on given rollouts, on a CPU: `python -m tests.verl_step FOLDER`.

Reads FOLDER/given.json, writes FOLDER/verl.json: advantages, log-probabilities, and for each update loss, KL, share
clipped and gradient norm; and the weights after them, FOLDER/verl.pt. What verl's processes do with a batch, in one.
"""

import json
import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")


def main(folder: Path) -> None:
    from pmem.train.verl.presets import preset
    from tests.test_verl_compose import options

    given = json.loads((folder / "given.json").read_bytes())
    chosen = preset("cpu", "grpo")
    os.environ.update({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"})

    from pmem.train.verl.compose import composed
    from pmem.train.verl.settings import Task

    made = options("grpo", "cpu") | {"batch_size": len(given["groups"]), "group": given["group"], **given["options"]}
    task = Task("grpo", given["model"], 10, made, 64, 128, 0, str(folder), temperature=given["temperature"])
    print(step(composed(task, chosen.keys, [], {}).config, given, folder), file=sys.stderr)


def step(config: Any, given: dict[str, Any], folder: Path) -> str:
    import torch
    from verl.utils import tensordict_utils as tu
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.engine_workers import TrainingWorker, TrainingWorkerConfig
    from verl.workers.utils.losses import ppo_loss
    from verl.workers.utils.padding import response_from_nested, response_to_nested

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/met", rank=0, world_size=1)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    actor.optim.total_training_steps = 10
    actor.model_config = omega_conf_to_dataclass(config.actor_rollout_ref.model)
    made = TrainingWorkerConfig(
        model_type="language_model", model_config=actor.model_config, engine_config=actor.engine,
        optimizer_config=actor.optim, checkpoint_config=actor.checkpoint,
        profiler_config=omega_conf_to_dataclass(config.actor_rollout_ref.actor.profiler),
    )  # fmt: skip
    made.engine_config.use_dynamic_bsz = True
    made.engine_config.max_token_len_per_gpu = made.engine_config.infer_max_token_len_per_gpu = (
        actor.ppo_max_token_len_per_gpu
    )
    worker = TrainingWorker(made)
    worker.reset()
    worker.set_loss_fn(partial(ppo_loss, config=actor))

    data, keys, scores = batch(given)
    warm = {"temperature": given["temperature"], "calculate_entropy": True}
    asked = tu.get_tensordict(dict(data), {**warm, "compute_loss": False})
    old = response_from_nested(worker.infer_batch(asked)["log_probs"], data["response_mask"])
    advantages = advantaged(config, data, keys, scores)
    data["old_log_probs"] = old
    data["advantages"] = response_to_nested(advantages, data["response_mask"])
    data["ref_log_prob"] = torch.nested.as_nested_tensor(
        [torch.tensor(one) for one in given["reference"]], layout=torch.jagged
    )
    rows = len(keys)
    more = {
        **warm,
        "global_batch_size": rows,
        "mini_batch_size": rows,
        "epochs": given["passes"],
        "seed": 0,
        "dataloader_kwargs": {"shuffle": False},
    }
    output = worker.train_mini_batch(tu.get_tensordict(dict(data), more))
    measured = {name: list(map(float, flat(value))) for name, value in tu.get(output, "metrics").items()}
    weights, _ = worker.engine.get_per_tensor_param()
    torch.save({name: one.detach().clone() for name, one in weights}, folder / "verl.pt")
    told = {
        "advantages": [row[0].item() for row in advantages],
        "old": [row.tolist() for row in old.unbind()],
        **measured,
    }
    (folder / "verl.json").write_text(json.dumps(told))
    return f"{rows} conversations"


def flat(value: Any) -> list[Any]:
    return [one for each in value for one in flat(each)] if isinstance(value, list) else [value]


def batch(given: dict[str, Any]) -> tuple[Any, list[str], list[float]]:
    """Rows as the agent loop's workers leave them, their keys, and each rollout's reward on all of its rows."""
    import torch
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    rows, keys, scores = [], [], []
    for group, rollouts in enumerate(given["groups"]):
        for session, rollout in enumerate(rollouts):
            for index, (prompt, reply) in enumerate(rollout["conversations"]):
                ids = torch.tensor(prompt + reply)
                seen = torch.ones(len(reply), dtype=torch.long)
                row = {
                    "prompts": torch.tensor(prompt),
                    "responses": torch.tensor(reply),
                    "response_mask": seen,
                    "loss_mask": seen,
                }
                rows.append({**row, "input_ids": ids, "position_ids": torch.arange(len(ids))})
                keys.append(f"uid{group}_{session}_{index}")
                scores.append(rollout["reward"])
    return list_of_dict_to_tensordict(rows), keys, scores


def advantaged(config: Any, data: Any, keys: list[str], scores: list[float]) -> Any:
    """verl's advantages, as its V1 trainer computes them."""
    import numpy as np
    import torch
    from verl.protocol import DataProto
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    mask = data["response_mask"].to_padded_tensor(0)
    rewards = torch.zeros(mask.shape)
    rewards[torch.arange(len(keys)), mask.sum(1) - 1] = torch.tensor(scores)
    uid = np.array([key.partition("_")[0] for key in keys], dtype=object)
    tensors = {"token_level_rewards": rewards, "token_level_scores": rewards, "response_mask": mask}
    proto = DataProto.from_dict(tensors=tensors, non_tensors={"uid": uid})
    n = config.actor_rollout_ref.rollout.n
    done = compute_advantage_for_multi_trajectories(proto, keys, "grpo", num_repeat=n, config=config.algorithm)
    return done.batch["advantages"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
