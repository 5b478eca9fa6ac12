"""Training in one process, on a CPU or one GPU: data, losses, SFT and GRPO. torch is imported where it is needed."""
