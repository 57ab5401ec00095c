"""Prompts, their byte-level BPE tokenizer, and the vocabulary with its named special tokens."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

MAPS = {
    "depth": "depth map",
    "canny": "canny edge map",
    "hed": "hed edge map",
    "pose": "pose estimation map",
    "normal": "normal map",
    "segmentation": "segmentation map",
}
PANEL = "Generate a dual-panel image of 64x128 where the <upper half> displays"
PROMPTS = {
    "t2i": "Generate an image of 64x64 according to the following prompt:\n{text}",
    "pair": "Generate a dual-panel image of 64x128 where the <lower half> displays a <{what}>, while the <upper half> "
    "retains the original image for direct visual comparison:\n{text}",
    "from": PANEL + " a <{what}>, while the <lower half> retains the original image for direct visual comparison:\n{text}",
    "edit": PANEL + " the original image, while the <lower half> shows it edited according to the following "
    "instruction:\n{text}",
}
GRIDS = 64


@cache
def bytes_to_names() -> dict[int, str]:
    """Printable bytes are themselves, others characters from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return {byte: chr(byte if byte in printable else next(others)) for byte in range(256)}


def prompt(kind: str, text: str, what: str = "") -> str:
    """The prompt of a kind of PROMPTS."""
    return PROMPTS[kind].replace("{what}", what).replace("{text}", text)


def template_parts() -> list[str]:
    """The constant stretches of all prompts."""
    parts = [part for text in PROMPTS.values() for half in text.split("{what}") for part in half.split("{text}") if part]
    return sorted(set(parts) | set(MAPS.values()))


@dataclass
class Vocabulary:
    """Ids: bytes, merged pieces, special tokens, image tokens, a placeholder."""

    merges: list[tuple[str, str]]
    codes: int
    pieces: dict[str, int] = field(init=False)
    special: dict[str, int] = field(init=False)
    _cache: dict[str, list[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        names = [*bytes_to_names().values(), *(a + b for a, b in self.merges)]
        self.pieces = {name: i for i, name in enumerate(names)}
        self._ranks = {pair: i for i, pair in enumerate(self.merges)}
        reserved = [f"<reserved{8796 + i:05}>" for i in range(4)]
        grids = [f"<reserved{8800 + n:05}>" for n in range(GRIDS + 1)]
        named = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<racm3:break>", "<eoss>", *reserved, *grids, "<reserved08706>"]
        self.special = {name: len(self.pieces) + i for i, name in enumerate(named)}
        self.bos = self.special["<|endoftext|>"]
        self.separator = self.special["<reserved08706>"]
        self.image_start = self.special["<racm3:break>"]
        self.image_end = self.special["<eoss>"]
        self.new_line = self.special["<reserved08799>"]
        self.first_code = len(self.pieces) + len(self.special)
        self.size = self.first_code + self.codes + 1

    def grid(self, n: int) -> int:
        return self.special[f"<reserved{8800 + n:05}>"]

    def added(self) -> Iterator[tuple[str, int]]:
        yield from self.special.items()
        yield from ((f"<MOVQGAN{i}>", self.first_code + i) for i in range(self.codes))
        yield "<|image|>", self.size - 1

    def encode(self, text: str) -> list[int]:
        """Ids of a text. Lines are encoded one by one: no piece crosses a line feed but at its end."""
        ids: list[int] = []
        for line in text.splitlines(keepends=True):
            if line not in self._cache:
                self._cache[line] = [self.pieces[piece] for piece in merge(spell(line), self._ranks)]
            ids += self._cache[line]
        return ids


def spell(text: str) -> list[str]:
    """The names of the bytes of a text."""
    names = bytes_to_names()
    return [names[byte] for byte in text.encode()]


def merge(pieces: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Joins neighbours by the rule learnt first, until none applies."""
    while len(pieces) > 1:
        rank, pair = min((ranks.get(pair, len(ranks)), pair) for pair in zip(pieces, pieces[1:]))
        if rank == len(ranks):
            break
        pieces = join(pieces, pair)
    return pieces


def join(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    """Joins every occurrence of a pair, from the left."""
    joined: list[str] = []
    i = 0
    while i < len(pieces):
        hit = tuple(pieces[i : i + 2]) == pair
        joined.append(pieces[i] + pieces[i + 1] if hit else pieces[i])
        i += 2 if hit else 1
    return joined


def learn_merges(captions: Iterable[str]) -> list[tuple[str, str]]:
    """Rules under which each word of the captions is one piece, and each constant stretch of the prompts one piece.

    Words begin with their space, as in other byte-level tokenizers; pieces never cross from one caption word to the next.
    """
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(words(caption))
    for part in template_parts():
        counts.update(words(part))
    rules: list[tuple[str, str]] = []
    learn(Counter({tuple(spell(word)): n for word, n in counts.items()}), rules)
    ranks = {pair: i for i, pair in enumerate(rules)}
    learn(Counter({tuple(merge(spell(part), ranks)): 1 for part in template_parts()}), rules)
    return rules


def words(text: str) -> list[str]:
    """A text cut before every space that stands before a letter or digit, and around signs."""
    cut: list[str] = []
    for char in text:
        grows = cut and (char.isalnum() or char == "-") and (cut[-1] == " " or cut[-1][-1].isalnum() or cut[-1][-1] == "-")
        if grows:
            cut[-1] += char
        else:
            cut.append(char)
    return cut


def learn(units: Counter[tuple[str, ...]], rules: list[tuple[str, str]]) -> None:
    """Adds the rule of the most frequent pair (first in order of spelling among equals) until every unit is one piece."""
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for unit, n in units.items():
            for pair in zip(unit, unit[1:]):
                pairs[pair] += n
        if not pairs:
            return
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        rules.append(best)
        merged: Counter[tuple[str, ...]] = Counter()
        for unit, n in units.items():
            merged[tuple(join(list(unit), best))] += n
        units = merged
