#include <autograd/autograd.h>
#include <tests/autograd/operations.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numbers>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Ids = std::vector<std::int32_t>;
using Numbers = std::vector<double>;
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// --- References: plain loops, from the definitions ---------------------------------------------------------

Tensor reduced(const Numbers& terms, const Shape& shape, Reduction reduction) {
  if (reduction == Reduction::none) return Tensor(shape, terms, float64);
  double sum = 0;
  for (double term : terms) sum += term;
  return Tensor::scalar(reduction == Reduction::mean ? sum / static_cast<double>(terms.size()) : sum, float64);
}

/// f(x_i, y_i) of two tensors of one shape.
template <class F>
Tensor by_element(const Tensor& x, const Tensor& y, Reduction reduction, F&& f) {
  Numbers terms, a = x.to_vector(), b = y.to_vector();
  for (std::size_t i = 0; i < a.size(); ++i) terms.push_back(f(a[i], b[i]));
  return reduced(terms, x.shape(), reduction);
}

double square_of(double x) { return x * x; }
double pinball_of(double x, double y, double q) { return y >= x ? q * (y - x) : (1 - q) * (x - y); }
double huber_of(double r, double delta) { return std::abs(r) <= delta ? r * r / 2 : delta * (std::abs(r) - delta / 2); }
double bce_of(double x, double t, double w) {
  const double p = 1 / (1 + std::exp(-x));
  return -w * t * std::log(p) - (1 - t) * std::log(1 - p);
}
double gaussian_of(double x, double y, double v) { return (std::log(v) + square_of(x - y) / v) / 2; }

/// The rows' log softmax, or the rows themselves.
Numbers log_probabilities_of(const Tensor& x, bool softmax) {
  Numbers values = x.to_vector();
  const auto columns = static_cast<std::size_t>(x.shape().columns());
  for (std::size_t row = 0; softmax && row < values.size(); row += columns) {
    double sum = 0;
    for (std::size_t c = 0; c < columns; ++c) sum += std::exp(values[row + c]);
    for (std::size_t c = 0; c < columns; ++c) values[row + c] -= std::log(sum);
  }
  return values;
}

Tensor classes_reference(const Tensor& x, const Ids& targets, const CrossEntropyOptions& o, bool softmax = true) {
  const Index classes = x.shape().columns();
  const Numbers log_p = log_probabilities_of(x, softmax);
  const Numbers w = o.class_weights ? o.class_weights->to_vector() : Numbers(static_cast<std::size_t>(classes), 1);
  Numbers losses;
  double weights = 0;
  for (std::size_t row = 0; row < targets.size(); ++row) {
    losses.push_back(0);
    if (o.ignore_index && targets[row] == *o.ignore_index) continue;
    const auto target = static_cast<std::size_t>(targets[row]);
    weights += w[target];
    for (std::size_t c = 0; c < w.size(); ++c) {
      const double t = (c == target ? 1 - o.label_smoothing : 0) + o.label_smoothing / static_cast<double>(classes);
      if (t != 0) losses.back() -= w[c] * t * log_p[row * w.size() + c];
    }
  }
  if (o.reduction != Reduction::mean) return reduced(losses, x.shape().without(x.shape().rank() - 1), o.reduction);
  return Tensor::scalar(reduced(losses, {}, Reduction::sum).item() / weights, float64);
}

Tensor distribution_reference(const Tensor& x, const Tensor& t, const CrossEntropyOptions& o) {
  const auto classes = static_cast<std::size_t>(x.shape().columns());
  const Numbers log_p = log_probabilities_of(x, true), targets = t.to_vector();
  const Numbers w = o.class_weights ? o.class_weights->to_vector() : Numbers(classes, 1);
  Numbers losses(targets.size() / std::max<std::size_t>(classes, 1), 0);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const double share = (1 - o.label_smoothing) * targets[i] + o.label_smoothing / static_cast<double>(classes);
    losses[i / classes] -= w[i % classes] * share * log_p[i];
  }
  return reduced(losses, x.shape().without(x.shape().rank() - 1), o.reduction);
}

Ids classes_of(Index rows, Index classes) {
  Ids targets;
  for (Index row = 0; row < rows; ++row) targets.push_back(static_cast<std::int32_t>((row * 7 + row / 3) % classes));
  return targets;
}
const std::vector<std::vector<Shape>> some_rows{{{4, 5}}, {{2, 3, 20}}, {{1, 1}}, {{7}}};

CrossEntropyOptions all_options(const Shape& shape, Reduction reduction) {
  return {.reduction = reduction,
          .ignore_index = shape.rows() > 1 ? std::optional<std::int32_t>(0) : std::nullopt,
          .class_weights = random_tensor({shape.columns()}, 11, 0.2, 2),
          .label_smoothing = 0.2};
}

