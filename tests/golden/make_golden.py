#!/usr/bin/env python3
"""Writes the golden files of this folder: what PyTorch computes, for the tests to compare with.

How to run it, only when a golden file has to change (the tests themselves need no Python):

    apt install python3-torch            # Debian 12: PyTorch 1.13
    /usr/bin/python3 tests/golden/make_golden.py

It takes nothing from outside and gives the same bytes on every run; with another BLAS library or processor the
last bits of the results differ (below 1e-14). Everything is float64, and every weight is a random number of
its own, so that a wrong gate order or a matrix that is not transposed shows.

lstm, gru, rnn   1 and 2 layers, T=6 N=3 D=4 H=5. A name is LAYERS.NAME, or LAYERS.STATE.NAME with STATE
                 `given` (h_0, c_0 are used) or `absent`. The loss is sum(y * r.y) + sum(h_n * r.h_n) + ...;
                 grad.NAME are its raw gradients.
recurrent_options
                 Two layers of each, in both directions, with a projection, without bias, with ReLU, batch first,
                 of sequences of unequal lengths. CASE.NAME, else as above, with given states.
losses           Embedding, Linear and cross-entropy in a row; log-softmax of logits of size 1e4.
layers           Embedding with a padding index, Sequential of Linear, Tanh and LayerNorm, RMS normalisation by its
                 formula, an output layer tied to the embedding, cross-entropy. state.NAME are the weights.
optimizers       Runs of 1000 steps on gradient(theta, t) below; CASE.PARAMETER.STEP is theta after STEP steps. CASE.STEP
                 of a table with sparse gradients.
                 Gradients before and after clipping.
"""

import json
import math
import pathlib
import struct

import torch
from torch import nn

FOLDER = pathlib.Path(__file__).resolve().parent
T, N, D, H = 6, 3, 4, 5


