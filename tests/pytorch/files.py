#!/usr/bin/env python3
"""Has Unroll read a file of every type that PyTorch writes, and reads a checkpoint of a training that both make.

    files.py --program build/release/tests/tests_optim

Exits with 77, which ctest takes for skipped, where there is no PyTorch.
"""

import argparse
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


def check_checkpoint(path):
    """The same three steps of Adam here, from the weights that the C++ test begins with."""
    model = torch.nn.Linear(3, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.arange(6).reshape(3, 2).t() / 8.0)
        model.bias.fill_(0.25)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x = torch.arange(12).reshape(4, 3).double() / 16.0
    for _ in range(3):
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()

    metadata, tensors = tensor_file.read(path)
    assert metadata["step"] == "3", metadata
    assert abs(float(metadata["loss"]) - loss.item()) < 1e-12, (metadata["loss"], loss.item())
    assert metadata["checkpoint.program"] == "files", metadata
    assert metadata["rng"] == "1 2 3", metadata
    assert metadata["note"] == 'two\nlines, "quoted"', metadata
    weights = {name[len("model.") :]: tensor for name, tensor in tensors.items() if name.startswith("model.")}
    worst = max((weights[name] - value).abs().max().item() for name, value in model.state_dict().items())
    print(f"weights after three steps: {worst:.1e}")
    assert worst < 1e-12
    model.load_state_dict(weights, strict=True)
    assert any(name.startswith("adam.") and "weight" in name for name in tensors), list(tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        values = torch.tensor([[1.0, -2.5, 0.0], [1e-3, 65504.0, float("inf")]], dtype=torch.float64)
        kinds = {"f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
        tensors = {kind: values.to(type) for kind, type in kinds.items()}
        # What each is in double precision, by PyTorch's own conversion.
        tensors.update({f"{kind}.as_f64": tensor.double() for kind, tensor in tensors.items()})
        tensors["i64"] = torch.tensor([-(2**53), -1, 0, 1, 2**53], dtype=torch.int64)
        tensors["i64.as_f64"] = tensors["i64"].double()
        tensors["scalar"] = torch.tensor(7.5)
        tensors["scalar.as_f64"] = tensors["scalar"].double()
        tensor_file.write(folder / "from_pytorch.safetensors", tensors, {"format": "pt"})
        subprocess.run(
            [arguments.program, "--test-case=files from PyTorch and for it"],
            env={**os.environ, "UNROLL_FILES_FOLDER": name},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        check_checkpoint(folder / "checkpoint.safetensors")


main()
