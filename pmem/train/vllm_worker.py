"""What vLLM's worker processes do beside their own: take a policy's weights. They import this by its name."""

from typing import Any


class Taking:
    """Mixed into vLLM's worker (its option `worker_extension_cls`)."""

    model_runner: Any
    reload_weights: Any

    def take_weights(self, folder: str) -> None:
        """Replace the model's weights by those of a checkpoint of the same model."""
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        self.reload_weights(weights_path=folder)
        # vLLM (0.32) packs weights for a CPU's kernels, and packs those anew that the checkpoint names: an output layer
        # that shares the embeddings' weights would go on computing with the old ones
        for layer in self.model_runner.get_model().modules():
            if isinstance(layer, ParallelLMHead) and hasattr(layer, "cpu_linear"):
                layer.quant_method.process_weights_after_loading(layer)
