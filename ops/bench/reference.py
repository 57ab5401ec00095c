#!/usr/bin/env python3
"""Text-to-image decoding in PyTorch f32 on the CPU, done the way the reference implementation does it: the figure to beat.

    reference.py speed CHECKPOINT [--context 500] [--tokens 32] [--whole] [--threads 2] [--sdpa eager|fused]
    reference.py check tests/conformance/golden/transformer

`speed` reads a folder written by `nightshift model random --preset mid` and prints one line of JSON. `check` compares this file
with the recorded logits, processors and greedy pictures of the reference implementation, and exits 1 on any difference.

As there: a cache that grows by concatenation in each layer, two unbatched passes for each token (with and without the prompt),
the head over the whole vocabulary, and every logits processor over the whole vocabulary. Nothing needs more than torch.
"""
import argparse
import json
import mmap
import os
import platform
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F


# Checkpoints

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "I64": torch.int64, "U8": torch.uint8, "I32": torch.int32}


def tensors(path):
    """Name and tensor of a safetensors file, as stored."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    start = 8 + int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__" or entry["dtype"] not in DTYPES:
            continue
        begin, end = entry["data_offsets"]
        dtype = DTYPES[entry["dtype"]]
        count = (end - begin) // torch.empty(0, dtype=dtype).element_size()
        yield name, torch.frombuffer(data, dtype=dtype, count=count, offset=start + begin).reshape(entry["shape"])


class Model:
    """The decoder. Weights are f32, whatever they were stored as."""

    def __init__(self, folder, fused):
        config = json.loads((folder / "config.json").read_text())
        plain = {"swin_norm": False, "attention_bias": False, "mlp_bias": False, "rope_scaling": None, "model_parallel_size": 1}
        for key, value in plain.items():
            if config.get(key, value) != value:
                raise SystemExit(f"{folder}: {key} = {config[key]} is not covered here")
        if config["num_attention_heads"] != config["num_key_value_heads"]:
            raise SystemExit(f"{folder}: grouped heads are not covered here")
        self.weights = {n: t.float() for p in sorted(folder.glob("*.safetensors")) for n, t in tensors(p)}
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.width = config["hidden_size"] // self.heads
        self.eps = config["rms_norm_eps"]
        self.names = config["vocabulary_map"]
        self.vocabulary = config["vocab_size"]
        steps = torch.arange(0, self.width, 2, dtype=torch.int64).float() / self.width
        self.frequencies = 1.0 / config["rope_theta"] ** steps
        self.fused = fused and hasattr(F, "scaled_dot_product_attention")

    def rms_norm(self, x, name):
        return self.weights[name] * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))

    def head_norm(self, x, name):
        normed = F.layer_norm(x, (self.width,), None, None, 1e-5)
        return normed * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attention(self, x, prefix, cosine, sine, cache, layer):
        count = x.shape[1]
        q, k, v = (F.linear(x, self.weights[f"{prefix}.{p}_proj.weight"]).view(1, count, self.heads, self.width) for p in "qkv")
        q = self.head_norm(q, f"{prefix}.q_norm").transpose(1, 2)
        k = self.head_norm(k, f"{prefix}.k_norm").transpose(1, 2)
        q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        k, v = cache.update(layer, k, v.transpose(1, 2))
        if self.fused and (count == 1 or count == k.shape[2]):
            out = F.scaled_dot_product_attention(q, k, v, is_causal=count > 1)
        else:
            scores = torch.matmul(q, k.transpose(2, 3)) / self.width**0.5
            if count > 1:
                hidden = torch.ones(count, k.shape[2], dtype=torch.bool).triu(k.shape[2] - count + 1)
                scores = scores.masked_fill(hidden, float("-inf"))
            out = torch.matmul(F.softmax(scores, dim=-1), v)
        out = out.transpose(1, 2).reshape(1, count, -1)
        return F.linear(out, self.weights[f"{prefix}.o_proj.weight"])

    def mlp(self, x, prefix):
        gate = F.silu(F.linear(x, self.weights[f"{prefix}.gate_proj.weight"]))
        up = F.linear(x, self.weights[f"{prefix}.up_proj.weight"])
        return F.linear(gate * up, self.weights[f"{prefix}.down_proj.weight"])

    def forward(self, ids, cache):
        """Logits [1, count, vocabulary] of `ids` [1, count], which follow what the cache holds."""
        positions = torch.arange(cache.length(), cache.length() + ids.shape[1])
        angles = positions[:, None].float() * self.frequencies[None]
        angles = torch.cat([angles, angles], dim=-1)
        cosine, sine = angles.cos(), angles.sin()
        x = F.embedding(ids, self.weights["model.embed_tokens.weight"])
        for i in range(self.layers):
            prefix = f"model.layers.{i}"
            x = x + self.attention(self.rms_norm(x, f"{prefix}.input_layernorm.weight"), f"{prefix}.self_attn", cosine, sine, cache, i)
            x = x + self.mlp(self.rms_norm(x, f"{prefix}.post_attention_layernorm.weight"), f"{prefix}.mlp")
        return F.linear(self.rms_norm(x, "model.norm.weight"), self.weights["lm_head.weight"])


def rotate(x, cosine, sine):
    half = x.shape[-1] // 2
    return x * cosine + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sine


class DynamicCache:
    """Keys and values of each layer, [1, heads, length, width], grown by concatenation."""

    def __init__(self):
        self.keys, self.values = [], []

    def length(self):
        return self.keys[0].shape[2] if self.keys else 0

    def update(self, layer, k, v):
        if layer == len(self.keys):
            self.keys.append(k)
            self.values.append(v)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], k], dim=2)
            self.values[layer] = torch.cat([self.values[layer], v], dim=2)
        return self.keys[layer], self.values[layer]


# Sampling

class Grid:
    """Ids that the processors know, and the picture's size in codes."""

    def __init__(self, names, across, down):
        self.start, self.end, self.line = names["<racm3:break>"], names["<eoss>"], names["<reserved08799>"]
        self.first = names["<MOVQGAN0>"]
        self.codes = sum(name.startswith("<MOVQGAN") for name in names)
        self.header = [self.start, names[f"<reserved{8800 + down:05}>"], names[f"<reserved{8800 + across:05}>"]]
        self.across, self.down = 4 * across, 4 * down

    def cells(self):
        """Tokens after the header, the image end included."""
        return (self.across + 1) * self.down + 1


