"""Draws from a checkpoint folder in PyTorch, without a cache: slow, short, and a check of the engine."""

import argparse
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import export
from data import SIDE, TASKS, Scenes, Task, image, prompt_of, to_bytes, to_float
from movqgan import MoVQGAN
from text import Vocabulary
from transformer import Transformer


@torch.no_grad()
def draw(
    model: Transformer, vocabulary: Vocabulary, prompts: list[list[int]], panels: int, given: list[np.ndarray] | None,
    guidance: float, temperature: float, seed: int,
) -> Tensor:
    """Codes (B, 8 panels, 8) for prompts of ids; the first panel may be given (B of (8, 8)). Temperature 0 takes the best."""
    v, generator = vocabulary, torch.Generator().manual_seed(seed)
    start = [v.image_start, v.grid(2 * panels), v.grid(2)]
    rows = [start + (image(v, [given[i], given[i]])[3 : 3 + SIDE * (SIDE + 1)] if given else []) for i in range(len(prompts))]
    first = SIDE if given else 0
    for step in range((panels * SIDE - first) * (SIDE + 1)):
        if step % (SIDE + 1) == SIDE:
            rows = [[*row, v.new_line] for row in rows]
            continue
        scores = last_scores(model, v, [head + row for head, row in zip(prompts, rows)])
        if guidance != 1:
            other = last_scores(model, v, rows)
            scores = other + guidance * (scores - other)
        law = torch.softmax(scores / max(temperature, 1e-6), dim=-1)
        picks = torch.multinomial(law, 1, generator=generator)[:, 0] if temperature > 0 else scores.argmax(-1)
        rows = [[*row, v.first_code + int(pick)] for row, pick in zip(rows, picks)]
    codes = torch.tensor([[token - v.first_code for token in row[3:] if token != v.new_line] for row in rows])
    return codes.reshape(len(rows), panels * SIDE, SIDE)


def last_scores(model: Transformer, vocabulary: Vocabulary, rows: list[list[int]]) -> Tensor:
    """Scores (B, codes) of the token after each row."""
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
    hidden = model.model(tokens)[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
    return model.scores(hidden, slice(vocabulary.first_code, vocabulary.first_code + vocabulary.codes))


def write_png(path: Path, pixels: np.ndarray) -> None:
    """(H, W, 3) u8."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = pixels.shape
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def column(
    task: Task, scene: int, scenes: Scenes, models: tuple[Transformer, MoVQGAN, Vocabulary], guidance: float, seed: int
) -> np.ndarray:
    """What was asked above what was drawn (256, 64, 3), for one task and scene."""
    transformer, movqgan, vocabulary = models
    head = [vocabulary.bos, *vocabulary.encode(prompt_of(task, scenes.lines[scene], not task.name.startswith("dense"))), vocabulary.separator]
    truth = [np.array(scenes.stacks[kind][scene]) for kind in task.panels]
    given = [movqgan.encode(to_float(truth[0][None]))[0].numpy()] if task.given else None
    dense = task.name.startswith("dense")
    codes = draw(transformer, vocabulary, [head], len(truth), given, 1 if dense else guidance, 0 if dense else 1, seed)
    drawn = to_bytes(movqgan.decode(codes))[0]
    blank = [np.full((64 * (2 - len(truth)), 64, 3), 255, np.uint8)]
    return np.concatenate([*truth, *blank, drawn, *blank])


def main() -> None:
    parser = argparse.ArgumentParser(description="Contact sheet: per task two scenes, the truth above, the drawn below")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cfg", type=float, default=4)
    parser.add_argument("--scene", type=int, default=0)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    models, scenes = export.read(args.checkpoint), Scenes([args.scenes])
    columns = []
    for i, task in enumerate(TASKS):
        for j in range(2):
            scene = args.scene + 2 * i + j
            scene = int(scenes.people[scene % len(scenes.people)]) if task.map == "pose" else scene
            columns.append(column(task, scene, scenes, models, args.cfg, scene))
            print(task.name, scenes.lines[scene]["caption"], flush=True)
    half = (len(columns) + 1) // 2
    columns += [np.full_like(columns[0], 255)] * (2 * half - len(columns))
    write_png(args.out, np.concatenate([np.concatenate(columns[:half], 1), np.concatenate(columns[half:], 1)]).repeat(2, 0).repeat(2, 1))


if __name__ == "__main__":
    main()
