"""Imports verl for tests. What it and ray warn of while they are imported is theirs to mend."""

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("verl")
    import verl.experimental.agent_loop.agent_loop
    import verl.trainer.ppo.v1
    import verl.utils.dataset.multiturn_sft_dataset
    import verl.utils.dataset.rl_dataset

__all__ = ["verl"]
