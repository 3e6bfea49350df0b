#!/usr/bin/env bash
# Train for MINUTES on one CUDA device, from a pack of scripts/make_training_pack.py; see scripts/train_on_gpu.py.
#     bash scripts/train_on_gpu.sh MINUTES [OPTION...]
# Installs nothing. Needs torch, numpy, opencv, lightning and what derain imports; reports what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
MINUTES=${1:?"usage: train_on_gpu.sh MINUTES [OPTION...]"}
shift
export PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" scripts/train_on_gpu.py --minutes "$MINUTES" "$@"
