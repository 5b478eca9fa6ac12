"""A task that a tiny model can learn: a persona says what it likes amid small talk, and asks which of four suits it.

Items are words that mean nothing; what a persona likes stands in its history and nowhere else, so that a reply by
letters' or words' frequency alone is right in a quarter of cases.
"""

from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from tests.command import lines, sample

SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu")
ITEMS = ["".join(pair) for pair in product(SYLLABLES, SYLLABLES)][:16]
TALK = [f"{a}{b}n" for a, b in product(SYLLABLES, SYLLABLES)][:50]
PROMPTS = {"eval/mcq": "{{query}} {{options}}", "eval/mcq_line": "{{query}} {{options}}"}
PROMPTS |= {"eval/open": "{{query}}", "train/thoughts_own": "{{preference}}"}
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|> {{ m.content }} {% endfor %}<|assistant|>"
MARKS = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|unknown|>")
WORDS = ("like", "which", "A", "B", "C", "D", "Answer:", "\nAnswer:", "-", "Chat", "User:", "Assistant:")


def persona(number: int, seed: int, *, questions: int = 2) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A history, and questions on it."""
    draw = Random(f"{seed} {number}")
    liked = draw.choice(ITEMS)
    persona_id, history_id = f"p-{seed:04x}{number:012x}", f"h-{seed:04x}{number:012x}"

    def talk(words: int) -> str:
        return " ".join(draw.choices(TALK, k=words))

    told = [f"{talk(draw.randint(0, 3))} like {liked} {talk(draw.randint(0, 3))}".strip(), talk(draw.randint(1, 2))]
    other = [talk(draw.randint(1, 3)), talk(draw.randint(1, 2))]
    history = history_of(history_id, draw.choice([told, [*other, *told], [*told, *other]]))
    asked = []
    for n in range(questions):
        options = [liked, *draw.sample([item for item in ITEMS if item != liked], 3)]
        asked.append(question_of(f"q-{seed:04x}{number:08x}{n:04x}", persona_id, history_id, options, draw))
    return history, asked


def history_of(own_id: str, texts: list[str]) -> dict[str, Any]:
    """A history of these messages, in turn the user's and the assistant's, of the persona with the same number."""
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    persona_id = own_id.replace("h-", "p-")
    history = {**sample("history"), "id": own_id, "persona_id": persona_id, "user_id": persona_id}
    history |= {"system": None, "sessions": [], "messages": messages}
    history.pop("messages_sha256", None)
    return history


def question_of(own_id: str, persona_id: str, history_id: str, options: list[str], draw: Random) -> dict[str, Any]:
    """The question which option suits a persona: the first given, wherever it then stands."""
    liked, *others = options
    right = draw.randrange(4)
    others.insert(right, liked)
    place = {**next(iter(sample("qa")["histories"].values())), "id": history_id}
    qa = {**sample("qa"), "id": own_id, "persona_id": persona_id, "case": "own"}
    qa["preference"] = {**qa["preference"], "text": liked}
    qa |= {"query": "which", "answer": liked, "options": others, "gold": "ABCD"[right], "histories": {"32k": place}}
    qa["distractors"] = [{"text": text, "made": "random_preference"} for text in others if text != liked]
    return qa | {"labels": {}, "votes": []}


def written(folder: Path, *, people: int, seed: int, name: str) -> list[dict[str, Any]]:
    """Files NAME.jsonl and NAME-histories.jsonl of so many personas; the questions."""
    made = [persona(number, seed) for number in range(people)]
    questions = [qa for _, asked in made for qa in asked]
    (folder / f"{name}-histories.jsonl").write_bytes(lines(history for history, _ in made))
    (folder / f"{name}.jsonl").write_bytes(lines(questions))
    return questions


def prompts(folder: Path, texts: dict[str, str] = PROMPTS) -> Path:
    """A folder of prompts short enough for a tiny model."""
    for name, text in texts.items():
        path = folder / "prompts" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "prompts"


def task(
    folder: Path, *, people: int, held: int, seed: int = 1, texts: dict[str, str] = PROMPTS, model_seed: int = 0
) -> Path:
    """The folder with questions to train on (seed) and on other personas (seed + 1), all histories, prompts, `model`."""
    folder.mkdir(exist_ok=True, parents=True)
    written(folder, people=people, seed=seed, name="train")
    written(folder, people=held, seed=seed + 1, name="held")
    both = [(folder / f"{name}-histories.jsonl").read_bytes() for name in ("train", "held")]
    (folder / "histories.jsonl").write_bytes(b"".join(both))
    prompts(folder, texts)
    model(folder / "model", model_seed)
    return folder


def tokenizer() -> Any:
    """A token for each word of the task."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: n for n, word in enumerate((*MARKS, *WORDS, *ITEMS, *TALK))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    answer = pre_tokenizers.Split(Regex(r"\n?Answer:"), "isolated")
    gaps = pre_tokenizers.Split(Regex(r"(?!\nAnswer)[\s.]+"), "removed")
    made.pre_tokenizer = pre_tokenizers.Sequence([answer, gaps])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|end|>", pad_token="<|end|>", unk_token="<|unknown|>",
        additional_special_tokens=list(MARKS[1:4]),
    )  # fmt: skip
    fast.chat_template = TEMPLATE
    return fast


def model(folder: Path, seed: int = 0, *, context: int = 256, heads: int = 4) -> Path:
    """A tiny Llama with random weights, saved."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer()
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=heads, max_position_embeddings=context, tie_word_embeddings=True, initializer_range=0.08,
        eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id, bos_token_id=words.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
