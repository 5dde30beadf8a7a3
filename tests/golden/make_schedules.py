#!/usr/bin/env python3
"""Writes schedules.safetensors: the learning rates of PyTorch's schedulers, with a rate of 1, at the steps in `steps`.

How to run it is told in make_golden.py. tests/optim/test_schedule.cpp has the same schedules under the same names.
"""

import math

import torch
from torch.optim import lr_scheduler as lr

from make_golden import write_safetensors

LAST = 4000
JOINTS = (100, 250, 300, 333, 400, 500, 600, 666, 700, 800, 1000, 1200, 1500, 1600, 1999, 3000, 3600, 4000)
STEPS = sorted({*range(40), *range(0, LAST + 1, 41), *(j + d for j in JOINTS for d in (-1, 0, 1) if j + d <= LAST)})


def paper(t, w=400, d_model=512):
    """Vaswani et al. 2017, equation 3, over its peak."""
    rate = lambda n: d_model**-0.5 * min(n**-0.5, n * w**-1.5)
    return rate(t + 1) / rate(w)


def sequence(optimizer, milestones, *schedulers):
    return lr.SequentialLR(optimizer, [make(optimizer) for make in schedulers], list(milestones))


CASES = {
    "lambda": lambda o: lr.LambdaLR(o, lambda t: 1 / (1 + 0.01 * t)),
    "constant": lambda o: lr.ConstantLR(o, 0.3, 100),
    "step": lambda o: lr.StepLR(o, 300, 0.7),
    "step_default": lambda o: lr.StepLR(o, 1000),
    "multi_step": lambda o: lr.MultiStepLR(o, [250, 250, 1000, 3000], 0.3),
    "exponential": lambda o: lr.ExponentialLR(o, 0.999),
    "linear": lambda o: lr.LinearLR(o, total_iters=500),
    "linear_down": lambda o: lr.LinearLR(o, 1, 0, 3000),
    "polynomial": lambda o: lr.PolynomialLR(o, 3000),
    "polynomial_2": lambda o: lr.PolynomialLR(o, 3000, 2),
    "polynomial_half": lambda o: lr.PolynomialLR(o, 4000, 0.5),
    "cosine": lambda o: lr.CosineAnnealingLR(o, LAST),
    "cosine_to": lambda o: lr.CosineAnnealingLR(o, LAST, 0.1),
    "restarts": lambda o: lr.CosineAnnealingWarmRestarts(o, 333),
    "restarts_2": lambda o: lr.CosineAnnealingWarmRestarts(o, 100, 2, 0.05),
    "restarts_3": lambda o: lr.CosineAnnealingWarmRestarts(o, 50, 3),
    "one_cycle": lambda o: lr.OneCycleLR(o, 1, LAST + 1, cycle_momentum=False),
    "one_cycle_linear": lambda o: lr.OneCycleLR(
        o, 1, LAST + 1, pct_start=0.15, anneal_strategy="linear", div_factor=10, final_div_factor=50, cycle_momentum=False
    ),
    "one_cycle_down": lambda o: lr.OneCycleLR(o, 1, LAST + 1, pct_start=0.0, cycle_momentum=False),
    "triangular": lambda o: lr.CyclicLR(o, 0.1, 1, 300, 500, cycle_momentum=False),
    "triangular_default": lambda o: lr.CyclicLR(o, 0.25, 1, cycle_momentum=False),
    "triangular2": lambda o: lr.CyclicLR(o, 0.1, 1, 300, mode="triangular2", cycle_momentum=False),
    "exp_range": lambda o: lr.CyclicLR(o, 0.1, 1, 250, mode="exp_range", gamma=0.999, cycle_momentum=False),
    "sequence": lambda o: sequence(
        o,
        (100, 700),
        lambda o: lr.LinearLR(o, 0.1, 1, 100),
        lambda o: lr.ExponentialLR(o, 0.998),
        lambda o: lr.CosineAnnealingLR(o, LAST, 0.2),
    ),
    "warm_up": lambda o: sequence(o, [250], lambda o: lr.LinearLR(o, 0.01, 1, 250), lambda o: lr.StepLR(o, 350, 0.5)),
    "inverse_sqrt": lambda o: lr.LambdaLR(o, paper),
}


def rates(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1)
    scheduler = make(optimizer)
    out = []
    for _ in range(LAST + 1):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(out) <= LAST:
            scheduler.step()
    assert all(math.isfinite(rate) for rate in out)
    return torch.tensor([out[t] for t in STEPS], dtype=torch.float64)


if __name__ == "__main__":
    tensors = {name: rates(make) for name, make in CASES.items()}
    write_safetensors("schedules", {**tensors, "steps": torch.tensor(STEPS, dtype=torch.float64)})
