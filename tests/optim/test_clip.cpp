// Clipping of gradients: by norm, by value, and by unit.

#include <autograd/autograd.h>
#include <autograd/parallel.h>
#include <optim/clip.h>
#include <tests/support.h>

#include <doctest/doctest.h>
#include <oneapi/tbb/task_arena.h>

#include <cmath>
#include <deque>

using namespace unroll;
using namespace unroll::testing;

namespace {

/// Parameters that have the given gradients.
struct Gradients {
  std::deque<Parameter> parameters;
  void add(const std::string& name, const Tensor& gradient) {
    Parameter& parameter = parameters.emplace_back(name, Tensor(gradient.shape(), gradient.dtype()));
    bool fresh;
    parameter.claim_grad(fresh).assign(gradient);
  }
  std::vector<Parameter*> all() {
    std::vector<Parameter*> pointers;
    for (Parameter& parameter : parameters) pointers.push_back(&parameter);
    return pointers;
  }
};

/// (sum |x|^p)^(1/p) in long double.
double plain_norm(const std::vector<const Tensor*>& tensors, double p) {
  long double sum = 0, largest = 0;
  for (const Tensor* tensor : tensors)
    for (double x : tensor->to_vector()) {
      sum += std::pow(std::abs(static_cast<long double>(x)), static_cast<long double>(p));
      largest = std::max(largest, std::abs(static_cast<long double>(x)));
    }
  return static_cast<double>(std::isinf(p) ? largest : std::pow(sum, 1 / static_cast<long double>(p)));
}

const double infinite = std::numeric_limits<double>::infinity();
const double not_a_number = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("clipping by norm and by value is PyTorch's") {
  const auto golden = read_safetensors(UNROLL_SOURCE_DIR "/tests/golden/optimizers.safetensors").tensors;
  for (const std::string kind : {"clip_norm.large", "clip_norm.small", "clip_value"}) {
    CAPTURE(kind);
    Gradients g;
    for (const char* name : {"a", "b"}) g.add(name, golden.at(kind + "." + name + ".before"));
    if (kind == "clip_value")
      clip_grad_value(g.all(), 0.5);
    else
      CHECK(clip_grad_norm(g.all(), 0.5) == doctest::Approx(golden.at(kind + ".norm").item()).epsilon(1e-14));
    for (const Parameter& parameter : g.parameters) {
      const Tensor& expected = golden.at(kind + "." + parameter.name() + ".after");
      CHECK(relative_error(parameter.grad(), expected) < 1e-11);
      if (kind != "clip_norm.large") CHECK(same_bits(parameter.grad(), expected));
    }
  }
}

TEST_CASE("any p is PyTorch's") {
  // From PyTorch 1.13, with max_norm = 0.5: the norm, and the last element of a and the first of b after clipping.
  //
  //     a.grad = torch.tensor([math.sin(i + 1) for i in range(6)]).reshape(2, 3)
  //     b.grad = torch.tensor([3 * math.cos(i) for i in range(5)])
  //     torch.nn.utils.clip_grad_norm_([a, b], 0.5, norm_type=p)
  struct Row {
    double p, norm, a, b;
  };
  const std::vector<Row> rows = {
      {1, 14.687286467501456, -0.009512154603673013, 0.10212913741349777},
      {1.5, 7.357282963090628, -0.01898903859091703, 0.2038795848474882},
      {2, 5.383040773289385, -0.025953309482510758, 0.27865286267013367},
      {3, 4.114006074120661, -0.03395904445043387, 0.36460802642655005},
      {10, 3.202362952756382, -0.04362644320275082, 0.4684039734799349},
      {infinite, 3, -0.04656923417674292, 0.4999998333333889},
  };
  for (const Row& row : rows) {
    CAPTURE(row.p);
    Gradients g;
    Tensor a({2, 3}, float64), b({5}, float64);
    for (int i = 0; i < 6; ++i) a.data<double>()[i] = std::sin(i + 1);
    for (int i = 0; i < 5; ++i) b.data<double>()[i] = 3 * std::cos(i);
    g.add("a", a);
    g.add("b", b);
    CHECK(clip_grad_norm(g.all(), 0.5, {.p = row.p}) == doctest::Approx(row.norm).epsilon(1e-14));
    const double added = (row.norm + 1e-6) / row.norm;  // PyTorch divides by the norm and 1e-6
    CHECK(g.parameters[0].grad().at({1, 2}) == doctest::Approx(row.a * added).epsilon(1e-13));
    CHECK(g.parameters[1].grad().at({0}) == doctest::Approx(row.b * added).epsilon(1e-13));
  }
}

TEST_CASE("any p is that of a plain loop, and the norm after is max_norm") {
  for (DType type : {float32, float64})
    for (double p : {1., 1.5, 2., 3., 10., infinite})
      for (double size : {1., 1e-30, 1e30}) {
        CAPTURE(p);
        CAPTURE(size);
        const Tensor a = random_tensor({37, 70}, 1, -size, size, type), b = random_tensor({5001}, 2, -size, size, type);
        Gradients g;
        g.add("a", a);
        g.add("b", b);
        const double expected = plain_norm({&a, &b}, p), max_norm = expected / 8;
        CHECK(clip_grad_norm(g.all(), max_norm, {.p = p}) / expected == doctest::Approx(1).epsilon(1e-13));
        CHECK(g.parameters[0].grad().at({36, 69}) / a.at({36, 69}) == doctest::Approx(0.125).epsilon(1e-6));
        const double after = plain_norm({&g.parameters[0].grad(), &g.parameters[1].grad()}, p);
        CHECK(after / max_norm == doctest::Approx(1).epsilon(type == float32 ? 1e-6 : 1e-13));
      }
}

TEST_CASE("powers that leave the range of double do no harm") {
  for (double size : {1e308, 1e200, 1e-200, 4e-323})
    for (double p : {1., 2., 3., 100., 1e4, infinite}) {
      CAPTURE(size);
      CAPTURE(p);
      Gradients g;
      g.add("a", Tensor::full({8}, size, float64));
      g.add("b", Tensor({2}, {-size, 0}, float64));
      const double norm = clip_grad_norm(g.all(), size / 4, {.p = p}), relative = std::pow(9, 1 / p);
      CHECK((std::isinf(norm) ? relative * size == infinite
                              : norm / size == doctest::Approx(relative).epsilon(size < 1e-300 ? 0.05 : 1e-13)));
      CHECK(g.parameters[1].grad().at({0}) / size ==
            doctest::Approx(-0.25 / relative).epsilon(size < 1e-300 ? 0.2 : 1e-13));
      CHECK(g.parameters[1].grad().at({1}) == 0);
    }
}

TEST_CASE("the largest float32 gradients, and denormal ones") {
  for (double size : {3e38, 1e-41}) {
    CAPTURE(size);
    const Tensor a = random_tensor({9000}, 1, -size, size, float32);
    Gradients g;
    g.add("a", a);
    const double norm = plain_norm({&a}, 2);
    CHECK(clip_grad_norm(g.all(), norm / 2) / norm == doctest::Approx(1).epsilon(1e-13));
    CHECK(plain_norm({&g.parameters[0].grad()}, 2) / norm == doctest::Approx(0.5).epsilon(size < 1 ? 1e-3 : 1e-6));
    g.parameters[0].grad() = a;
    clip_grad_norm(g.all(), 1e-4);
    if (size > 1) CHECK(plain_norm({&g.parameters[0].grad()}, 2) * 1e4 == doctest::Approx(1).epsilon(1e-6));
  }
}

TEST_CASE("gradients of nothing but zeros, and of nothing") {
  Gradients g;
  g.add("zeros", Tensor({3}, {0, -0., 0}));
  g.add("empty", Tensor(Shape{0, 4}));
  for (double p : {1., 2., infinite}) CHECK(clip_grad_norm(g.all(), 1, {.p = p}) == 0);
  CHECK(clip_grad_value(g.all(), 1) == 0);
  clip_grad_adaptive(g.all());
  CHECK(same_bits(g.parameters[0].grad(), Tensor({3}, {0, -0., 0})));
}

TEST_CASE("clip_grad_norm returns the norm before, over all parameters, and makes it max_norm") {
  for (DType type : {float32, float64}) {
    Gradients g;
    g.add("a", Tensor({2}, {3, 0}, type));
    g.add("b", Tensor({1, 2}, {0, -4}, type));
    CHECK(clip_grad_norm(g.all(), 2) == 5);
    CHECK(g.parameters[0].grad().at({0}) == doctest::Approx(1.2).epsilon(1e-7));
    CHECK(g.parameters[1].grad().at({0, 1}) == doctest::Approx(-1.6).epsilon(1e-7));
    CHECK(clip_grad_norm(g.all(), 2) == doctest::Approx(2).epsilon(1e-7));
  }
}

TEST_CASE("gradients within the limit keep their bits") {
  const Tensor a = random_tensor({7, 3}, 1), b = random_tensor({5}, 2, -1, 1, float32);
  Gradients g;
  g.add("a", a);
  g.add("b", b);
  double norm = 0;
  for (const Tensor* tensor : {&a, &b})
    for (double v : tensor->to_vector()) norm += v * v;
  norm = std::sqrt(norm);
  CHECK(clip_grad_norm(g.all(), 100) == doctest::Approx(norm).epsilon(1e-14));
  CHECK(clip_grad_norm(g.all(), infinite) == doctest::Approx(norm).epsilon(1e-14));
  clip_grad_value(g.all(), 1);
  CHECK(same_bits(g.parameters[0].grad(), a));
  CHECK(same_bits(g.parameters[1].grad(), b));
}

TEST_CASE("a gradient of the norm exactly keeps its bits") {
  Gradients g;
  g.add("a", Tensor({2}, {3, 4}, float64));
  CHECK(clip_grad_norm(g.all(), 5) == 5);
  CHECK(g.parameters[0].grad().to_vector() == std::vector<double>{3, 4});
}

TEST_CASE("an infinite or NaN gradient is reported by name and nothing is changed") {
  for (DType type : {float32, float64})
    for (double bad : {infinite, -infinite, not_a_number}) {
      CAPTURE(bad);
      Gradients g;
      Tensor broken = random_tensor({40}, 2, -1, 1, type);
      broken.set({17}, bad);
      g.add("good", random_tensor({3}, 1, 5, 9, type));
      g.add("lstm.weight_hh_l0", broken);
      g.add("last", random_tensor({3}, 3, 5, 9, type));
      std::vector<Tensor> before;
      for (const Parameter& parameter : g.parameters) before.push_back(parameter.grad());
      CHECK_ERROR(clip_grad_norm(g.all(), 1), "clip_grad_norm", "\"lstm.weight_hh_l0\"", "[40]", "not finite");
      CHECK_ERROR(clip_grad_value(g.all(), 1), "clip_grad_value", "\"lstm.weight_hh_l0\"", "[40]", "not finite");
      CHECK_ERROR(clip_grad_adaptive(g.all()), "clip_grad_adaptive", "\"lstm.weight_hh_l0\"", "[40]", "not finite");
      for (double p : {1., 3., infinite})
        CHECK_ERROR(clip_grad_norm(g.all(), 1, {.p = p}), "clip_grad_norm", "\"lstm.weight_hh_l0\"");
      for (const Parameter& parameter : g.parameters) CHECK(parameter.has_grad());
      for (std::size_t i = 0; i < before.size(); ++i) CHECK(same_bits(g.parameters[i].grad(), before[i]));
    }
}

TEST_CASE("a NaN is found wherever it is") {
  for (DType type : {float32, float64})
    for (Index n : {1, 2, 7, 16, 33, 100})
      for (Index i = 0; i < n; ++i) {
        Gradients g;
        Tensor broken = random_tensor({n}, 1, -1, 1, type);
        broken.set({i}, not_a_number);
        g.add("broken", broken);
        CHECK(std::isnan(clip_grad_norm(g.all(), 1, {.p = infinite, .non_finite = NonFinite::skip})));
      }
}

TEST_CASE("an infinite or NaN gradient can have the step skipped") {
  for (double bad : {infinite, -infinite, not_a_number})
    for (double p : {1., 2., infinite, 0.}) {  // 0: by value
      CAPTURE(bad);
      CAPTURE(p);
      Gradients g;
      g.add("good", random_tensor({3}, 1, 5, 9));
      g.add("bad", Tensor({2}, {1, bad}));
      g.add("frozen", random_tensor({3}, 2));
      g.parameters[2].set_trainable(false);
      const Tensor before = g.parameters[0].grad();
      const double norm = p == 0 ? clip_grad_value(g.all(), 1, NonFinite::skip)
                                 : clip_grad_norm(g.all(), 1, {.p = p, .non_finite = NonFinite::skip});
      CHECK(std::isnan(norm) == std::isnan(bad));
      CHECK_FALSE(std::isfinite(norm));
      CHECK(same_bits(g.parameters[0].grad(), before));
      CHECK_FALSE(g.parameters[0].has_grad());
      CHECK_FALSE(g.parameters[1].has_grad());
      CHECK(g.parameters[2].has_grad());
      CHECK(clip_grad_norm(g.all(), 1) == 0);  // nothing is left to clip
    }
}

TEST_CASE("finite gradients are clipped as ever where a step may be skipped") {
  Gradients g;
  g.add("a", Tensor({2}, {3, -4}, float64));
  CHECK(clip_grad_norm(g.all(), 2.5, {.non_finite = NonFinite::skip}) == 5);
  CHECK(g.parameters[0].grad().to_vector() == std::vector<double>{1.5, -2});
  CHECK(clip_grad_value(g.all(), 1, NonFinite::skip) == 2);
  CHECK(g.parameters[0].grad().to_vector() == std::vector<double>{1, -1});
  CHECK(g.parameters[0].has_grad());
}

TEST_CASE("float32 gradients of 1e30 do not overflow") {
  Gradients g;
  g.add("a", Tensor::full({100}, 1e30));
  g.add("b", Tensor::full({44}, -1e30));
  CHECK(clip_grad_norm(g.all(), 1) == doctest::Approx(1.2e31).epsilon(1e-6));
  for (const Parameter& parameter : g.parameters)
    CHECK(relative_error(parameter.grad(),
                         Tensor::full(parameter.shape(), parameter.name() == "a" ? 1. / 12 : -1. / 12)) < 1e-6);
}

TEST_CASE("finite float64 gradients of 1e200 do not count as infinite") {
  Gradients g;
  g.add("a", Tensor::full({4}, 1e200, float64));
  CHECK(error_of([&] { CHECK(clip_grad_norm(g.all(), 1) == doctest::Approx(2e200)); }) == "");
  for (double v : g.parameters[0].grad().to_vector()) CHECK(v == doctest::Approx(0.5));
}

TEST_CASE("clip_grad_value limits each element") {
  for (DType type : {float32, float64}) {
    Gradients g;
    g.add("a", Tensor({6}, {-3, -0.5, -0.25, 0, 0.5, 1e30}, type));
    clip_grad_value(g.all(), 0.5);
    CHECK(g.parameters[0].grad().to_vector() == std::vector<double>{-0.5, -0.5, -0.25, 0, 0.5, 0.5});
  }
}

TEST_CASE("frozen parameters and those without a gradient are left out") {
  Gradients g;
  g.add("a", Tensor({2}, {3, 4}, float64));
  g.add("used up", Tensor({2}, {30, 40}, float64));
  g.add("frozen", Tensor({2}, {not_a_number, 40}, float64));
  g.parameters[1].use_up_grad();
  g.parameters[2].set_trainable(false);
  CHECK(clip_grad_norm(g.all(), 1) == 5);
  CHECK(g.parameters[1].grad().to_vector() == std::vector<double>{30, 40});
  CHECK(g.parameters[2].grad().at({1}) == 40);
  CHECK(clip_grad_norm({}, 1) == 0);
  CHECK(clip_grad_value(g.all(), 1) == doctest::Approx(0.8));
  g.parameters[0].use_up_grad();
  clip_grad_adaptive(g.all());
  CHECK(g.parameters[1].grad().to_vector() == std::vector<double>{30, 40});
}

TEST_CASE("a parameter listed twice counts once") {
  Gradients g;
  g.add("a", Tensor({2}, {3, 4}, float64));
  Parameter* a = &g.parameters[0];
  CHECK(clip_grad_norm({a, a}, 1) == doctest::Approx(5));
  CHECK(a->grad().at({0}) == doctest::Approx(0.6));
  // And among more than the stack holds.
  Gradients many;
  for (int i = 0; i < 5000; ++i) many.add(fmt::format("p{}", i), Tensor({1}, {1}, float64));
  std::vector<Parameter*> all = many.all();
  const std::vector<Parameter*> once = all;
  all.insert(all.end(), once.rbegin(), once.rend());
  CHECK(clip_grad_norm(all, 1, {.p = 1}) == 5000);
  for (const Parameter* parameter : once) CHECK(parameter->grad().item() == doctest::Approx(1. / 5000));
}

TEST_CASE("a limit that is not above 0 is refused") {
  Gradients g;
  g.add("a", Tensor({2}, {3, 4}, float64));
  for (double bad : {0.0, -1.0, not_a_number}) {
    CHECK_ERROR(clip_grad_norm(g.all(), bad), "clip_grad_norm", "above 0");
    CHECK_ERROR(clip_grad_value(g.all(), bad), "clip_grad_value", "above 0");
    CHECK_ERROR(clip_grad_adaptive(g.all(), bad), "clip_grad_adaptive", "clipping", "above 0");
    CHECK_ERROR(clip_grad_adaptive(g.all(), 0.01, bad), "clip_grad_adaptive", "epsilon", "above 0");
  }
  for (double bad : {0.5, -infinite, not_a_number})
    CHECK_ERROR(clip_grad_norm(g.all(), 1, {.p = bad}), "clip_grad_norm", "p is", "at least 1");
  CHECK(g.parameters[0].grad().to_vector() == std::vector<double>{3, 4});
}

TEST_CASE("clipping a large gradient: in parallel, in the order of its elements") {
  const Index n = 3 * 65536 + 7;
  const Tensor before = random_tensor({n}, 1);
  Gradients g;
  g.add("a", before);
  const double norm = clip_grad_norm(g.all(), 1);
  const std::vector<double> x = before.to_vector(), y = g.parameters[0].grad().to_vector();
  double worst = 0, total = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, std::abs(y[i] - x[i] / norm));
    total += x[i] * x[i];
  }
  CHECK(norm == doctest::Approx(std::sqrt(total)).epsilon(1e-12));
  CHECK(worst < 1e-17);
}

