"""Scenes as the renderer writes them, and the token sequences of every task."""

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from text import MAPS, Vocabulary, prompt

PICTURES = ("picture", "edited", "subject", "subject_scene")
KINDS = (*PICTURES, *MAPS)
SIDE = 8  # codes of a panel's side
LONGEST_PROMPT = 64  # tokens


class Scenes:
    """Folders, each with `scenes.jsonl` and one stack (N, 64, 64, 3) u8 for every kind of panel."""

    def __init__(self, folders: list[Path]) -> None:
        self.lines = [json.loads(line) for folder in folders for line in (folder / "scenes.jsonl").open()]
        self.stacks = {kind: np.concatenate([np.load(folder / f"{kind}.npy", mmap_mode="r") for folder in folders]) for kind in KINDS}
        self.people = np.array([i for i, line in enumerate(self.lines) if line.get("keypoints")])

    def __len__(self) -> int:
        return len(self.lines)

    def draw(self, poses: np.ndarray, rng: np.random.Generator, among: int) -> np.ndarray:
        """One of the first `among` scenes for each of `poses` (n) bool; where it is true, one with a person."""
        scenes, people = rng.integers(among, size=len(poses)), self.people[self.people < among]
        return np.where(poses, rng.choice(people, len(poses)), scenes) if len(people) > 0 else scenes

    def texts(self) -> list[str]:
        """Every text of every scene."""
        return [text for line in self.lines for text in texts(line)]


def texts(line: dict) -> list[str]:
    return [line["caption"], line["edit"]["instruction"], line["subject"]["description"], line["subject"]["caption"]]


def to_float(panels: np.ndarray | Tensor) -> Tensor:
    """(B, H, W, 3) u8 to (B, 3, H, W) in [-1, 1]."""
    return torch.as_tensor(panels).float().permute(0, 3, 1, 2) / 127.5 - 1.0


