"""GGUF files as Hugging Face folders, converted once and kept in a cache.

transformers can read GGUF, but takes half a minute each time, and splits digits wrongly for some tokenizers. A
converted folder loads in a second or two.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from callwright.types import CallwrightError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FORMAT = 1
"""Part of every cache key. Raise it when the conversion below changes what it writes."""

_SINGLE_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"})
"""Values of a GGUF's `tokenizer.ggml.pre` whose text is split before and after every digit, then as GPT-2 does."""

_STRING = 8
"""The number that GGUF gives the value type "string"."""


def cache_folder() -> Path:
    """`$CALLWRIGHT_CACHE`, else `$XDG_CACHE_HOME/callwright`, else `~/.cache/callwright`."""
    if own := os.environ.get("CALLWRIGHT_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "callwright"


def converted(file: Path, notify: Callable[[str], None]) -> Path:
    """The Hugging Face folder of a GGUF file: float32 safetensors, config and tokenizer; made on first use.

    Safe when several processes ask at once: each converts for itself, the first to finish is kept.
    """
    folder = cache_folder() / f"gguf-{_FORMAT}-{_digest(file)}"
    if folder.exists():
        return folder
    _require_reader(file)
    notify(f"Converting {file.name}, once; this takes about half a minute")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    except OSError as error:
        raise CallwrightError(
            f"cannot write to the cache folder {folder.parent}: {error.strerror}. {_REPAIR}"
        ) from error
    try:
        with redirect_stderr(io.StringIO()):  # a progress bar that cannot be switched off
            _convert(file, temporary)
        temporary.chmod(0o755)  # mkdtemp keeps others out, and a cache may be shared
        _rename_unless_there(temporary, folder)
    except OSError as error:
        raise CallwrightError(f"cannot convert {file} into {folder.parent}: {error}. {_REPAIR}") from error
    except Exception as error:  # readers of damaged files raise anything, tokenizers a bare Exception
        raise CallwrightError(f"{file} is not a GGUF file that transformers can read: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _require_reader(file: Path) -> None:
    import transformers

    if Version(transformers.__version__) < Version("5.18"):  # 5.17 takes another token for the end of a turn
        raise CallwrightError(
            f"transformers {transformers.__version__} reads the tokenizer in {file.name} wrongly: load the model once"
            " (`callwright eval`, say) in an environment with transformers 5.23 or later, hence without vLLM; what that"
            f" leaves in {cache_folder()} serves here too"
        )


_REPAIR = "Free some space, or set CALLWRIGHT_CACHE to a folder that can be written"


def _rename_unless_there(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.exists():  # otherwise another process was faster, and its folder is as good
            raise


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    if _header_string(file, "tokenizer.ggml.pre") in _SINGLE_DIGITS:
        _split_digits(tokenizer)
    # Without `dequantize` the weights stay packed, and `save_pretrained` refuses them.
    model = AutoModelForCausalLM.from_pretrained(
        str(file.parent),
        gguf_file=file.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def _header_string(file: Path, key: str) -> str | None:
    """One string of a GGUF header. The full reader takes ten seconds, most of it for the vocabulary."""
    entry = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", _STRING)
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = data.find(entry)
        if place < 0:
            return None
        start = place + len(entry) + 8
        (length,) = struct.unpack("<Q", data[start - 8 : start])
        return data[start : start + length].decode()


def _split_digits(tokenizer: PreTrainedTokenizerBase) -> None:
    """Put back the pre-tokenizer that transformers drops: without it "a  5" becomes four tokens instead of three."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
