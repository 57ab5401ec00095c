"""Trains the image tokenizer on single panels and on two panels decoded together."""

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common import Clock, Workers, faster, fused, half_precision, learning_rate, means, save_atomically
from data import KINDS, PICTURES, Scenes, to_float
from movqgan import MoVQGAN, MovqConfig

PEAK = 1.5e-3
WARM_UP = 50
PARTS_OF_BUDGET_UNQUANTISED = 0.15
NOISE = 0.2  # of the latents' spread, added while nothing is quantised
COMMITMENT = 0.25
DECAY = 0.99  # of the codebook's moving averages
SAVE_EVERY = 120.0
MOST = 30_000  # scenes; more than these teach the image tokenizer nothing
WEIGHTS = {"picture": 0.3, "edited": 0.08, "subject": 0.06, "subject_scene": 0.08} | {
    "depth": 0.12, "canny": 0.1, "hed": 0.08, "pose": 0.05, "normal": 0.07, "segmentation": 0.06
}


class MovqTraining:
    """Model, optimiser and codebook averages; one file holds them all."""

    def __init__(self, scenes: Scenes, config: MovqConfig, device: torch.device, workers: Workers, batch: int, seed: int) -> None:
        self.scenes, self.device, self.workers, self.batch = scenes, device, workers, batch
        self.rng = np.random.default_rng([seed, 1])
        torch.manual_seed(seed)
        stacks = [torch.from_numpy(np.array(scenes.stacks[kind][:MOST])) for kind in KINDS]
        self.panels = torch.stack(stacks, 1).to(device)  # (N, kinds, 64, 64, 3)
        self.model = MoVQGAN(config).to(device, memory_format=torch.channels_last)
        self.latents, self.decoded = faster(self.model.latents, device), faster(self.model.decode_vectors, device)
        self.params = [p for name, p in self.model.named_parameters() if not name.startswith("quantize")]
        self.model.quantize.embedding.weight.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.params, lr=PEAK, betas=(0.9, 0.99), weight_decay=1e-4, **fused(device))
        self.counts = torch.ones(config.codes, device=device)
        self.sums = torch.zeros(config.codes, config.latent, device=device)
        self.quantised, self.step, self.worked = False, 0, 0.0

    def save(self, path: Path) -> None:
        save_atomically(path, {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "counts": self.counts, "sums": self.sums,
            "quantised": self.quantised, "step": self.step, "worked": self.worked, "rng": self.rng.bit_generator.state,
            "config": asdict(self.model.config),
        })

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.counts, self.sums, self.quantised = state["counts"], state["sums"], state["quantised"]
        self.step, self.worked = state["step"], state["worked"]
        self.rng.bit_generator.state = state["rng"]

    def run(self, budget: float, state: Path) -> None:
        """Trains until the budget (seconds of work) is spent."""
        clock, saved, shown = Clock(budget, self.worked), time.monotonic(), time.monotonic()
        errors: list[Tensor] = []
        while clock.progress < 1.0:
            if not self.quantised and clock.progress > PARTS_OF_BUDGET_UNQUANTISED:
                self.start_codebook()
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(PEAK, clock.progress, self.step, WARM_UP)
            errors.append(self.train_step())
            clock.tick()
            self.step, self.worked = self.step + 1, clock.worked
            if time.monotonic() - shown > 30:
                self.show(clock, errors)
                shown = time.monotonic()
                errors.clear()
            if time.monotonic() - saved > SAVE_EVERY:
                self.save(state)
                saved = time.monotonic()
        if not self.quantised:
            self.start_codebook()
        if errors:
            self.show(clock, errors)
        self.save(state)

    def show(self, clock: Clock, errors: list[Tensor]) -> None:
        used = int((self.counts > 0.05).sum())
        values = " ".join(f"{KINDS[kind]} {psnr(error):.1f}" for kind, error in means(errors).items())
        print(
            f"{time.strftime('%T')} movqgan step {self.step} {clock.progress:.1%} {self.step * self.batch / clock.worked:.1f} panels/s "
            f"left {(clock.budget - clock.worked) / 60:.1f} min codes {used} dB: {values}", flush=True,
        )

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Panels (count, 3, 64, 64) and the indices in KINDS (count): neighbours belong to one scene, one of them a kind of picture."""
        half = count // 2
        shares = np.array([WEIGHTS[kind] for kind in KINDS])
        pair = np.stack([self.rng.choice(len(KINDS), half, p=shares), self.rng.integers(len(PICTURES), size=half)], 1)
        scenes = np.repeat(self.scenes.draw(pair[:, 0] == KINDS.index("pose"), self.rng, len(self.panels)), 2)
        kinds = self.rng.permuted(pair, axis=1).reshape(-1)
        pictures = to_float(self.panels[torch.from_numpy(scenes).to(self.device), torch.from_numpy(kinds).to(self.device)])
        return pictures.contiguous(memory_format=torch.channels_last), torch.from_numpy(kinds)

    def train_step(self) -> Tensor:
        """One step; the kinds of its panels with their squared errors (2, B)."""
        stacked = self.step % 2 == 0
        parts = [self.draw(self.batch // self.workers.count) for _ in range(self.workers.count)]
        notes = self.workers.backward(lambda part: self.loss(part[0], stacked), parts, self.params)
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        if self.quantised:
            self.update_codebook(torch.cat([latents for _, latents in notes]))
        return torch.cat([torch.stack([kinds.to(self.device).float(), errors]) for (errors, _), (_, kinds) in zip(notes, parts)], 1)

    def loss(self, pictures: Tensor, stacked: bool) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The loss of panels (B, 3, 64, 64), their squared errors (B), their latents (B 64, 4)."""
        with half_precision(self.device):
            z = self.latents(pictures).float()
        if self.quantised:
            e = self.model.quantize.vectors(self.model.quantize(z))
            zq, commitment = z + (e - z).detach(), COMMITMENT * F.mse_loss(z, e)
        else:
            spread = z.detach().std(dim=(0, 2, 3), keepdim=True)
            zq, commitment = z + NOISE * spread * torch.randn_like(z), z.square().mean() * 1e-3
        with half_precision(self.device):
            decoded = (unstack(self.decoded(stack(zq))) if stacked else self.decoded(zq)).float()
        errors = (decoded.detach().clamp(-1, 1) - pictures).square().mean(dim=(1, 2, 3))
        flat = z.detach().permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        return reconstruction(decoded, pictures) + commitment, (errors, flat)

    @torch.no_grad()
    def start_codebook(self) -> None:
        """The means of the latents of some panels, by Lloyd's iteration."""
        codes = self.model.config.codes
        parts = [self.draw(16)[0] for _ in range(max(16, codes // 40))]
        latents = self.workers.map(torch.no_grad()(self.model.latents), parts)
        flat = torch.cat([z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]) for z in latents])
        table = flat[torch.from_numpy(self.rng.permutation(len(flat))[:codes]).to(flat.device)]
        for _ in range(12):
            nearest = ((table**2).sum(1) - 2 * flat @ table.T).argmin(1)
            counts = torch.bincount(nearest, minlength=codes).to(flat.dtype)
            sums = torch.zeros_like(table).index_add_(0, nearest, flat)
            random = flat[torch.from_numpy(self.rng.integers(len(flat), size=codes)).to(flat.device)]
            table = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], random)
        self.model.quantize.embedding.weight.copy_(table)
        self.counts = torch.ones_like(counts)
        self.sums = table.clone()
        self.quantised = True

    @torch.no_grad()
    def update_codebook(self, flat: Tensor) -> None:
        """Moves every code towards the mean of its latents (n, 4); codes long unused start again at one of them."""
        table = self.model.quantize.embedding.weight
        nearest = ((table**2).sum(1) - 2 * flat @ table.T).argmin(1)
        counts = torch.bincount(nearest, minlength=len(table)).to(flat.dtype)
        self.counts.mul_(DECAY).add_(counts, alpha=1 - DECAY)
        self.sums.mul_(DECAY).add_(torch.zeros_like(table).index_add_(0, nearest, flat), alpha=1 - DECAY)
        if self.step % 20 == 0:
            dead = torch.nonzero(self.counts < 0.03 * len(flat) / len(table))[:, 0]
            self.sums[dead] = flat[torch.from_numpy(self.rng.integers(len(flat), size=len(dead))).to(flat.device)]
            self.counts[dead] = 1.0
        table.copy_(self.sums / self.counts[:, None])


