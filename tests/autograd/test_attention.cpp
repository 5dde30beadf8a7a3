// Scaled dot-product attention against plain loops; masks, causality, rows that may attend to nothing.

#include <autograd/autograd.h>
#include <tests/autograd/operations.h>

#include <cmath>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Inputs = std::vector<Var>;
/// May query t attend to key s in the i-th of the matrices?
using Allowed = std::function<bool(Index i, Index t, Index s)>;

struct Expected {
  Tensor output, weights;
};

/// softmax(q k^T scale) v by loops, for q [N, T, d], k [N, S, d], v [N, S, e].
Expected plain_attention(const Tensor& q, const Tensor& k, const Tensor& v, double scale, const Allowed& allowed) {
  const Index N = q.shape()[0], T = q.shape()[1], d = q.shape()[2], S = k.shape()[1], e = v.shape()[2];
  Expected result{Tensor({N, T, e}, float64), Tensor({N, T, S}, float64)};
  for (Index n = 0; n < N; ++n)
    for (Index t = 0; t < T; ++t) {
      std::vector<double> score(static_cast<std::size_t>(S));
      double sum = 0;
      for (Index s = 0; s < S; ++s) {
        double product = 0;
        for (Index i = 0; i < d; ++i) product += q.at({n, t, i}) * k.at({n, s, i});
        score[static_cast<std::size_t>(s)] = allowed(n, t, s) ? std::exp(product * scale) : 0;
        sum += score[static_cast<std::size_t>(s)];
      }
      for (Index s = 0; s < S; ++s) {
        const double weight = sum == 0 ? 0 : score[static_cast<std::size_t>(s)] / sum;
        result.weights.set({n, t, s}, weight);
        for (Index i = 0; i < e; ++i)
          result.output.set({n, t, i}, result.output.at({n, t, i}) + weight * v.at({n, s, i}));
      }
    }
  return result;
}

const Allowed everything = [](Index, Index, Index) { return true; };
const Allowed past = [](Index, Index t, Index s) { return s <= t; };

struct Example {
  Tensor q, k, v;
  Example(Index N, Index T, Index S, Index d, Index e)
      : q(random_tensor({N, T, d}, 1, -2, 2)), k(random_tensor({N, S, d}, 2, -2, 2)), v(random_tensor({N, S, e}, 3)) {}
  Expected expected(const Allowed& allowed, double scale = 0) const {
    const double usual = 1 / std::sqrt(static_cast<double>(q.shape()[2]));
    return plain_attention(q, k, v, scale == 0 ? usual : scale, allowed);
  }
  std::vector<Tensor> inputs() const { return {q, k, v}; }
};

void check(const Example& x, const AttentionOptions& options, const Expected& expected) {
  for (DType type : {float32, float64}) {
    CAPTURE(type);
    Tape tape;
    const auto constant = [&](const Tensor& t) { return tape.constant(t.to(type)); };
    const Attention y = attention_with_weights(constant(x.q), constant(x.k), constant(x.v), options);
    const double most = type == float32 ? 2e-6 : 1e-14;
    CHECK(relative_error(y.weights.value(), expected.weights) < most);
    CHECK(relative_error(y.output.value(), expected.output) < most);
  }
  const auto f = [&](Tape&, const Inputs& in) { return scaled_dot_product_attention(in[0], in[1], in[2], options); };
  CHECK(gradient_error(f, x.inputs()) < 1e-6);
  const auto weights = [&](Tape&, const Inputs& in) {
    const Attention y = attention_with_weights(in[0], in[1], in[2], options);
    return Var(y.weights + sum(y.output));
  };
  CHECK(gradient_error(weights, x.inputs()) < 1e-6);
}

}  // namespace

namespace unroll::testing {

std::vector<OperationRow> attention_rows();

/// Part of linear_algebra_rows.
std::vector<OperationRow> attention_rows() {
  OperationRow output, weights;
  output.name = "scaled_dot_product_attention causal";
  output.cases = {
      {{2, 3, 4}, {2, 5, 4}, {2, 5, 2}}, {{1, 4, 1}, {1, 2, 1}, {1, 2, 3}}, {{2, 3, 2}, {2, 0, 2}, {2, 0, 4}}};
  output.call = [](Tape&, const Inputs& x) { return scaled_dot_product_attention(x[0], x[1], x[2], {.causal = true}); };
  output.reference = [](const std::vector<Tensor>& x) {
    return plain_attention(x[0], x[1], x[2], 1 / std::sqrt(static_cast<double>(x[0].shape()[2])), past).output;
  };
  weights.name = "attention_with_weights";
  weights.cases = output.cases;
  weights.call = [](Tape&, const Inputs& x) {
    return attention_with_weights(x[0], x[1], x[2], {.scale = 0.7}).weights;
  };
  weights.reference = [](const std::vector<Tensor>& x) {
    return plain_attention(x[0], x[1], x[2], 0.7, everything).weights;
  };
  return {output, weights};
}

}  // namespace unroll::testing

