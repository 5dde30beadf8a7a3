// ReduceOnPlateau against PyTorch's ReduceLROnPlateau.

#include <autograd/autograd.h>
#include <optim/plateau.h>
#include <optim/stateful.h>
#include <tests/support.h>

#include <doctest/doctest.h>

using namespace unroll;
using namespace unroll::testing;

static_assert(Stateful<ReduceOnPlateau>);

namespace {

using Mode = ReduceOnPlateau::Mode;
using Threshold = ReduceOnPlateau::Threshold;
using State = std::map<std::string, Tensor>;

const double infinite = std::numeric_limits<double>::infinity();
const double not_a_number = std::numeric_limits<double>::quiet_NaN();

const std::vector<double> metrics = {3,   2.5,  2.4999, 2.6,  2.4, not_a_number, 2.41, 2.42, 2.39995,  2.2,
                                     2.3, 2.3,  2.1999, 2.25, 2.0, 2.05,         1.9,  1.95, infinite, 2,
                                     1.9, 1.89, 1.895,  1.9,  1.7, 1.7,          1.7,  1.7,  1.7,      1.7};

struct Row {
  ReduceOnPlateau::Options options;
  std::vector<std::size_t> lowered;  ///< at which of the metrics PyTorch lowers a learning rate of 1
  double last;                       ///< and where that ends
};

// With Mode::max the metrics are 5 minus these. From PyTorch 1.13, for each row:
//
//     optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1)
//     scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, eps=0, **options)
//     for i, metric in enumerate(metrics):
//         before = optimizer.param_groups[0]["lr"]
//         scheduler.step(metric)
//         if optimizer.param_groups[0]["lr"] != before: print(i, optimizer.param_groups[0]["lr"])
const std::vector<Row> rows = {
    {{}, {}, 1},
    {{.factor = 0.5, .patience = 2}, {7, 12, 19, 27}, 0.0625},
    {{.factor = 0.5, .patience = 1, .cooldown = 2}, {3, 7, 11, 18, 23, 27}, 0.015625},
    {{.factor = 0.3, .patience = 0, .min_factor = 0.05}, {2, 3, 5}, 0.05},
    {{.factor = 0.5, .patience = 1, .threshold = 0.1, .threshold_mode = Threshold::absolute},
     {3, 5, 7, 11, 13, 16, 18, 20, 23, 26, 28},
     0.00048828125},
    {{.factor = 0.5, .patience = 1, .threshold = 0.03}, {3, 6, 8, 11, 13, 18, 20, 22, 26, 28}, 0.0009765625},
    {{.mode = Mode::max, .factor = 0.5, .patience = 2}, {7, 12, 19, 27}, 0.0625},
    {{.mode = Mode::max,
      .factor = 0.5,
      .patience = 1,
      .threshold = 0.5,
      .threshold_mode = Threshold::absolute,
      .cooldown = 3},
     {4, 9, 14, 19, 24, 29},
     0.015625},
    {{.mode = Mode::max, .factor = 0.2, .patience = 3, .threshold = 0}, {20, 28}, 0.04},
    {{.factor = 0.2, .patience = 3, .threshold = 0}, {20, 28}, 0.04},
};

double metric(const Row& row, std::size_t i) { return row.options.mode == Mode::min ? metrics[i] : 5 - metrics[i]; }

/// The factors at the metrics from `begin` on.
std::vector<double> observe(ReduceOnPlateau& plateau, const Row& row, std::size_t begin = 0) {
  std::vector<double> factors;
  for (std::size_t i = begin; i < metrics.size(); ++i) factors.push_back(plateau.observe(metric(row, i)));
  return factors;
}

}  // namespace

TEST_CASE("the factor falls when PyTorch's learning rate does") {
  for (std::size_t number = 0; number < rows.size(); ++number) {
    CAPTURE(number);
    const Row& row = rows[number];
    ReduceOnPlateau plateau(row.options);
    CHECK(plateau.factor() == 1);
    double before = 1;
    std::vector<std::size_t> lowered;
    for (std::size_t i = 0; i < metrics.size(); ++i) {
      const double now = plateau.observe(metric(row, i));
      CHECK(now == plateau.factor());
      if (now != before) lowered.push_back(i);
      before = now;
    }
    CHECK(lowered == row.lowered);
    CHECK(before == doctest::Approx(row.last).epsilon(1e-14));
  }
}

