// Random programs (fuzz.h), each checked in several ways. Ten thousand in a run, always the same ones.
//
//     UNROLL_FUZZ_PROGRAMS=1000000   as many as that
//     UNROLL_FUZZ_SEED=1234          from that one on; alone: that one only
//     UNROLL_FUZZ_JSON=file          writes them, for tests/pytorch/compare.py, and checks nothing

#include <autograd/autograd.h>
#include <tests/autograd/fuzz.h>

#include <doctest/doctest.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <fstream>

using namespace unroll;
using namespace unroll::testing;

namespace {

// --- Which programs -------------------------------------------------------------------------------------------------

#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr std::uint64_t usual_count = 10'000;
#else
constexpr std::uint64_t usual_count = 500;
#endif

std::optional<std::uint64_t> from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == 0) return std::nullopt;
  return std::strtoull(text, nullptr, 10);
}

struct Range {
  std::uint64_t first, count;
};

Range chosen_range() {
  auto seed = from_environment("UNROLL_FUZZ_SEED"), count = from_environment("UNROLL_FUZZ_PROGRAMS");
  return {seed.value_or(1), count.value_or(seed ? 1 : usual_count)};
}

/// While it lives, a crash says which program it was in.
class SaysSeed {
 public:
  SaysSeed() {
    struct sigaction action {};
    action.sa_handler = [](int signal) {
      char text[64];
      auto end = fmt::format_to_n(text, sizeof(text), "crashed in UNROLL_FUZZ_SEED={}\n", seed).out;
      if (write(2, text, static_cast<std::size_t>(end - text)) < 0) _exit(1);
      restore();
      raise(signal);
    };
    for (std::size_t i = 0; i < signals.size(); ++i) sigaction(signals[i], &action, &before[i]);
  }
  ~SaysSeed() { restore(); }
  SaysSeed(const SaysSeed&) = delete;
  SaysSeed& operator=(const SaysSeed&) = delete;

  static inline std::uint64_t seed = 0;

 private:
  static void restore() {
    for (std::size_t i = 0; i < signals.size(); ++i) sigaction(signals[i], &before[i], nullptr);
  }
  static constexpr std::array<int, 4> signals{SIGSEGV, SIGABRT, SIGBUS, SIGFPE};
  static inline std::array<struct sigaction, 4> before{};
};

// --- Comparisons ----------------------------------------------------------------------------------------------------

struct Size {
  double difference = 0, magnitude = 0;
};

/// max |a - b| and max |b|.
Size compare(const TensorView& a, const TensorView& b) {
  Size size;
  if (a.shape() != b.shape()) return {1e300, 1};
  std::vector<double> x = a.to_vector(), y = b.to_vector();
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) return {1e300, 1};
    size.difference = std::max(size.difference, std::abs(x[i] - y[i]));
    size.magnitude = std::max(size.magnitude, std::abs(y[i]));
  }
  return size;
}

/// A program recorded and swept in one way.
struct Run {
  Run(const Program& program, Tape& tape, const RecordOptions& options = {}, DType dtype = float64)
      : inputs(program, dtype) {
    tape.clear();
    values = record(program, inputs, tape, options);
    sweep(program, values, tape);
  }
  Inputs inputs;
  Vars values;
};

/// What two runs of a program differ in, if values are to agree within `tolerance` of 1 or the largest of them, and
/// gradients within that of the largest gradient of the program.
std::string difference(const Program& program, const Run& a, const Run& b, double tolerance) {
  double gradients = 0;
  std::vector<std::pair<std::size_t, double>> differences;
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    Size values = compare(a.values[i].value(), b.values[i].value());
    if (values.difference > tolerance * std::max(1.0, values.magnitude))
      return fmt::format("the values of v{} differ by {:.3g}", i, values.difference);
    bool has_gradient = std::ranges::count(a.inputs.trainable, i) > 0 || program.instructions[i].keep_grad;
    if (!has_gradient) continue;
    Size size = compare(gradient(program, a.inputs, a.values, i), gradient(program, b.inputs, b.values, i));
    gradients = std::max(gradients, size.magnitude);
    differences.emplace_back(i, size.difference);
  }
  for (auto [i, size] : differences)
    if (size > tolerance * std::max(gradients, 1.0))
      return fmt::format("the gradients of v{} differ by {:.3g}, with gradients up to {:.3g}", i, size, gradients);
  return {};
}