TEST_CASE("attention agrees with plain loops: values, weights and gradients") {
  for (const Example& x :
       {Example(2, 3, 4, 5, 6), Example(1, 1, 1, 1, 1), Example(3, 1, 7, 2, 4), Example(2, 5, 5, 3, 3)}) {
    CAPTURE(x.q.shape());
    CAPTURE(x.k.shape());
    check(x, {}, x.expected(everything));
    check(x, {.scale = 0.3}, x.expected(everything, 0.3));
    check(x, {.causal = true}, x.expected(past));
  }
}

TEST_CASE("attention with a mask, broadcast to the weights, as a Tensor of any type") {
  const Example x(2, 3, 4, 5, 2);
  const Tensor lengths({2, 1, 4}, {1, 1, 1, 1, 1, 1, 0, 0});
  const Allowed within = [](Index n, Index, Index s) { return s < (n == 0 ? 4 : 2); };
  check(x, {.mask = lengths}, x.expected(within));
  check(x, {.mask = lengths.to(float64)}, x.expected(within));
  check(x, {.mask = lengths, .causal = true},
        x.expected([&](Index n, Index t, Index s) { return within(n, t, s) && s <= t; }));
  const Tensor any({3, 4}, {0, 0.5, -1, 0, 3, 0, 0, 0, 1, 1, 1e-3, 1});  // what is not 0 allows
  check(x, {.mask = any}, x.expected([&](Index, Index t, Index s) { return any.at({t, s}) != 0; }));
  const Tensor one({4}, {1, 0, 1, 1});
  check(x, {.mask = one}, x.expected([&](Index, Index, Index s) { return s != 1; }));
}

TEST_CASE("attention with a mask that is a Var") {
  const Example x(2, 3, 4, 5, 2);
  Tape tape;
  Var mask = tape.constant(Tensor({3, 1}, {1, 0, 1}, float64));
  Var y = scaled_dot_product_attention(tape.constant(x.q), tape.constant(x.k), tape.constant(x.v), {.mask = mask});
  CHECK(relative_error(y.value(), x.expected([](Index, Index t, Index) { return t != 1; }).output) < 1e-14);
}

TEST_CASE("a query that may attend to nothing gives zeros and has no gradient") {
  const Example x(2, 3, 4, 5, 2);
  const Tensor mask({2, 3, 1}, {1, 0, 1, 0, 0, 0});
  const Allowed allowed = [&](Index n, Index t, Index) { return mask.at({n, t, 0}) != 0; };
  check(x, {.mask = mask}, x.expected(allowed));
  for (const bool large : {false, true}) {  // scores that overflow exp
    Tape tape;
    Var q = tape.variable(x.q), k = tape.variable(x.k), v = tape.variable(x.v);
    const Attention y = attention_with_weights(large ? Var(q * 1e6) : q, k, v, {.mask = mask});
    tape.backward(sum(y.output) + sum(Var(square(y.weights))));
    for (Index t = 0; t < 3; ++t)
      for (Index i = 0; i < 5; ++i)
        if (t == 1) CHECK(q.grad().at({0, t, i}) == 0);
    for (const Var& gradient : {q, k, v})
      for (double g : gradient.grad().to_vector()) CHECK(std::isfinite(g));
    for (const Var& gradient : {q, k, v}) {  // of the second of two batches
      const std::vector<double> g = gradient.grad().to_vector();
      for (std::size_t i = g.size() / 2; i < g.size(); ++i) CHECK(g[i] == 0);
    }
  }
}

TEST_CASE("what is masked does not matter, NaN and infinity included") {
  Example x(1, 2, 3, 2, 2);
  const Tensor mask({3}, {1, 1, 0});
  const Tensor before(x.expected([](Index, Index, Index s) { return s < 2; }).output);
  for (double bad : {std::nan(""), HUGE_VAL}) {
    x.k.set({0, 2, 1}, bad);
    Tape tape;
    Var q = tape.variable(x.q), k = tape.variable(x.k);
    Var y = scaled_dot_product_attention(q, k, tape.constant(x.v), {.mask = mask});
    CHECK(relative_error(y.value(), before) < 1e-14);
  }
}

TEST_CASE("attention over heads: leading axes broadcast") {
  const Tensor q = random_tensor({2, 3, 4, 5}, 1), k = random_tensor({2, 1, 6, 5}, 2), v = random_tensor({6, 2}, 3);
  Tape tape;
  const Attention y = attention_with_weights(tape.constant(q), tape.constant(k), tape.constant(v));
  CHECK(y.output.shape() == Shape{2, 3, 4, 2});
  CHECK(y.weights.shape() == Shape{2, 3, 4, 6});
  for (Index n = 0; n < 2; ++n)
    for (Index h = 0; h < 3; ++h) {
      const Var one = scaled_dot_product_attention(tape.constant(q)[n][h], tape.constant(k)[n][0], tape.constant(v));
      CHECK(relative_error(y.output[n][h].value(), one.value()) < 1e-14);
    }
  const auto f = [](Tape&, const Inputs& in) {
    return scaled_dot_product_attention(in[0], in[1], in[2], {.causal = true});
  };
  CHECK(gradient_error(f, {q, k, v}) < 1e-6);
  // Heads as a view of [N, T, heads d]: split and brought forward, nothing copied.
  const auto heads = [](Tape&, const Inputs& in) {
    auto split = [](const Var& x) { return transpose(reshape(x, {x.size(0), x.size(1), 2, -1}), 1, 2); };
    Var y = scaled_dot_product_attention(split(in[0]), split(in[1]), split(in[2]));
    return reshape(transpose(y, 1, 2), {2, 3, -1});
  };
  CHECK(gradient_error(heads, {random_tensor({2, 3, 8}, 1), random_tensor({2, 4, 8}, 2), random_tensor({2, 4, 6}, 3)}) <
        1e-6);
}