TEST_CASE("saved and restored after any metric, it goes on the same") {
  for (const Row& row : rows) {
    ReduceOnPlateau whole(row.options), saved(row.options);
    const std::vector<double> factors = observe(whole, row);
    for (std::size_t i = 0; i < metrics.size(); ++i) {
      CAPTURE(i);
      ReduceOnPlateau resumed(row.options);
      resumed.load_state_dict(saved.state_dict());
      CHECK(resumed.factor() == saved.factor());
      CHECK(observe(resumed, row, i) ==
            std::vector<double>(factors.begin() + static_cast<std::ptrdiff_t>(i), factors.end()));
      saved.observe(metric(row, i));
    }
  }
}

TEST_CASE("a metric that is NaN counts as bad, from the first on") {
  ReduceOnPlateau plateau({.factor = 0.5, .patience = 1});
  CHECK(plateau.observe(not_a_number) == 1);
  CHECK(plateau.observe(not_a_number) == 0.5);
  CHECK(plateau.observe(7) == 0.5);  // the best so far
  CHECK(plateau.observe(not_a_number) == 0.5);
  CHECK(plateau.observe(7) == 0.25);
}

TEST_CASE("a state that does not fit is refused, and nothing is changed") {
  ReduceOnPlateau plateau({.factor = 0.5, .patience = 1, .cooldown = 2});
  for (double metric : {1., 2., 2., 2.}) plateau.observe(metric);
  const State good = plateau.state_dict();
  CHECK(good.at("factor").item() == 0.5);
  CHECK(good.at("best").item() == 1);
  CHECK(good.at("cooling").item() == 1);
  for (const auto& entry : good) CHECK(entry.second.dtype() == float64);
  auto refused = [&](const std::string& name, const Tensor& tensor) {
    CAPTURE(name);
    State state = {{"factor", Tensor::scalar(0.25, float64)},
                   {"best", Tensor::scalar(9, float64)},
                   {"bad", Tensor::scalar(1, float64)},
                   {"cooling", Tensor::scalar(0, float64)}};
    state[name] = tensor;
    CHECK_ERROR(plateau.load_state_dict(state), "ReduceOnPlateau");
    State missing = good;
    missing.erase(name);
    if (missing.size() == 3) CHECK_ERROR(plateau.load_state_dict(missing), "ReduceOnPlateau", name);
    const State now = plateau.state_dict();
    for (const auto& entry : good) CHECK(same_bits(now.at(entry.first), entry.second));
  };
  for (const char* name : {"factor", "best", "bad", "cooling"}) {
    refused(name, Tensor::scalar(not_a_number, float64));
    refused(name, Tensor({2}, float64));
  }
  for (double bad : {-0.5, 1.5, infinite}) refused("factor", Tensor::scalar(bad, float64));
  for (double bad : {-1., 0.5, infinite})
    for (const char* name : {"bad", "cooling"}) refused(name, Tensor::scalar(bad, float64));
  refused("something else", Tensor::scalar(1, float64));
}

TEST_CASE("options out of range are refused") {
  for (double bad : {0., 1., -0.1, not_a_number}) CHECK_ERROR(ReduceOnPlateau({.factor = bad}), "factor", "(0, 1)");
  for (double bad : {-0.1, 1., infinite, not_a_number}) CHECK_ERROR(ReduceOnPlateau({.threshold = bad}), "threshold");
  CHECK_ERROR(ReduceOnPlateau({.threshold = infinite, .threshold_mode = Threshold::absolute}), "threshold");
  for (double bad : {-0.1, 1.1, not_a_number}) CHECK_ERROR(ReduceOnPlateau({.min_factor = bad}), "min_factor");
  CHECK_ERROR(ReduceOnPlateau({.patience = -1}), "patience");
  CHECK_ERROR(ReduceOnPlateau({.cooldown = -1}), "cooldown");
  CHECK(ReduceOnPlateau().factor() == 1);
}
