"""The few numbers of a GGUF file's header that tell a model's shape, without its tensors.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package reads headers too, but takes ten
seconds for a large vocabulary.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


class GgufError(ValueError):
    """The file is no GGUF file, or its header does not say how large the model is."""


def gguf_config(path: Path) -> dict[str, Any]:
    """The header's numbers under the names that they have in a Hugging Face config. Raises GgufError."""
    try:
        with path.open("rb") as stream:
            header, tensors = _header(stream)
        kind = header["general.architecture"]
        own = {key.removeprefix(f"{kind}."): value for key, value in header.items()}
        return {
            "model_type": kind,
            "num_hidden_layers": own["block_count"],
            "hidden_size": own["embedding_length"],
            "intermediate_size": own["feed_forward_length"],
            "num_attention_heads": own["attention.head_count"],
            "num_key_value_heads": own.get("attention.head_count_kv"),
            "head_dim": own.get("attention.key_length"),
            "vocab_size": own.get("vocab_size") or header["tokenizer.ggml.tokens"],
            "tie_word_embeddings": "output.weight" not in tensors,
        }
    except (OSError, struct.error, KeyError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise GgufError(f"{path.name} has no readable GGUF header ({type(error).__name__}: {error})") from error


def _header(stream: BinaryIO) -> tuple[dict[str, Any], set[str]]:
    """Values by key, of an array its length alone; names of the tensors."""
    if stream.read(4) != b"GGUF":
        raise GgufError("the file does not begin as a GGUF file does")
    _version, tensors, entries = _unpack(stream, "<IQQ")
    header = {}
    for _ in range(entries):
        key = _text(stream)
        header[key] = _value(stream, *_unpack(stream, "<I"))
    names = set()
    for _ in range(tensors):
        names.add(_text(stream))
        (dimensions,) = _unpack(stream, "<I")
        stream.seek(8 * dimensions + 4 + 8, 1)
    return header, names


def _value(stream: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _text(stream)
    if kind != _ARRAY:
        return _unpack(stream, _NUMBERS[kind])[0]
    inner, length = _unpack(stream, "<IQ")
    if inner in _NUMBERS:
        stream.seek(struct.calcsize(_NUMBERS[inner]) * length, 1)
    else:
        for _ in range(length):
            _value(stream, inner)
    return length


def _text(stream: BinaryIO) -> str:
    (length,) = _unpack(stream, "<Q")
    return stream.read(length).decode("utf-8", errors="replace")


def _unpack(stream: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))
