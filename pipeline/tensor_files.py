"""Safetensors written tensor by tensor: of gigabytes that lie in memory already, no copy is made.

The library's ``save`` holds a file's whole content in memory, once or twice beside the tensors themselves. Its ``save_file``
does not, but writes beside the file that it is given, under a name of its own, where a kill leaves it. The layout is the
library's, byte for byte [1]_: the length of the header (8 bytes, little-endian), the header (JSON, filled up with spaces to a
multiple of 8), and the tensors by kind and name, those of the widest numbers first, so that each lies as its numbers must.

.. [1] https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

# the format's names by torch's, as they lie one behind the other: the widest first
KINDS = {
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "int32": "I32",
    "float16": "F16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
ALIGNED = 8  # bytes


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors of any device as safetensors; bfloat16 is none of them.

    Raises:
        OSError: the file cannot be written.
    """
    kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
    order = sorted(tensors, key=lambda name: (list(KINDS).index(kinds[name]), name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        start, end = end, end + tensors[name].nbytes
        header[name] = {"dtype": KINDS[kinds[name]], "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNED)
    with Path(path).open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in order:
            file.write(_bytes_of(tensors[name]).data)


def _bytes_of(tensor: torch.Tensor) -> NDArray[np.generic]:
    array = tensor.detach().cpu().contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
