#!/bin/sh
# Trains for one minute on 200 scenes and has the engine draw with the checkpoint.
#   ops/nano/smoke.sh [NIGHTSHIFT]      the binary; default: nightshift on the path. PYTHON names the interpreter.
set -eu
nightshift=${1:-nightshift}
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
"$python" -c 'import numpy, torch' 2>/dev/null || {
    echo "skipped: $python has no PyTorch; see $here/requirements.txt"
    exit 0
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$nightshift" nano scenes "$work/scenes" --first 1000000 --count 200
"$python" "$here/train.py" "$work/scenes" --state "$work/state" --out "$work/nano" --budget 1
"$nightshift" generate --model "$work/nano" --size 64x64 --prompt "a red ball" --out "$work/picture.png"
test -s "$work/picture.png"
size=$(du -sb "$work/nano" | cut -f1)
test "$size" -lt 12000000
echo "passed: a checkpoint of $size bytes draws"
