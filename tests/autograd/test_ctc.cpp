#include <autograd/autograd.h>
#include <tests/autograd/operations.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Ids = std::vector<std::int32_t>;
constexpr double infinity = std::numeric_limits<double>::infinity();

/// What an alignment reads as: repetitions first, then blanks are left out.
Ids collapse(const Ids& alignment, std::int32_t blank) {
  Ids labels;
  for (std::size_t t = 0; t < alignment.size(); ++t)
    if (alignment[t] != blank && (t == 0 || alignment[t] != alignment[t - 1])) labels.push_back(alignment[t]);
  return labels;
}

/// The loss of sequence n of log_probabilities [T, N, C] from its definition: all C^steps alignments, one by one.
double enumerated(const Tensor& x, Index n, Index steps, const Ids& labels, std::int32_t blank) {
  const Index classes = x.shape()[2];
  double sum = 0;
  Ids alignment(static_cast<std::size_t>(steps), 0);
  while (true) {
    if (collapse(alignment, blank) == labels) {
      double log_p = 0;
      for (Index t = 0; t < steps; ++t) log_p += x.at({t, n, alignment[static_cast<std::size_t>(t)]});
      sum += std::exp(log_p);
    }
    std::size_t t = 0;
    while (t < alignment.size() && ++alignment[t] == classes) alignment[t++] = 0;
    if (t == alignment.size()) return -std::log(sum);
  }
}

Tensor log_softmaxed(const Tensor& x) {
  Tape tape = Tape::inference();
  return Tensor(log_softmax(tape.constant(x)).value());
}

/// Sequences that are short, long, empty, with repeated labels, and that just fit; the last has no time steps.
struct Example {
  Index steps = 6, classes = 3;
  std::vector<Ids> labels{{1, 2}, {1, 1}, {}, {2, 2, 1}, {1, 2, 1, 2, 1, 2}, {2}, {}};
  Ids input_lengths{6, 5, 4, 4, 6, 1, 0}, target_lengths, concatenated, padded;
  Index longest = 7;

  explicit Example(std::int32_t blank = 0) {
    for (Ids& row : labels) {
      for (std::int32_t& label : row) label = (label + blank) % 3;
      target_lengths.push_back(static_cast<std::int32_t>(row.size()));
      concatenated.insert(concatenated.end(), row.begin(), row.end());
      padded.insert(padded.end(), row.begin(), row.end());
      padded.resize(padded.size() + static_cast<std::size_t>(longest) - row.size(), -7);  // never looked at
    }
  }
  Index size() const { return static_cast<Index>(labels.size()); }
  Indices padded_targets() const { return {padded, {size(), longest}}; }
  Tensor log_probabilities() const { return log_softmaxed(random_tensor({steps, size(), classes}, 1, -2, 2)); }
};

}  // namespace

namespace unroll::testing {

std::vector<OperationRow> ctc_rows();
std::vector<OperationRow> ctc_rows() {
  const Example e;
  auto call = [=](Tape&, const Vars& x) {
    return ctc(x[0], e.concatenated, e.input_lengths, e.target_lengths, {.reduction = Reduction::none});
  };
  auto reference = [=](const std::vector<Tensor>& x) {
    Tensor losses({e.size()}, float64);
    for (Index n = 0; n < e.size(); ++n) {
      const auto k = static_cast<std::size_t>(n);
      losses.set({n}, enumerated(x[0], n, e.input_lengths[k], e.labels[k], 0));
    }
    return losses;
  };
  return {{"ctc", {{{e.steps, e.size(), e.classes}}}, call, reference}};
}

}  // namespace unroll::testing

TEST_CASE("ctc is the sum over all alignments, enumerated one by one") {
  for (std::int32_t blank : {0, 1, 2}) {
    const Example e(blank);
    const Tensor x = e.log_probabilities();
    for (DType type : {float64, float32}) {
      CAPTURE(blank);
      CAPTURE(name_of(type));
      Tape tape;
      const Var input = tape.constant(x.to(type));
      const CtcOptions each{.blank = blank, .reduction = Reduction::none};
      const Var losses = ctc(input, e.concatenated, e.input_lengths, e.target_lengths, each);
      CHECK(losses.shape() == Shape{e.size()});
      double sum = 0, mean = 0;
      for (Index n = 0; n < e.size(); ++n) {
        CAPTURE(n);
        const Ids& labels = e.labels[static_cast<std::size_t>(n)];
        const double expected = enumerated(x, n, e.input_lengths[static_cast<std::size_t>(n)], labels, blank);
        CHECK(losses.value().at({n}) == doctest::Approx(expected).epsilon(type == float32 ? 1e-6 : 1e-12));
        sum += expected;
        mean += expected / static_cast<double>(std::max<std::size_t>(labels.size(), 1)) / static_cast<double>(e.size());
      }
      auto reduced = [&](Reduction reduction) {
        return ctc(input, e.padded_targets(), e.input_lengths, e.target_lengths,
                   {.blank = blank, .reduction = reduction})
            .item();
      };
      CHECK(reduced(Reduction::sum) == doctest::Approx(sum).epsilon(type == float32 ? 1e-6 : 1e-12));
      CHECK(reduced(Reduction::mean) == doctest::Approx(mean).epsilon(type == float32 ? 1e-6 : 1e-12));
    }
  }
}

