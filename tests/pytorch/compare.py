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

TOLERANCE = 1e-7  # near the ends of a domain (a norm close to 0) both round differently


def padded(x, n):
    if x.numel() == 0:  # F.pad refuses an empty axis
        return torch.full([size + n[2 * k] + n[2 * k + 1] for k, size in enumerate(x.shape)], 0.5, dtype=x.dtype) + 0 * x.sum()
    return F.pad(x, [n[k + j] for k in range(len(n) - 2, -1, -2) for j in (0, 1)], value=0.5)


def tensors(*values):
    return [torch.as_tensor(value, dtype=torch.float64) for value in values]


# What a statement's text may call.
FUNCTIONS = {name: getattr(torch, name) for name in (
    "exp expm1 log log1p sqrt rsqrt square abs sign pow floor ceil round sin cos tan asin acos atan sinh cosh tanh erf "
    "sigmoid relu matmul").split()}
FUNCTIONS.update({
    "fma": lambda a, b, c: a * b + c,
    "maximum": lambda a, b: torch.maximum(*tensors(a, b)),
    "minimum": lambda a, b: torch.minimum(*tensors(a, b)),
    "clamp": lambda a, low, high: torch.minimum(torch.maximum(*tensors(a, low)), *tensors(high)),
    "where": torch.where,
    "softplus": F.softplus,
    "log_sigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda a: F.gelu(a, approximate="tanh"),
})


def over(function):
    """Of an operation over the axes n[1:], which are kept if n[0] is 1."""
    return lambda x, n: function(x[0], n[1:], bool(n[0]))


def over_one_by_one(function):
    """The same where PyTorch's function takes one axis at a time."""

    def apply(x, axes, keep):
        for axis in sorted((a % x.dim() for a in axes), reverse=True):
            x = function(x, axis, keep)
        return x

    return over(apply)


def slice_by(x, n):
    axis, (begin, end) = n[0], (i + x.shape[n[0]] if i < 0 else i for i in n[1:3])
    if len(n) == 3:
        return x.narrow(axis, begin, end - begin)
    return x[(slice(None),) * (axis % x.dim()) + (slice(begin, end, n[3]),)]


def indices(x, n):
    """The axis and the indices of n = axis, sizes, indices."""
    shape = n[1:1 + x.dim()]
    return n[0], torch.tensor(n[1 + x.dim():], dtype=torch.long).reshape(shape)


def rows(x):
    return x.reshape(-1, x.shape[-1])


def classes(n):
    return torch.tensor(n, dtype=torch.long)


def rms_norm(x, gain):
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + 0.1) * gain


def pinball(x, y, q):
    return torch.where(y >= x, q * (y - x), (1 - q) * (x - y)).mean()


def masked_softmax(x, n):
    # A row of minus infinity would be NaN in PyTorch, and is 0 with us.
    mask = tensor(n[1:], x.shape)
    return torch.where(mask.sum(n[0], keepdim=True) > 0,
                       torch.softmax(torch.where(mask > 0, x, torch.full_like(x, -1e300)), n[0]) * mask, mask)


def ctc(x, n):
    steps, batch = x.shape[:2]
    return F.ctc_loss(F.log_softmax(x, -1), classes(n).reshape(-1, 1), (steps,) * batch, (1,) * batch)


def checkpoint(x, y):
    h = torch.tanh(x * y)
    return h * x + h.sum()


