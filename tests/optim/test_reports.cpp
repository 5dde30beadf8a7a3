// What a training reports: means, files of metrics, the progress line.

#include <optim/mean.h>
#include <optim/metrics.h>
#include <optim/progress.h>
#include <tests/examples/program.h>
#include <tests/support.h>

#include <doctest/doctest.h>

using namespace unroll;
using namespace unroll::testing;
using unroll::tests::content_of;
using unroll::tests::Folder;

TEST_CASE("a mean of weighted values") {
  Mean mean;
  CHECK(std::isnan(mean.value()));
  mean.add(5, 0);
  CHECK(std::isnan(mean.value()));
  mean.add(1);
  mean.add(4, 2);
  CHECK(mean.value() == 3);
  CHECK(mean.weight() == 3);
  // Many values of a size whose float32 sum would stop growing.
  Mean many;
  for (int i = 0; i < 20'000'000; ++i) many.add(0.5);
  CHECK(many.value() == 0.5);
  for (double weight : {-1.0, std::nan(""), HUGE_VAL}) CHECK_ERROR(mean.add(1, weight), "Mean", "the weight is");
  CHECK(mean.value() == 3);

  Mean other;
  other.load_state_dict(mean.state_dict());
  CHECK(other.value() == 3);
  CHECK_ERROR(other.load_state_dict({{"sum", Tensor::scalar(1)}}), "Mean", "no number \"weight\"");
  CHECK_ERROR(other.load_state_dict({{"sum", Tensor::scalar(1)}, {"weight", Tensor::scalar(-1)}}), "weight is -1");
  auto more = mean.state_dict();
  more["x"] = Tensor::scalar(1);
  CHECK_ERROR(other.load_state_dict(more), "has 3 entries");
  CHECK(other.value() == 3);
  other.reset();
  CHECK(other.weight() == 0);
}

TEST_CASE("metrics: a row for each moment, no cell for what is not known") {
  Folder folder;
  Metrics csv(folder / "m.csv", {"step", "a", "b"});
  Metrics json(folder / "m.jsonl", {"step", "a", "b"});
  for (Metrics* metrics : {&csv, &json}) {
    metrics->add({10, 0.1, std::nan("")});
    metrics->add({1, 2, 3});
    metrics->add({1, 4, HUGE_VAL});
    metrics->write();
    CHECK_ERROR(metrics->add({1, 2}), "a row has 2 numbers; there are 3 columns");
  }
  CHECK(content_of(folder / "m.csv") == "step,a,b\n10,0.1,\n1,4,inf\n");
  CHECK(content_of(folder / "m.jsonl") == "{\"step\":10,\"a\":0.1,\"b\":null}\n{\"step\":1,\"a\":4,\"b\":null}\n");

  Metrics one(folder / "one.csv", {"1"}), one_json(folder / "one.jsonl", {"1"});
  for (Metrics* metrics : {&one, &one_json})
    for (double step : {1, 1, 12, 1}) metrics->add({step});
  CHECK(one.text() == "1\n1\n12\n1\n");
  CHECK(one_json.text() == "{\"1\":1}\n{\"1\":12}\n{\"1\":1}\n");

  // Restored, it goes on.
  Metrics again(folder / "m.csv", {"step", "a", "b"});
  again.text() = csv.text();
  again.add({1, 5, 6});
  CHECK(again.text() == "step,a,b\n10,0.1,\n1,5,6\n");

  CHECK_ERROR(Metrics(folder / "m.csv", {}), "no columns");
  for (const char* name : {"a,b", "a\"b", "a\nb", "a\\b"}) CHECK_ERROR(Metrics(folder / "m", {name}), "without quotes");
  CHECK_ERROR(Metrics(folder / "missing/m.csv", {"a"}).write(), "cannot write", "No such file");
}

TEST_CASE("a time is written as a clock shows it") {
  CHECK(detail::clock_text(5) == "0:05");
  CHECK(detail::clock_text(125.4) == "2:05");
  CHECK(detail::clock_text(3725) == "1:02:05");
}

TEST_CASE("progress is counted from where a run went on") {
  Progress progress(100, 200, 50, "words");
  CHECK(progress.units_per_second(100) == 0);
  CHECK(unroll::tests::wait_until([&] { return progress.seconds() > 0.01; }));
  const double rate = progress.units_per_second(102);
  CHECK(rate > 0);
  CHECK(rate < 2 * 50 / 0.01);
}