TEST_CASE("self-attention: one Var as query, key and value") {
  const auto f = [](Tape&, const Inputs& in) {
    return scaled_dot_product_attention(in[0], in[0], in[0], {.causal = true});
  };
  CHECK(gradient_error(f, {random_tensor({2, 4, 3}, 1)}) < 1e-6);
}

TEST_CASE("attention without queries, keys, features or batches") {
  Tape tape;
  auto leaf = [&](const Shape& shape) { return tape.variable(random_tensor(shape, 1)); };
  Var q = leaf({2, 3, 4});
  Var y = scaled_dot_product_attention(q, leaf({2, 0, 4}), leaf({2, 0, 5}));
  CHECK(same_bits(y.value(), Tensor({2, 3, 5}, float64)));
  tape.backward(sum(y));
  CHECK(same_bits(q.grad(), Tensor({2, 3, 4}, float64)));
  CHECK(scaled_dot_product_attention(q, leaf({2, 0, 4}), leaf({2, 0, 5}), {.causal = true}).shape() == Shape{2, 3, 5});
  CHECK(scaled_dot_product_attention(leaf({2, 0, 4}), leaf({2, 3, 4}), leaf({2, 3, 5})).shape() == Shape{2, 0, 5});
  CHECK(scaled_dot_product_attention(leaf({0, 3, 4}), leaf({0, 3, 4}), leaf({0, 3, 5})).shape() == Shape{0, 3, 5});
  const Tensor v = random_tensor({2, 5}, 2);
  y = scaled_dot_product_attention(leaf({3, 0}), leaf({2, 0}), tape.constant(v));  // all alike: the mean
  for (Index i = 0; i < 5; ++i) CHECK(y.value().at({1, i}) == doctest::Approx((v.at({0, i}) + v.at({1, i})) / 2));
}

TEST_CASE("attention: what is wrong, and where") {
  Tape tape;
  auto leaf = [&](const Shape& shape, DType type = float32) { return tape.constant(Tensor(shape, type)); };
  Var q = leaf({2, 3, 4}), k = leaf({2, 5, 4}), v = leaf({2, 5, 6}), empty, vector = leaf({4}), wide = leaf({2, 5, 7});
  Var few = leaf({2, 4, 6}), other = leaf({3, 5, 6}), doubles = leaf({2, 5, 6}, float64);
  Var wanted = tape.variable(Tensor({3, 5})), of_doubles = leaf({3, 5}, float64);
  const Tensor mask({3, 4}), larger({2, 2, 3, 5});
  const auto attend = [](const Var& a, const Var& b, const Var& c, const AttentionOptions& options, Source where) {
    return scaled_dot_product_attention(a, b, c, options, where);
  };
  const std::size_t before = tape.size();
  const Source here = Source::here();
  (void)here;
  CHECK_ERROR_HERE(attend(q, wide, v, {}, Source::here()), "query is [2, 3, 4] and key [2, 5, 7]; their last axes");
  CHECK_ERROR_HERE(attend(q, k, few, {}, Source::here()), "key is [2, 5, 4] and value [2, 4, 6]; their second to last");
  CHECK_ERROR_HERE(attend(vector, k, v, {}, Source::here()), "query is [4]", "at least two axes");
  CHECK_ERROR_HERE(attend(q, k, other, {}, Source::here()), "scaled_dot_product_attention", "[2]", "[3]", "broadcast");
  CHECK_ERROR_HERE(attend(q, k, doubles, {}, Source::here()), "float32", "float64", "one type");
  CHECK_ERROR_HERE(attend(q, empty, v, {}, Source::here()), "empty Var");
  CHECK_ERROR_HERE(attend(q, k, v, {.mask = mask}, Source::here()), "the mask is [3, 4] and the weights are [2, 3, 5]");
  CHECK_ERROR_HERE(attend(q, k, v, {.mask = larger}, Source::here()), "the mask is [2, 2, 3, 5] and the weights are");
  CHECK_ERROR_HERE(attend(q, k, v, {.mask = wanted}, Source::here()), "the mask needs a gradient");
  CHECK_ERROR_HERE(attend(q, k, v, {.mask = of_doubles}, Source::here()), "the mask is float64 and the query float32");
  CHECK_ERROR_HERE(scaled_dot_product_attention(q, wide, v), "their last axes must agree");
  CHECK(tape.size() == before);
}
