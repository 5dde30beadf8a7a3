#include <autograd/autograd.h>
#include <layers/linear.h>
#include <optim/early_stopping.h>
#include <tests/support.h>

#include <doctest/doctest.h>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Mode = EarlyStopping::Mode;

/// Which observation stops, counted from 1; 0 when none does.
int stops_at(EarlyStopping stopping, const std::vector<double>& metrics) {
  for (std::size_t i = 0; i < metrics.size(); ++i)
    if (stopping.observe(metrics[i])) return static_cast<int>(i) + 1;
  return 0;
}

}  // namespace

TEST_CASE("training stops after `patience` observations without a better one") {
  const std::vector<double> metrics = {3, 2, 2.5, 1.9, 1.9, 1.95, 2, 1.8};
  CHECK(stops_at(EarlyStopping({.patience = 1}), metrics) == 3);
  CHECK(stops_at(EarlyStopping({.patience = 2}), metrics) == 6);
  CHECK(stops_at(EarlyStopping({.patience = 3}), metrics) == 7);
  CHECK(stops_at(EarlyStopping({.patience = 4}), metrics) == 0);
  // 1.9 is not better than 2 by more than 0.125, nor 1.8.
  CHECK(stops_at(EarlyStopping({.patience = 5, .min_delta = 0.125}), metrics) == 7);
  CHECK(stops_at(EarlyStopping({.patience = 2, .mode = Mode::max}), {1, 2, 1, 3, 2, 3, 4}) == 6);
  CHECK(stops_at(EarlyStopping({.patience = 2}), {std::nan(""), std::nan("")}) == 2);
  CHECK(stops_at(EarlyStopping({.patience = 2}), {std::nan(""), 1, std::nan(""), 0.5}) == 0);
}

TEST_CASE("the best weights come back") {
  Generator rng(1);
  Linear model(2, 3, rng);
  EarlyStopping stopping(model, {.patience = 2});
  CHECK_ERROR(stopping.restore(), "no best weights yet");
  CHECK_FALSE(stopping.observe(1));
  model.W.value().fill(7);
  CHECK_FALSE(stopping.observe(0.5));
  CHECK(stopping.since_best() == 0);
  model.W.value().fill(8);
  CHECK_FALSE(stopping.observe(0.75));
  CHECK(stopping.since_best() == 1);
  CHECK(stopping.best() == 0.5);
  stopping.restore();
  CHECK(same_bits(model.W.value(), Tensor::full({2, 3}, 7)));
  CHECK_ERROR(EarlyStopping({}).restore(), "give its constructor the model");
}

TEST_CASE("saved and put back at any point, it goes on the same") {
  const std::vector<double> metrics = {3, 2, 2.5, 1.9, 1.9, 1.95, 2, 1.8};
  Generator rng(1);
  Linear model(2, 3, rng);
  for (std::size_t at = 0; at < metrics.size(); ++at) {
    EarlyStopping whole(model, {.patience = 3}), first(model, {.patience = 3}), second(model, {.patience = 3});
    for (std::size_t i = 0; i < metrics.size(); ++i) {
      model.W.value().fill(static_cast<double>(i));
      if (i == at) second.load_state_dict(first.state_dict());
      CHECK(whole.observe(metrics[i]) == (i < at ? first : second).observe(metrics[i]));
    }
    CHECK(second.best() == 1.8);
    second.restore();
    CHECK(same_bits(model.W.value(), Tensor::full({2, 3}, 7)));
  }
}

TEST_CASE("early stopping: options and states that make no sense are refused") {
  CHECK_ERROR(EarlyStopping({.patience = 0}), "patience is 0");
  CHECK_ERROR(EarlyStopping({.min_delta = -1}), "min_delta is -1");
  CHECK_ERROR(EarlyStopping({.min_delta = std::nan("")}), "min_delta is nan");
  EarlyStopping stopping({});
  stopping.observe(4);
  const std::map<std::string, Tensor> good = stopping.state_dict();
  auto refuses = [&](const std::string& name, const Tensor& tensor, auto... says) {
    auto bad = good;
    bad[name] = tensor;
    CHECK_ERROR(stopping.load_state_dict(bad), "EarlyStopping", says...);
  };
  CHECK_ERROR(stopping.load_state_dict({}), "no number \"best\"");
  refuses("since_best", Tensor({2}), "no number \"since_best\"");
  refuses("since_best", Tensor::scalar(-1), "is -1");
  refuses("best", Tensor::scalar(std::nan("")), "is nan");
  refuses("x\n", Tensor({2}), "has \"x\\x0a\"");
  refuses("weights.W", Tensor({2}), "has \"weights.W\"");
  CHECK(stopping.best() == 4);
}