TEST_CASE("the same bits on any number of threads") {
  for (DType type : {float32, float64})
    for (double p : {1., 2., 3., infinite, 0.}) {  // 0: by unit
      CAPTURE(p);
      std::vector<Tensor> results;
      for (int threads : {1, 2, 4}) {
        Gradients g;
        g.add("large", random_tensor({64 * detail::parallel_grain + 17}, 1, -1, 1, type));
        g.add("matrix", random_tensor({33, 517}, 2, -1, 1, type));
        double norm = 0;
        tbb::task_arena arena(threads);
        arena.execute(
            [&] { p == 0 ? clip_grad_adaptive(g.all(), 0.7) : void(norm = clip_grad_norm(g.all(), 1, {.p = p})); });
        std::vector<double> all{norm};
        for (const Parameter& parameter : g.parameters)
          for (double x : parameter.grad().to_vector()) all.push_back(x);
        results.emplace_back(Shape{static_cast<Index>(all.size())}, all, float64);
      }
      CHECK(same_bits(results[1], results[0]));
      CHECK(same_bits(results[2], results[0]));
    }
}

TEST_CASE("clip_grad_adaptive, by hand") {
  // Three units, with weights of norm 5, 0.6 and 0, and the epsilon of 1: the limits are 1, 0.2 and 0.2.
  Parameter W("W", Tensor({2, 3}, {3, 0.6, 0, 4, 0, 0}, float64)), b("b", Tensor({3}, {2, 3, 6}, float64));
  bool fresh;
  W.claim_grad(fresh).assign(Tensor({2, 3}, {0.6, 0, 3, 0.8, -0.4, 4}, float64));
  b.claim_grad(fresh).assign(Tensor({3}, {-6, 3, -2}, float64));
  clip_grad_adaptive({&W, &b, &W}, 0.2, 1);
  const std::vector<double> expected = {0.6, 0, 0.12, 0.8, -0.2, 0.16};
  for (std::size_t i = 0; i < 6; ++i) CHECK(W.grad().to_vector()[i] == doctest::Approx(expected[i]).epsilon(1e-15));
  for (Index i = 0; i < 3; ++i)  // 7 is the norm of the weights and of the gradient, as one unit
    CHECK(b.grad().at({i}) == doctest::Approx(0.2 * std::vector<double>{-6, 3, -2}[static_cast<std::size_t>(i)]));
}