TEST_CASE("ctc: derivatives, in any numbers and through log_softmax") {
  const Example e;
  const Tensor logits = random_tensor({e.steps, e.size(), e.classes}, 2, -2, 2);
  for (Reduction reduction : {Reduction::none, Reduction::mean, Reduction::sum}) {
    CAPTURE(static_cast<int>(reduction));
    const CtcOptions options{.reduction = reduction};
    CHECK(gradient_error(
              [&](Tape&, const std::vector<Var>& x) {
                return ctc(x[0], e.concatenated, e.input_lengths, e.target_lengths, options);
              },
              {logits}) < 1e-7);
    CHECK(gradient_error(
              [&](Tape&, const std::vector<Var>& x) {
                return ctc(log_softmax(x[0]), e.padded_targets(), e.input_lengths, e.target_lengths, options);
              },
              {logits}) < 1e-7);
  }
  // Another gradient at the same input, and a view of rows that do not lie together.
  CHECK(gradient_error(
            [&](Tape&, const std::vector<Var>& x) {
              const Var y = slice(x[0], 2, 1, 4);
              return Var(ctc(y, e.concatenated, e.input_lengths, e.target_lengths) + sum(Var(square(x[0]))));
            },
            {random_tensor({e.steps, e.size(), 5}, 3)}) < 1e-7);
}

TEST_CASE("ctc is PyTorch's") {
  // import torch; F = torch.nn.functional  (1.13, in double precision)
  // k = torch.arange(72).reshape(6, 4, 3).double(); x = torch.sin(k * 0.7 + 0.1 * k ** 1.5).requires_grad_()
  // targets = torch.tensor([[1, 2, 2], [1, 0, 0], [2, 2, 0], [0, 0, 0]]); lengths = [6, 5, 2, 4], [3, 1, 2, 0]
  // loss = F.ctc_loss(F.log_softmax(x, -1), targets, *map(torch.tensor, lengths), zero_infinity=True)
  // torch.autograd.grad(loss, x)[0][1]
  Tensor logits({6, 4, 3}, float64);
  for (Index i = 0; i < 72; ++i) {
    const auto k = static_cast<double>(i);
    logits.data<double>()[i] = std::sin(k * 0.7 + 0.1 * std::pow(k, 1.5));
  }
  const Ids ids{1, 2, 2, 1, 0, 0, 2, 2, 0, 0, 0, 0}, input_lengths{6, 5, 2, 4}, target_lengths{3, 1, 2, 0};
  const Indices targets(ids, {4, 3});
  Tape tape;
  const Var x = tape.variable(logits), y = log_softmax(x);
  auto loss = [&](Reduction reduction, bool zero_infinity) {
    return ctc(y, targets, input_lengths, target_lengths, {.reduction = reduction, .zero_infinity = zero_infinity});
  };
  CHECK(relative_error(loss(Reduction::none, false).value(),
                       Tensor({4}, {2.858285997882387, 2.291905741422725, infinity, 7.330274369827183}, float64)) <
        1e-12);
  CHECK(loss(Reduction::mean, false).item() == infinity);
  CHECK(loss(Reduction::none, true).value().at({2}) == 0);
  CHECK(loss(Reduction::sum, true).item() == doctest::Approx(12.480466109132294).epsilon(1e-12));
  const Var mean = loss(Reduction::mean, true);
  CHECK(mean.item() == doctest::Approx(2.643735527636009).epsilon(1e-12));
  tape.backward(mean);
  const Tensor expected(
      {4, 3},
      {0.00583991831055543, 0.0030813707053940313, -0.008921289015949461, -0.0671241793135619, -0.06447512278107313,
       0.13159930209463502, 0, 0, 0, -0.22425513883639167, 0.09231798440806147, 0.1319371544283302},
      float64);
  for (Index n = 0; n < 4; ++n)
    for (Index c = 0; c < 3; ++c) CHECK(x.grad().at({1, n, c}) == doctest::Approx(expected.at({n, c})).epsilon(1e-10));
}

