// Layer normalization and root mean square normalization.

#include <autograd/autograd.h>
#include <tests/autograd/operations.h>
#include <tests/support.h>

#include <doctest/doctest.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <cmath>
#include <limits>

using namespace unroll;
using namespace unroll::testing;

namespace {

/// From the definition; operands x, and gain and bias where there are any.
Tensor normalize_by_loops(const std::vector<Tensor>& operands, bool centred, double epsilon) {
  Tensor y = operands[0].to(float64);
  const Index n = y.shape().columns();
  for (Index row = 0; row < (n == 0 ? 0 : y.size() / n); ++row) {
    double* x = y.data<double>() + row * n;
    double mean = 0, square = 0;
    for (Index k = 0; k < n && centred; ++k) mean += x[k] / static_cast<double>(n);
    for (Index k = 0; k < n; ++k) square += (x[k] - mean) * (x[k] - mean) / static_cast<double>(n);
    for (Index k = 0; k < n; ++k) {
      x[k] = (x[k] - mean) / std::sqrt(square + epsilon);
      if (operands.size() > 1) x[k] *= operands[1].at({k});
      if (operands.size() > 2) x[k] += operands[2].at({k});
    }
  }
  return y;
}

Var normalize(const Vars& x, bool centred, double epsilon) {
  if (!centred) return x.size() == 1 ? rms_norm(x[0], epsilon) : rms_norm(x[0], x[1], epsilon);
  if (x.size() == 1) return layer_norm(x[0], epsilon);
  return x.size() == 2 ? layer_norm(x[0], x[1], epsilon) : layer_norm(x[0], x[1], x[2], epsilon);
}

}  // namespace

namespace unroll::testing {

std::vector<OperationRow> normalize_rows() {
  const double epsilon = 0.01;
  const std::vector<std::vector<Shape>> cases{
      {{2, 3, 5}, {5}, {5}}, {{4}, {4}, {4}}, {{3, 1}, {1}, {1}}, {{2, 70}, {70}, {70}}, {{0, 3}, {3}, {3}}};
  std::vector<OperationRow> rows;
  for (bool centred : {true, false}) {
    for (std::size_t operands : {1U, 2U, 3U}) {
      if (!centred && operands == 3) continue;
      OperationRow row;
      row.name = fmt::format("{} of {}", centred ? "layer_norm" : "rms_norm", operands);
      row.cases = cases;
      for (auto& shapes : row.cases) shapes.resize(operands);
      row.call = [=](Tape&, const Vars& x) { return normalize(x, centred, epsilon); };
      row.reference = [=](const std::vector<Tensor>& x) { return normalize_by_loops(x, centred, epsilon); };
      rows.push_back(row);
    }
  }
  return rows;
}

}  // namespace unroll::testing

TEST_CASE("a normalized row has mean 0 and variance 1, or mean square 1") {
  Tape tape;
  Var x = tape.constant(random_tensor({3, 40}, 1, -5, 20));
  const Tensor layer(layer_norm(x, 0.0).value()), root(rms_norm(x, 0.0).value());
  for (Index row = 0; row < 3; ++row) {
    double mean = 0, square = 0, of_root = 0;
    for (Index k = 0; k < 40; ++k) {
      mean += layer.at({row, k}) / 40;
      square += layer.at({row, k}) * layer.at({row, k}) / 40;
      of_root += root.at({row, k}) * root.at({row, k}) / 40;
    }
    CHECK(std::abs(mean) < 1e-14);
    CHECK(square == doctest::Approx(1).epsilon(1e-13));
    CHECK(of_root == doctest::Approx(1).epsilon(1e-13));
  }
  // The default epsilon.
  CHECK(layer_norm(tape.constant(Tensor({2}, {0, 0.002}, float64))).value().at({1}) ==
        doctest::Approx(0.001 / std::sqrt(1e-6 + 1e-5)));
}

