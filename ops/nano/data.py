"""Scenes as the renderer writes them, and the token sequences of every task."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from text import MAPS, Vocabulary, prompt

PICTURES = ("picture", "edited", "subject", "subject_scene")
KINDS = (*PICTURES, *MAPS)
SIDE = 8  # codes of a panel's side


class Scenes:
    """A folder with `scenes.jsonl` and one stack (N, 64, 64, 3) u8 for every kind of panel."""

    def __init__(self, folder: Path) -> None:
        with open(folder / "scenes.jsonl") as lines:
            self.lines = [json.loads(line) for line in lines]
        self.stacks = {kind: np.load(folder / f"{kind}.npy", mmap_mode="r") for kind in KINDS}
        self.people = np.array([i for i, line in enumerate(self.lines) if line.get("keypoints")])

    def __len__(self) -> int:
        return len(self.lines)

    def draw(self, kind: str, rng: np.random.Generator) -> int:
        """A scene; for poses one with a person."""
        among = self.people if kind == "pose" and len(self.people) > 0 else None
        return int(rng.choice(among)) if among is not None else int(rng.integers(len(self)))

    def texts(self) -> list[str]:
        """Every text of every scene."""
        return [text for line in self.lines for text in texts(line)]


def texts(line: dict) -> list[str]:
    return [line["caption"], line["edit"]["instruction"], line["subject"]["description"], line["subject"]["caption"]]


def to_float(panels: np.ndarray) -> Tensor:
    """(B, H, W, 3) u8 to (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(panels.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1.0


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
        Task("t2i", 24, ("picture",), False),
        Task("edit", 14, ("picture", "edited"), True),
        Task("subject", 10, ("subject", "subject_scene"), True),
    ]
    for name, weight in {"depth": 4, "canny": 3, "hed": 2, "pose": 2}.items():
        tasks.append(Task(f"pair {name}", weight, ("picture", name), False))
    for name, weight in {"depth": 8, "canny": 5, "hed": 4, "pose": 3, "normal": 4, "segmentation": 4}.items():
        tasks.append(Task(f"dense {name}", weight, ("picture", name), True))
    for name, weight in {"depth": 5, "canny": 3, "hed": 2, "pose": 1, "normal": 1, "segmentation": 1}.items():
        tasks.append(Task(f"control {name}", weight, (name, "picture"), True))
    return tasks


TASKS = _tasks()
UNCONDITIONAL = 0.1  # share of samples without a prompt
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


@dataclass
class Batch:
    """Tokens (B, T), padded at the end; where a token must be predicted (B, T); the task of each row."""

    tokens: Tensor
    wanted: Tensor
    tasks: list[str]


class Samples:
    """Draws training sequences."""

    def __init__(self, scenes: Scenes, codes: dict[str, np.ndarray], vocabulary: Vocabulary) -> None:
        self.scenes, self.codes, self.vocabulary = scenes, codes, vocabulary
        self.groups = [[task for task in TASKS if len(task.panels) == n] for n in (1, 2)]

    def sequence(self, task: Task, scene: int, rng: np.random.Generator) -> tuple[list[int], int]:
        """The tokens of a sample, and the index of the first that must be predicted."""
        v = self.vocabulary
        panels = [self.codes[kind][scene] for kind in task.panels]
        head: list[int] = []
        if rng.random() >= UNCONDITIONAL:
            captioned = not task.name.startswith("dense") or rng.random() < CAPTIONED
            head = [v.bos, *v.encode(prompt_of(task, self.scenes.lines[scene], captioned)), v.separator]
        first = len(head) + 3 + (SIDE * (SIDE + 1) if task.given else 0)
        return head + image(v, panels), first

    def batches(self, rng: np.random.Generator, size: int, parts: int) -> list[Batch]:
        """One step's samples of one or of two panels, in parts of similar length. Twice as many fit when they have one."""
        weights = np.array([sum(task.weight for task in group) for group in self.groups], dtype=float)
        weights[0] /= 2
        which = int(rng.choice(2, p=weights / weights.sum()))
        group, n = self.groups[which], size * (2 - which)
        p = np.array([task.weight for task in group], dtype=float)
        rows = []
        for i in rng.choice(len(group), n, p=p / p.sum()):
            task = group[i]
            rows.append((*self.sequence(task, self.scenes.draw(task.map, rng), rng), task.name))
        rows.sort(key=lambda row: len(row[0]))
        step = n // parts
        return [self._pad(rows[i * step : (i + 1) * step]) for i in range(parts)]

    def _pad(self, rows: list[tuple[list[int], int, str]]) -> Batch:
        tokens = torch.full((len(rows), max(len(row) for row, _, _ in rows)), self.vocabulary.image_end)
        first = torch.tensor([first for _, first, _ in rows])
        for i, (row, _, _) in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
        codes = (tokens >= self.vocabulary.first_code) & (tokens < self.vocabulary.first_code + self.vocabulary.codes)
        wanted = codes & (torch.arange(tokens.shape[1]) >= first[:, None])
        return Batch(tokens, wanted, [name for _, _, name in rows])