void add_class_rows(std::vector<OperationRow>& rows) {
  auto targets = [](const Shape& shape) { return classes_of(shape.rows(), shape.columns()); };
  auto add = [&](const std::string& name, Reduction reduction, bool options) {
    auto with = [=](const Shape& shape) {
      return options ? all_options(shape, reduction) : CrossEntropyOptions{.reduction = reduction};
    };
    rows.push_back(
        {"cross_entropy" + name, some_rows,
         [=](Tape&, const Vars& x) { return cross_entropy(x[0], targets(x[0].shape()), with(x[0].shape())); },
         [=](const std::vector<Tensor>& x) {
           return classes_reference(x[0], targets(x[0].shape()), with(x[0].shape()));
         }});
    rows.push_back({"nll" + name, some_rows,
                    [=](Tape&, const Vars& x) { return nll(x[0], targets(x[0].shape()), with(x[0].shape())); },
                    [=](const std::vector<Tensor>& x) {
                      return classes_reference(x[0], targets(x[0].shape()), with(x[0].shape()), false);
                    }});
    auto distribution_options = [=](const Shape& shape) {
      CrossEntropyOptions result = with(shape);
      result.ignore_index.reset();
      return result;
    };
    rows.push_back({"cross_entropy to distributions" + name,
                    {{{4, 5}, {4, 5}}, {{2, 3, 20}, {2, 3, 20}}, {{1, 1}, {1, 1}}, {{7}, {7}}},
                    [=](Tape&, const Vars& x) { return cross_entropy(x[0], x[1], distribution_options(x[0].shape())); },
                    [=](const std::vector<Tensor>& x) {
                      return distribution_reference(x[0], x[1], distribution_options(x[0].shape()));
                    },
                    0.05,
                    0.95});
  };
  add("", Reduction::mean, false);
  add(" summed", Reduction::sum, false);
  add(" of each row", Reduction::none, false);
  add(" with all options", Reduction::mean, true);
  add(" with all options of each row", Reduction::none, true);
}

Tensor kl_reference(const Tensor& x, const Tensor& t, Reduction reduction) {
  const Numbers a = x.to_vector(), p = t.to_vector();
  Numbers rows(static_cast<std::size_t>(x.shape().rows()), 0);
  for (std::size_t i = 0; i < p.size(); ++i)
    rows[i / (p.size() / rows.size())] += p[i] == 0 ? 0 : p[i] * (std::log(p[i]) - a[i]);
  return reduced(rows, x.shape().without(x.shape().rank() - 1), reduction);
}

void add_element_rows(std::vector<OperationRow>& rows, Reduction reduction, const std::string& name) {
  const std::vector<std::vector<Shape>> pairs{{{3, 5}, {3, 5}}, {{2, 1, 40}, {2, 1, 40}}, {{}, {}}, {{1}, {1}}};
  auto add = [&](const char* loss, auto call, auto element, double low = -2, double high = 2) {
    rows.push_back({loss + name, pairs, [=](Tape&, const Vars& x) { return call(x[0], x[1]); },
                    [=](const std::vector<Tensor>& x) { return by_element(x[0], x[1], reduction, element); }, low,
                    high});
  };
  add(
      "mse", [=](Var x, Var y) { return mse(x, y, reduction); }, [](double x, double y) { return square_of(x - y); });
  add(
      "l1", [=](Var x, Var y) { return l1(x, y, reduction); }, [](double x, double y) { return std::abs(x - y); });
  add(
      "huber", [=](Var x, Var y) { return huber(x, y, {.delta = 0.7, .reduction = reduction}); },
      [](double x, double y) { return huber_of(x - y, 0.7); });
  add(
      "pinball", [=](Var x, Var y) { return pinball(x, y, 0.3, reduction); },
      [](double x, double y) { return pinball_of(x, y, 0.3); });
  add(
      "binary_cross_entropy_with_logits",
      [=](Var x, Var y) { return binary_cross_entropy_with_logits(x, y, {.reduction = reduction}); },
      [](double x, double y) { return bce_of(x, y, 1); }, 0.05, 0.95);
  add(
      "binary_cross_entropy_with_logits weighted",
      [=](Var x, Var y) {
        return binary_cross_entropy_with_logits(
            x, y, {.positive_weight = Tensor::scalar(2.5, float64), .reduction = reduction});
      },
      [](double x, double y) { return bce_of(x, y, 2.5); }, 0.05, 0.95);
  rows.push_back({"hinge" + name,
                  {{{3, 5}}, {{40}}, {{}}},
                  [=](Tape&, const Vars& x) {
                    Tensor signs(x[0].shape(), x[0].dtype());
                    for (Index i = 0; i < signs.size(); ++i)
                      with_type(signs.dtype(), [&]<class T>(T) { signs.data<T>()[i] = i % 3 == 0 ? -1 : 1; });
                    return hinge(x[0], signs, {.margin = 0.5, .reduction = reduction});
                  },
                  [=](const std::vector<Tensor>& x) {
                    Numbers terms = x[0].to_vector();
                    for (std::size_t i = 0; i < terms.size(); ++i)
                      terms[i] = std::max(0.0, 0.5 - (i % 3 == 0 ? -1 : 1) * terms[i]);
                    return reduced(terms, x[0].shape(), reduction);
                  }});
  rows.push_back({"pinball of several quantiles" + name,
                  {{{3, 3}, {3}}, {{2, 20, 3}, {2, 20}}, {{3}, {}}},
                  [=](Tape&, const Vars& x) {
                    return pinball(x[0], x[1], {0.1, 0.5, 0.8}, reduction);
                  },
                  [=](const std::vector<Tensor>& x) {
                    const double q[] = {0.1, 0.5, 0.8};
                    Numbers terms = x[0].to_vector(), y = x[1].to_vector();
                    for (std::size_t i = 0; i < terms.size(); ++i) terms[i] = pinball_of(terms[i], y[i / 3], q[i % 3]);
                    return reduced(terms, x[0].shape(), reduction);
                  }});
  rows.push_back({"kl_divergence" + name,
                  {{{4, 5}, {4, 5}}, {{2, 3, 20}, {2, 3, 20}}, {{1}, {1}}},
                  [=](Tape&, const Vars& x) { return kl_divergence(x[0], x[1], reduction); },
                  [=](const std::vector<Tensor>& x) { return kl_reference(x[0], x[1], reduction); },
                  0.05,
                  0.95});
  rows.push_back({"gaussian_nll" + name,
                  {{{3, 20}, {3, 20}, {3, 20}}, {{3, 5}, {3, 5}, {3, 1}}, {{4}, {4}, {}}},
                  [=](Tape&, const Vars& x) { return gaussian_nll(x[0], x[1], x[2], {.reduction = reduction}); },
                  [=](const std::vector<Tensor>& x) {
                    Numbers terms = x[0].to_vector(), y = x[1].to_vector(), v = x[2].to_vector();
                    const std::size_t repeats = terms.size() / v.size();
                    for (std::size_t i = 0; i < terms.size(); ++i)
                      terms[i] = gaussian_of(terms[i], y[i], v[i / repeats]);
                    return reduced(terms, x[0].shape(), reduction);
                  },
                  0.2,
                  2});
}

}  // namespace