TEST_CASE("normalization of views, of one operand in several places, and with operands that need no gradient") {
  const std::vector<Tensor> from{random_tensor({3, 8}, 1), random_tensor({4}, 2), random_tensor({4}, 3)};
  for (bool centred : {true, false}) {
    auto with = [&](const std::function<Vars(const Vars&)>& views) {
      return gradient_error(
          [&](Tape&, const Vars& x) {
            Vars operands = views(x);
            if (!centred) operands.resize(2);
            return Var(normalize(operands, centred, 1e-3) + 0 * (sum(x[0]) + sum(x[1]) + sum(x[2])));
          },
          from);
    };
    CHECK(with([](const Vars& x) { return Vars{slice(x[0], 1, 2, 6), x[1], x[2]}; }) < 1e-6);
    CHECK(with([](const Vars& x) { return Vars{chunk<2>(x[0])[1], x[1], x[2]}; }) < 1e-6);
    CHECK(with([](const Vars& x) { return Vars{transpose(x[0]), slice(x[1], 0, 1, 4), slice(x[2], 0, 0, 3)}; }) < 1e-6);
    CHECK(with([](const Vars& x) { return Vars{reshape(x[0], {6, 4}), x[1], x[1]}; }) < 1e-6);
    CHECK(with([](const Vars& x) { return Vars{x[1], x[1], x[1]}; }) < 1e-6);
    CHECK(with([](const Vars& x) { return Vars{slice(x[0], 1, 0, 4), slice(x[0][1], 0, 2, 6), x[2]}; }) < 1e-6);
  }
  // Each operand's gradient is the same whether the others' are wanted or not.
  const Tensor seed = random_tensor({3, 4}, 4);
  std::vector<Tensor> operands{random_tensor({3, 4}, 5), from[1], from[2]}, all;
  for (int wanted : {7, 1, 2, 4, 5, 6}) {
    Tape tape;
    Vars x;
    for (std::size_t k = 0; k < 3; ++k)
      x.push_back(wanted >> k & 1 ? tape.variable(operands[k]) : tape.constant(operands[k]));
    tape.backward(normalize(x, true, 1e-3), seed);
    for (std::size_t k = 0; k < 3; ++k) {
      if (wanted == 7)
        all.emplace_back(x[k].grad());
      else if (wanted >> k & 1)
        CHECK(same_bits(x[k].grad(), all[k]));
    }
  }
}

TEST_CASE("parameters as gain and bias, over several steps") {
  Parameter gain("gain", random_tensor({5}, 1)), bias("bias", random_tensor({5}, 2));
  CHECK(gradient_error(
            [&](Tape&, const Vars& x) { return Var(layer_norm(x[0], gain, bias) * rms_norm(x[0], gain) + gain); },
            {random_tensor({4, 5}, 3)}, {&gain, &bias}) < 1e-6);
}

TEST_CASE("rows of equal elements, and a large mean, in float32") {
  Tape tape;
  Var equal = tape.variable(Tensor::full({2, 3}, 7));
  Var y = layer_norm(equal);
  CHECK(y.value().to_vector() == std::vector<double>(6, 0));
  tape.backward(sum(Var(y * random_tensor({2, 3}, 1, -1, 1, float32))));
  for (double g : equal.grad().to_vector()) CHECK(std::isfinite(g));
  Var zero = rms_norm(tape.constant(Tensor(Shape{2, 3})));
  CHECK(zero.value().to_vector() == std::vector<double>(6, 0));
  const Tensor far({1, 4}, {1e6, 1e6 + 1, 1e6 + 2, 1e6 + 3});
  CHECK(relative_error(layer_norm(tape.constant(far)).value(), normalize_by_loops({far}, true, 1e-5)) < 1e-6);
}