TEST_CASE("what no alignment fits is infinitely wrong, and on request nothing") {
  // [2, 2] needs three steps; [1] has no probability.
  Tensor x = log_softmaxed(random_tensor({2, 3, 3}, 4));
  for (Index t = 0; t < 2; ++t) x.set({t, 1, 1}, -infinity);
  const Ids labels{2, 2, 1, 1}, input_lengths{2, 2, 2}, target_lengths{2, 1, 1};
  for (bool zero_infinity : {false, true}) {
    CAPTURE(zero_infinity);
    Tape tape;
    const Var input = tape.variable(x);
    const Var losses = ctc(input, labels, input_lengths, target_lengths,
                           {.reduction = Reduction::none, .zero_infinity = zero_infinity});
    CHECK(losses.value().at({0}) == (zero_infinity ? 0 : infinity));
    CHECK(losses.value().at({1}) == (zero_infinity ? 0 : infinity));
    CHECK(losses.value().at({2}) == doctest::Approx(enumerated(x, 2, 2, {1}, 0)));
    tape.backward(sum(losses));
    for (Index n = 0; n < 3; ++n) {
      const double gradient = input.grad().at({0, n, n == 0 ? 2 : 1});
      CAPTURE(n);
      if (n == 2)
        CHECK(gradient < 0);
      else if (zero_infinity)
        CHECK(gradient == 0);
      else
        CHECK(std::isnan(gradient));
    }
    for (Index c = 0; c < 3; ++c) CHECK(std::isfinite(input.grad().at({1, 2, c})));
  }
}

TEST_CASE("steps past the end and padded targets have no part in ctc, whatever is in them") {
  const Example e;
  Tensor x = e.log_probabilities();
  auto run = [&](const Tensor& values, Tensor& gradient) {
    Tape tape;
    const Var input = tape.variable(values);
    const Var loss = ctc(input, e.padded_targets(), e.input_lengths, e.target_lengths);
    tape.backward(loss);
    gradient = Tensor(input.grad());
    return loss.item();
  };
  Tensor before, after;
  const double loss = run(x, before);
  for (Index n = 0; n < e.size(); ++n)
    for (Index t = e.input_lengths[static_cast<std::size_t>(n)]; t < e.steps; ++t)
      for (Index c = 0; c < e.classes; ++c) {
        CHECK(before.at({t, n, c}) == 0);
        x.set({t, n, c}, std::numeric_limits<double>::quiet_NaN());
      }
  CHECK(run(x, after) == loss);
  CHECK(same_bits(before, after));
}

TEST_CASE("ctc over long sequences neither underflows nor loses digits") {
  // Every step has the same probabilities p, 1 - p of a blank and the one label: with S = 1 label the alignments are
  // the T (T + 1) / 2 runs of it.
  const Index steps = 3000;
  const double p = 0.75;
  Tensor x({steps, 1, 2}, float64);
  for (Index t = 0; t < steps; ++t) {
    x.set({t, 0, 0}, std::log(p));
    x.set({t, 0, 1}, std::log(1 - p));
  }
  const auto count = static_cast<double>(steps);
  double sum = 0;  // of (1 - p)^k p^(T - k) (T - k + 1), over p^T
  for (double k = 1; k <= count; ++k) sum += std::pow((1 - p) / p, k) * (count - k + 1);
  const double expected = -(count * std::log(p) + std::log(sum));
  Tape tape;
  const Var exact = tape.variable(x), rounded = tape.variable(x.to(float32));
  const Ids label{1}, length{static_cast<std::int32_t>(steps)};
  Var loss = ctc(exact, label, length, label), loss32 = ctc(rounded, label, length, label);
  CHECK(loss.item() == doctest::Approx(expected).epsilon(1e-12));
  CHECK(loss32.item() == doctest::Approx(expected).epsilon(1e-6));
  tape.backward(loss);
  tape.backward(loss32);
  // Every step is in one state or the other: the posteriors of its classes add up to 1.
  for (Index t = 0; t < steps; t += 499) {
    CHECK(exact.grad().at({t, 0, 0}) + exact.grad().at({t, 0, 1}) == doctest::Approx(-1).epsilon(1e-9));
    CHECK(rounded.grad().at({t, 0, 0}) + rounded.grad().at({t, 0, 1}) == doctest::Approx(-1).epsilon(1e-6));
  }
}

