#!/usr/bin/env python3
"""Trains the model of examples/word_lm.cpp in PyTorch, from the same first weights and on the same words, and compares.

    word_lm.py --program build/release/examples/word_lm
    word_lm.py --program build/release/examples/word_lm --data ptb.train.txt --hidden 200 --vocabulary 10000 --steps 3400

Both train once, without dropout; the perplexities on the held-out tenth must agree within 0.01 %, and after more than
40 steps within 1 %: a descent at a rate of 1 multiplies the last digits, until PyTorch differs from itself on another
number of threads. Words, windows and the falling rate are written here anew, after the description in examples/common
and the example's help. Exits with 77, which ctest takes for skipped, where there is no PyTorch.
"""

import argparse
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

try:
    import torch
except ImportError:
    print("skipped: no PyTorch")
    sys.exit(77)

import tensor_file

LAYERS, BATCH, WINDOW, CLIP, RATE, DECAY, DECAY_AFTER = 2, 20, 20, 5.0, 1.0, 0.5, 4
EXACT_STEPS, TOLERANCE, LATER_TOLERANCE = 40, 0.0001, 0.01


def run(program, folder, data, options, steps, rate):
    """What the C++ program says of a training, and the weights it has kept."""
    command = [program, "--data", data, "--out", folder, "--steps", steps, "--rate", rate, "--length", 0]
    for name, value in options.items():
        command += [f"--{name}", value]
    output = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1]), *tensor_file.read(folder / "best.safetensors")


class Model(torch.nn.Module):
    def __init__(self, vocabulary, hidden):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, hidden)
        self.lstm = torch.nn.LSTM(hidden, hidden, LAYERS)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias_hh"):
                parameter.requires_grad = False  # 0: the equations have one bias, and a second doubles its rate
        self.head = torch.nn.Linear(hidden, vocabulary)
        self.head.weight = self.embedding.weight

    def forward(self, words, state):
        y, state = self.lstm(self.embedding(words), state)
        return self.head(y), state


def streams_of(words, count):
    """[T, N]: contiguous parts of the text side by side, each word's successor being in the next row."""
    each = (len(words) - 1) // count
    inputs = torch.tensor([words[n * each : (n + 1) * each] for n in range(count)]).t()
    targets = torch.tensor([words[n * each + 1 : (n + 1) * each + 1] for n in range(count)]).t()
    return inputs, targets


def mean_loss(model, words):
    inputs, targets = streams_of(words, max(1, min(BATCH, len(words) // (WINDOW + 1))))
    total, state = 0.0, None
    with torch.no_grad():
        for begin in range(0, len(inputs), WINDOW):
            logits, state = model(inputs[begin : begin + WINDOW], state)
            target = targets[begin : begin + WINDOW]
            total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum").item()
    return total / targets.numel()


def train(model, words, steps):
    inputs, targets = streams_of(words, BATCH)
    windows = len(inputs) // WINDOW
    state = None
    for step in range(steps):
        epoch, window = divmod(step, windows)
        if window == 0:
            state = None
        rows = slice(window * WINDOW, (window + 1) * WINDOW)
        logits, state = model(inputs[rows], state)
        state = tuple(part.detach() for part in state)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[rows].flatten())
        model.zero_grad()
        (WINDOW * loss).backward()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        with torch.no_grad():
            for parameter in trained:
                parameter -= RATE * DECAY ** max(0, epoch + 1 - DECAY_AFTER) * parameter.grad


def split_words(text):
    lower = "".join(c.lower() if c.isascii() else c for c in text.replace("\u2019", "'"))
    return re.findall(r"(?:[a-z0-9']|[^\x00-\x7f\u2000-\u206f])+|\S", lower)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True, help="the built example")
    parser.add_argument("--data", type=pathlib.Path, help="a text; none: Unroll's headers")
    parser.add_argument("--steps", type=int, default=EXACT_STEPS)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--vocabulary", type=int, default=500)
    arguments = parser.parse_args()
    options = {"hidden": arguments.hidden, "vocabulary": arguments.vocabulary}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data = arguments.data
        if data is None:
            data = folder / "text.txt"
            headers = sorted(pathlib.Path(__file__).parents[2].glob("*/*.h"))
            data.write_text("\n".join(path.read_text() for path in headers))
        # A step of size 0, as near as the option allows, leaves the first weights in the file.
        _, metadata, first = run(arguments.program, folder / "first", data, options, 1, 1e-30)
        ours, _, _ = run(arguments.program, folder / "trained", data, options, arguments.steps, RATE)
        words = split_words(data.read_text())

    numbers = {word: number for number, word in enumerate(json.loads(metadata["words"]))}
    words = [numbers.get(word, 0) for word in words]
    learned = len(words) * 9 // 10
    model = Model(len(numbers), arguments.hidden)
    model.load_state_dict({**first, "head.weight": first["embedding.weight"]}, strict=True)
    before = math.exp(mean_loss(model, words[learned:]))
    train(model, words[:learned], arguments.steps)
    theirs = math.exp(mean_loss(model, words[learned:]))
    ratio = ours["validation_perplexity"] / theirs
    print(
        f"{len(words)} words, a vocabulary of {len(numbers)}; perplexity on the last tenth: {before:.2f} before, after "
        f"{arguments.steps} steps {ours['validation_perplexity']:.3f} here and {theirs:.3f} in PyTorch: {ratio:.5f}"
    )
    assert theirs < before / 2, "nothing was learned"
    tolerance = TOLERANCE if arguments.steps <= EXACT_STEPS else LATER_TOLERANCE
    assert abs(ratio - 1) < tolerance, "they differ"


main()