TEST_CASE("large inputs: gradients of gain and bias add up over many blocks, the same bits on any number of threads") {
  std::vector<std::vector<Tensor>> runs;
  for (std::size_t threads : {1U, 2U, 4U}) {
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    tbb::task_arena arena(static_cast<int>(threads));
    arena.execute([&] {
      Tape tape;
      Var x = tape.variable(random_tensor({3000, 65}, 1)), gain = tape.variable(random_tensor({65}, 2)),
          bias = tape.variable(random_tensor({65}, 3)), y = layer_norm(x, gain, bias), z = rms_norm(y, gain);
      tape.backward(z, random_tensor({3000, 65}, 4));
      runs.push_back({Tensor(z.value()), Tensor(x.grad()), Tensor(gain.grad()), Tensor(bias.grad())});
    });
    for (std::size_t i = 0; i < runs[0].size(); ++i) CHECK(same_bits(runs.back()[i], runs[0][i]));
  }
  Tape tape;
  const Tensor x = random_tensor({3000, 65}, 1), dy = random_tensor({3000, 65}, 4);
  Var gain = tape.variable(Tensor::full({65}, 1, float64)), bias = tape.variable(Tensor(Shape{65}, float64));
  tape.backward(layer_norm(tape.constant(x), gain, bias), dy);
  const Tensor z = normalize_by_loops({x}, true, 1e-5);
  for (Index k : {0, 1, 64}) {
    double by_gain = 0, by_bias = 0;
    for (Index row = 0; row < 3000; ++row) {
      by_gain += z.at({row, k}) * dy.at({row, k});
      by_bias += dy.at({row, k});
    }
    CHECK(gain.grad().at({k}) == doctest::Approx(by_gain).epsilon(1e-11));
    CHECK(bias.grad().at({k}) == doctest::Approx(by_bias).epsilon(1e-11));
  }
}

TEST_CASE("normalization of nothing") {
  Tape tape;
  for (const Shape& shape : std::vector<Shape>{{0, 3}, {3, 0}}) {
    Var x = tape.variable(Tensor(shape, float64)), gain = tape.variable(Tensor(Shape{shape[1]}, float64)),
        bias = tape.variable(Tensor(Shape{shape[1]}, float64));
    Var y = layer_norm(x, gain, bias);
    CHECK(y.shape() == shape);
    tape.backward(sum(y));
    CHECK(gain.grad().to_vector() == std::vector<double>(static_cast<std::size_t>(shape[1]), 0));
    CHECK(x.grad().shape() == shape);
  }
}

TEST_CASE("normalization refuses what does not fit and leaves nothing recorded") {
  Tape tape;
  Var x = tape.constant(Tensor(Shape{2, 3})), three = tape.constant(Tensor(Shape{3})),
      two = tape.constant(Tensor(Shape{2})), square = tape.constant(Tensor(Shape{1, 3})),
      wide = tape.constant(Tensor(Shape{3}, float64)), scalar = tape.constant(Tensor::scalar(1)), empty;
  const std::size_t before = tape.size();
  CHECK_ERROR_HERE(layer_norm(x, two, three), "layer_norm: x is [2, 3] and the gain is [2]; it must be [3]");
  CHECK_ERROR_HERE(layer_norm(x, three, two), "layer_norm: x is [2, 3] and the bias is [2]; it must be [3]");
  CHECK_ERROR_HERE(rms_norm(x, square), "rms_norm", "[2, 3]", "[1, 3]");
  CHECK_ERROR_HERE(layer_norm(x, wide, three), "layer_norm", "float32", "float64");
  CHECK_ERROR_HERE(layer_norm(scalar), "layer_norm", "scalar");
  CHECK_ERROR_HERE(rms_norm(x, -1.0), "rms_norm", "epsilon is -1");
  CHECK_ERROR_HERE(layer_norm(x, std::nan("")), "layer_norm", "epsilon");
  CHECK_ERROR_HERE(layer_norm(empty), "layer_norm", "empty Var");
  CHECK_ERROR_HERE(layer_norm(x, empty), "layer_norm", "empty Var");
  CHECK(tape.size() == before);
}
