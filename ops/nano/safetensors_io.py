"""Safetensors files, read and written without further packages."""

import json
import struct
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8}


def load(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name."""
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, info in header.items():
        if name == "__metadata__" or info["dtype"] not in DTYPES:
            continue
        start, end = (8 + length + offset for offset in info["data_offsets"])
        flat = torch.frombuffer(data[start:end], dtype=DTYPES[info["dtype"]])
        tensors[name] = flat.reshape(info["shape"])
    return tensors


def save(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes tensors in the given order."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header, chunks, at = {}, [], 0
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous()
        size = flat.numel() * flat.element_size()
        header[name] = {"dtype": names[flat.dtype], "shape": list(flat.shape), "data_offsets": [at, at + size]}
        chunks.append(flat.view(torch.int16).numpy().tobytes() if flat.dtype == torch.bfloat16 else flat.numpy().tobytes())
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))
