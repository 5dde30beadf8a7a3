#!/usr/bin/env python3
"""Loads weights that Unroll saved into torch.nn.LSTM, GRU and RNN, strictly, and compares what both compute.

    weights.py --program build/release/tests/tests_layers

(The other way is tests/layers/test_pytorch.cpp, which reads PyTorch's weights from golden files.) Exits with 77, which
ctest takes for skipped, where there is no PyTorch.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import torch
except ImportError:
    print("skipped: no PyTorch")
    sys.exit(77)

import tensor_file


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [arguments.program, "--test-case=weights for PyTorch to read"],
            env={**os.environ, "UNROLL_WEIGHTS_FOLDER": folder},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        files = sorted(pathlib.Path(folder).glob("*.weights.safetensors"))
        assert len(files) == 6, files
        for path in files:
            metadata, weights = tensor_file.read(path)
            _, run = tensor_file.read(path.with_name(path.name.replace(".weights.", ".run.")))
            options = json.loads(metadata["options"])
            model = getattr(torch.nn, metadata["kind"])(3, 4, **options).double()
            model.load_state_dict(weights, strict=True)
            y, state = model(run["x"])
            h = state[0] if isinstance(state, tuple) else state
            worst = max((y - run["y"]).abs().max().item(), (h[-1] - run["h"]).abs().max().item())
            print(f"{path.name}: {metadata['kind']} {options}: {worst:.1e}")
            assert worst < 1e-12, "the outputs differ"


main()