/// What flows into the k-th output.
Tensor weights_of(const Program& program, std::size_t k) {
  const Shape& shape = program.instructions[static_cast<std::size_t>(program.outputs[k])].shape;
  return program.seed_of(k).value_or(Tensor::full(shape, 1, float64));
}

/// What `detach` gives in a run, by number: it stays so when the leaves move.
std::vector<std::optional<Tensor>> detached_values(const Program& program, const Vars& values) {
  std::vector<std::optional<Tensor>> result(values.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    if (program.instructions[i].operation->name == "detach") result[i] = Tensor(values[i].value());
  return result;
}

/// Tapes that are used again for every program, so that what one leaves behind can disturb the next.
struct Tapes {
  double worst = 0;  ///< relative difference between a gradient and finite differences
  Tape fused, split, other, inference = Tape::inference();
  Tape forward = Tape::dual(false), dual = Tape::dual(true);
};

// --- Finite differences ---------------------------------------------------------------------------------------------

/// The program as a function of its leaves: the sum of its outputs, weighted by their seeds.
class Function {
 public:
  Function(const Program& program, Tape& tape, const Vars& values) : program_(program), inputs_(program), tape_(tape) {
    for (std::size_t k = 0; k < program.outputs.size(); ++k) seeds_.push_back(weights_of(program, k).to_vector());
    detached_ = detached_values(program, values);
  }

  double operator()() {
    tape_.clear();
    Vars values = record(program_, inputs_, tape_, {.detached = &detached_});
    double sum = 0;
    size_ = 0;
    for (std::size_t k = 0; k < seeds_.size(); ++k) {
      std::vector<double> y = values[static_cast<std::size_t>(program_.outputs[k])].value().to_vector();
      for (std::size_t i = 0; i < y.size(); ++i) {
        sum += seeds_[k][i] * y[i];
        size_ += seeds_[k][i] * std::abs(y[i]);
      }
    }
    return sum;
  }
  /// The same with a leaf moved by `step` along a direction.
  double moved(std::size_t leaf, const std::vector<double>& direction, double step) {
    Tensor& x = inputs_.leaves[leaf]->value();
    const Tensor before = x;
    for (std::size_t i = 0; i < direction.size(); ++i) x.data<double>()[i] += step * direction[i];
    double y = (*this)();
    x = before;
    return y;
  }
  /// The sum of the outputs' magnitudes in the last call: what its rounding errors are relative to.
  double size() const { return size_; }

 private:
  const Program& program_;
  Inputs inputs_;
  Tape& tape_;
  std::vector<std::vector<double>> seeds_;
  std::vector<std::optional<Tensor>> detached_;
  double size_ = 0;
};

/// Compares the gradient of every leaf with central differences along a random direction.
///
/// The step is chosen so that the value changes by about a millionth of its size. Should the difference not agree with
/// the gradient, twice the step tells the error of second order, which is taken out (Richardson's extrapolation), and
/// other steps are tried: a step may be too long (curvature, a kink) or too short (rounding), and a single one that
/// agrees to 1e-6 is proof enough, for a gradient that is wrong agrees with none of them, unless by an accident of this
/// probability.
std::string against_differences(const Program& program, const Run& run, Tape& inference, double& worst) {
  Function f(program, inference, run.values);
  f();
  // Rounding errors are those of what is added up on the way, also where it cancels: the divergence of x from itself.
  const double size = std::max(f.size(), 0.1);
  for (std::size_t leaf : run.inputs.trainable) {
    std::vector<double> g = gradient(program, run.inputs, run.values, leaf).to_vector();
    if (g.empty()) continue;
    std::vector<double> direction = random_tensor({std::ssize(g)}, program.seed + leaf, 0.3, 1).to_vector();
    double along = 0, parts = 0;
    for (std::size_t i = 0; i < g.size(); ++i) {
      if (i % 3 == 1) direction[i] = -direction[i];
      along += g[i] * direction[i];
      parts += std::abs(g[i] * direction[i]);
    }
    const double first_step = std::clamp(1e-6 * size / std::max(parts, 1e-300), 1e-8, 1e-3);
    double least = std::numeric_limits<double>::infinity();
    auto slope = [&](double step) {
      return (f.moved(leaf, direction, step) - f.moved(leaf, direction, -step)) / (2 * step);
    };
    for (double factor : {1.0, 0.1, 10.0, 0.01, 100.0}) {
      const double step = std::min(first_step * factor, 1e-2), rounding = 1e-14 * size / step;
      auto compare_with = [&](double expected) {
        least = std::min(least, std::abs(expected - along) / (parts + 1e6 * rounding));
      };
      const double expected = slope(step);
      compare_with(expected);
      if (least >= 1e-6) compare_with(expected + (expected - slope(2 * step)) / 3);
      if (least < 1e-6) break;
    }
    worst = std::max(worst, least);
    if (!(least < 1e-6))
      return fmt::format("the gradient of v{} differs from finite differences by {:.3g} of {:.3g}", leaf, least, parts);
  }
  return {};
}

// --- Dual numbers ---------------------------------------------------------------------------------------------------

/// A random direction for every trainable leaf, by its number.
std::vector<std::optional<Tensor>> directions(const Program& program, const Inputs& inputs) {
  std::vector<std::optional<Tensor>> result(program.instructions.size());
  for (std::size_t leaf : inputs.trainable)
    result[leaf] = random_tensor(program.instructions[leaf].shape, program.seed + 77 * leaf);
  return result;
}

/// Compares the gradients with the derivative along a direction that pairs of value and tangent carry forward, without
/// any backward: exact, so they may differ by rounding only.
std::string against_tangents(const Program& program, const Run& run, Tape& dual) {
  Inputs inputs(program);
  auto tangents = directions(program, inputs);
  dual.clear();
  Vars values = record(program, inputs, dual, {.tangents = &tangents});
  double forward = 0, backward = 0, parts = 1e-3;
  const detail::Graph& graph = dual.graph();
  for (std::size_t k = 0; k < program.outputs.size(); ++k) {
    const Var& y = values[static_cast<std::size_t>(program.outputs[k])];
    std::vector<double> moved = graph.shown(graph.view(graph.check(y, "test", {})), true).to_vector();
    std::vector<double> weights = weights_of(program, k).to_vector();
    for (std::size_t i = 0; i < moved.size(); ++i) forward += weights[i] * moved[i];
  }
  for (std::size_t leaf : inputs.trainable) {
    std::vector<double> g = gradient(program, run.inputs, run.values, leaf).to_vector();
    std::vector<double> direction = tangents[leaf]->to_vector();
    for (std::size_t i = 0; i < g.size(); ++i) {
      backward += g[i] * direction[i];
      parts += std::abs(g[i] * direction[i]);
    }
  }
  if (!(std::abs(forward - backward) < 1e-10 * parts))
    return fmt::format("the derivative is {:.12g} by tangents and {:.12g} by backward", forward, backward);
  return {};
}

/// The gradients with the leaves moved by `step` along a direction.
std::vector<Tensor> moved_gradients(const Program& program, Tape& tape, const RecordOptions& options,
                                    const std::vector<std::optional<Tensor>>& direction, double step) {
  Inputs inputs(program);
  for (std::size_t leaf : inputs.trainable) {
    Tensor& x = inputs.leaves[leaf]->value();
    for (Index i = 0; i < x.size(); ++i) x.data<double>()[i] += step * direction[leaf]->data<double>()[i];
  }
  tape.clear();
  Vars values = record(program, inputs, tape, options);
  sweep(program, values, tape);
  std::vector<Tensor> result;
  for (std::size_t leaf : inputs.trainable) result.push_back(gradient(program, inputs, values, leaf));
  return result;
}

/// The tangents that a backward sweep gives the gradients: their derivatives along a direction.
std::vector<Tensor> gradients_tangents(const Program& program, Inputs& inputs,
                                       const std::vector<std::optional<Tensor>>& direction, Tape& dual) {
  dual.clear();
  Vars values = record(program, inputs, dual, {.tangents = &direction});
  Var total;
  for (std::size_t k = 0; k < program.outputs.size(); ++k) {
    Var part = sum(Var(values[static_cast<std::size_t>(program.outputs[k])] * weights_of(program, k)));
    total = total ? Var(total + part) : part;
  }
  dual.backward(total);
  std::vector<Tensor> result;
  const detail::Graph& graph = dual.graph();
  for (std::size_t leaf : inputs.trainable) {
    const detail::NodeId id = graph.check(values[leaf], "test", {});
    const bool reached = graph.node(id).grad != nullptr;
    result.push_back(reached ? Tensor(graph.shown(graph.grad(id, {}), true)) : Tensor(values[leaf].shape(), float64));
  }
  return result;
}

/// Compares these with central differences of the gradients; at several steps, as in `against_differences`.
std::string against_gradient_differences(const Program& program, const Run& run, Tapes& tapes) {
  Inputs inputs(program);
  const auto direction = directions(program, inputs);
  const std::vector<Tensor> exact = gradients_tangents(program, inputs, direction, tapes.dual);
  double largest = 0, least = std::numeric_limits<double>::infinity();
  for (const Tensor& e : exact) largest = std::max(largest, compare(e, e).magnitude);
  const auto detached = detached_values(program, run.values);
  for (double step : {1e-6, 1e-5, 1e-4, 1e-7, 1e-8}) {
    const auto above = moved_gradients(program, tapes.other, {.detached = &detached}, direction, step);
    const auto below = moved_gradients(program, tapes.other, {.detached = &detached}, direction, -step);
    double difference = 0, gradients = 1e-3;
    for (std::size_t k = 0; k < exact.size(); ++k) {
      gradients = std::max(gradients, compare(above[k], above[k]).magnitude);
      Tensor expected(exact[k].shape(), float64);
      for (Index i = 0; i < expected.size(); ++i)
        expected.data<double>()[i] = (above[k].data<double>()[i] - below[k].data<double>()[i]) / (2 * step);
      difference = std::max(difference, compare(expected, exact[k]).difference);
    }
    const double rounding = 1e-14 * gradients / step;
    least = std::min(least, difference / (largest + 1e6 * rounding));
    if (least < 1e-5) return {};
  }
  return fmt::format("second derivatives differ from differences of gradients by {:.3g} of {:.3g}", least, largest);
}

// --- Checks ---------------------------------------------------------------------------------------------------------

/// What is wrong with a program; empty when nothing is.
std::string failure_of(const Program& program, Tapes& tapes) {
  try {
    Run fused(program, tapes.fused);
    if (std::string text = against_differences(program, fused, tapes.inference, tapes.worst); !text.empty())
      return "differences: " + text;
    Run split(program, tapes.split, {.split = true});
    if (std::string text = difference(program, fused, split, 1e-12); !text.empty()) return "split: " + text;
    if (std::string text = against_tangents(program, fused, tapes.forward); !text.empty()) return "tangents: " + text;
    if (program.seed % 4 == 0) {
      // Not the same bits: a weight's product is rounded in another way when the tape knows that it is used again.
      Run detours(program, tapes.other, {.detours = true});
      if (std::string text = difference(program, detours, fused, 1e-12); !text.empty()) return "detours: " + text;
    } else if (program.seed % 4 == 1) {
      Run single(program, tapes.other, {}, float32);
      if (std::string text = difference(program, single, fused, 1e-3); !text.empty()) return "float32: " + text;
    } else if (program.seed % 4 == 2) {
      std::string text = against_gradient_differences(program, fused, tapes);
      if (!text.empty()) return "second derivatives: " + text;
    } else {
      Tape watched;  // slow, and the same
      watched.find_anomaly();
      Run again(program, watched);
      if (std::string text = difference(program, again, fused, 0); !text.empty()) return "watched: " + text;
    }
  } catch (const std::exception& error) {
    return std::string("exception: ") + error.what();
  }
  return {};
}

/// Which check failed, or which function threw.
std::string kind(const std::string& failure) {
  std::size_t colon = failure.find(':');
  if (failure.starts_with("exception")) colon = failure.find(':', colon + 1);
  return failure.substr(0, colon);
}

void report(const Program& program, const std::string& failure) {
  Tapes fresh;
  std::string alone = failure_of(program, fresh);
  std::string text = fmt::format("UNROLL_FUZZ_SEED={}: {}\n{}", program.seed, failure, to_string(program));
  if (kind(alone) == kind(failure)) {
    Program small = shrink(program, [&](const Program& p) {
      Tapes own;
      return kind(failure_of(p, own)) == kind(failure);
    });
    Tapes own;
    text += fmt::format("Made smaller: {}\n{}", failure_of(small, own), to_string(small));
  } else {
    text += "On new tapes it passes: what programs before it have left on the tape matters.\n";
  }
  FAIL_CHECK(text);
}

}  // namespace