TEST_CASE("clip_grad_adaptive is that of a plain loop") {
  const double clipping = 0.3;
  for (DType type : {float32, float64})
    for (const Shape& shape : {Shape{40, 130}, Shape{5, 7, 64}, Shape{2, 3, 2, 65}, Shape{3, 1}, Shape{1, 90},
                               Shape{1, 1, 9}, Shape{300}, Shape{}}) {
      CAPTURE(to_string(shape));
      CAPTURE(type);
      Tensor weights = random_tensor(shape, 1, -1, 1, type), before = random_tensor(shape, 2, -1, 1, type);
      const Index units = shape.rows() == 1 ? 1 : shape.columns();
      for (Index i = 0; i < shape.count(); ++i)  // gradients from small to large over the units
        with_type(type, [&]<class T>(T) {
          const double size = units == 1 ? 100 : 0.6 * static_cast<double>(i % units + 1) / static_cast<double>(units);
          before.data<T>()[i] *= static_cast<T>(size);
        });
      Parameter parameter("p", weights);
      bool fresh;
      parameter.claim_grad(fresh).assign(before);
      clip_grad_adaptive({&parameter}, clipping);

      const std::vector<double> w = weights.to_vector(), g = before.to_vector(), now = parameter.grad().to_vector();
      Index clipped = 0;
      for (Index unit = 0; unit < units; ++unit) {
        double ww = 0, gg = 0;
        for (auto i = static_cast<std::size_t>(unit); i < w.size(); i += static_cast<std::size_t>(units)) {
          ww += w[i] * w[i];
          gg += g[i] * g[i];
        }
        const double limit = clipping * std::max(std::sqrt(ww), 1e-3);
        const double factor = std::sqrt(gg) > limit ? limit / std::sqrt(gg) : 1;
        clipped += factor < 1;
        for (auto i = static_cast<std::size_t>(unit); i < w.size(); i += static_cast<std::size_t>(units))
          CHECK((factor < 1 ? now[i] == doctest::Approx(factor * g[i]).epsilon(type == float32 ? 1e-7 : 1e-14)
                            : now[i] == g[i]));
      }
      CHECK(clipped > 0);
      if (units > 1) CHECK(clipped < units);
    }
}

TEST_CASE("clip_grad_adaptive where squares overflow") {
  for (double size : {1e200, 1e-200}) {
    Parameter W("W", Tensor::full({4, 2}, size, float64));
    bool fresh;
    W.claim_grad(fresh).assign(Tensor::full({4, 2}, 1e250, float64));
    clip_grad_adaptive({&W}, 0.5);
    for (double g : W.grad().to_vector()) CHECK(g / size == doctest::Approx(size > 1 ? 0.5 : 0.5 * 1e-3 / 2e-200));
  }
}
