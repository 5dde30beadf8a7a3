#!/usr/bin/python3
"""Follows random programs in PyTorch and compares every value and gradient, in double precision.

    UNROLL_FUZZ_JSON=/tmp/programs.jsonl UNROLL_FUZZ_PROGRAMS=2000 build/release/tests/tests_autograd \\
        --source-file='*test_fuzz.cpp'
    /usr/bin/python3 tests/pytorch/compare.py /tmp/programs.jsonl

or both in one: compare.py --program build/release/tests/tests_autograd --count 2000. A program is a line of JSON: see
`to_json` in tests/autograd/fuzz_text.cpp. Exits with 1 when something differs, with 77 when there is no PyTorch
(Debian 12: apt install python3-torch).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("compare.py: no PyTorch (apt install python3-torch); skipped")
    sys.exit(77)

TOLERANCE = 1e-9

# What a statement's text may call.
FUNCTIONS = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "matmul": torch.matmul,
}

# The other operations, by name: x are the operands, n the numbers (see tests/autograd/fuzz_operations.cpp).
OPERATIONS = {
    "sum": lambda x, n: x[0].sum(),
    "mean": lambda x, n: x[0].mean(),
    "sum over": lambda x, n: x[0].sum(n[1:], bool(n[0])),
    "mean over": lambda x, n: x[0].mean(n[1:], bool(n[0])),
    "log_softmax": lambda x, n: F.log_softmax(x[0], -1),
    "cross_entropy": lambda x, n: F.cross_entropy(x[0].reshape(-1, x[0].shape[-1]), torch.tensor(n)),
    "mse": lambda x, n: F.mse_loss(x[0], x[1]),
    "select": lambda x, n: x[0].select(*n),
    "slice": lambda x, n: x[0].narrow(n[0], n[1] % max(x[0].shape[n[0]], 1) if n[1] < 0 else n[1], length(x[0], n)),
    "part": lambda x, n: torch.chunk(x[0], n[1], n[0])[n[2]],
    "reshape": lambda x, n: x[0].reshape(n),
    "transpose": lambda x, n: x[0].transpose(*n),
    "detach": lambda x, n: x[0].detach(),
    "stack": lambda x, n: torch.stack(x),
    "concat": lambda x, n: torch.cat(x, n[0]),
    "embedding": lambda x, n: x[0][torch.tensor(n, dtype=torch.long)],
}


def length(x, n):
    size = x.shape[n[0]]
    begin, end = (i + size if i < 0 else i for i in n[1:])
    return end - begin


def tensor(numbers, shape):
    return torch.tensor(numbers, dtype=torch.float64).reshape(shape)


def follow(program):
    """The values of all instructions, with the gradients that the outputs' seeds give."""
    values = []
    for line in program["instructions"]:
        operands = [values[k] for k in line["operands"]]
        if not operands:
            value = tensor(line["value"], line["shape"]).requires_grad_("gradient" in line)
        elif line["statement"]:
            value = eval(line["operation"], dict(zip("abcdef", operands), **FUNCTIONS))
        else:
            value = OPERATIONS[line["operation"]](operands, line["numbers"])
        if "gradient" in line and value.requires_grad:
            value.retain_grad()
        values.append(value)
    outputs = [values[output["value"]] for output in program["outputs"]]
    seeds = [tensor(output["seed"], value.shape) for output, value in zip(program["outputs"], outputs)]
    torch.autograd.backward(outputs, seeds)
    return values


def differences(program):
    """The largest differences of values and of gradients; each relative to the largest of its program."""
    worst = {"value": 0.0, "gradient": 0.0}
    largest = {"value": 1.0, "gradient": 1e-3}
    # A kept gradient is that of the last backward here, and of all of them in PyTorch.
    kept = len(program["outputs"]) == 1
    for line, value in zip(program["instructions"], follow(program)):
        if list(value.shape) != line["shape"]:
            raise ValueError(f"{line['operation']}: PyTorch's shape is {list(value.shape)}, ours {line['shape']}")
        mine = {"value": value.detach()}
        if "gradient" in line and (kept or not line["operands"]):
            mine["gradient"] = torch.zeros_like(value) if value.grad is None else value.grad
        for what, theirs in mine.items():
            ours = tensor(line[what], line["shape"])
            if ours.numel() > 0:
                worst[what] = max(worst[what], (ours - theirs).abs().max().item())
                largest[what] = max(largest[what], theirs.abs().max().item())
    return {what: worst[what] / largest[what] for what in worst}


def compare(path):
    count, failed, worst = 0, 0, {"value": 0.0, "gradient": 0.0}
    with open(path) as file:
        for line in file:
            program = json.loads(line)
            count += 1
            try:
                found = differences(program)
            except Exception as error:
                print(f"UNROLL_FUZZ_SEED={program['seed']}: {type(error).__name__}: {error}")
                failed += 1
                continue
            worst = {what: max(worst[what], found[what]) for what in worst}
            # A NaN is smaller than nothing, so ask the other way round.
            if not all(found[what] <= TOLERANCE for what in found):
                print(f"UNROLL_FUZZ_SEED={program['seed']}: values differ by {found['value']:.3g}, "
                      f"gradients by {found['gradient']:.3g}")
                failed += 1
    print(f"{count} programs, {failed} that differ; largest relative differences: values {worst['value']:.2g}, "
          f"gradients {worst['gradient']:.2g} (PyTorch {torch.__version__})")
    return count > 0 and failed == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="programs, one line of JSON each")
    parser.add_argument("--program", help="tests_autograd, to write the programs")
    parser.add_argument("--count", default="500")
    parser.add_argument("--seed", default="1")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.file:
        return compare(options.file)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "programs.jsonl")
        environment = dict(os.environ, UNROLL_FUZZ_JSON=path, UNROLL_FUZZ_PROGRAMS=options.count,
                           UNROLL_FUZZ_SEED=options.seed)
        subprocess.run([options.program, "--source-file=*/test_fuzz.cpp"], env=environment, check=True,
                       stdout=subprocess.DEVNULL)
        return compare(path)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