TEST_CASE("random programs: gradients agree with finite differences, statements with their operations one by one") {
  if (std::getenv("UNROLL_FUZZ_JSON") != nullptr) return;
  Range range = chosen_range();
  Tapes tapes;
  SaysSeed says_seed;
  std::uint64_t failures = 0, instructions = 0;
  for (std::uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
    SaysSeed::seed = seed;
    Program program = Maker(seed).make();
    instructions += program.instructions.size();
    std::string failure = failure_of(program, tapes);
    if (!failure.empty()) report(program, failure);
    if (!failure.empty() && ++failures == 3) break;
  }
  MESSAGE(range.count, " programs of ", instructions / range.count, " instructions on average; largest difference ",
          tapes.worst);
  CHECK(failures == 0);
}

TEST_CASE("random programs have the same bits on one and two threads") {
  if (std::getenv("UNROLL_FUZZ_JSON") != nullptr) return;
  Range range = chosen_range();
  std::vector<std::vector<Tensor>> first;
  for (int threads : {1, 2}) {
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(threads));
    tbb::task_arena arena(threads);
    arena.execute([&] {
      Tape tape;
      std::size_t number = 0;
      for (std::uint64_t seed = range.first; seed < range.first + range.count; ++seed) {
        if (range.count > 1 && seed % 100 != 99 && seed % 100 != 0) continue;
        Program program = Maker(seed).make();
        Run run(program, tape);
        std::vector<Tensor> results;
        for (int output : program.outputs) results.emplace_back(run.values[static_cast<std::size_t>(output)].value());
        for (std::size_t leaf : run.inputs.trainable)
          results.push_back(gradient(program, run.inputs, run.values, leaf));
        if (threads == 1) {
          first.push_back(results);
          continue;
        }
        bool same = true;
        for (std::size_t k = 0; k < results.size(); ++k) same &= same_bits(results[k], first[number][k]);
        ++number;
        if (!same) FAIL_CHECK(fmt::format("UNROLL_FUZZ_SEED={}: other bits\n{}", seed, to_string(program)));
      }
    });
  }
}

TEST_CASE("random programs are written for PyTorch when UNROLL_FUZZ_JSON names a file") {
  const char* path = std::getenv("UNROLL_FUZZ_JSON");
  if (path == nullptr) return;
  std::ofstream file(path);
  Range range = chosen_range();
  for (std::uint64_t seed = range.first; seed < range.first + range.count; ++seed)
    file << to_json(Maker(seed).make()) << '\n';
  CHECK(file.good());
}
