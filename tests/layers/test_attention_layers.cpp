// The attention of recurrent decoders: its equations in plain loops, finite differences, and padding that counts for
// nothing.

#include <autograd/autograd.h>
#include <layers/attention.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <memory>

using namespace unroll;
using namespace unroll::testing;

namespace {

constexpr Index T = 5, N = 3, E = 4, Q = 2, A = 6;
const std::vector<Index> lengths = {3, 5, 0};
constexpr double infinite = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// One kind of attention, over outputs of `E` values (`dot` needs as many as the query has), and its score in loops.
struct Case {
  std::string name;
  std::shared_ptr<Module> module;
  Index encoder;
  std::function<AttentionMemory(const Var&, std::span<const Index>)> remember;
  std::function<Attended(const Var&, const AttentionMemory&)> attend;
  std::function<double(const std::vector<double>& q, const std::vector<double>& k)> score;
};

double inner(const std::vector<double>& x, const Parameter& matrix, Index column) {
  double total = 0;
  for (std::size_t i = 0; i < x.size(); ++i) total += x[i] * matrix.value().at({static_cast<Index>(i), column});
  return total;
}

template <class Layer>
Case make_case(const std::string& name, std::shared_ptr<Layer> layer, Index encoder) {
  layer->to(float64);
  for (std::uint64_t seed = 50; Parameter * parameter : layer->parameters())
    parameter->value() = random_tensor(parameter->shape(), seed++);
  Case made{name, layer, encoder, {}, {}, {}};
  made.remember = [layer](const Var& outputs, std::span<const Index> some) { return layer->remember(outputs, some); };
  made.attend = [layer](const Var& query, const AttentionMemory& memory) { return (*layer)(query, memory); };
  return made;
}

Case additive() {
  Generator rng(1);
  auto layer = std::make_shared<AdditiveAttention>(Q, E, A, rng);
  Case made = make_case("additive", layer, E);
  made.score = [layer](const std::vector<double>& q, const std::vector<double>& k) {
    double total = 0;
    for (Index a = 0; a < A; ++a)
      total += layer->v.value().at({a}) * std::tanh(inner(q, layer->W, a) + inner(k, layer->U, a));
    return total;
  };
  return made;
}

Case multiplicative(AttentionScore score, bool scaled) {
  Generator rng(1);
  const bool dot = score == AttentionScore::dot;
  const Index encoder = dot ? Q : E;
  auto layer =
      std::make_shared<MultiplicativeAttention>(Q, encoder, rng, MultiplicativeAttention::Options{score, scaled});
  Case made = make_case(fmt::format("{}{}", dot ? "dot" : "general", scaled ? ", scaled" : ""), layer, encoder);
  made.score = [layer, dot, scaled](const std::vector<double>& q, const std::vector<double>& k) {
    double total = 0;
    for (std::size_t i = 0; i < q.size(); ++i) total += q[i] * (dot ? k[i] : inner(k, layer->W, static_cast<Index>(i)));
    return scaled ? total / std::sqrt(static_cast<double>(Q)) : total;
  };
  return made;
}

std::vector<Case> all_cases() {
  return {additive(), multiplicative(AttentionScore::dot, false), multiplicative(AttentionScore::dot, true),
          multiplicative(AttentionScore::general, false), multiplicative(AttentionScore::general, true)};
}

struct Expected {
  Tensor context, weights;
};

/// The equations, one query and one step at a time; row m of the query is of sequence m / (M / N).
Expected reference(const Case& the, const Tensor& outputs, const Tensor& query, const std::vector<Index>& some) {
  const Index M = query.shape()[0], each = M / N;
  Expected out{Tensor({M, the.encoder}, float64), Tensor({M, T}, float64)};
  for (Index m = 0; m < M; ++m) {
    const Index n = m / each, length = some.empty() ? T : some[static_cast<std::size_t>(n)];
    std::vector<double> q, weights;
    for (Index i = 0; i < Q; ++i) q.push_back(query.at({m, i}));
    double total = 0;
    for (Index t = 0; t < length; ++t) {
      std::vector<double> k;
      for (Index e = 0; e < the.encoder; ++e) k.push_back(outputs.at({t, n, e}));
      weights.push_back(std::exp(the.score(q, k)));
      total += weights.back();
    }
    for (Index t = 0; t < length; ++t) {
      const double weight = weights[static_cast<std::size_t>(t)] / total;
      out.weights.set({m, t}, weight);
      for (Index e = 0; e < the.encoder; ++e)
        out.context.set({m, e}, out.context.at({m, e}) + weight * outputs.at({t, n, e}));
    }
  }
  return out;
}

Tensor outputs_of(const Case& the) { return random_tensor({T, N, the.encoder}, 7, -2, 2); }

Var loss_of(const Attended& found) {
  return sum(found.context * random_tensor(found.context.shape(), 8)) +
         sum(found.weights * random_tensor(found.weights.shape(), 9));
}

}  // namespace