class Guidance:
    """The second pass: the picture without its prompt, in a cache of its own."""

    def __init__(self, model, grid, scale):
        self.model, self.grid, self.scale, self.cache = model, grid, scale, DynamicCache()
        self.cells = grid.across * grid.down / 4

    def __call__(self, ids, scores):
        placed = open_image(ids, self.grid)
        if placed is None or placed < 2 or self.scale == 1.0:
            return scores
        fed = self.cache.length()
        row = self.model.forward(ids[:, -(placed + 1):][:, fed:], self.cache)[:, -1].float()
        self.scale = max(4.0, self.scale * (1 - placed / self.cells))
        return self.scale * (scores - row) + row


def open_image(ids, grid):
    """How many tokens follow the image start; nothing when no image is open."""
    starts, ends = (ids[0] == grid.start).sum().item(), (ids[0] == grid.end).sum().item()
    if starts == ends:
        return None
    return ids.shape[1] - 1 - torch.where(ids[0] == grid.start)[0][-1].item()


def constrain(ids, scores, grid):
    placed = open_image(ids, grid)
    if placed is None or placed < 2:
        return scores
    after = placed - 1
    forced = grid.line if after % (grid.across + 1) == 0 else grid.end if after == grid.cells() else None
    masked = torch.full_like(scores, float("-inf"))
    if forced is None:
        image = slice(grid.first, grid.first + grid.codes)
        masked[:, image] = scores[:, image]
    else:
        masked[:, forced] = 0
    return masked


def keep_top(scores, k):
    threshold = torch.topk(scores, min(k, scores.shape[-1]))[0][..., -1, None]
    return scores.masked_fill(scores < threshold, float("-inf"))