namespace unroll::testing {

std::vector<OperationRow> ctc_rows();  // test_ctc.cpp

std::vector<OperationRow> loss_rows() {
  std::vector<OperationRow> rows;
  add_class_rows(rows);
  add_element_rows(rows, Reduction::mean, "");
  add_element_rows(rows, Reduction::sum, " summed");
  add_element_rows(rows, Reduction::none, " of each element");
  for (OperationRow& row : ctc_rows()) rows.push_back(std::move(row));
  return rows;
}

}  // namespace unroll::testing

TEST_CASE("an input used as prediction and target, and views, receive every contribution") {
  auto error = [](auto&& loss) {
    return gradient_error([&](Tape&, const Vars& x) { return loss(x[0]); }, {random_tensor({4, 4}, 1, 0.1, 0.9)});
  };
  CHECK(error([](Var x) { return mse(transpose(x), x); }) < 1e-7);
  CHECK(error([](Var x) { return binary_cross_entropy_with_logits(x, x); }) < 1e-7);
  CHECK(error([](Var x) { return cross_entropy(x, x); }) < 1e-7);
  CHECK(error([](Var x) { return cross_entropy(transpose(x), x); }) < 1e-7);
  CHECK(error([](Var x) { return cross_entropy(slice(x, 1, 0, 3), slice(x, 1, 1, 4)); }) < 1e-7);
  CHECK(error([](Var x) { return Var(cross_entropy(x, x) + sum(Var(square(x)))); }) < 1e-7);
  CHECK(error([](Var x) { return cross_entropy(transpose(x), Ids{3, 0, 2, 2}); }) < 1e-7);
  CHECK(error([](Var x) {
          return Var(cross_entropy(x, Ids{3, 0, 2, 2}, {.ignore_index = 2}) + sum(Var(x * x)));
        }) < 1e-7);
  CHECK(error([](Var x) { return Var(nll(x, Ids{3, 0, 2, 2}, {.ignore_index = 2}) + sum(Var(x * x))); }) < 1e-7);
  CHECK(error([](Var x) { return gaussian_nll(x, transpose(x), x); }) < 1e-7);
  CHECK(error([](Var x) { return kl_divergence(log_softmax(x), x); }) < 1e-7);
}

TEST_CASE("targets may be Tensors, Vars or expressions") {
  Tape tape;
  const Tensor x = random_tensor({3, 4}, 1), y = random_tensor({3, 4}, 2, 0.1, 0.9);
  const Var a = tape.variable(x), b = tape.constant(y);
  CHECK(mse(a, y).item() == mse(a, b).item());
  CHECK(mse(a, y).item() == doctest::Approx(mse(a, b * 1).item()));
  CHECK(cross_entropy(a, y).item() == cross_entropy(a, b).item());
  CHECK(gaussian_nll(a, y, y).item() == gaussian_nll(a, b, b).item());
}

