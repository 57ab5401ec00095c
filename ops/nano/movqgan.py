"""The image tokenizer: an MoVQGAN of the reference layout. Module names are the tensor names of the checkpoint."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class MovqConfig:
    """Shape of the model. Channels of a level are multiples of 32; attention sits on the last level."""

    channels: tuple[int, ...] = (32, 32, 64, 96)
    blocks: int = 1
    codes: int = 512
    latent: int = 4


class Norm(nn.GroupNorm):
    """Group norm of the encoder, (B, C, h, w) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__(32, channels, eps=1e-6)

    def forward(self, x: Tensor, zq: Tensor | None = None) -> Tensor:
        return super().forward(x)


class SpatialNorm(nn.Module):
    """Group norm of the decoder, scaled and shifted by the codebook vectors zq (B, 4, H/8, W/8)."""

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        self.norm_layer = nn.GroupNorm(32, channels, eps=1e-6)
        self.conv_y = nn.Conv2d(latent, channels, 1)
        self.conv_b = nn.Conv2d(latent, channels, 1)
        nn.init.normal_(self.conv_y.weight, std=0.05)
        nn.init.ones_(self.conv_y.bias)
        nn.init.normal_(self.conv_b.weight, std=0.05)
        nn.init.zeros_(self.conv_b.bias)

    def forward(self, x: Tensor, zq: Tensor) -> Tensor:
        size = x.shape[-2:]
        scale = F.interpolate(self.conv_y(zq), size=size, mode="nearest")
        shift = F.interpolate(self.conv_b(zq), size=size, mode="nearest")
        return torch.addcmul(shift, self.norm_layer(x), scale)


def norm(channels: int, latent: int | None) -> nn.Module:
    return Norm(channels) if latent is None else SpatialNorm(channels, latent)


class Block(nn.Module):
    """Residual block, (B, from, h, w) to (B, to, h, w)."""

    def __init__(self, from_: int, to: int, latent: int | None) -> None:
        super().__init__()
        self.norm1 = norm(from_, latent)
        self.conv1 = nn.Conv2d(from_, to, 3, padding=1)
        self.norm2 = norm(to, latent)
        self.conv2 = nn.Conv2d(to, to, 3, padding=1)
        if from_ != to:
            self.nin_shortcut = nn.Conv2d(from_, to, 1)

    def forward(self, x: Tensor, zq: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x, zq)))
        h = self.conv2(F.silu(self.norm2(h, zq)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    """One head over all positions, (B, C, h, w) to the same."""

    def __init__(self, channels: int, latent: int | None) -> None:
        super().__init__()
        self.norm = norm(channels, latent)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, zq: Tensor | None = None) -> Tensor:
        n = self.norm(x, zq)
        q, k, v = (part(n).flatten(2) for part in (self.q, self.k, self.v))  # (B, C, hw)
        law = torch.softmax(q.transpose(1, 2) @ k * x.shape[1] ** -0.5, dim=2)  # (B, queries, keys)
        out = (v @ law.transpose(1, 2)).reshape(x.shape)
        return x + self.proj_out(out)


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Blocks of one resolution, each followed by attention on the last level, then a change of resolution."""

    def __init__(self, from_: int, to: int, blocks: int, attention: bool, latent: int | None) -> None:
        super().__init__()
        self.block = nn.ModuleList(Block(from_ if i == 0 else to, to, latent) for i in range(blocks))
        self.attn = nn.ModuleList(Attention(to, latent) for _ in range(blocks if attention else 0))

    def forward(self, x: Tensor, zq: Tensor | None = None) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x, zq)
            if len(self.attn) > 0:
                x = self.attn[i](x, zq)
        for resample in ("downsample", "upsample"):
            if hasattr(self, resample):
                x = getattr(self, resample)(x)
        return x


class Mid(nn.Module):
    def __init__(self, channels: int, latent: int | None) -> None:
        super().__init__()
        self.block_1 = Block(channels, channels, latent)
        self.attn_1 = Attention(channels, latent)
        self.block_2 = Block(channels, channels, latent)

    def forward(self, x: Tensor, zq: Tensor | None = None) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x, zq), zq), zq)


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] to (B, 4, H/8, W/8)."""

    def __init__(self, config: MovqConfig) -> None:
        super().__init__()
        width, last = config.channels[0], len(config.channels) - 1
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList()
        for i, to in enumerate(config.channels):
            level = Level(width, to, config.blocks, i == last, None)
            if i < last:
                level.downsample = Downsample(to)
            self.down.append(level)
            width = to
        self.mid = Mid(width, None)
        self.norm_out = Norm(width)
        self.conv_out = nn.Conv2d(width, config.latent, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Trunk input z and codebook vectors zq (B, 4, h, w) to pictures (B, 3, 8h, 8w)."""

    def __init__(self, config: MovqConfig) -> None:
        super().__init__()
        width, latent, last = config.channels[-1], config.latent, len(config.channels) - 1
        self.conv_in = nn.Conv2d(latent, width, 3, padding=1)
        self.mid = Mid(width, latent)
        levels = []
        for i, to in reversed(list(enumerate(config.channels))):
            level = Level(width, to, config.blocks + 1, i == last, latent)
            if i > 0:
                level.upsample = Upsample(to)
            levels.append(level)
            width = to
        self.up = nn.ModuleList(reversed(levels))
        self.norm_out = SpatialNorm(width, latent)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z: Tensor, zq: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z), zq)
        for level in reversed(self.up):
            x = level(x, zq)
        return self.conv_out(F.silu(self.norm_out(x, zq)))


class Codebook(nn.Module):
    def __init__(self, codes: int, latent: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, latent)

    def forward(self, z: Tensor) -> Tensor:
        """Nearest codes (B, h, w) of latents (B, 4, h, w); the lowest of equals."""
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        table = self.embedding.weight
        distance = (table**2).sum(1) - 2 * flat @ table.T  # without |z|^2, which no comparison needs
        return distance.argmin(1).reshape(z.shape[0], *z.shape[2:])

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes (B, h, w) to codebook vectors (B, 4, h, w)."""
        return self.embedding(codes).permute(0, 3, 1, 2)


class MoVQGAN(nn.Module):
    def __init__(self, config: MovqConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Codebook(config.codes, config.latent)
        self.quant_conv = nn.Conv2d(config.latent, config.latent, 1)
        self.post_quant_conv = nn.Conv2d(config.latent, config.latent, 1)

    def latents(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to latents (B, 4, H/8, W/8) before quantising."""
        return self.quant_conv(self.encoder(pictures))

    def encode(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to codes (B, H/8, W/8)."""
        return self.quantize(self.latents(pictures))

    def decode_vectors(self, zq: Tensor) -> Tensor:
        """Codebook vectors (B, 4, h, w) to pictures (B, 3, 8h, 8w), not clamped."""
        return self.decoder(self.post_quant_conv(zq), zq)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, h, w) to pictures (B, 3, 8h, 8w), not clamped."""
        return self.decode_vectors(self.quantize.vectors(codes))
