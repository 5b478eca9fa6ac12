"""verl's SFT trainer with ranks on several nodes. (A main program; `launch` starts it.)

verl's own, `sft_trainer_ray`, waits without a word where the cluster has no room for its ranks.
"""

from typing import Any

import hydra
import ray
from verl.trainer.sft_trainer_ray import SFTTrainer

CPUS = 10
"""verl claims so many beside each rank's GPU."""


@hydra.main(config_path=None, version_base=None)  # type: ignore[untyped-decorator]
def main(config: Any) -> None:
    """Train by the configuration that --config-path and --config-name tell, in the cluster that is there."""
    ray.init()  # workers' environment comes by launch's RAY_JOB_CONFIG_JSON_ENV_VAR
    nodes, ranks = config.trainer.nnodes, config.trainer.n_gpus_per_node
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if sum(_holds(one) >= ranks for one in there) < nodes:
        has = "; ".join(f"{one.get('GPU', 0):g} GPUs and {one.get('CPU', 0):g} CPUs" for one in there)
        raise RuntimeError(
            f"trainer.nnodes={nodes} with {ranks} ranks each takes {ranks} GPUs and {ranks * CPUS} CPUs of every node;"
            f" the cluster's have {has}"
        )
    SFTTrainer(config=config).fit()


def _holds(resources: dict[str, float]) -> int:
    """Ranks for which a node has room."""
    return int(min(resources.get("GPU", 0), resources.get("CPU", 0) // CPUS))


if __name__ == "__main__":
    main()