TEST_CASE("cross_entropy with options is PyTorch's") {
  // import torch; F = torch.nn.functional  (1.13, in double precision)
  // x = torch.tensor([[1, -2, 0.5, 3], [0, 0.25, -1, 2], [-0.5, 1.5, 2.5, -3]], requires_grad=True)
  // t = torch.tensor([3, -100, 1]); q = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 0], [0.5, 0.5, 0, 0]])
  // loss = F.cross_entropy(x, t or q, torch.tensor([0.5, 2, 0, 1.5]), label_smoothing=0.1, reduction='mean')
  // torch.autograd.grad(loss.sum(), x)[0][2]
  const Tensor x({3, 4}, {1, -2, 0.5, 3, 0, 0.25, -1, 2, -0.5, 1.5, 2.5, -3}, float64);
  const Tensor w({4}, {0.5, 2, 0, 1.5}), q({3, 4}, {0.1, 0.2, 0.3, 0.4, 0, 0, 1, 0, 0.5, 0.5, 0, 0}, float64);
  const Ids t{3, -100, 1};
  auto check = [&](const auto& target, const CrossEntropyOptions& options, const Numbers& loss, const Numbers& last) {
    Tape tape;
    const Var logits = tape.variable(x), y = cross_entropy(logits, target, options);
    CHECK(relative_error(y.value(), Tensor(y.shape(), loss, float64)) < 1e-12);
    tape.backward(sum(y));
    for (Index c = 0; c < 4; ++c)
      CHECK(logits.grad().at({2, c}) == doctest::Approx(last[static_cast<std::size_t>(c)]).epsilon(1e-12));
  };
  const CrossEntropyOptions plain{.ignore_index = -100};
  CrossEntropyOptions options = plain;
  check(t, plain, {0.7770721312925928},
        {0.01750903937904905, -0.3706247257898207, 0.3516784569374366, 0.0014372294733350315});
  options.class_weights = w;
  check(t, options, {0.8591890860944844},
        {0.0200103307189132, -0.4235711151883665, 0.40191823649992753, 0.0016425479695257501});
  options.label_smoothing = 0.1;
  check(t, options, {0.9516028707017556},
        {0.015438385611538966, -0.3881068451432339, 0.38182232467493116, -0.009153865143236252});
  options.reduction = Reduction::none;
  check(t, options, {0.56826749913506, 0.0, 2.7623425483210844},
        {0.05403434964038639, -1.3583739580013188, 1.336378136362259, -0.03203852800132689});
  options.reduction = Reduction::sum;
  check(t, options, {3.330610047456145},
        {0.05403434964038639, -1.3583739580013188, 1.336378136362259, -0.03203852800132689});
  options.class_weights.reset();
  check(t, options, {1.9291442625851856},
        {0.010018078758098098, -0.6662494515796414, 0.6783569138748732, -0.02212554105332994});
  check(q, {}, {2.6036056950320874},
        {-0.15499397374730062, -0.08041648385988046, 0.23445230462495772, 0.0009581529822233543});
  const CrossEntropyOptions smooth{.class_weights = w, .label_smoothing = 0.1};
  check(q, smooth, {1.6064461277785593},
        {-0.06486761784044327, -0.21101019272835356, 0.2872040731655732, -0.011326262596776392});
}

TEST_CASE("the other losses are PyTorch's") {
  // x and q as above; y = torch.tensor([[1, 0, 1, 0.5], [0, 0, 1, 1], [1, 1, 0, 0.25]])
  // z = torch.tensor([[0, -2, 3, 1], [0, 1, 1, 1], [-2, 0.5, 0, 0]]); v = torch.tensor([[0.5], [1e-9], [2]])
  const Tensor x({3, 4}, {1, -2, 0.5, 3, 0, 0.25, -1, 2, -0.5, 1.5, 2.5, -3}, float64);
  const Tensor q({3, 4}, {0.1, 0.2, 0.3, 0.4, 0, 0, 1, 0, 0.5, 0.5, 0, 0}, float64);
  const Tensor y({3, 4}, {1, 0, 1, 0.5, 0, 0, 1, 1, 1, 1, 0, 0.25}, float64);
  const Tensor z({3, 4}, {0, -2, 3, 1, 0, 1, 1, 1, -2, 0.5, 0, 0}, float64);
  Tape tape;
  const Var a = tape.variable(x), v = tape.variable(Tensor({3, 1}, {0.5, 1e-9, 2}, float64));
  auto is = [](const Var& loss, double expected) { CHECK(loss.item() == doctest::Approx(expected).epsilon(1e-12)); };
  // F.binary_cross_entropy_with_logits(x, y, pos_weight=torch.tensor([0.5, 2, 3, 1]))
  is(binary_cross_entropy_with_logits(a, y), 0.8312581401120149);
  is(binary_cross_entropy_with_logits(a, y, {.positive_weight = Tensor({4}, {0.5, 2, 3, 1})}), 1.0922932472395355);
  is(binary_cross_entropy_with_logits(a, y, {.positive_weight = Tensor::scalar(3)}), 1.5295013311291301);
  is(huber(a, z, {.delta = 0.75}), 0.84375);            // F.huber_loss(x, z, delta=0.75)
  is(Var(huber(a, z, {.delta = 0.75}) / 0.75), 1.125);  // F.smooth_l1_loss(x, z, beta=0.75)
  is(l1(a, z), 1.4375);
  is(mse(a, z), 2.9427083333333335);
  is(kl_divergence(log_softmax(a), q), 1.9459385595675496);  // F.kl_div(F.log_softmax(x, -1), q, reduction='batchmean')
  // F.gaussian_nll_loss(x, z, v, eps=1e-2, full=True), and its gradient in v
  const Var loss = gaussian_nll(a, z, v, {.epsilon = 1e-2});
  is(loss, 23.73247163566865);
  is(gaussian_nll(a, z, v, {.epsilon = 1e-2, .full = true}), 24.651410168873326);
  tape.backward(loss);
  CHECK(relative_error(v.grad(), Tensor({3, 1}, {-1.5416666666666667, -2301.0416666666665, -0.10937499999999999},
                                        float64)) < 1e-12);
}