TEST_CASE("attention of a decoder: the equations in plain loops") {
  for (const Case& the : all_cases())
    for (const std::vector<Index>& some : {std::vector<Index>{}, lengths})
      for (Index each : {1, 4}) {
        CAPTURE(the.name);
        CAPTURE(some.size());
        CAPTURE(each);
        const Tensor outputs = outputs_of(the), query = random_tensor({N * each, Q}, 10, -2, 2);
        const Expected expected = reference(the, outputs, query, some);
        for (bool recording : {true, false}) {
          Tape tape = recording ? Tape() : Tape::inference();
          auto [context, weights] = the.attend(tape.constant(query), the.remember(tape.constant(outputs), some));
          CHECK(relative_error(context.value(), expected.context) < 1e-14);
          CHECK(relative_error(weights.value(), expected.weights) < 1e-14);
        }
      }
}

TEST_CASE("attention of a decoder: gradients of query, outputs and weights, over two steps") {
  for (const Case& the : all_cases())
    for (const std::vector<Index>& some : {std::vector<Index>{}, lengths}) {
      CAPTURE(the.name);
      CAPTURE(some.size());
      auto run = [&](Tape&, const std::vector<Var>& in) {
        const AttentionMemory memory = the.remember(in[0], some);
        Attended first = the.attend(in[1], memory);
        // The second query depends on what the first has found; it asks twice of every sequence.
        const Var next = concat({in[1] + slice(first.context, 1, 0, Q), in[1]}, 1);
        return Var(loss_of(first) + loss_of(the.attend(reshape(next, {2 * N, Q}), memory)));
      };
      const std::vector<Tensor> inputs = {outputs_of(the), random_tensor({N, Q}, 10, -2, 2)};
      CHECK(gradient_error(run, inputs, the.module->parameters()) < 1e-7);
    }
}

namespace {

/// What a batch of sequences gives, and the gradients of a loss with other weights for each sequence.
struct Results {
  Tensor context, weights, d_outputs, d_query;
};

Results results(const Case& the, const Tensor& outputs, const Tensor& query, std::span<const Index> some, Index first) {
  Tape tape;
  const Var k = tape.variable(outputs), q = tape.variable(query);
  const Attended found = the.attend(q, the.remember(k, some));
  Var loss = tape.zeros({}, float64);
  for (Index n = 0; n < query.shape()[0]; ++n) {
    const Tensor weight = random_tensor({the.encoder}, 20 + static_cast<std::uint64_t>(first + n));
    loss = loss + sum(found.context[n] * weight) + found.weights[n][0] * (first + n);
  }
  tape.backward(loss);
  return {Tensor(found.context.value()), Tensor(found.weights.value()), Tensor(k.grad()), Tensor(q.grad())};
}

/// Steps 0 to `length` of sequence n of a tensor [T, N, ...].
Tensor cut(const Tensor& x, Index length, Index n) {
  Tensor part({length, 1, x.shape()[2]}, x.dtype());
  for (Index t = 0; t < length; ++t)
    for (Index i = 0; i < x.shape()[2]; ++i) part.set({t, 0, i}, x.at({t, n, i}));
  return part;
}
/// The first elements of row n of a matrix.
Tensor row(const Tensor& x, Index n, Index size) {
  Tensor part({1, size}, x.dtype());
  for (Index i = 0; i < size; ++i) part.set({0, i}, x.at({n, i}));
  return part;
}

bool all_zero(const Tensor& x) { return same_bits(x, Tensor(x.shape(), x.dtype())); }

}  // namespace

