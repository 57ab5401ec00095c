"""Trains the nano model on rendered scenes: first the image tokenizer, then the transformer. See README.md.

    python3 train.py SCENES --state STATE --out CHECKPOINT --budget MINUTES [--resume]
"""

import argparse
import json
import os
from pathlib import Path

if __name__ == "__main__":  # before torch starts: threads that wait must not take time from those that work
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

import export
from common import Workers
from data import Samples, Scenes
from movqgan import MoVQGAN, MovqConfig
from text import Vocabulary, learn_merges
from train_movqgan import MovqTraining, encode_all
from train_transformer import PEAK, TransformerTraining, default_config


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenes", type=Path, nargs="+", help="folders that `nightshift nano scenes` wrote")
    parser.add_argument("--state", type=Path, required=True, help="folder for all that a resumed training needs")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint; replaced during training")
    parser.add_argument("--budget", type=float, default=120, help="minutes of work for both parts")
    parser.add_argument("--share", type=float, default=0.4, help="of the budget for the image tokenizer")
    parser.add_argument("--tokenizer", type=Path, help="a checkpoint whose image tokenizer is kept; all time is the transformer's")
    parser.add_argument("--start", type=Path, help="a checkpoint whose image tokenizer is kept and whose transformer is trained further")
    parser.add_argument("--peak", type=float, default=PEAK, help="highest learning rate of the transformer")
    parser.add_argument("--resume", action="store_true", help="continue from the state folder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--codes", type=int, default=512, help="size of the codebook")
    parser.add_argument("--movqgan-batch", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32, help="two-panel sequences a step")
    parser.add_argument("--export-every", type=float, default=10, help="minutes")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    args.tokenizer = args.tokenizer or args.start
    device = torch.device(args.device)
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(1 if device.type == "cpu" else args.threads)
    workers = Workers(args.threads if device.type == "cpu" else 1)
    args.state.mkdir(parents=True, exist_ok=True)
    scenes = Scenes(args.scenes)
    movqgan = image_tokenizer(args, scenes, device, workers)
    codes = all_codes(args, movqgan, scenes, workers, device)
    vocabulary = text_vocabulary(args, scenes)
    config = default_config(vocabulary.size)
    training = TransformerTraining(Samples(scenes, codes, vocabulary, device), config, device, workers, args.batch, args.seed, args.peak)
    state = args.state / "transformer.pt"
    if args.resume and state.exists():
        training.load(state)
    elif args.start:
        training.start(export.read(args.start)[0].state_dict())
    share = 0 if args.tokenizer else args.share
    training.run(
        args.budget * 60 * (1 - share), state, lambda model: export.write(args.out, model, movqgan, vocabulary), args.export_every * 60
    )


def image_tokenizer(args: argparse.Namespace, scenes: Scenes, device: torch.device, workers: Workers) -> MoVQGAN:
    """The trained tokenizer, with weights rounded as the checkpoint stores them, so that its codes are those of the checkpoint."""
    if args.tokenizer:
        model = MoVQGAN(MovqConfig(codes=args.codes)).to(device, memory_format=torch.channels_last)
        model.load_state_dict(torch.load(args.tokenizer / export.MOVQGAN_FILE, map_location=device))
        return model.float().eval()
    training = MovqTraining(scenes, MovqConfig(codes=args.codes), device, workers, args.movqgan_batch, args.seed)
    state = args.state / "movqgan.pt"
    if args.resume and state.exists():
        training.load(state)
    training.run(args.budget * 60 * args.share, state)
    return training.model.half().float().eval()


def all_codes(args: argparse.Namespace, movqgan: MoVQGAN, scenes: Scenes, workers: Workers, device: torch.device) -> dict[str, np.ndarray]:
    """The codes of every panel: those of the state folder when resumed with as many scenes."""
    path = args.state / "codes.npz"
    if not (args.resume and path.exists() and len(np.load(path)["picture"]) == len(scenes)):
        codes = encode_all(movqgan, scenes, workers, device)
        np.savez(path.with_suffix(".new.npz"), **codes)
        os.replace(path.with_suffix(".new.npz"), path)
    return dict(np.load(path))


def text_vocabulary(args: argparse.Namespace, scenes: Scenes) -> Vocabulary:
    """The vocabulary of the scenes' texts: that of the state folder when resumed, that of the checkpoint when there is one."""
    if args.start:
        return export.read(args.start)[2]
    path = args.state / "merges.json"
    if not (args.resume and path.exists()):
        path.write_text(json.dumps(learn_merges(scenes.texts())))
    return Vocabulary([(a, b) for a, b in json.loads(path.read_text())], args.codes)


if __name__ == "__main__":
    main()