def write_safetensors(name, tensors):
    """The format: the header's length, 8 bytes; the header, JSON; the elements. All little-endian."""
    header, data = {}, b""
    for key in sorted(tensors):
        tensor = tensors[key].detach().contiguous()
        kind, letter = {torch.float64: ("F64", "d"), torch.int64: ("I64", "q")}[tensor.dtype]
        elements = struct.pack(f"<{tensor.numel()}{letter}", *tensor.flatten().tolist())
        header[key] = {
            "dtype": kind,
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(elements)],
        }
        data += elements
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (FOLDER / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def random(*shape):
    return torch.randn(shape, dtype=torch.float64)


def recurrent(kind, seed):
    torch.manual_seed(seed)
    out = {}
    for layers in (1, 2):
        model = getattr(nn, kind)(D, H, layers).double()
        for parameter in model.parameters():
            nn.init.uniform_(parameter, -0.9, 0.9)
        for name, weight in model.state_dict().items():
            out[f"{layers}.{name}"] = weight
        x = random(T, N, D)
        names = ["h", "c"] if kind == "LSTM" else ["h"]
        initial = {name: random(layers, N, H) for name in names}
        r_y = random(T, N, H)
        r_state = {name: random(layers, N, H) for name in names}
        out[f"{layers}.x"] = x
        out[f"{layers}.r.y"] = r_y
        for name in names:
            out[f"{layers}.{name}_0"] = initial[name]
            out[f"{layers}.r.{name}_n"] = r_state[name]
        for state in ("given", "absent"):
            model.zero_grad()
            x_leaf = x.clone().requires_grad_()
            leaves = {name: initial[name].clone().requires_grad_() for name in names}
            if state == "absent":
                y, final = model(x_leaf)
            else:
                y, final = model(x_leaf, (leaves["h"], leaves["c"]) if kind == "LSTM" else leaves["h"])
            final = dict(zip(names, final if kind == "LSTM" else (final,)))
            loss = (y * r_y).sum() + sum((final[name] * r_state[name]).sum() for name in names)
            loss.backward()
            prefix = f"{layers}.{state}."
            out[prefix + "y"] = y
            for name in names:
                out[f"{prefix}{name}_n"] = final[name]
                if state == "given":
                    out[f"{prefix}grad.{name}_0"] = leaves[name].grad
            out[prefix + "grad.x"] = x_leaf.grad
            for name, parameter in model.named_parameters():
                out[f"{prefix}grad.{name}"] = parameter.grad.clone()
    write_safetensors(kind.lower(), out)


# Of each: PyTorch's options and the sequences' lengths. All have two layers.
RECURRENT_OPTIONS = {
    "lstm_bidirectional": ("LSTM", dict(bidirectional=True), None),
    "lstm_projection": ("LSTM", dict(bidirectional=True, proj_size=2), None),
    "lstm_ragged": ("LSTM", dict(bidirectional=True), (4, 6, 1)),
    "lstm_ragged_projection": ("LSTM", dict(proj_size=2), (4, 6, 1)),
    "gru_bidirectional": ("GRU", dict(bidirectional=True, bias=False), None),
    "gru_ragged": ("GRU", dict(bidirectional=True), (2, 2, 5)),
    "rnn_relu": ("RNN", dict(nonlinearity="relu", bias=False, batch_first=True), None),
    "rnn_ragged": ("RNN", dict(bidirectional=True), (1, 6, 3)),
}


def recurrent_options():
    torch.manual_seed(6)
    out = {}
    for case, (kind, options, lengths) in RECURRENT_OPTIONS.items():
        model = getattr(nn, kind)(D, H, 2, **options).double()
        for parameter in model.parameters():
            nn.init.uniform_(parameter, -0.9, 0.9)
        cells = 2 * (2 if model.bidirectional else 1)
        sizes = {"h": model.proj_size or H, "c": H} if kind == "LSTM" else {"h": H}
        tensors = {f"{name}_0": random(cells, N, size) for name, size in sizes.items()}
        tensors["x"] = random(*((N, T, D) if model.batch_first else (T, N, D)))
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
        x = leaves["x"]
        if lengths:
            x = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        y, final = model(x, (leaves["h_0"], leaves["c_0"]) if kind == "LSTM" else leaves["h_0"])
        if lengths:
            y, _ = nn.utils.rnn.pad_packed_sequence(y, total_length=T)
        results = {"y": y, **dict(zip(("h_n", "c_n"), final if kind == "LSTM" else (final,)))}
        weights = {f"r.{name}": random(*value.shape) for name, value in results.items()}
        sum((value * weights[f"r.{name}"]).sum() for name, value in results.items()).backward()
        grads = {f"grad.{name}": leaf.grad for name, leaf in leaves.items()}
        grads.update({f"grad.{name}": parameter.grad for name, parameter in model.named_parameters()})
        for name, value in {**model.state_dict(), **tensors, **results, **weights, **grads}.items():
            out[f"{case}.{name}"] = value
    write_safetensors("recurrent_options", out)


def losses():
    torch.manual_seed(4)
    tokens, size, classes, count = 7, 4, 6, 9
    table = nn.Embedding(tokens, size).double()
    head = nn.Linear(size, classes).double()
    ids = torch.randint(tokens, (3, 3))  # tokens occur several times, and some not at all
    targets = torch.randint(classes, (3, 3))
    hidden = table(ids)
    logits = head(hidden)
    loss = nn.functional.cross_entropy(logits.reshape(count, classes), targets.reshape(count))
    loss.backward()
    out = {
        "embedding.weight": table.weight,
        "head.weight": head.weight,
        "head.bias": head.bias,
        "ids": ids,
        "targets": targets,
        "hidden": hidden,
        "logits": logits,
        "loss": loss,
        "grad.embedding.weight": table.weight.grad,
        "grad.head.weight": head.weight.grad,
        "grad.head.bias": head.bias.grad,
    }
    large = (1e4 * random(5, 6)).requires_grad_()
    with torch.no_grad():
        large[1, 2] = -math.inf
        large[2] = 1e4 + torch.arange(6)  # close to each other, far from 0
    y = nn.functional.log_softmax(large, dim=-1)
    r = random(5, 6)
    r[1, 2] = 0
    torch.where(r == 0, torch.zeros_like(y), y * r).sum().backward()
    out.update({"large.x": large, "large.y": y, "large.r": r, "large.grad": large.grad})
    write_safetensors("losses", out)


class RMSNorm(nn.Module):
    """What later versions of PyTorch call nn.RMSNorm."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


class Layers(nn.Module):
    def __init__(self, tokens, size, hidden):
        super().__init__()
        self.embedding = nn.Embedding(tokens, size, padding_idx=2)
        self.net = nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), nn.LayerNorm(hidden), nn.Linear(hidden, size))
        self.norm = RMSNorm(size)
        self.head = nn.Linear(size, tokens)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.norm(self.net(self.embedding(ids))))


def layers():
    torch.manual_seed(6)
    tokens = 7
    model = Layers(tokens, size=4, hidden=5).double()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.9, 0.9)
    ids = torch.tensor([[1, 2, 5], [2, 0, 5]])  # the padding, 2, among them
    targets = torch.randint(tokens, (2, 3))
    logits = model(ids)
    loss = nn.functional.cross_entropy(logits.reshape(-1, tokens), targets.reshape(-1))
    loss.backward()
    out = {"ids": ids, "targets": targets, "logits": logits, "loss": loss}
    out.update({f"state.{name}": value for name, value in model.state_dict().items()})
    out.update({f"grad.{name}": parameter.grad for name, parameter in model.named_parameters()})
    write_safetensors("layers", out)


def gradient(theta, t, offset):
    """Of element i at step t: theta_i + theta_i^3 + 2 sin(t / 20 + i + offset). Neither linear nor constant."""
    i = torch.arange(theta.numel(), dtype=torch.float64).reshape(theta.shape)
    return theta + theta**3 + 2 * torch.sin(t / 20 + i + offset)


class NAdam:
    """Dozat 2016, algorithm 2, as PyTorch has it since version 2.0. Version 1.13 multiplies mu_t into the product of
    the next step twice and keeps the product in float32: with `as_in_1_13` we are within 1e-5 of it, checked below."""

    def __init__(self, parameters, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3,
                 as_in_1_13=False):
        self.parameters, self.lr, self.betas, self.eps = parameters, lr, betas, eps
        self.weight_decay, self.momentum_decay, self.as_in_1_13 = weight_decay, momentum_decay, as_in_1_13
        self.m = [torch.zeros_like(p) for p in parameters]
        self.v = [torch.zeros_like(p) for p in parameters]
        self.t, self.product = 0, 1.0

    def mu(self, t):
        return self.betas[0] * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))

    @torch.no_grad()
    def step(self):
        self.t += 1
        mu, following = self.mu(self.t), self.mu(self.t + 1)
        self.product *= mu
        next_product = self.product * following * (mu if self.as_in_1_13 else 1)
        for p, m, v in zip(self.parameters, self.m, self.v):
            g = p.grad + self.weight_decay * p
            m.copy_(self.betas[0] * m + (1 - self.betas[0]) * g)
            v.copy_(self.betas[1] * v + (1 - self.betas[1]) * g * g)
            d = (1 - mu) / (1 - self.product) * g + following / (1 - next_product) * m
            p -= self.lr * d / ((v / (1 - self.betas[1] ** self.t)).sqrt() + self.eps)


STEPS = (1, 2, 3, 10, 100, 500, 1000)
CASES = {
    "sgd": (torch.optim.SGD, dict(lr=0.01)),
    "sgd_momentum": (torch.optim.SGD, dict(lr=0.01, momentum=0.9)),
    "sgd_decay": (torch.optim.SGD, dict(lr=0.02, weight_decay=0.1)),
    "sgd_momentum_decay_rate": (torch.optim.SGD, dict(lr=0.01, momentum=0.8, weight_decay=0.05)),
    "adam": (torch.optim.Adam, dict()),
    "adam_decay": (torch.optim.Adam, dict(lr=0.01, weight_decay=0.1)),
    "adam_betas": (torch.optim.Adam, dict(lr=0.005, betas=(0.8, 0.95), eps=1e-2)),
    "adam_rate": (torch.optim.Adam, dict(lr=0.01)),
    "adam_absent": (torch.optim.Adam, dict(lr=0.01)),
    "adam_groups": (torch.optim.Adam, [dict(lr=0.01), dict(lr=0.003, betas=(0.7, 0.9), weight_decay=0.1)]),
    "sgd_dampening": (torch.optim.SGD, dict(lr=0.01, momentum=0.9, dampening=0.3)),
    "sgd_nesterov": (torch.optim.SGD, dict(lr=0.01, momentum=0.9, weight_decay=0.05, nesterov=True)),
    "adam_amsgrad": (torch.optim.Adam, dict(lr=0.01, betas=(0.9, 0.95), weight_decay=0.05, amsgrad=True)),
    "adamw": (torch.optim.AdamW, dict()),
    "adamw_options": (torch.optim.AdamW, dict(lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2, amsgrad=True)),
    "nadam": (NAdam, dict()),
    "nadam_options": (
        NAdam,
        dict(lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.05, momentum_decay=0.02),
    ),
    "adagrad": (torch.optim.Adagrad, dict()),
    "adagrad_options": (
        torch.optim.Adagrad,
        dict(lr=0.1, lr_decay=0.01, weight_decay=0.05, initial_accumulator_value=0.3, eps=1e-3),
    ),
    "adadelta": (torch.optim.Adadelta, dict()),
    "adadelta_options": (torch.optim.Adadelta, dict(lr=0.5, rho=0.8, eps=1e-3, weight_decay=0.05)),
    "rmsprop": (torch.optim.RMSprop, dict()),
    "rmsprop_momentum": (torch.optim.RMSprop, dict(lr=0.002, alpha=0.9, momentum=0.8)),
    "rmsprop_centred": (torch.optim.RMSprop, dict(lr=0.005, eps=1e-2, centered=True)),
    "rmsprop_options": (
        torch.optim.RMSprop,
        dict(lr=0.002, alpha=0.95, eps=1e-3, weight_decay=0.05, momentum=0.7, centered=True),
    ),
}
# SparseAdam adds epsilon before the bias correction, which of a tiny one is lost in rounding.
SPARSE_CASES = {
    "sparse_adam": (torch.optim.SparseAdam, dict(lr=0.01, betas=(0.8, 0.95), eps=1e-15)),
    "sparse_adagrad": (torch.optim.Adagrad, dict(lr=0.1, initial_accumulator_value=0.3)),
    "sparse_sgd": (torch.optim.SGD, dict(lr=0.01)),
}


def run_optimizer(case, kind, options, starts):
    parameters = [nn.Parameter(start.clone()) for start in starts]
    if isinstance(options, list):
        optimizer = kind([{"params": [p], **of} for p, of in zip(parameters, options)])
    else:
        optimizer = kind(parameters, **options)
    seen = {}
    for t in range(1, max(STEPS) + 1):
        if case.endswith("_rate") and t == 51:
            optimizer.param_groups[0]["lr"] *= 0.25
        for offset, parameter in enumerate(parameters):
            parameter.grad = gradient(parameter.detach(), t, offset)
        if case.endswith("_absent") and t % 3 == 0:
            parameters[1].grad = None
        optimizer.step()
        if t in STEPS:
            seen[t] = [parameter.detach().clone() for parameter in parameters]
    return seen


def difference(one, other):
    return max((a - b).abs().max().item() for t in STEPS for a, b in zip(one[t], other[t]))


def run_sparse(kind, options, start):
    """A table of which step t looks up the rows t mod 6 and t^2 + 1 mod 6, which may be the same."""
    table = nn.Embedding.from_pretrained(start.clone(), freeze=False, sparse=True)
    optimizer = kind(table.parameters(), **options)
    seen = {}
    for t in range(1, max(STEPS) + 1):
        optimizer.zero_grad()
        ids = torch.tensor([t % 6, (t * t + 1) % 6])
        (table(ids) * gradient(table.weight.detach()[ids], t, 0)).sum().backward()
        optimizer.step()
        if t in STEPS:
            seen[t] = table.weight.detach().clone()
    return seen


def optimizers():
    torch.manual_seed(5)
    starts = [random(2, 3), random(4)]
    out = {"start.a": starts[0], "start.b": starts[1]}
    for case, (kind, options) in CASES.items():
        seen = run_optimizer(case, kind, options, starts)
        for step, values in seen.items():
            out[f"{case}.a.{step}"], out[f"{case}.b.{step}"] = values
        # The problem must not magnify rounding errors, or the comparison would be of noise.
        moved = run_optimizer(case, kind, options, [start + 1e-9 for start in starts])
        assert difference(seen, moved) < 1e-8, case
        if kind is NAdam and torch.__version__.startswith("1."):
            theirs = run_optimizer(case, torch.optim.NAdam, options, starts)
            ours = run_optimizer(case, NAdam, dict(options, as_in_1_13=True), starts)
            assert difference(ours, theirs) < 1e-5 < difference(seen, theirs), case

    # PyTorch adds 1e-6 to the norm and we nothing: of large gradients that is lost in rounding.
    for case, scale in (("large", 1e6), ("small", 0.01)):
        parameters = [nn.Parameter(torch.zeros_like(start)) for start in starts]
        for name, parameter in zip("ab", parameters):
            parameter.grad = scale * random(*parameter.shape)
            out[f"clip_norm.{case}.{name}.before"] = parameter.grad.clone()
        out[f"clip_norm.{case}.norm"] = nn.utils.clip_grad_norm_(parameters, 0.5)
        for name, parameter in zip("ab", parameters):
            out[f"clip_norm.{case}.{name}.after"] = parameter.grad
    for name, start in zip("ab", starts):
        parameter = nn.Parameter(torch.zeros_like(start))
        parameter.grad = random(*start.shape)
        out[f"clip_value.{name}.before"] = parameter.grad.clone()
        nn.utils.clip_grad_value_([parameter], 0.5)
        out[f"clip_value.{name}.after"] = parameter.grad

    out["start.table"] = random(6, 3)
    for case, (kind, options) in SPARSE_CASES.items():
        for step, table in run_sparse(kind, options, out["start.table"]).items():
            out[f"{case}.{step}"] = table
    write_safetensors("optimizers", out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, kind in enumerate(("LSTM", "GRU", "RNN"), start=1):
        recurrent(kind, number)
    recurrent_options()
    losses()
    layers()
    optimizers()