TEST_CASE("ignored rows have no part, whatever their logits; a class of weight 0 may be impossible") {
  for (Index classes : {3, 40}) {
    Tensor x = random_tensor({3, classes}, 1);
    for (Index c = 0; c < classes; ++c) x.set({1, c}, not_a_number);
    x.set({2, 1}, -infinity);
    Tape tape;
    const Var logits = tape.variable(x);
    CrossEntropyOptions options{.ignore_index = -1};
    const Var loss = cross_entropy(logits, Ids{0, -1, 2}, options);
    CHECK(std::isfinite(loss.item()));
    tape.backward(loss);
    for (double g : logits.grad().to_vector()) CHECK(std::isfinite(g));
    for (Index c = 0; c < classes; ++c) CHECK(logits.grad().at({1, c}) == 0);
    // Smoothing gives every class a share: one of probability 0 costs infinitely much, unless its weight is 0.
    options.label_smoothing = 0.1;
    CHECK(cross_entropy(logits, Ids{0, -1, 2}, options).item() == infinity);
    options.class_weights = Tensor::full({classes}, 1);
    options.class_weights->set({1}, 0);
    CHECK(std::isfinite(cross_entropy(logits, Ids{0, -1, 2}, options).item()));
    options.reduction = Reduction::none;
    CHECK(cross_entropy(logits, Ids{0, -1, 1}, options).value().at({1}) == 0);
    CHECK(std::isfinite(cross_entropy(logits, Ids{0, -1, 1}, options).value().at({2})));
    options.reduction = Reduction::sum;
    CHECK(cross_entropy(logits, Ids{-1, -1, -1}, options).item() == 0);
  }
}

TEST_CASE("0 log 0 is 0") {
  Tape tape;
  const Var x = tape.variable(Tensor({2, 3}, {-infinity, 0, 1, 2, -infinity, 1e4}, float64));
  const Var t = tape.variable(Tensor({2, 3}, {0, 0.25, 0.75, 1, 0, 0}, float64));
  const Var loss = cross_entropy(x, t), kl = kl_divergence(log_softmax(x), t);
  const double entropy = -(0.25 * std::log(0.25) + 0.75 * std::log(0.75)) / 2;
  const double expected = (std::log(1 + std::exp(1)) - 0.75 + 1e4 - 2) / 2;
  CHECK(loss.item() == doctest::Approx(expected).epsilon(1e-12));
  CHECK(kl.item() == doctest::Approx(expected - entropy).epsilon(1e-12));
  tape.backward(loss);
  tape.backward(kl);
  for (double g : x.grad().to_vector()) CHECK(std::isfinite(g));
  CHECK(x.grad().at({0, 0}) == 0);
  CHECK(cross_entropy(x, Ids{0, 0}, {.reduction = Reduction::none}).value().at({0}) == infinity);
}

TEST_CASE("logits of any size") {
  for (DType type : {float64, float32}) {
    Tape tape;
    const Var x = tape.variable(Tensor({6}, {1e4, -1e4, 1e4, -1e4, infinity, -infinity}, type));
    const Tensor t({6}, {1, 0, 0, 1, 1, 0}, type);
    const Var loss = binary_cross_entropy_with_logits(x, t, {.reduction = Reduction::none});
    CHECK(loss.value().to_vector() == Numbers{0, 0, 1e4, 1e4, 0, 0});
    tape.backward(sum(loss));
    const Numbers expected{0, 0, 1, -1, 0, 0}, g = x.grad().to_vector();
    for (std::size_t i = 0; i < 6; ++i) CHECK(std::abs(g[i] - expected[i]) < 1e-37);
    CHECK(binary_cross_entropy_with_logits(x, Tensor({6}, {1, 0, 0, 1, 0, 1}, type)).item() == infinity);
    // -log s(20) = log(1 + e^-20): its digits are not those of 1 - s.
    const Var y = tape.constant(Tensor({1}, {20}, type));
    CHECK(binary_cross_entropy_with_logits(y, Tensor({1}, {1}, type)).item() ==
          doctest::Approx(std::log1p(std::exp(-20.0))).epsilon(type == float32 ? 1e-6 : 1e-13));
  }
}

