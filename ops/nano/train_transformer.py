"""Trains the transformer on the codes of every panel."""

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common import Clock, Workers, faster, fused, half_precision, learning_rate, means, save_atomically
from data import TASKS, Batch, Samples
from transformer import Transformer, TransformerConfig

PEAK = 2e-3
WARM_UP = 100
PLAIN = 0.1  # weight of the loss of rows without a prompt
AVERAGE = 0.999  # decay of the exported moving average of the weights
SAVE_EVERY = 120.0


class TransformerTraining:
    """Model, its moving average and optimiser; one file holds them all."""

    def __init__(self, samples: Samples, config: TransformerConfig, device: torch.device, workers: Workers, batch: int, seed: int, peak: float) -> None:
        self.samples, self.device, self.workers, self.batch, self.peak = samples, device, workers, batch, peak
        self.rng = np.random.default_rng([seed, 2])
        torch.manual_seed(seed)
        self.model = Transformer(config).to(device)
        v = samples.vocabulary
        self.rows = slice(v.first_code, v.first_code + v.codes)
        with torch.no_grad():  # only image tokens are ever chosen: the other rows of the head stay zero
            kept = self.model.lm_head.weight[self.rows].clone()
            self.model.lm_head.weight.zero_()[self.rows] = kept
        self.average = copy.deepcopy(self.model)
        self.trunk = faster(self.model.model, device)
        matrices = [p for name, p in self.model.named_parameters() if p.ndim == 2 and "norm" not in name and "embed" not in name]
        others = [p for p in self.model.parameters() if all(p is not q for q in matrices)]
        self.params = [*matrices, *others]
        groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.97), **fused(device))
        self.step, self.worked, self.tokens = 0, 0.0, 0

    def save(self, path: Path) -> None:
        save_atomically(path, {
            "model": self.model.state_dict(), "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict(),
            "step": self.step, "worked": self.worked, "tokens": self.tokens, "rng": self.rng.bit_generator.state,
        })

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.worked, self.tokens = state["step"], state["worked"], state["tokens"]
        self.rng.bit_generator.state = state["rng"]

    def start(self, weights: dict[str, Tensor]) -> None:
        """Goes on from the weights of a checkpoint; the optimiser begins anew."""
        for model in (self.model, self.average):
            model.load_state_dict(weights)

    def run(self, budget: float, state: Path, export: Callable[[Transformer], None], export_every: float) -> None:
        """Trains until the budget (seconds of work) is spent, and exports now and then and at the end."""
        clock = Clock(budget, self.worked)
        saved = shown = exported = time.monotonic()
        losses: list[Tensor] = []
        while clock.progress < 1.0:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.peak, clock.progress, self.step, WARM_UP)
            losses.append(self.train_step())
            clock.tick()
            self.step, self.worked = self.step + 1, clock.worked
            if time.monotonic() - shown > 60:
                self.show(clock, losses)
                shown = time.monotonic()
                losses.clear()
            if time.monotonic() - saved > SAVE_EVERY:
                self.save(state)
                saved = time.monotonic()
            if time.monotonic() - exported > export_every:
                export(self.average)
                exported = time.monotonic()
        if losses:
            self.show(clock, losses)
        self.save(state)
        export(self.average)

    def show(self, clock: Clock, losses: list[Tensor]) -> None:
        values = " ".join(f"{TASKS[task].name.replace(' ', '-')} {loss:.2f}" for task, loss in means(losses).items())
        print(
            f"{time.strftime('%T')} transformer step {self.step} {clock.progress:.1%} {self.tokens / clock.worked:.0f} tokens/s "
            f"left {(clock.budget - clock.worked) / 60:.1f} min loss {torch.cat(losses, 1)[1].mean():.3f}: {values}", flush=True,
        )

    def train_step(self) -> Tensor:
        """One step; the tasks of its samples with their loss in nats a token (2, B)."""
        parts = self.samples.batches(self.rng, self.batch, self.workers.count)
        notes = self.workers.backward(self.loss, parts, self.params)
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        decay = min(AVERAGE, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for mean, param in zip(self.average.parameters(), self.model.parameters()):
                mean.lerp_(param, 1 - decay)
        self.tokens += sum(part.tokens.numel() for part in parts)
        return torch.cat([torch.stack([part.tasks.float(), loss]) for part, loss in zip(parts, notes)], 1)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean loss of the wanted tokens under the law that they are drawn from, and the mean of each row (B).

        Rows with guidance g are scored by `u + g (c - u)`, of which c has the prompt and u has not. Training c and u by
        themselves leaves errors in the tails of both, and guidance multiplies their difference; u keeps its own loss too.
        """
        tokens, wanted = batch.tokens, batch.wanted[:, 1:]
        row = torch.arange(len(tokens), device=self.device)[:, None].expand_as(wanted)[wanted]
        targets = tokens[:, 1:][wanted] - self.rows.start
        scores = self.codes(tokens, wanted)
        strength = batch.guidance[row]
        guided = strength != 1
        own = scores.new_zeros(())
        if len(batch.plain) > 0:
            without = self.codes(batch.plain, batch.plain_wanted[:, 1:])
            own = F.cross_entropy(without, targets[guided])
            law = without + strength[guided, None] * (scores[guided] - without)
            scores = scores.index_put((guided.nonzero()[:, 0],), law)
        losses = F.cross_entropy(scores, targets, reduction="none")
        sums = torch.zeros(len(tokens), device=self.device).index_add_(0, row, losses.detach())
        return losses.mean() + PLAIN * own, sums / wanted.sum(1)

    def codes(self, tokens: Tensor, wanted: Tensor) -> Tensor:
        """Scores (wanted, codes) of the tokens that `wanted` (B, T - 1) marks."""
        with half_precision(self.device):
            hidden = self.trunk(tokens[:, :-1])
            return self.model.scores(hidden[wanted], self.rows).float()


def default_config(vocabulary_size: int) -> TransformerConfig:
    """The shape of the committed checkpoint."""
    config = TransformerConfig(vocabulary_size)
    assert math.gcd(config.hidden_size, config.intermediate_size) % 128 == 0, "4-bit weights come in groups of 128"
    return config
