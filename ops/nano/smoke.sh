#!/bin/sh
# Trains for one minute on 40 scenes and has the engine draw with the checkpoint. Without PyTorch it says so and does nothing.
#   ops/nano/smoke.sh [NIGHTSHIFT]      the binary; default: nightshift on the path. PYTHON names the interpreter.
set -eu
nightshift=${1:-nightshift}
here=$(cd "$(dirname "$0")" && pwd)
# Debian's packages are Debian's Python's alone, and another one may stand before it on the path.
reasons=
for python in ${PYTHON:-python3 /usr/bin/python3} ''; do
    test -n "$python" || {
        echo "skipped: a minute of the nano model's training needs PyTorch, see $here/requirements.txt ($reasons)"
        exit 0
    }
    reason=$("$python" -c 'import numpy, torch' 2>&1) && break
    reasons="$reasons${reasons:+; }$python: $(echo "$reason" | tail -n 1)"
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Neither in the training's range nor in the examination's.
"$nightshift" nano scenes "$work/scenes" --first 1000000 --count 40
"$python" -B "$here/train.py" "$work/scenes" --state "$work/state" --out "$work/nano" --budget 1 --device cpu
"$nightshift" generate --model "$work/nano" --size 64x64 --prompt "a red ball" --out "$work/picture.png"
test -s "$work/picture.png"
size=$(du -sb "$work/nano" | cut -f1)
test "$size" -lt 12000000 || {
    echo "failed: the checkpoint takes $size bytes, and the program has room for 12,000,000" >&2
    exit 1
}
echo "passed: one minute of training gives a checkpoint of $size bytes, and the engine draws with it"
