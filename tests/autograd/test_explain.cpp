// What a tape says of itself: the first NaN, costs, drawings, summaries; in the lines of the program.

#include <autograd/autograd.h>
#include <tests/support.h>

#include <cmath>
#include <limits>

using namespace unroll;
using namespace unroll::testing;

namespace {

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

std::string here(int line) { return fmt::format("(test_explain.cpp:{})", line); }

}  // namespace

TEST_CASE("the first operation that makes a NaN is named, with its line, shapes and ranges") {
  Tape tape;
  tape.find_anomaly();
  Var x = tape.variable(Tensor({2, 3}, {1, 2, 3, 4, -1, 5}));
  Var fine = exp(x);
  const int line = __LINE__ + 1;
  std::string message = error_of([&] { Var(log(x) * 2); });
  CHECK(contains(message,
                 "find_anomaly: log(a) * 2 gave 1 NaN of 6 values, the first at [1, 1]; a [2, 3] is in [-1, 5]"));
  CHECK(contains(message, here(line)));
  // Infinities count too; what was not finite before is nobody's fault.
  CHECK_ERROR(Var(1 / (x - x)), "find_anomaly: 1 / (a - a) gave 6 infinite of 6 values");
  Var infinite = tape.constant(Tensor({3}, {0, 1, -std::numeric_limits<double>::infinity()}));
  CHECK_NOTHROW(Var(infinite + 1));
  CHECK_ERROR(Var(infinite - infinite), "gave 1 NaN of 3 values, the first at [2]", "with 1 infinite");
  tape.find_anomaly(false);
  CHECK_NOTHROW(Var(log(x)));
  CHECK(fine.shape() == Shape{2, 3});
}

TEST_CASE("and in the backward") {
  Tape tape;
  tape.find_anomaly();
  Var x = tape.variable(Tensor({3}, {4, 0, 1}));
  const int line = __LINE__ + 1;
  Var root = sqrt(x);
  Var y = sum(root);
  std::string message = error_of([&] { tape.backward(y); });
  CHECK(contains(
      message, "find_anomaly: backward of sqrt(a) gave 1 infinite of 3 values, the first at [1] of the gradient of a"));
  CHECK(contains(message, "dL/dy [3] is in [1, 1]; a [3] is in [0, 4]"));
  CHECK(contains(message, here(line)));
  // A product, whose weight's gradient comes later.
  tape.clear();
  Parameter W("W", Tensor({2, 2}, {1, 2, 3, 4}));
  Var large = tape.constant(Tensor({1, 2}, {3e37, 1}));
  Var z = matmul(large, W);
  CHECK_ERROR(tape.backward(z, Tensor({1, 2}, {1, 1e10})),
              "find_anomaly: backward of matmul gave 1 infinite of 4 values, the first at [0, 1]", "weight W [2, 2]");
}

TEST_CASE("what nothing has been written to yet is nobody's fault") {
  Tape tape;
  auto gradient_of_weight = [&](Index rows, double seed) {
    tape.clear();
    Var W = tape.variable(Tensor({3, 3}));
    Var y = matmul(tape.constant(Tensor({rows, 3})), W);
    tape.backward(Var(sum(y) + sum(select(W, 1, 2))), Tensor::scalar(seed));
    return W.grad().to_vector();
  };
  gradient_of_weight(2, std::numeric_limits<double>::quiet_NaN());  // left in the tape's memory
  tape.find_anomaly();
  CHECK(gradient_of_weight(0, 1) == std::vector<double>{0, 0, 1, 0, 0, 1, 0, 0, 1});
}

TEST_CASE("a profile counts calls, bytes and operations by formula and line") {
  Parameter W("W", Tensor::full({64, 128}, 0.01));
  Tape tape;
  int line = 0;
  tape.start_profile();
  for (int step = 0; step < 3; ++step) {
    tape.clear();
    Var x = tape.constant(Tensor::full({32, 64}, 0.5));
    for (int t = 0; t < 5; ++t) {
      line = __LINE__ + 1;
      Var a = matmul(x, W);
      Var b = sigmoid(a) * tanh(a);
      if (t == 4) tape.backward(sum(b));
    }
  }
  tape.stop_profile();
  Profile profile = tape.profile();
  auto find = [&](std::string_view name) {
    for (const Profile::Row& row : profile.by_operation())
      if (row.operation == name) return row;
    return Profile::Row{};
  };
  Profile::Row product = find("matmul"), statement = find("sigmoid(a) * tanh(a)");
  CHECK(product.calls == 15);
  CHECK(product.flops == 15 * 2.0 * 32 * 64 * 128 + 3 * 2.0 * 32 * 64 * 128);  // the input's gradient is not wanted
  CHECK(statement.calls == 15);
  CHECK(statement.flops == 15 * 3.0 * 32 * 128 + 3 * 6.0 * 32 * 128);
  CHECK(statement.bytes == 15 * 3.0 * 32 * 128 * 4);
  CHECK(statement.where == fmt::format("test_explain.cpp:{}", line + 1));
  CHECK(product.forward_ms > 0);
  CHECK(product.backward_ms > 0);
  CHECK(contains(to_string(profile), "operation"));
  CHECK(contains(fmt::format("{}", profile), fmt::format("test_explain.cpp:{}", line)));
  tape.start_profile();
  CHECK(tape.profile().rows.empty());
}

TEST_CASE("formulas put brackets where they are needed, and name an operand used twice once") {
  Tape tape;
  Var x = tape.variable(Tensor({2}, {1, 2})), y = tape.variable(Tensor({2}, {3, 4}));
  auto formula = [&](const Var& v) { return detail::formula(tape.graph(), tape.graph().check(v, "test", {})); };
  CHECK(formula((x + y) * x) == "(a + b) * a");
  CHECK(formula(x - (y - x)) == "a - (b - a)");
  CHECK(formula(x - y - x) == "a - b - a");
  CHECK(formula(x / (y * x)) == "a / (b * a)");
  CHECK(formula(-square(x) + 0.5 * y) == "-square(a) + 0.5 * b");
  CHECK(formula(sum(x)) == "sum");
}

TEST_CASE("a drawing has a box for each value, or for each line that unrolled steps repeat") {
  Parameter W("cell.W", Tensor({2, 2}));
  int line = 0;
  auto record = [&](Tape& tape) {
    Var h = tape.variable(Tensor({1, 2}));
    line = __LINE__ + 1;
    for (int t = 0; t < 10; ++t) h = tanh(matmul(h, W));
  };
  Tape tape;
  record(tape);
  auto count = [](const std::string& text, std::string_view what) {
    std::size_t n = 0;
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
    return n;
  };
  std::string all = tape.to_dot(), folded = tape.to_dot(true);
  CHECK(count(all, "label=") == 22);
  CHECK(count(folded, "label=") == 4);
  CHECK(contains(folded, fmt::format("tanh(a)\\n[1, 2]\\ntest_explain.cpp:{}\\n10 times", line)));
  CHECK(contains(folded, "cell.W\\n[2, 2]"));
  CHECK(count(all, "->") == 30);
  CHECK(count(folded, "->") == 4);  // h and W into the product, product into tanh, tanh into product
  std::string summary = tape.summary();
  CHECK(contains(summary, "22 values, 1 parameters with 4 numbers"));
  CHECK(contains(summary, "tanh(a)"));
  CHECK(contains(summary, fmt::format("test_explain.cpp:{}", line)));
}
