// The statements of random programs. An expression's type is known when the program is compiled, so there is a fixed
// set of them. Each is recorded as it is, or with every operation as a value of its own.

#include <autograd/autograd.h>
#include <tests/autograd/fuzz.h>

#include <algorithm>
#include <cctype>

namespace unroll::testing {

namespace {

// --- The same statement, one operation at a time ------------------------------------------------------------------

Var one_by_one(const detail::VarLeaf& leaf) { return leaf.var; }
double one_by_one(const detail::NumberLeaf& leaf) { return leaf.value; }

template <class Op, class... Args>
Var one_by_one(const Expression<Op, Args...>& expression) {
  return std::apply([](const auto&... arg) { return Var(apply<Op>(one_by_one(arg)...)); }, expression.args);
}

template <int Products, int Addends>
Var one_by_one(const Affine<Products, Addends>& sum) {
  Var y = matmul(sum.factors[0], sum.factors[1]);
  detail::Graph& graph = *y.graph();
  for (std::size_t i = 1; i < Products; ++i) y = y + Var(matmul(sum.factors[2 * i], sum.factors[2 * i + 1]));
  for (std::size_t i = 0; i < Addends; ++i) y = y + graph.var(sum.addends[i].bind(graph, "split", {}));
  return y;
}

// --- Operands -------------------------------------------------------------------------------------------------------

/// The operands of a statement by their letters: 0 for a.
struct Operands {
  std::size_t count = 0;
  std::vector<std::pair<std::size_t, std::size_t>> factors;  ///< of matrix products

