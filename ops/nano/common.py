"""What both trainings share: clock, schedule, threads, atomic files."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

LONGEST_STEP = 30.0  # seconds; a step that seems longer was paused from outside


class Clock:
    """Seconds of work against a budget; pauses from outside do not count."""

    def __init__(self, budget: float, worked: float) -> None:
        self.budget, self.worked, self._last = budget, worked, time.monotonic()

    def tick(self) -> float:
        """Counts the time since the last call, and returns it."""
        now = time.monotonic()
        spent, self._last = min(now - self._last, LONGEST_STEP), now
        self.worked += spent
        return spent

    def skip(self) -> None:
        """Leaves out the time since the last call."""
        self._last = time.monotonic()

    @property
    def progress(self) -> float:
        """0 at the start, 1 when the budget is spent."""
        return min(self.worked / self.budget, 1.0)


def learning_rate(peak: float, progress: float, step: int, warm_up: int) -> float:
    """Linear warm-up by steps, then a cosine over the budget down to a fiftieth."""
    cosine = 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * progress))
    return peak * min(1.0, (step + 1) / warm_up) * cosine


class Workers:
    """Runs parts of a step side by side, one thread each: on few cores far cheaper than threads inside each operation."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))

    def map(self, run: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        """The results in order."""
        return list(self._pool.map(run, parts)) if self.count > 1 else [run(part) for part in parts]

    def backward(self, loss: Callable[[Any], tuple[Tensor, Any]], parts: Sequence[Any], params: list[nn.Parameter]) -> list[Any]:
        """Leaves the mean gradient of the parts in the parameters; returns what else `loss` returned, by part."""

        def run(part: Any) -> tuple[tuple[Tensor | None, ...], Any]:
            value, notes = loss(part)
            return torch.autograd.grad(value / len(parts), params, allow_unused=True), notes

        results = self.map(run, parts)
        for param, *grads in zip(params, *(grads for grads, _ in results)):
            known = [grad for grad in grads if grad is not None]
            param.grad = sum(known[1:], known[0]) if known else None
        return [notes for _, notes in results]


def half_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """bf16 products on a GPU, f32 on a CPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()


def faster(run: Callable[..., Tensor], device: torch.device) -> Callable[..., Tensor]:
    """The same function with its small operations fused, on a GPU: there they are most of a step."""
    return torch.compile(run, dynamic=False) if device.type == "cuda" else run


def fused(device: torch.device) -> dict[str, bool]:
    """Options of an optimiser: one kernel for all parameters on a GPU."""
    return {"fused": True} if device.type == "cuda" else {}


def means(rows: list[Tensor]) -> dict[int, float]:
    """Of rows (2, n) of groups and values, the mean value of each group."""
    groups, values = torch.cat(rows, 1).cpu().double()
    return {int(group): float(values[groups == group].mean()) for group in groups.unique()}


def save_atomically(path: Path, value: Any) -> None:
    """Writes beside the path, then renames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    torch.save(value, beside)
    os.replace(beside, path)
