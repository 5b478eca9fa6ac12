"""What training a 4B model on 8 GPUs takes, on paper: memory, tokens of a step, hours. Nothing here is measured.

python bench/sizes.py

Every assumption is a constant below. docs/cluster.md shows the table and says where the formulas come from.
"""

from typing import NamedTuple

# Qwen3-4B's config.json
LAYERS, WIDTH, HEADS, PAIRS, HEAD, INNER, VOCABULARY = 36, 2560, 32, 8, 128, 9728, 151_936

# The hardware: 8 H100 SXM, of the data sheet
GPUS, PEAK, BANDWIDTH, MEMORY = 8, 989e12, 3.35e12, 80e9

# The recipe: the paper's where it says so
PROMPTS, GROUP, STEPS = 32, 8, 500
SFT_BATCH, SFT_STEPS = 64, 300
CHUNKS = 7  # 32,000 / 5,000, the last one shorter

# Ours, and the least certain
HISTORY = 36_000  # tokens of Qwen's tokenizer in a history of 32,000 of o200k, with its question
REPLY = 800  # thinking and answer, on average
CHUNK = 5_600  # a chunk, likewise
MEMORY_TOKENS = 1_200  # of a memory, on average; the cap is 2,048
ASKED = 700  # instructions, template, question
TRAIN_SHARE, PREFILL_SHARE, READ_SHARE = 0.35, 0.40, 0.60  # of the peaks, that are reached
STRAGGLERS = 1.3  # how much longer the longest of a batch of replies takes than the average
SYNC = 20.0  # seconds a step: weights to the rollout engine, rewards, logging
SEQUENCE_PARALLEL = {"full": 2, "memory": 1}  # GPUs that share a sequence in updates
INFERENCE_SHARE = 0.6  # of a GPU's memory, for weights and cache in rollouts

PARAMETERS = (
    VOCABULARY * WIDTH  # tied
    + LAYERS * (2 * WIDTH * HEADS * HEAD + 2 * WIDTH * PAIRS * HEAD + 3 * WIDTH * INNER + 2 * WIDTH + 2 * HEAD)
    + WIDTH
)
CACHED = 2 * LAYERS * PAIRS * HEAD * 2  # bytes of a token in the attention cache, bfloat16


class Conversation(NamedTuple):
    """Tokens of a prompt and its reply; times: how often a rollout has one like it."""

    prompt: float
    reply: float
    times: int = 1

    @property
    def tokens(self) -> float:
        return self.prompt + self.reply


ROLLOUTS = {
    "full": [Conversation(HISTORY, REPLY)],
    "memory": [
        Conversation(CHUNK + MEMORY_TOKENS + ASKED, MEMORY_TOKENS, CHUNKS),
        Conversation(MEMORY_TOKENS + ASKED, REPLY),
    ],
}


def forward(tokens: float) -> float:
    """FLOP of one pass over a conversation: two for each weight and token, and attention over half of it on average."""
    return tokens * (2 * PARAMETERS + 4 * LAYERS * HEADS * HEAD * tokens / 2)


def memory(kind: str) -> dict[str, float]:
    """Bytes on a GPU in an update (AdamW, FSDP, mixed precision, checkpoints at each layer), and in rollouts."""
    longest = max(one.tokens for one in ROLLOUTS[kind])
    at_once = longest / SEQUENCE_PARALLEL[kind]
    room = INFERENCE_SHARE * MEMORY - 2 * PARAMETERS
    return {
        "weights, float32": 4 * PARAMETERS / GPUS,
        "gradients, float32": 4 * PARAMETERS / GPUS,
        "AdamW's moments, float32": 8 * PARAMETERS / GPUS,
        "kept activations, bfloat16": 2 * LAYERS * WIDTH * at_once,
        "one layer's activations": 34 * WIDTH * at_once,
        "logits and their gradient, float32": 8 * VOCABULARY * at_once,
        "in an update": 16 * PARAMETERS / GPUS + (2 * LAYERS * WIDTH + 34 * WIDTH + 8 * VOCABULARY) * at_once,
        "rollouts: weights, bfloat16": 2 * PARAMETERS,
        "rollouts: cache of one conversation": CACHED * longest,
        "rollouts: conversations that fit, nothing shared": room / (CACHED * longest),
    }


def step(kind: str) -> dict[str, float]:
    """Tokens and seconds of a GRPO step."""
    rollouts = PROMPTS * GROUP
    each = ROLLOUTS[kind]
    passes = 4 + 2  # forward, backward (2), layers again; old policy, reference
    work = rollouts * sum(one.times * forward(one.tokens) for one in each)
    # the group's rollouts share what they begin with: the whole history, or the first chunk
    computed = {"full": PROMPTS * forward(HISTORY), "memory": rollouts * sum(c.times * forward(c.prompt) for c in each)}
    replies = sum(one.times * one.reply for one in each)
    per_gpu = rollouts / GPUS
    read = 2 * PARAMETERS + per_gpu * CACHED * sum(c.times * c.reply * c.tokens for c in each) / replies
    found = {
        "input tokens": rollouts * sum(one.times * one.prompt for one in each),
        "tokens of replies": rollouts * replies,
        "conversations": rollouts * sum(one.times for one in each),
        "FLOP of updates": passes * work,
        "seconds: updates": passes * work / (GPUS * PEAK * TRAIN_SHARE),
        "seconds: prompts": computed[kind] / (GPUS * PEAK * PREFILL_SHARE),
        "seconds: replies": STRAGGLERS * replies * read / (BANDWIDTH * READ_SHARE),
        "seconds: the rest": SYNC,
    }
    found["seconds of a step"] = sum(value for name, value in found.items() if name.startswith("seconds"))
    return found | {"hours": found["seconds of a step"] * STEPS / 3600}


def sft(kind: str) -> dict[str, float]:
    """Hours of the cold start, on one conversation of each kind for each sample."""
    work = SFT_BATCH * sum(one.times * forward(one.tokens) for one in ROLLOUTS[kind])
    seconds = 4 * work / (GPUS * PEAK * TRAIN_SHARE)
    return {"SFT: seconds of a step": seconds, "SFT: hours": seconds * SFT_STEPS / 3600}


def shown(name: str, value: float) -> str:
    """A number as the table shows it."""
    if "FLOP" in name:
        return f"{value:.2g}"
    if name in memory("full"):
        return f"{value:,.1f}" if "fit" in name else f"{value / 1e9:,.1f} GB"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    print(f"{PARAMETERS:,} parameters, {CACHED:,} bytes of attention cache for each token\n")
    columns = {kind: memory(kind) | step(kind) | sft(kind) for kind in ROLLOUTS}
    print("| | full 32k history | memory |\n|---|---:|---:|")
    for name in columns["full"]:
        print(f"| {name} | {' | '.join(shown(name, columns[kind][name]) for kind in columns)} |")
