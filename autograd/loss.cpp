#include <autograd/loss.h>

#include <autograd/elementwise.h>
#include <autograd/record.h>
#include <autograd/reduce.h>

#include <algorithm>
#include <cmath>

namespace unroll {

namespace {

template <class T>
using Row = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;
template <class T>
using MutableRow = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>;

/// log sum_k exp(x_k) = largest + log_sum. The two are kept apart: added up, logits far from 0 would swallow the
/// digits of the other.
struct LogSumExp {
  double largest = 0;
  double log_sum = 0;

  LogSumExp() = default;
  template <class T>
  explicit LogSumExp(const Row<T>& x) {
    T most = x.maxCoeff();
    largest = std::isfinite(most) ? static_cast<double>(most) : 0;
    log_sum = std::log(static_cast<double>((x - static_cast<T>(largest)).exp().sum()));
  }
  /// log softmax(x), element by element.
  template <class T>
  auto log_softmax(const Row<T>& x) const {
    return (x - static_cast<T>(largest)) - static_cast<T>(log_sum);
  }
};

/// Rows handled together: enough of them to be worth a thread.
Index rows_each(Index columns) { return std::max<Index>(1, detail::parallel_grain / std::max<Index>(columns, 1)); }

template <class F>
void for_each_row(detail::Graph& graph, Index rows, Index columns, F&& f) {
  Index each = rows_each(columns);
  graph.team().for_each_block((rows + each - 1) / each, [&](Index block) {
    for (Index row = block * each; row < std::min(rows, (block + 1) * each); ++row) f(row);
  });
}

}  // namespace

Var cross_entropy(const Var& logits, const Indices& targets, Source where) {
  const Shape shape = logits.shape();
  Index rows = shape.rows(), classes = shape.columns();
  if (shape.rank() < 1 || targets.size() != rows)
    fail_at(where, "cross_entropy: logits are {} and targets {}; one target is needed for each row of logits", shape,
            targets.shape());
  if (rows == 0) fail_at(where, "cross_entropy: logits are {}; there are no rows to average over", shape);
  for (Index row = 0; row < rows; ++row)
    if (targets[row] < 0 || targets[row] >= classes)
      fail_at(where, "cross_entropy: target {} is {}; logits of shape {} have classes 0 to {}", row, targets[row],
              shape, classes - 1);
  detail::Graph& graph = *logits.graph();
  auto* target = graph.array<std::int32_t>(static_cast<std::size_t>(rows));
  std::ranges::copy(targets.values(), target);
  auto* sums = graph.array<LogSumExp>(static_cast<std::size_t>(rows));
  return record(
      "cross_entropy", {logits}, Shape{},
      [=, &graph]<class T>(MatrixMap<T> y, ConstMatrixMap<T> x) {
        for_each_row(graph, rows, classes,
                     [&](Index row) { sums[row] = LogSumExp(Row<T>(x.row(row).data(), classes)); });
        double sum = 0;
        for (Index row = 0; row < rows; ++row)
          sum += sums[row].log_sum - (static_cast<double>(x(row, target[row])) - sums[row].largest);
        y(0, 0) = static_cast<T>(sum / static_cast<double>(rows));
      },
      [=]<class T>(Derivative<T>& d) {
        T scale = d.dy()(0, 0) / static_cast<T>(rows);
        auto x = d.x(0);
        detail::GradTarget goal = d.graph().target(d.input(0));
        Index stride = x.outerStride();
        for_each_row(d.graph(), rows, classes, [&](Index row) {
          Row<T> from(x.row(row).data(), classes);
          MutableRow<T> dx(reinterpret_cast<T*>(goal.data) + row * stride, classes);
          auto share = sums[row].log_softmax(from).exp() * scale;
          if (goal.fresh)
            dx = share;
          else
            dx += share;
          dx[target[row]] -= scale;
        });
      },
      where);
}

Var mse(const Var& x, const Var& y, Source where) {
  if (x.shape() != y.shape()) fail_at(where, "mse: shapes {} and {}; they must agree", x.shape(), y.shape());
  return mean(Var(square(x - y), where), where);
}

}  // namespace unroll
