// Weights' gradients are sums over rows that are gathered, arranged once for several weights, and taken along with
// other sums. All this must not show: each test compares bits with a sweep in which nothing can be shared.

#include <autograd/autograd.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <functional>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Vars = std::vector<Var>;

/// Weights that a program uses: all trainable, or one alone, or each use a leaf of its own.
class Weights {
 public:
  enum class Mode { all, one, apart };

  Weights(Tape& tape, const std::vector<Tensor>& tensors, Mode mode, std::size_t one = 0)
      : tape_(tape), tensors_(tensors), mode_(mode), uses_(tensors.size()) {
    for (std::size_t i = 0; i < tensors.size(); ++i)
      uses_[i].push_back(mode == Mode::one && i != one ? tape.constant(tensors[i]) : tape.variable(tensors[i]));
  }
  const Var& operator[](std::size_t i) {
    if (mode_ == Mode::apart) uses_[i].push_back(tape_.variable(tensors_[i]));
    return uses_[i].back();
  }
  Tensor gradient(std::size_t i) const {
    if (mode_ != Mode::apart) return Tensor(uses_[i][0].grad());
    Tensor sum(tensors_[i].shape(), tensors_[i].dtype());
    for (std::size_t k = 1; k < uses_[i].size(); ++k) sum.matrix<double>() += uses_[i][k].grad().matrix<double>();
    return sum;
  }

 private:
  Tape& tape_;
  const std::vector<Tensor>& tensors_;
  Mode mode_;
  std::vector<Vars> uses_;
};

}  // namespace

TEST_CASE("weights that share rows get the bits that each would get alone") {
  constexpr Index steps = 24, rows = 32, columns = 480;  // 768 rows; 256 or 512 are multiplied at once
  std::vector<Tensor> tensors;
  for (Index k : {5, 6, 5, 60, 7, 5}) tensors.push_back(random_tensor({k, columns}, 20 + tensors.size()));
  auto x = [&](Tape& tape, Index k, Index t) {
    return tape.constant(random_tensor({rows, k}, static_cast<std::uint64_t>(100 * k + t)));
  };
  using Step = std::function<Var(Tape&, Weights&, Index)>;
  const Step both = [&](Tape& t, Weights& w, Index i) -> Var {
    return matmul(x(t, 5, i), w[0]) + matmul(x(t, 6, i), w[1]);
  };
  const Step first = [&](Tape& t, Weights& w, Index i) -> Var { return matmul(x(t, 5, i), w[0]); };
  const Step others = [&](Tape& t, Weights& w, Index i) -> Var {
    return matmul(x(t, 5, i), w[0]) + matmul(x(t, 60, i), w[3]);
  };
  const Step turned = [&](Tape& t, Weights& w, Index i) -> Var {
    return matmul(x(t, 6, i), w[1]) + matmul(x(t, 5, i), w[0]);
  };
  const Step twice = [&](Tape& t, Weights& w, Index i) -> Var {
    return matmul(x(t, 5, i), w[0]) + matmul(x(t, 5, i + 1), w[0]);
  };
  const Step many = [&](Tape& t, Weights& w, Index i) -> Var {
    return matmul(x(t, 5, i), w[0]) + matmul(x(t, 6, i), w[1]) + matmul(x(t, 5, i), w[2]) + matmul(x(t, 7, i), w[4]) +
           matmul(x(t, 5, i), w[5]);
  };
  struct Named {
    const char* name;
    std::array<Step, 4> step;  ///< in turn, each three times
  };
  const Named programs[] = {
      {"always together", {both, both, both, both}},      {"alone at last", {both, both, both, first}},
      {"alone at first", {first, both, both, both}},      {"alone in between", {both, first, both, first}},
      {"with others", {others, both, others, both}},      {"of other sizes", {others, others, others, others}},
      {"in another order", {both, turned, both, turned}}, {"twice in a sum", {twice, twice, twice, twice}},
      {"twice and together", {both, twice, many, both}},  {"more than four", {many, many, many, many}},
  };
  for (const Named& named : programs) {
    CAPTURE(named.name);
    auto gradients = [&](Weights::Mode mode, std::size_t one = 0) {
      Tape tape;
      Weights w(tape, tensors, mode, one);
      Var total = sum(Var(many(tape, w, 0) * 0 + others(tape, w, 0) * 0));  // so that every weight is used
      for (Index t = 0; t < steps; ++t)
        total = total + sum(tanh(named.step[static_cast<std::size_t>(t / 3 % 4)](tape, w, t)));
      tape.backward(total);
      std::vector<Tensor> result;
      for (std::size_t i = 0; i < tensors.size(); ++i)
        result.push_back(mode == Weights::Mode::one && i != one ? Tensor() : w.gradient(i));
      return result;
    };
    const std::vector<Tensor> together = gradients(Weights::Mode::all), apart = gradients(Weights::Mode::apart);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      CAPTURE(i);
      CHECK(same_bits(together[i], gradients(Weights::Mode::one, i)[i]));
      CHECK(relative_error(together[i], apart[i]) < 1e-12);
    }
  }
}