  explicit Operands(const std::string& text) {
    auto letter = [&](std::size_t i) {
      auto is_word = [&](std::size_t k) { return k < text.size() && (std::isalnum(text[k]) != 0 || text[k] == '_'); };
      return text[i] >= 'a' && text[i] <= 'f' && !is_word(i + 1) && (i == 0 || !is_word(i - 1));
    };
    for (std::size_t i = 0; i < text.size(); ++i)
      if (letter(i)) count = std::max(count, static_cast<std::size_t>(text[i] - 'a') + 1);
    const std::string product = "matmul(";
    for (std::size_t i = 0; (i = text.find(product, i)) != std::string::npos; i += product.size())
      factors.emplace_back(text[i + product.size()] - 'a', text[i + product.size() + 3] - 'a');
  }
};

bool choose_factors(Maker& maker, const Operands& operands, std::vector<int>& chosen, std::optional<Shape>& result) {
  for (auto [left, right] : operands.factors) {
    int a = maker.pick([&](const Shape& s) {
      if (s.rank() < 1) return false;
      return !result || (s.rank() == result->rank() && s.with(s.rank() - 1, 0) == result->with(s.rank() - 1, 0));
    });
    if (a < 0) return false;
    const Shape shape = maker.shape(a);
    Index depth = shape.columns(), columns = result ? result->columns() : -1;
    auto fits = [&](const Shape& s) {
      return s.rank() == 2 && s[0] == depth && (columns < 0 || s[1] == columns) &&
             shape.rows() * s[1] <= maker.most_elements();
    };
    int b = maker.chance(0.7) ? maker.pick(fits) : -1;
    if (b < 0) b = maker.leaf({depth, columns < 0 ? std::min<Index>(maker.size(), 40) : columns});
    chosen[left] = a;
    chosen[right] = b;
    result = shape.with(shape.rank() - 1, maker.shape(b)[1]);
    if (result->count() > maker.most_elements()) return false;
  }
  return true;
}

bool choose_operands(Maker& maker, const Operands& operands, Instruction& instruction) {
  std::vector<int> chosen(operands.count, -1);
  std::optional<Shape> result;
  if (!choose_factors(maker, operands, chosen, result)) return false;
  for (std::size_t k = 0; k < chosen.size(); ++k) {
    if (chosen[k] >= 0) continue;
    auto fits = [&](const Shape& s) {
      auto both = result ? broadcast_of(*result, s) : s;
      if (!operands.factors.empty() && both && both != *result && maker.chance(0.8)) return false;
      return both && both->count() <= maker.most_elements();
    };
    if (k > 0 && operands.factors.empty() && maker.chance(0.15))
      chosen[k] = chosen[static_cast<std::size_t>(maker.below(static_cast<Index>(k)))];
    else if (!operands.factors.empty() && maker.chance(0.3))
      chosen[k] = maker.leaf({result->columns()});
    else
      chosen[k] = maker.pick(fits);
    if (chosen[k] < 0) return false;
    result = result ? broadcast_of(*result, maker.shape(chosen[k])) : maker.shape(chosen[k]);
    if (!result || result->count() > maker.most_elements()) return false;
  }
  instruction.operands = chosen;
  instruction.keep_grad = maker.chance(0.08);
  return true;
}

template <class F>
auto call(const Vars& x) {
  auto at = [&](std::size_t k) -> const Var& { return x[std::min(k, x.size() - 1)]; };
  return F{}(at(0), at(1), at(2), at(3), at(4), at(5));
}

template <class F>
FuzzOperation statement(const char* text, F, double weight = 1) {
  Operands operands(text);
  return {text, weight,
          [operands](Maker& maker, Instruction& instruction) { return choose_operands(maker, operands, instruction); },
          [](const Recording& r) { return r.split ? one_by_one(call<F>(r.x)) : Var(call<F>(r.x)); }};
}

template <class F, class K>
FuzzOperation kinked(const char* text, F function, K) {
  FuzzOperation operation = statement(text, function);
  operation.distance = [](const Recording& r) { return from_zero(Var(call<K>(r.x)).value()); };
  return operation;
}

// The text of a statement is its name, what is printed, and what tests/pytorch/compare.py evaluates.
#define FUNCTION(...)                                                                                \
  [](const auto& a [[maybe_unused]], const auto& b [[maybe_unused]], const auto& c [[maybe_unused]], \
     const auto& d [[maybe_unused]], const auto& e [[maybe_unused]],                                 \
     const auto& f [[maybe_unused]]) { return __VA_ARGS__; }
#define STATEMENT(...) statement(#__VA_ARGS__, FUNCTION(__VA_ARGS__))
#define PRODUCT(...) statement(#__VA_ARGS__, FUNCTION(__VA_ARGS__), 2)
/// KINKED(k, y): y, whose derivative jumps where k is 0.
#define KINKED(k, ...) kinked(#__VA_ARGS__, FUNCTION(__VA_ARGS__), FUNCTION(k))

}  // namespace

std::vector<FuzzOperation> fuzz_statements() {
  return {
      STATEMENT(a + b),
      STATEMENT(a - b),
      STATEMENT(a * b),
      STATEMENT(-a),
      STATEMENT(a * 0.25),
      STATEMENT(1.5 - a),
      STATEMENT(tanh(a)),
      STATEMENT(sigmoid(a)),
      STATEMENT(square(a) * 0.5),
      STATEMENT(exp(a * 0.5)),
      STATEMENT(sqrt(square(a) + 0.5)),
      STATEMENT(log(1.5 + square(a))),
      STATEMENT(a / (1 + square(b))),
      STATEMENT(a / (2 + sigmoid(a))),
      STATEMENT(a * b + a),
      STATEMENT(a * b - c),
      STATEMENT(a * b * c * d),
      STATEMENT(tanh(a + b) * c),
      STATEMENT(sigmoid(a) * tanh(b)),
      STATEMENT(sigmoid(a) * b + sigmoid(c) * tanh(d)),
      STATEMENT((1 - sigmoid(a)) * b + sigmoid(a) * c),
      STATEMENT(exp(-square(a - b)) + c * 0.5),
      STATEMENT(a - (b + (c - d) * e) * 0.3),
      STATEMENT(tanh(a * b + c * d - e) * f),
      STATEMENT(log(1 + exp(a)) * sqrt(1 + square(b)) - a / (1 + exp(c))),
      STATEMENT(fma(a, b, c)),
      STATEMENT(expm1(a * 0.5) - log1p(square(b))),
      STATEMENT(rsqrt(1 + square(a)) * b),
      STATEMENT(pow(a, 3) * 0.1 - pow(1 + square(b), -1.5)),
      STATEMENT(pow(1.5 + sin(a), b)),
      STATEMENT(sin(a) * cos(b) + erf(c)),
      STATEMENT(tan(sin(a)) - atan(b)),
      STATEMENT(asin(0.9 * tanh(a)) * acos(0.9 * sin(b))),
      STATEMENT(sinh(a * 0.5) - cosh(b * 0.5)),
      STATEMENT(softplus(a) - log_sigmoid(b)),
      STATEMENT(softsign(a) * silu(b)),
      STATEMENT(gelu(a) + gelu_tanh(b)),
      STATEMENT(celu(a, 0.7) * b),
      KINKED(a, relu(a)),
      KINKED(a - b, relu(a - b) * c + b),
      KINKED(a, leaky_relu(a, 0.1) + elu(a, 0.5) - selu(a)),
      KINKED(a * b, abs(a) * b - sign(b) * a),
      KINKED(a - b, maximum(a, b) * c - minimum(b, a)),
      KINKED(a - b, where(a < b, tanh(a), square(c)) * (a >= b)),
      KINKED((a + 1) * (a - 0.5), clamp(a, -1, 0.5) * b),
      KINKED((a - b) * (a - 2.5) * (a - 2.4) * (b - 2.4), clamp(a, minimum(b, 2.4), 2.5) + a * 0.1),
      KINKED(sin(3.14159265358979 * a) * cos(3.14159265358979 * a), floor(a) * b + ceil(a) * 0.5 - round(a) * a * 0.25),
      PRODUCT(matmul(a, b)),
      PRODUCT(matmul(a, b) + c),
      PRODUCT(c + matmul(a, b)),
      PRODUCT(matmul(a, b) + matmul(c, d)),
      PRODUCT(matmul(a, b) + matmul(c, d) + e),
      PRODUCT(e + matmul(a, b) + matmul(c, d) + f),
      PRODUCT(matmul(a, b) + tanh(c)),
      PRODUCT(tanh(matmul(a, b) + c) * d),
  };
}

}  // namespace unroll::testing