TEST_CASE("attention of a decoder: each sequence as if it were alone, whatever the padding") {
  for (const Case& the : all_cases()) {
    CAPTURE(the.name);
    Tensor outputs = outputs_of(the);
    const Tensor query = random_tensor({N, Q}, 10, -2, 2);
    for (Index n = 0; n < N; ++n)
      for (Index t = lengths[static_cast<std::size_t>(n)]; t < T; ++t)
        for (Index e = 0; e < the.encoder; ++e) outputs.set({t, n, e}, e % 2 == 0 ? not_a_number : infinite);
    the.module->zero_grad();
    const Results all = results(the, outputs, query, lengths, 0);
    std::vector<Tensor> gradients;
    for (const Parameter* parameter : the.module->parameters()) gradients.push_back(parameter->grad());

    the.module->zero_grad();
    for (Index n = 0; n < N; ++n) {
      CAPTURE(n);
      const Index length = lengths[static_cast<std::size_t>(n)];
      for (Index t = length; t < T; ++t) {
        CHECK(all.weights.at({n, t}) == 0);
        for (Index e = 0; e < the.encoder; ++e) CHECK(all.d_outputs.at({t, n, e}) == 0);
      }
      if (length == 0) {
        CHECK(all_zero(row(all.context, n, the.encoder)));
        CHECK(all_zero(row(all.d_query, n, Q)));
        continue;
      }
      const Results one = results(the, cut(outputs, length, n), row(query, n, Q), {}, n);
      CHECK(relative_error(row(all.context, n, the.encoder), one.context) < 1e-14);
      CHECK(relative_error(row(all.weights, n, length), one.weights) < 1e-14);
      CHECK(relative_error(row(all.d_query, n, Q), one.d_query) < 1e-13);
      CHECK(relative_error(cut(all.d_outputs, length, n), one.d_outputs) < 1e-13);
    }
    for (std::size_t i = 0; i < gradients.size(); ++i)
      CHECK(relative_error(gradients[i], the.module->parameters()[i]->grad()) < 1e-13);
  }
}

TEST_CASE("attention of a decoder: equal keys share the weight, one step has all of it") {
  for (const Case& the : all_cases()) {
    CAPTURE(the.name);
    Tape tape;
    const Var query = tape.constant(random_tensor({N, Q}, 10));
    const Tensor same = Tensor::full({T, N, the.encoder}, 0.5, float64);
    const Attended found = the.attend(query, the.remember(tape.constant(same), lengths));
    for (Index n = 0; n < N; ++n)
      for (Index t = 0; t < T; ++t) {
        const Index length = lengths[static_cast<std::size_t>(n)];
        CHECK(found.weights.value().at({n, t}) == (t < length ? 1.0 / static_cast<double>(length) : 0));
      }
    const Tensor one = random_tensor({1, N, the.encoder}, 12);
    const Attended all = the.attend(query, the.remember(tape.constant(one), {}));
    for (Index n = 0; n < N; ++n) CHECK(all.weights.value().at({n, 0}) == 1);
    CHECK(same_bits(all.context.value(), one.reshaped({N, the.encoder})));
  }
}

TEST_CASE("attention of a decoder: no sequences, no steps") {
  for (const Case& the : all_cases()) {
    CAPTURE(the.name);
    Tape tape;
    const Var none = tape.zeros({0, Q}, float64);
    const Attended nobody = the.attend(none, the.remember(tape.constant(Tensor({T, 0, the.encoder}, float64)), {}));
    CHECK(nobody.context.shape() == Shape{0, the.encoder});
    CHECK(nobody.weights.shape() == Shape{0, T});
    const Var query = tape.variable(random_tensor({N, Q}, 10));
    const Var empty = tape.variable(Tensor({0, N, the.encoder}, float64));
    const Attended nothing = the.attend(query, the.remember(empty, {}));
    CHECK(nothing.weights.shape() == Shape{N, 0});
    CHECK(same_bits(nothing.context.value(), Tensor({N, the.encoder}, float64)));
    tape.backward(sum(nothing.context));
    CHECK(same_bits(query.grad(), Tensor({N, Q}, float64)));
  }
}