TEST_CASE("derivatives of losses at their edges are what the documents say") {
  auto at = [&](auto&& loss) {
    Tape fresh;
    const Var v = fresh.variable(Tensor({3}, {-1, 0, 1}, float64));
    fresh.backward(loss(v));
    return v.grad().to_vector();
  };
  const Tensor zero({3}, float64), ones = Tensor::full({3}, 1, float64);
  CHECK(at([&](Var v) { return l1(v, zero, Reduction::sum); }) == Numbers{-1, 0, 1});
  CHECK(at([&](Var v) { return huber(v, zero, {.delta = 1, .reduction = Reduction::sum}); }) == Numbers{-1, 0, 1});
  CHECK(at([&](Var v) { return hinge(v, ones, {.reduction = Reduction::sum}); }) == Numbers{-1, -1, 0});
  CHECK(at([&](Var v) { return pinball(v, zero, 0.25, Reduction::sum); }) == Numbers{-0.25, 0, 0.75});
}

TEST_CASE("NaN predictions give NaN losses") {
  Tape tape;
  const Tensor y = Tensor::full({40}, 1, float64);
  const Var x = tape.constant(Tensor::full({40}, not_a_number, float64));
  for (const Var& loss : {mse(x, y), l1(x, y), huber(x, y), hinge(x, y), pinball(x, y, 0.5), kl_divergence(x, y),
                          binary_cross_entropy_with_logits(x, y), gaussian_nll(x, y, y), gaussian_nll(x, y, y),
                          cross_entropy(x, Ids{3}), cross_entropy(x, y), nll(x, Ids{3})})
    CHECK(std::isnan(loss.item()));
}