def reconstruction(decoded: Tensor, pictures: Tensor) -> Tensor:
    """Squared and absolute error, four times as much where a panel has contrast, and squared error of differences of neighbours.

    Little of it is absolute: under that alone thin lines on black are best left out until their place is known exactly.
    """
    grey = pictures.mean(dim=1, keepdim=True)
    contrast = F.max_pool2d(grey, 3, 1, 1) + F.max_pool2d(-grey, 3, 1, 1)  # largest minus smallest neighbour
    error = decoded - pictures
    squared = error.square()
    loss = ((1 + 3 * contrast.clamp(max=1)) * (4 * squared + 0.3 * error.abs())).mean()
    for scale in (error, F.avg_pool2d(error, 2)):
        loss = loss + scale.diff(dim=2).square().mean() + scale.diff(dim=3).square().mean()
    return loss


def stack(zq: Tensor) -> Tensor:
    """(2B, C, h, w) to (B, C, 2h, w): neighbours one above the other."""
    return torch.cat([zq[0::2], zq[1::2]], dim=2)


def unstack(pictures: Tensor) -> Tensor:
    """(B, C, 2h, w) to (2B, C, h, w)."""
    return torch.stack(pictures.chunk(2, dim=2), dim=1).flatten(0, 1)


def psnr(error: float) -> float:
    """Decibels of a mean squared error of values in [-1, 1]."""
    return 10 * float(np.log10(4 / max(error, 1e-9)))


def encode_all(model: MoVQGAN, scenes: Scenes, workers: Workers, device: torch.device) -> dict[str, np.ndarray]:
    """The codes (N, 8, 8) of every panel by kind."""

    torch.backends.cudnn.allow_tf32 = False  # the engine encodes in f32
    at_once = 64 if device.type == "cpu" else 1024

    @torch.no_grad()
    def encode(panels: np.ndarray) -> np.ndarray:
        pictures = to_float(torch.from_numpy(np.array(panels)).to(device)).contiguous(memory_format=torch.channels_last)
        return model.encode(pictures).cpu().numpy().astype(np.int16)

    codes = {}
    for kind in KINDS:
        stack = scenes.stacks[kind]
        codes[kind] = np.concatenate(workers.map(encode, [stack[i : i + at_once] for i in range(0, len(stack), at_once)]))
        print(f"{time.strftime('%T')} encoded {len(stack)} panels of {kind}", flush=True)
    return codes