TEST_CASE("attention of a decoder: names, layouts and initial values of the weights") {
  Generator rng(3);
  AdditiveAttention additive(4, 9, 16, rng);
  auto state = additive.state_dict();
  CHECK(state.size() == 3);
  CHECK(state.at("weight_query").shape() == Shape{16, 4});
  CHECK(state.at("weight_key").shape() == Shape{16, 9});
  CHECK(state.at("weight_score").shape() == Shape{16});
  const auto largest = [](const Parameter& parameter) {
    double most = 0;
    for (double x : parameter.value().to_vector()) most = std::max(most, std::abs(x));
    return most;
  };
  for (const auto& [parameter, bound] :
       {std::pair{&additive.W, 1.0 / 2}, {&additive.U, 1.0 / 3}, {&additive.v, 0.25}}) {
    CHECK(largest(*parameter) <= bound);
    CHECK(largest(*parameter) > 0.5 * bound);
  }
  MultiplicativeAttention general(4, 9, rng), dot(4, 4, rng, {.score = AttentionScore::dot});
  CHECK(general.state_dict().size() == 1);
  CHECK(general.state_dict().at("weight").shape() == Shape{4, 9});
  CHECK(largest(general.W) <= 1.0 / 3);
  CHECK(largest(general.W) > 0.25);
  CHECK(dot.parameters().empty());
}

TEST_CASE("attention of a decoder: the derivative along a direction, forward") {
  const Case the = additive();
  const auto f = [&](Tape&, const std::vector<Var>& in) {
    return Var(loss_of(the.attend(in[1], the.remember(in[0], lengths))));
  };
  const std::vector<Tensor> inputs = {outputs_of(the), random_tensor({N, Q}, 10)};
  const std::vector<Tensor> along = {random_tensor({T, N, E}, 30), random_tensor({N, Q}, 31)};
  Tape tape;
  const std::vector<Var> vars = {tape.variable(inputs[0]), tape.variable(inputs[1])};
  tape.backward(f(tape, vars));
  double expected = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    const std::vector<double> g = vars[i].grad().to_vector(), d = along[i].to_vector();
    for (std::size_t j = 0; j < g.size(); ++j) expected += g[j] * d[j];
  }
  CHECK(jvp(f, inputs, along).tangent.item() == doctest::Approx(expected).epsilon(1e-12));
}

TEST_CASE("attention of a decoder: errors") {
  Generator rng(1);
  CHECK_ERROR(AdditiveAttention(2, 0, 3, rng), "AdditiveAttention: sizes [2, 0, 3]; each must be at least 1");
  CHECK_ERROR(MultiplicativeAttention(0, 3, rng), "MultiplicativeAttention: sizes [0, 3]");
  CHECK_ERROR(MultiplicativeAttention(2, 3, rng, {.score = AttentionScore::dot}), "the query has 2", "encoder 3",
              "use `general`");

  AdditiveAttention attention(Q, E, A, rng);
  MultiplicativeAttention general(Q, E, rng);
  Tape tape;
  const Var outputs = tape.constant(Tensor({T, N, E})), query = tape.constant(Tensor({N, Q}));
  const Var wide = tape.constant(Tensor({T, N, E}, float64));
  CHECK_ERROR_HERE(attention.remember(Var()), "AdditiveAttention: the encoder's outputs are an empty Var");
  CHECK_ERROR_HERE(attention.remember(query), "outputs are [3, 2]; they must be [time, batch, 4]");
  CHECK_ERROR_HERE(general.remember(tape.constant(Tensor({T, N, 1}))), "are [5, 3, 1]; they must be [time, batch, 4]");
  CHECK_ERROR_HERE(attention.remember(wide), "outputs are float64 and the weights float32");
  CHECK_ERROR_HERE(attention.remember(outputs, std::vector<Index>{1, 2}), "2 lengths for a batch of 3 sequences");
  CHECK_ERROR_HERE(attention.remember(outputs, std::vector<Index>{1, 6, 2}), "length 1 is 6; it must be in [0, 5]");
  CHECK_ERROR_HERE(attention.remember(outputs, std::vector<Index>{1, 5, -1}), "length 2 is -1");

  const AttentionMemory memory = attention.remember(outputs);
  CHECK_ERROR_HERE(attention(Var(), memory), "the query is an empty Var");
  CHECK_ERROR_HERE(attention(query, {}), "the memory is empty; make it by `remember`");
  CHECK_ERROR_HERE(attention(tape.constant(Tensor({N, 7})), memory), "the query is [3, 7]; it must be [batch, 2]");
  CHECK_ERROR_HERE(attention(tape.constant(Tensor({4, Q})), memory), "the query is [4, 2]", "of 3 sequences");
  CHECK_ERROR_HERE(attention(tape.constant(Tensor({N, Q}, float64)), memory),
                   "query is float64 and the memory float32");
  CHECK_ERROR_HERE(general(query, memory), "MultiplicativeAttention: the keys are [3, 5, 6], not [3, 5, 2]");
}