TEST_CASE("losses refuse what does not fit, and record nothing") {
  Tape tape, other;
  const Var x = tape.variable(Tensor({2, 3})), row = tape.variable(Tensor({3})), none = tape.variable(Tensor({0, 3}));
  const Var scalar = tape.variable(Tensor::scalar(1)), elsewhere = other.variable(Tensor({2, 3}));
  const Tensor y({2, 3}), z({3, 2}), wide({2, 3}, float64);
  const Ids ids{0, 2};
  const std::size_t size = tape.size();
  CHECK_ERROR_HERE(cross_entropy(Var(), ids), "cross_entropy: an empty Var");
  CHECK_ERROR_HERE(cross_entropy(x, Ids{0}), "cross_entropy", "[2, 3]", "[1]", "one target is needed for each row");
  CHECK_ERROR_HERE(nll(x, Ids{0, 3}), "nll: target 1 is 3", "classes 0 to 2");
  CHECK_ERROR_HERE(cross_entropy(x, Ids{-1, 3}, {.ignore_index = 3}), "target 0 is -1");
  CHECK_ERROR_HERE(cross_entropy(x, Ids{5, 5}, {.ignore_index = 5}), "all 2 targets are ignored");
  CHECK_ERROR_HERE(cross_entropy(x, ids, {.class_weights = Tensor({3}, {0, 1, 0})}), "of weight 0");
  CHECK_ERROR_HERE(cross_entropy(x, ids, {.class_weights = Tensor({2}, {1, 1})}), "class_weights are [2]", "[2, 3]");
  CHECK_ERROR_HERE(cross_entropy(x, ids, {.class_weights = Tensor({3}, {1, -2, 1})}), "class weight 1 is -2");
  CHECK_ERROR_HERE(cross_entropy(x, ids, {.class_weights = Tensor({3}, {1, 1, not_a_number})}),
                   "class weight 2 is nan");
  CHECK_ERROR_HERE(cross_entropy(x, ids, {.label_smoothing = 1.5}), "label_smoothing is 1.5", "[0, 1]");
  CHECK_ERROR_HERE(cross_entropy(none, Ids{}), "no rows");
  CHECK_ERROR_HERE(cross_entropy(scalar, Ids{0}), "[]");
  CHECK_ERROR_HERE(cross_entropy(x, z), "[2, 3]", "[3, 2]");
  CHECK_ERROR_HERE(cross_entropy(x, Tensor({2, 3}, {0, 1, 0, 0, 0, 2})), "probability 5 is 2", "[0, 1]");
  CHECK_ERROR_HERE(cross_entropy(x, y, {.ignore_index = 0}), "ignore_index is 0");
  CHECK_ERROR_HERE(cross_entropy(none, Tensor({0, 3})), "nothing to average");
  CHECK_ERROR_HERE(cross_entropy(x, wide), "float32", "float64");
  CHECK_ERROR_HERE(mse(x, z), "mse", "[2, 3]", "[3, 2]");
  CHECK_ERROR_HERE(mse(x, wide), "mse: float32 meets float64");
  CHECK_ERROR_HERE(mse(x, elsewhere), "mse", "two tapes");
  CHECK_ERROR_HERE(mse(Var(), y), "mse: an empty Var");
  CHECK_ERROR_HERE(mse(x, Var()), "mse: an empty Var");
  CHECK_ERROR_HERE(l1(none, Tensor({0, 3})), "l1: shape [0, 3] has nothing to average");
  CHECK_ERROR_HERE(huber(x, y, {.delta = 0}), "huber: delta is 0");
  CHECK_ERROR_HERE(hinge(x, y), "hinge: target 0 is 0; it must be -1 or 1");
  CHECK_ERROR_HERE(hinge(x, Tensor::full({2, 3}, 1), {.margin = infinity}), "margin is inf");
  CHECK_ERROR_HERE(pinball(x, y, 1), "pinball", "is 1", "(0, 1)");
  CHECK_ERROR_HERE(pinball(x, Tensor(Shape{2}), {0.1, not_a_number, 0.9}), "is nan");
  CHECK_ERROR_HERE(pinball(x, Tensor(Shape{2}), {0.1, 0.9}), "[2, 3]", "[2]", "2 levels");
  CHECK_ERROR_HERE(pinball(x, y, {0.1, 0.5, 0.9}), "[2, 3]", "3 levels");
  CHECK_ERROR_HERE(binary_cross_entropy_with_logits(row, Tensor({3}, {0, 1, -1})), "target 2 is -1", "[0, 1]");
  CHECK_ERROR_HERE(binary_cross_entropy_with_logits(x, y, {.positive_weight = Tensor({2})}), "[2]", "[2, 3]");
  CHECK_ERROR_HERE(binary_cross_entropy_with_logits(row, Tensor({3}), {.positive_weight = Tensor({2, 3})}),
                   "broadcast");
  CHECK_ERROR_HERE(binary_cross_entropy_with_logits(x, y, {.positive_weight = Tensor({3}, {1, 1, -1})}), "weight 2 is");
  CHECK_ERROR_HERE(kl_divergence(x, Tensor::full({2, 3}, -1)), "probability 0 is -1");
  CHECK_ERROR_HERE(kl_divergence(scalar, Tensor::scalar(1)), "the last axis must be the classes");
  CHECK_ERROR_HERE(gaussian_nll(x, y, Tensor({3}, {1, -1, 1})), "variance 1 is -1");
  CHECK_ERROR_HERE(gaussian_nll(x, y, Tensor({2})), "[2]", "[2, 3]");
  CHECK_ERROR_HERE(gaussian_nll(row, Tensor({3}), y), "[2, 3]", "broadcast");
  CHECK_ERROR_HERE(gaussian_nll(x, y, y, {.epsilon = 0}), "epsilon is 0");
  CHECK(tape.size() == size);
  // A view's elements are counted as it shows them.
  const Var t = transpose(tape.constant(Tensor({3, 2}, {0, 0, 0, 0, 0, 3})));
  CHECK_ERROR_HERE(binary_cross_entropy_with_logits(x, t), "target 5 is 3");
}

TEST_CASE("of nothing, the sum is 0 and the terms are none") {
  Tape tape;
  const Var x = tape.variable(Tensor({0, 3}));
  const Tensor y({0, 3});
  CHECK(cross_entropy(x, Ids{}, {.reduction = Reduction::sum}).item() == 0);
  CHECK(cross_entropy(x, Ids{}, {.reduction = Reduction::none}).shape() == Shape{0});
  CHECK(cross_entropy(x, y, {.reduction = Reduction::sum}).item() == 0);
  CHECK(kl_divergence(x, y, Reduction::none).shape() == Shape{0});
  const Var loss = mse(x, y, Reduction::sum);
  CHECK(loss.item() == 0);
  tape.backward(loss);
  tape.backward(cross_entropy(x, Ids{}, {.reduction = Reduction::sum}));
  CHECK(x.grad().shape() == Shape{0, 3});
}