TEST_CASE("sums that are taken along with each step's get the bits of sums at the end") {
  constexpr Index steps = 36, rows = 32, inputs = 7, units = 128;  // 1152 rows; 1024 are multiplied at once
  auto random = [&](const Shape& shape, std::uint64_t seed) { return random_tensor(shape, seed, -0.3, 0.3, float32); };
  enum { x, h0, W, U, b, count };  // of gates_x = x W + b and h' = tanh(gates_x[t] + h U)
  const std::vector<Tensor> tensors = {random({steps, rows, inputs}, 1), random({rows, units}, 2),
                                       random({inputs, units}, 3), random({units, units}, 4), random({units}, 5)};
  using Run = std::function<Var(const Vars&, const Var& gates_x)>;
  auto steps_from = [](const Var& gates_x, Var h, const Var& weight, Index end, bool all = true) {
    Var total = sum(h);
    for (Index t = 0; t < end; ++t) {
      h = tanh(gates_x[t] + matmul(h, weight));
      if (all) total = total + sum(h);
    }
    return Var(total + sum(h));
  };
  struct Named {
    const char* name;
    Run run;
  };
  const Named runs[] = {
      {"all steps", [&](const Vars& v, const Var& g) { return steps_from(g, v[h0], v[U], steps); }},
      {"the last alone", [&](const Vars& v, const Var& g) { return steps_from(g, v[h0], v[U], steps, false); }},
      {"some left out", [&](const Vars& v, const Var& g) { return steps_from(g, v[h0], v[U], steps - 3); }},
      {"two that share",
       [&](const Vars& v, const Var& g) -> Var {
         return steps_from(g, v[h0], v[U], steps) + steps_from(g, Var(v[h0] * 2), v[U], steps - 1);
       }},
      {"the whole is used, too",
       [&](const Vars& v, const Var& g) -> Var { return steps_from(g, v[h0], v[U], steps) + mean(Var(g * g)); }},
      {"cut in another way",
       [&](const Vars& v, const Var& g) {
         const Var more = reshape(g, {2 * steps, rows / 2, units});
         return steps_from(more, slice(v[h0], 0, 0, rows / 2), v[U], 2 * steps);
       }},
      {"from the last to the first",
       [&](const Vars& v, const Var& g) {
         Var h = v[h0];
         for (Index t = steps; t-- > 0;) h = tanh(g[t] + matmul(h, v[U]));
         return sum(h);
       }},
      {"each step's product by itself",
       [&](const Vars& v, const Var&) {
         Var h = v[h0];
         for (Index t = 0; t < steps; ++t) {
           const Var gates = matmul(v[x][t], v[W]) + v[b];
           h = tanh(gates + matmul(h, v[U]));
         }
         return sum(h);
       }},
  };
  for (const Named& named : runs)
    for (int frozen : {-1, +W, +U, +b})
      for (int backwards = 1; backwards <= (frozen < 0 ? 2 : 1); ++backwards) {
        CAPTURE(named.name);
        CAPTURE(frozen);
        CAPTURE(backwards);
        auto gradients = [&](bool watched) {
          Tape tape;
          if (watched) tape.start_profile();  // then nothing is taken along: every line is to have its own time
          Vars v;
          for (const Tensor& tensor : tensors)
            v.push_back(std::ssize(v) == frozen ? tape.constant(tensor) : tape.variable(tensor));
          const Var loss = named.run(v, matmul(v[x], v[W]) + v[b]);
          for (int i = 0; i < backwards; ++i) tape.backward(loss);
          std::vector<Tensor> result;
          for (int i = 0; i < count; ++i)
            if (i != frozen) result.emplace_back(v[static_cast<std::size_t>(i)].grad());
          return result;
        };
        const std::vector<Tensor> along = gradients(false), apart = gradients(true);
        for (std::size_t i = 0; i < along.size(); ++i) {
          CAPTURE(i);
          CHECK(same_bits(along[i], apart[i]));
        }
      }
}