# The other operations, by name: x are the operands, n the numbers (see tests/autograd/fuzz_operations.cpp).
OPERATIONS = {
    "sum": lambda x, n: x[0].sum(),
    "mean": lambda x, n: x[0].mean(),
    "prod": lambda x, n: x[0].prod(),
    "max": lambda x, n: x[0].max(),
    "min": lambda x, n: x[0].min(),
    "logsumexp": lambda x, n: x[0].reshape(-1).logsumexp(0),
    "sum over": over(torch.sum),
    "mean over": over(torch.mean),
    "prod over": over_one_by_one(torch.prod),
    "max over": over(torch.amax),
    "min over": over(torch.amin),
    "variance over": over(lambda x, axes, keep: torch.var(x, axes, correction=1, keepdim=keep)),
    "stddev over": over(lambda x, axes, keep: torch.std(x, axes, correction=1, keepdim=keep)),
    "norm over": over(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "norm 1 over": over(lambda x, axes, keep: torch.linalg.vector_norm(x, 1, axes, keep)),
    "logsumexp over": over(torch.logsumexp),
    "cumsum": lambda x, n: x[0].cumsum(n[0]),
    "softmax": lambda x, n: torch.softmax(x[0], n[0]),
    "log_softmax": lambda x, n: torch.log_softmax(x[0], n[0]),
    "masked_softmax": lambda x, n: masked_softmax(x[0], n),
    "layer_norm": lambda x, n: F.layer_norm(x[0], x[1].shape, x[1], x[2], 0.1),
    "rms_norm": lambda x, n: rms_norm(*x),

    "cross_entropy": lambda x, n: F.cross_entropy(rows(x[0]), classes(n)),
    "smooth_cross_entropy": lambda x, n: F.cross_entropy(rows(x[0]), classes(n), label_smoothing=0.1),
    "soft_cross_entropy": lambda x, n: F.cross_entropy(rows(x[0]), rows(torch.softmax(x[1], -1))),
    "nll": lambda x, n: F.nll_loss(rows(torch.log_softmax(x[0], -1)), classes(n)),
    "binary_cross_entropy": lambda x, n: F.binary_cross_entropy_with_logits(x[0], torch.sigmoid(x[1])),
    "mse": lambda x, n: F.mse_loss(x[0], x[1]),
    "l1": lambda x, n: F.l1_loss(x[0], x[1]),
    "huber": lambda x, n: F.huber_loss(x[0], x[1]),
    "hinge": lambda x, n: torch.relu(1 - tensor(n, x[0].shape) * x[0]).mean(),
    "pinball": lambda x, n: pinball(x[0], x[1], 0.3),
    "kl_divergence": lambda x, n: F.kl_div(rows(torch.log_softmax(x[0], -1)), rows(torch.softmax(x[1], -1)),
                                           reduction="batchmean"),
    "gaussian_nll": lambda x, n: F.gaussian_nll_loss(x[0], x[1], (torch.sigmoid(x[2]) + 0.5).expand_as(x[0])),
    "ctc": lambda x, n: ctc(x[0], n),

    "select": lambda x, n: x[0].select(*n),
    "unbind": lambda x, n: x[0].unbind(n[0])[n[1]],
    "slice": lambda x, n: slice_by(x[0], n),
    "slice by": lambda x, n: slice_by(x[0], n),
    "part": lambda x, n: torch.tensor_split(x[0], n[1], n[0])[n[2]],
    "split": lambda x, n: torch.split(x[0], n[2:], n[0])[n[1]],
    "transpose": lambda x, n: x[0].transpose(*n),
    "permute": lambda x, n: x[0].permute(n),
    "flip": lambda x, n: x[0].flip(n),
    "squeeze": lambda x, n: x[0].squeeze(),
    "squeeze axis": lambda x, n: x[0].squeeze(n[0]),
    "unsqueeze": lambda x, n: x[0].unsqueeze(n[0]),
    "unflatten": lambda x, n: x[0].unflatten(n[0], n[1:]),
    "flatten": lambda x, n: x[0].flatten(),
    "reshape": lambda x, n: x[0].reshape(n),
    "detach": lambda x, n: x[0].detach(),
    "stack": lambda x, n: torch.stack(x, *n),
    "concat": lambda x, n: torch.cat(x, n[0]),
    "broadcast_to": lambda x, n: x[0].broadcast_to(n),
    "repeat": lambda x, n: x[0].repeat(n),
    "pad": lambda x, n: padded(x[0], n),
    "index_select": lambda x, n: x[0].index_select(n[0], classes(n[1:])),
    "gather": lambda x, n: x[0].gather(*indices(x[0], n)),
    "scatter_add": lambda x, n: x[0].scatter_add(*indices(x[0], n), x[1]),
    "tril": lambda x, n: x[0].tril(n[0]),
    "triu": lambda x, n: x[0].triu(n[0]),

    "embedding": lambda x, n: x[0][classes(n)],
    "product": lambda x, n: torch.matmul(x[0], x[1]),
    "dot": lambda x, n: torch.dot(x[0], x[1]),
    "outer": lambda x, n: torch.outer(x[0], x[1]),
    "checkpoint": lambda x, n: checkpoint(x[0], x[1]),
}


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