TEST_CASE("log_softmax and cross_entropy agree with their definitions") {
  Tensor logits = random_tensor({4, 5}, 1, -3, 3);
  std::vector<std::int32_t> targets{3, 0, 4, 1};
  Tape tape;
  auto y = log_softmax(tape.constant(logits)).value();
  double loss = 0;
  for (Index i = 0; i < 4; ++i) {
    double sum = 0;
    for (Index j = 0; j < 5; ++j) sum += std::exp(logits.at({i, j}));
    for (Index j = 0; j < 5; ++j) CHECK(y.at({i, j}) == doctest::Approx(logits.at({i, j}) - std::log(sum)));
    loss -= y.at({i, targets[static_cast<std::size_t>(i)]}) / 4;
  }
  CHECK(cross_entropy(tape.constant(logits), targets).item() == doctest::Approx(loss));
  CHECK(cross_entropy(tape.constant(logits.to(float32)), targets).item() == doctest::Approx(loss).epsilon(1e-6));
  // Targets may have the leading shape of logits of any rank.
  CHECK(cross_entropy(tape.constant(logits.reshaped({2, 2, 5})), Indices(targets, {2, 2})).item() ==
        doctest::Approx(loss));
}

TEST_CASE("log_softmax and cross_entropy: derivatives") {
  Tensor logits = random_tensor({4, 5}, 1, -3, 3);
  std::vector<std::int32_t> targets{3, 0, 4, 1};
  CHECK(gradient_error([](Tape&, const std::vector<Var>& x) { return log_softmax(x[0]); }, {logits}) < 1e-8);
  CHECK(gradient_error([&](Tape&, const std::vector<Var>& x) { return cross_entropy(x[0], targets); }, {logits}) <
        1e-8);
  CHECK(gradient_error(
            [&](Tape&, const std::vector<Var>& x) { return Var(cross_entropy(x[0], targets) + sum(Var(x[0] * x[0]))); },
            {logits}) < 1e-8);
  CHECK(gradient_error([&](Tape&, const std::vector<Var>& x) { return cross_entropy(transpose(x[0]), targets); },
                       {random_tensor({5, 4}, 2)}) < 1e-8);
  CHECK(gradient_error([](Tape&, const std::vector<Var>& x) { return mse(x[0], x[1]); },
                       {logits, random_tensor({4, 5}, 3)}) < 1e-8);
}

TEST_CASE("huge logits and masked classes stay finite") {
  Tape tape;
  Var x = tape.variable(Tensor({2, 3}, {1e4, 0, -1e4, -infinity, 2, 2}, float64));
  auto y = log_softmax(x).value();
  CHECK(y.at({0, 0}) == 0);
  CHECK(y.at({0, 2}) == -2e4);
  CHECK(y.at({1, 0}) == -infinity);
  CHECK(y.at({1, 1}) == doctest::Approx(-std::log(2)));
  Var loss = cross_entropy(x, std::vector<std::int32_t>{1, 2});
  CHECK(loss.item() == doctest::Approx((1e4 + std::log(2)) / 2));
  tape.backward(loss);
  for (double g : x.grad().to_vector()) CHECK(std::isfinite(g));
  CHECK(x.grad().at({1, 0}) == 0);
  Var nothing = tape.constant(Tensor({1, 2}, {-infinity, -infinity}, float64));
  CHECK(std::isnan(log_softmax(nothing).value().at({0, 0})));
}

TEST_CASE("the mean over two million rows loses no digits to float32") {
  Tape tape;
  std::vector<std::int32_t> targets(2'000'000, 0);
  Var loss = cross_entropy(tape.constant(Tensor({2'000'000, 2})), targets);
  CHECK(std::abs(loss.item() - std::log(2)) < 1e-7);
}

TEST_CASE("wrong targets are refused with their place") {
  Tape tape;
  Var x = tape.constant(Tensor({2, 3}));
  CHECK_ERROR_HERE(cross_entropy(x, std::vector<std::int32_t>{0, 3}), "target 1 is 3", "classes 0 to 2");
  CHECK_ERROR_HERE(cross_entropy(x, std::vector<std::int32_t>{0, -1}), "target 1 is -1");
  CHECK_ERROR_HERE(cross_entropy(x, std::vector<std::int32_t>{0}), "[2, 3]", "[1]");
  CHECK_ERROR_HERE(cross_entropy(tape.constant(Tensor({0, 3})), std::vector<std::int32_t>{}), "no rows");
  CHECK_ERROR_HERE(mse(x, tape.constant(Tensor({3, 2}))), "mse", "[2, 3]", "[3, 2]");
}

TEST_CASE("embedding looks rows up, and its gradient adds up over repeated ids") {
  Parameter table("table", Tensor({3, 2}, {1, 2, 3, 4, 5, 6}));
  Tape tape;
  Var y = embedding(tape, table, Indices(std::vector<std::int32_t>{2, 0, 2, 2}, {2, 2}));
  CHECK(y.shape() == Shape{2, 2, 2});
  CHECK(y.value().to_vector() == std::vector<double>{5, 6, 1, 2, 5, 6, 5, 6});
  tape.backward(sum(Var(y * y)));
  CHECK(table.grad().to_vector() == std::vector<double>{2, 4, 0, 0, 30, 36});
  CHECK_ERROR_HERE(embedding(tape, table, std::vector<std::int32_t>{0, 3}), "index 1 is 3", "[0, 3)");
}
