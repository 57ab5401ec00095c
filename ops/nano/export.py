"""Writes and reads a checkpoint in the released file layout."""

import json
import os
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

import safetensors_io
from movqgan import MoVQGAN, MovqConfig
from text import Vocabulary
from transformer import Transformer, TransformerConfig

MOVQGAN_FILE = "movqgan/nano/movqgan_nano.ckpt"


def config_json(config: TransformerConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "architectures": ["ChameleonForConditionalGeneration"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "mask_image_logits": False,
        "max_position_embeddings": 10240,
        "mlp_bias": False,
        "model_parallel_size": 1,
        "model_type": "chameleon",
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_attention_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": config.rope_theta,
        "swin_norm": False,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": config.vocab_size,
        "vocabulary_map": dict([*vocabulary.pieces.items(), *vocabulary.added()]),
    }


def tokenizer_json(vocabulary: Vocabulary) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, **flags} for name, i in vocabulary.added()],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary.pieces,
            "merges": [f"{a} {b}" for a, b in vocabulary.merges],
        },
    }


def write(folder: Path, transformer: Transformer, movqgan: MoVQGAN, vocabulary: Vocabulary) -> None:
    """Writes the folder beside its place and swaps it in, so that a reader finds the old or the new checkpoint."""
    beside, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (beside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    (beside / MOVQGAN_FILE).parent.mkdir(parents=True)
    tokenizer_config = {"bos_token": None, "eos_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast",
                        "clean_up_tokenization_spaces": False}
    files = {
        "config.json": config_json(transformer.config, vocabulary),
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2},
        "tokenizer.json": tokenizer_json(vocabulary),
        "tokenizer_config.json": tokenizer_config,
    }
    for name, value in files.items():
        (beside / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in transformer.state_dict().items()}
    safetensors_io.save(beside / "model.safetensors", weights)
    state = OrderedDict((name, tensor.half().cpu().contiguous()) for name, tensor in movqgan.state_dict().items())
    torch.save(state, beside / MOVQGAN_FILE)
    if folder.exists():
        os.rename(folder, old)
    os.rename(beside, folder)
    shutil.rmtree(old, ignore_errors=True)


def read(folder: Path) -> tuple[Transformer, MoVQGAN, Vocabulary]:
    """The models and the vocabulary of a checkpoint folder, in f32."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    state = torch.load(next(folder.glob("movqgan/*/*.ckpt")))
    movqgan = MoVQGAN(MovqConfig(codes=len(state["quantize.embedding.weight"])))
    movqgan.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    merges = [tuple(rule.split(" ")) for rule in tokenizer["model"]["merges"]]
    vocabulary = Vocabulary(merges, movqgan.config.codes)
    fields = TransformerConfig.__dataclass_fields__
    transformer = Transformer(TransformerConfig(**{name: config[name] for name in fields}))
    weights = safetensors_io.load(folder / "model.safetensors")
    transformer.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return transformer.eval(), movqgan.eval(), vocabulary