def to_bytes(pictures: Tensor) -> np.ndarray:
    """(B, 3, H, W) in [-1, 1] to (B, H, W, 3) u8."""
    return ((pictures + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


@dataclass(frozen=True)
class Task:
    """One task: its weight among the samples, its panels from top to bottom, and whether the first of two is given."""

    name: str
    weight: float
    panels: tuple[str, ...]
    given: bool

    @property
    def map(self) -> str:
        """The map it reads or writes, if any."""
        return next((panel for panel in self.panels if panel in MAPS), "")


def _tasks() -> list[Task]:
    tasks = [
        Task("t2i", 30, ("picture",), False),
        Task("edit", 16, ("picture", "edited"), True),
        Task("subject", 8, ("subject", "subject_scene"), True),
    ]
    for name, weight in {"depth": 3, "canny": 2, "hed": 1, "pose": 2}.items():
        tasks.append(Task(f"pair {name}", weight, ("picture", name), False))
    for name, weight in {"depth": 6, "canny": 4, "hed": 2, "pose": 3, "normal": 3, "segmentation": 4}.items():
        tasks.append(Task(f"dense {name}", weight, ("picture", name), True))
    for name, weight in {"depth": 8, "canny": 6, "hed": 4, "pose": 3, "normal": 3, "segmentation": 3}.items():
        tasks.append(Task(f"control {name}", weight, (name, "picture"), True))
    return tasks


TASKS = _tasks()
# Share of the samples of one and of two panels that are drawn under guidance: a row with and a row without the prompt. Dense ones
# are not; of two panels about three in four are others.
GUIDED = (0.6, 0.4)
STRONGEST = 4.0  # the guidance of half of them; that of the others lies below
CAPTIONED = 0.2  # share of dense samples with a caption


def prompt_of(task: Task, line: dict, captioned: bool) -> str:
    """The prompt of a task for one scene."""
    if task.name == "t2i":
        return prompt("t2i", line["caption"])
    if task.name == "edit":
        return prompt("edit", line["edit"]["instruction"])
    if task.name == "subject":
        return prompt("from", line["subject"]["caption"], line["subject"]["description"])
    kind = "from" if task.name.startswith("control") else "pair"
    return prompt(kind, line["caption"] if captioned else "", MAPS[task.map])


def image(vocabulary: Vocabulary, panels: list[np.ndarray]) -> list[int]:
    """The tokens of one or two panels of codes (8, 8): header, rows, end."""
    tokens = [vocabulary.image_start, vocabulary.grid(2 * len(panels)), vocabulary.grid(2)]
    for row in np.concatenate(panels):
        tokens += [vocabulary.first_code + int(code) for code in row] + [vocabulary.new_line]
    return [*tokens, vocabulary.image_end]


def frame(vocabulary: Vocabulary, panels: int) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of an image whose codes are all 0, and the indices of the codes in it."""
    tokens = np.array(image(vocabulary, [np.zeros((SIDE, SIDE), int)] * panels))
    return tokens, np.flatnonzero(tokens == vocabulary.first_code)


@dataclass
class Batch:
    """Tokens (B, T), padded at the end; where a token must be predicted (B, T); the index in TASKS of each row (B);
    the guidance of each row (B), 1 for none. `plain` and `plain_wanted` (G, T) are the rows with guidance without their prompts."""

    tokens: Tensor
    wanted: Tensor
    tasks: Tensor
    guidance: Tensor
    plain: Tensor
    plain_wanted: Tensor


class Samples:
    """Draws training sequences from tables on the device: drawing from files costs more than a step of a GPU."""

    def __init__(self, scenes: Scenes, codes: dict[str, np.ndarray], vocabulary: Vocabulary, device: torch.device) -> None:
        self.scenes, self.vocabulary, self.device = scenes, vocabulary, device
        self.codes = torch.stack([torch.from_numpy(codes[kind]).flatten(1) for kind in KINDS], 1).to(device)  # (N, kinds, 64)
        self.heads, self.lengths = self._heads()
        self.groups = [[i for i, task in enumerate(TASKS) if len(task.panels) == n] for n in (1, 2)]
        self.frames = [tuple(torch.from_numpy(part).to(device) for part in frame(vocabulary, n)) for n in (1, 2)]
        self.kinds = torch.tensor([[KINDS.index(task.panels[0]), KINDS.index(task.panels[-1])] for task in TASKS], device=device)
        self.given = torch.tensor([task.given for task in TASKS], device=device)

    def _heads(self) -> tuple[Tensor, Tensor]:
        """The prompts (N, 2 tasks, longest) of every scene by task, without and with a caption, and their lengths (N, 2 tasks)."""
        v = self.vocabulary

        def ids(task: Task, line: dict, captioned: bool) -> list[int]:
            return [v.bos, *v.encode(prompt_of(task, line, captioned)), v.separator]

        def rows(scenes: range) -> tuple[np.ndarray, np.ndarray]:
            lines = (self.scenes.lines[i] for i in scenes)
            heads = [[ids(task, line, captioned) for captioned in (False, True) for task in TASKS] for line in lines]
            lengths = np.array([[len(head) for head in row] for row in heads], np.int16)
            table = np.full((*lengths.shape, LONGEST_PROMPT), v.image_end, np.int16)
            for i, row in enumerate(heads):
                for j, head in enumerate(row):
                    table[i, j, : len(head)] = head
            return table, lengths

        parts = in_processes(rows, len(self.scenes), 500)
        lengths = np.concatenate([lengths for _, lengths in parts])
        table = np.concatenate([table for table, _ in parts])[:, :, : lengths.max()]
        return torch.from_numpy(table.copy()).to(self.device), torch.from_numpy(lengths).to(self.device)

    def batches(self, rng: np.random.Generator, size: int, parts: int) -> list[Batch]:
        """One step's samples of one or of two panels, in parts. Twice as many fit when they have one."""
        weights = np.array([sum(TASKS[i].weight for i in group) for group in self.groups], dtype=float)
        weights[0] /= 2
        which = int(rng.choice(2, p=weights / weights.sum()))
        group, n = self.groups[which], size * (2 - which)
        p = np.array([TASKS[i].weight for i in group], dtype=float)
        tasks = np.sort(rng.choice(group, n, p=p / p.sum()))
        scenes = self.scenes.draw(np.array([TASKS[i].map == "pose" for i in tasks]), rng, len(self.scenes))
        captioned = np.array([not TASKS[i].name.startswith("dense") for i in tasks]) | (rng.random(n) < CAPTIONED)
        # Always as many: on a GPU every number of rows would be compiled anew.
        guided = rng.permutation([i for i in range(n) if not TASKS[tasks[i]].name.startswith("dense")])[: int(n * GUIDED[which])]
        guidance = np.ones(n, np.float32)
        guidance[guided] = np.where(rng.random(len(guided)) < 0.5, STRONGEST, rng.uniform(1.0, STRONGEST, len(guided)))
        split = [np.array_split(column, parts) for column in (tasks, scenes, captioned, guidance)]
        return [self._batch(which + 1, *(column[i] for column in split)) for i in range(parts)]

    def _batch(self, panels: int, tasks: np.ndarray, scenes: np.ndarray, captioned: np.ndarray, guidance: np.ndarray) -> Batch:
        """Head and image side by side; a row's tokens after its image are ends of images."""
        task, scene, with_caption, strength = (torch.from_numpy(x).to(self.device) for x in (tasks, scenes, captioned, guidance))
        variant = task + with_caption * len(TASKS)
        heads, lengths = self.heads[scene, variant].long(), self.lengths[scene, variant].long()
        tokens, places = self.frames[panels - 1]
        images = tokens.repeat(len(tasks), 1)
        codes = [self.codes[scene, self.kinds[task, k]].long() for k in range(panels)]
        images[:, places] = torch.cat(codes, 1) + self.vocabulary.first_code
        free = places[None] >= self.given[task][:, None] * places[SIDE * SIDE] if panels == 2 else torch.ones_like(images[:, places], dtype=torch.bool)
        chosen = torch.zeros_like(images, dtype=torch.bool)
        chosen[:, places] = free
        width = int(lengths.max()) if self.device.type == "cpu" else heads.shape[1]  # on a GPU one shape, compiled once
        heads = heads[:, :width]
        at = torch.arange(width + images.shape[1], device=self.device)[None] - lengths[:, None]  # index in the image, once past the head
        inside = at.clamp(0, images.shape[1] - 1)
        head = torch.cat([heads, heads[:, :1].expand(-1, images.shape[1])], 1)
        image_tokens = torch.where(at < images.shape[1], images.gather(1, inside), torch.full_like(at, self.vocabulary.image_end))
        wanted = chosen.gather(1, inside) & (at >= 0) & (at < images.shape[1])
        guided = strength != 1
        return Batch(torch.where(at < 0, head, image_tokens), wanted, task, strength, images[guided], chosen[guided])


_run: Callable[[range], Any]


def in_processes(run: Callable[[range], Any], count: int, at_once: int) -> list[Any]:
    """`run` over parts of 0, 1, ..., in order, on all cores: pure Python gains nothing from threads."""
    global _run
    _run = run
    with multiprocessing.get_context("fork").Pool() as pool:
        return pool.map(_call, [range(i, min(i + at_once, count)) for i in range(0, count, at_once)], chunksize=1)


def _call(part: range) -> Any:
    return _run(part)