class Decoder:
    """One picture: what the reference's generation loop holds between two tokens."""

    def __init__(self, model, grid, prompt, settings):
        self.model, self.grid, self.settings = model, grid, settings
        self.guidance = Guidance(model, grid, settings["cfg"])
        self.cache = DynamicCache()
        self.ids = torch.tensor([prompt])

    def law(self):
        """Probabilities of the next token."""
        scores = self.model.forward(self.ids[:, self.cache.length():], self.cache)[:, -1].float()
        scores = self.guidance(self.ids, scores)
        scores = constrain(self.ids, scores, self.grid)
        open_now = open_image(self.ids, self.grid) is not None
        scores = keep_top(scores, self.settings["image_top_k" if open_now else "text_top_k"])
        if self.settings["temperature"] != 1.0:
            scores = scores / self.settings["temperature"]
        return F.softmax(scores, dim=-1)

    def step(self):
        token = torch.multinomial(self.law(), 1)
        self.ids = torch.cat([self.ids, token], dim=-1)
        return token.item()


# Speed

def text_ids(model, text):
    """Ids under the byte-level tokenizer that random checkpoints have; its ids of bytes are the bytes."""
    return [model.names["<|endoftext|>"], *text.encode(), model.names["<reserved08706>"]]


def speed(args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = Model(args.folder, args.sdpa == "fused")
    grid = Grid(model.names, 8, 8)
    settings = {"cfg": 4.0, "image_top_k": 4096, "text_top_k": 10, "temperature": 1.0}
    text = "Generate an image of 256x256 according to the following prompt:\na lighthouse on a cliff at dusk"
    prompt = text_ids(model, text) + grid.header
    tokens = grid.cells() if args.whole else args.tokens
    given = []
    if not args.whole:
        # A picture begun with random codes, fed at once: the span lies around the asked context.
        cells = args.context - args.tokens // 2 - len(prompt) - 1
        if not 0 <= cells <= grid.cells() - args.tokens - 8:
            raise SystemExit(f"a context of {args.context} does not lie in a picture whose prompt has {len(prompt)} tokens")
        codes = (torch.randint(grid.codes, (cells,)) + grid.first).tolist()
        given = [grid.line if (i + 1) % (grid.across + 1) == 0 else code for i, code in enumerate(codes)]
    decoder = Decoder(model, grid, prompt + given, settings)
    with torch.inference_mode():
        begin = time.perf_counter()
        decoder.step()  # Feeds the prompt, and what is given of the picture, in both branches.
        prefill = time.perf_counter() - begin
        tokens -= args.whole
        first, seconds = decoder.ids.shape[1], []
        for _ in range(tokens):
            begin = time.perf_counter()
            decoder.step()
            seconds.append(time.perf_counter() - begin)
    if args.whole and decoder.ids[0, -1].item() != grid.end:
        raise SystemExit("the picture did not end where it should")
    middle = sorted(seconds)[len(seconds) // 2]
    print(json.dumps({
        "tokens_per_second": round(tokens / sum(seconds), 3),
        "median_tokens_per_second": round(1 / middle, 3),
        "best_tokens_per_second": round(1 / min(seconds), 3),
        "seconds_per_picture": round(prefill + sum(seconds), 1) if args.whole else None,
        "context": [first, first + tokens - 1],
        "tokens": tokens,
        "prefill_seconds": round(prefill, 2),
        "size": "256x256", **settings,
        "hidden": model.heads * model.width, "layers": model.layers, "vocabulary": model.vocabulary,
        "dtype": "float32", "attention": "fused" if model.fused else "eager",
        "torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads(), "blas": blas(),
        "cpu": cpu(), "load_before": args.load,
    }))


def blas():
    """The matrix library in use, which the linear layers are as fast as: a preloaded one, or what torch was built with."""
    preloaded = os.environ.get("LD_PRELOAD", "")
    if preloaded:
        return ", ".join(Path(path).resolve().name for path in preloaded.split(":"))
    if torch.backends.mkl.is_available():
        return "mkl, built in"
    maps = Path("/proc/self/maps")
    files = {Path(line.split()[-1]).name for line in maps.read_text().splitlines() if "/" in line} if maps.exists() else set()
    return ", ".join(sorted(f for f in files if f.startswith(("libopenblas", "libblas")))) or "built in"


def cpu():
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return f"{names[0].split(':')[1].strip()}, {os.cpu_count()} threads" if names else platform.processor()


# Check

def check(args):
    golden, worst = args.folder, {}

    def compare(what, ours, theirs, tolerance):
        ours, theirs = ours.float(), theirs.float()
        same = torch.equal(torch.isinf(ours), torch.isinf(theirs))
        finite = ~torch.isinf(theirs)
        gap = (ours - theirs)[finite].abs().max().item() if same else float("inf")
        worst[what] = [max(gap, worst.get(what, [0, 0])[0]), tolerance]

    with torch.inference_mode():
        for fused in (False, True):
            model = Model(golden / "tiny", fused)
            kind = "fused" if model.fused else "eager"
            stored = dict(tensors(golden / "forward.safetensors"))
            for row, logits in zip(stored["input_ids"], stored["logits"]):
                compare(f"logits, {kind}", model.forward(row[None], DynamicCache())[0], logits, 1e-4)
                cache = DynamicCache()
                pieces = [model.forward(row[None, i:i + 1], cache)[0] for i in range(len(row))]
                compare(f"logits token by token, {kind}", torch.cat(pieces), logits, 1e-4)
        check_processors(golden, model, compare)
        greedy = check_greedy(golden, model)
    failed = [what for what, (gap, tolerance) in worst.items() if not gap <= tolerance]
    print(json.dumps({"worst_difference_and_tolerance": worst, "greedy_pictures_equal": greedy, "failed": failed}))
    return 1 if failed or not all(greedy.values()) else 0


def check_processors(golden, model, compare):
    stored = dict(tensors(golden / "cfg_decode.safetensors"))
    for i, run in enumerate(json.loads((golden / "cfg_decode.json").read_text())["runs"]):
        if run["kind"] != "t2i":
            continue
        grid = Grid(model.names, run["w_grids"], run["h_grids"])
        settings = {"cfg": run["cfg"], "image_top_k": run["image_top_k"], "text_top_k": 10, "temperature": run["temperature"]}
        decoder = Decoder(model, grid, run["prompt_ids"], settings)
        for step, token in enumerate(run["sampled"]):
            compare("probabilities after all processors", decoder.law()[0], stored[f"run{i}.probs"][step], 1e-4)
            compare("guidance scale", torch.tensor(decoder.guidance.scale), torch.tensor(run["guidance_used"][step]), 1e-6)
            decoder.ids = torch.cat([decoder.ids, torch.tensor([[token]])], dim=-1)


def check_greedy(golden, model):
    equal = {}
    for case in json.loads((golden / "greedy.json").read_text())["cases"]:
        if case["kind"] != "t2i":
            continue
        grid = Grid(model.names, case["w_grids"], case["h_grids"])
        settings = {"cfg": case["cfg"], "image_top_k": 1, "text_top_k": 1, "temperature": 1.0}
        decoder = Decoder(model, grid, case["prompt_ids"], settings)
        drawn = [decoder.step() for _ in case["generated"]]
        equal[f"{case['caption']!r} {case['width']}x{case['height']} cfg {case['cfg']}"] = drawn == case["generated"]
    return equal


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("speed", help="measure tokens per second")
    verb.add_argument("folder", type=Path)
    verb.add_argument("--context", type=int, default=500, help="middle of the span, in tokens of the prompted branch")
    verb.add_argument("--tokens", type=int, default=32, help="length of the span")
    verb.add_argument("--whole", action="store_true", help="a whole picture, from its first code to the image end")
    verb.add_argument("--threads", type=int, default=2)
    verb.add_argument("--seed", type=int, default=1)
    verb.add_argument("--sdpa", choices=["eager", "fused"], default="fused", help="attention of torch itself, where it has one")
    verb = verbs.add_parser("check", help="compare with recorded outputs of the reference implementation")
    verb.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.load = os.getloadavg()[0]
    return (speed if args.verb == "speed" else check)(args)


if __name__ == "__main__":
    sys.exit(main())