TEST_CASE("a NaN among the probabilities of ctc is not lost") {
  const Example e;
  Tensor x = e.log_probabilities();
  x.set({1, 0, 2}, std::numeric_limits<double>::quiet_NaN());
  Tape tape;
  const Var losses =
      ctc(tape.constant(x), e.concatenated, e.input_lengths, e.target_lengths, {.reduction = Reduction::none});
  CHECK(std::isnan(losses.value().at({0})));
  CHECK(std::isfinite(losses.value().at({1})));
}

TEST_CASE("ctc without a gradient gives the same bits and keeps no variables") {
  const Index steps = 200;
  const Tensor x = log_softmaxed(random_tensor({steps, 4, 30}, 5, -1, 1, float32));
  Ids labels, input_lengths(4, 200), target_lengths(4, 40);
  for (std::int32_t i = 0; i < 160; ++i) labels.push_back(1 + i * i % 29);
  Tape tape, inference = Tape::inference();
  const Var loss = ctc(tape.variable(x), labels, input_lengths, target_lengths);
  const Var same = ctc(inference.constant(x), labels, input_lengths, target_lengths);
  CHECK(same_bits(loss.value(), same.value()));
  CHECK(tape.bytes_in_use() > inference.bytes_in_use() + 200 * 4 * 81 * sizeof(double));
}

TEST_CASE("ctc refuses what does not fit") {
  Tape tape;
  const Var x = tape.variable(Tensor({4, 2, 3})), first = x[0];
  const Ids two{2, 1}, lengths{4, 3}, ones{1, 1};
  const std::size_t size = tape.size();
  CHECK_ERROR_HERE(ctc(Var(), two, lengths, ones), "ctc", "empty Var");
  CHECK_ERROR_HERE(ctc(first, two, lengths, ones), "[2, 3]", "[time, batch, classes]");
  CHECK_ERROR_HERE(ctc(x, two, Ids{4}, ones), "input_lengths", "[1]", "2 sequences");
  CHECK_ERROR_HERE(ctc(x, two, lengths, Ids{2}), "target_lengths", "[1]", "2 sequences");
  CHECK_ERROR_HERE(ctc(x, two, Ids{4, 5}, ones), "number 1 of the input_lengths is 5", "[0, 4]");
  CHECK_ERROR_HERE(ctc(x, two, Ids{-1, 4}, ones), "number 0 of the input_lengths is -1");
  CHECK_ERROR_HERE(ctc(x, two, lengths, Ids{1, -1}), "number 1 of the target_lengths is -1");
  CHECK_ERROR_HERE(ctc(x, two, lengths, Ids{1, 0}), "add up to 1", "2 targets");
  CHECK_ERROR_HERE(ctc(x, two, lengths, Ids{2, 2}), "add up to 4", "2 targets");
  CHECK_ERROR_HERE(ctc(x, Indices(two, {2, 1}), lengths, Ids{1, 2}), "number 1 of the target_lengths is 2", "[0, 1]");
  CHECK_ERROR_HERE(ctc(x, Indices(two, {1, 2}), lengths, ones), "targets are [1, 2]", "[2, longest]");
  CHECK_ERROR_HERE(ctc(x, Ids{2, 3}, lengths, ones), "label 0 of sequence 1 is 3", "classes 0 to 2");
  CHECK_ERROR_HERE(ctc(x, Ids{-1, 1}, lengths, ones), "label 0 of sequence 0 is -1");
  CHECK_ERROR_HERE(ctc(x, Ids{2, 0}, lengths, ones), "label 0 of sequence 1 is 0, the blank");
  CHECK_ERROR_HERE(ctc(x, two, lengths, ones, {.blank = 3}), "blank is 3", "classes 0 to 2");
  CHECK(tape.size() == size);
  const Var none = tape.constant(Tensor({4, 0, 3}));
  CHECK_ERROR_HERE(ctc(none, Ids{}, Ids{}, Ids{}), "[4, 0, 3]", "no sequences");
  CHECK(ctc(none, Ids{}, Ids{}, Ids{}, {.reduction = Reduction::sum}).item() == 0);
  CHECK(ctc(none, Ids{}, Ids{}, Ids{}, {.reduction = Reduction::none}).shape() == Shape{0});
}
