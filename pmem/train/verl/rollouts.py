"""verl's agent loop workers with two things more. (Loaded by verl: `rollout.agent.agent_loop_manager_class`.)

A rollout that has no reward, since its judges failed, leaves its group before verl computes advantages: it never
counts as 0 or 1. And what goes wrong in a rollout ends the run with its message; verl would log it, leave the whole
group out, and go on.
"""

from pathlib import Path
from typing import Any

import ray
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

_Theirs: Any = AgentLoopWorkerTQ.__ray_metadata__.modified_class  # the class behind the ray actor


class _Worker(_Theirs):  # type: ignore[misc]
    async def _run_agent_loop(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._run_agent_loop(*args, **kwargs)
        except Exception as fault:
            report(Path(self.config.pmem.alarm), fault)
            raise

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **row: Any) -> None:
        outputs = output if isinstance(output, list) else [output]
        await self._compute_score(outputs, kwargs=row)  # verl's own finds the score there, and computes none
        if outputs[-1].extra_fields["reward_extra_info"]["missing"] and not validate:
            return
        await super()._agent_loop_postprocess(outputs, validate, **row)


class Rollouts(AgentLoopManagerTQ):  # type: ignore[misc]
    """verl's manager of agent loops, with these workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(_Worker)


def report(alarm: Path, fault: BaseException) -> None:
    """Leave the fault where `launch` looks for it; the first one stays."""
    cause = getattr(fault, "cause", None)  # ray wraps what was raised in another process
    told = cause if isinstance(cause, BaseException) else fault
    lines = str(told).strip().splitlines() or [""]
    try:
        with alarm.open("x", encoding="utf-8") as file:
            file.write(f"{lines[0]} ({type(told).__name__})" if lines[0] else type(told).__name__)
    except FileExistsError:
        return
