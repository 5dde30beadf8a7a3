#include <autograd/watch.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace unroll {

namespace {

std::vector<Profile::Row> added_up(const std::vector<Profile::Row>& rows, std::string Profile::Row::*by,
                                   std::string Profile::Row::*other) {
  std::map<std::string, Profile::Row> sums;
  for (const Profile::Row& row : rows) {
    auto [at, fresh] = sums.try_emplace(row.*by, row);
    if (fresh) continue;
    Profile::Row& sum = at->second;
    if (sum.*other != row.*other) sum.*other = "";
    sum.calls += row.calls;
    sum.forward_ms += row.forward_ms;
    sum.backward_ms += row.backward_ms;
    sum.bytes += row.bytes;
    sum.flops += row.flops;
  }
  std::vector<Profile::Row> result;
  for (auto& [name, row] : sums) result.push_back(std::move(row));
  std::ranges::sort(result, std::greater(), &Profile::Row::total_ms);
  return result;
}

void add_table(std::string& text, const char* title, const std::vector<Profile::Row>& rows,
               std::string Profile::Row::*name) {
  double total = 0;
  for (const Profile::Row& row : rows) total += row.total_ms();
  text += fmt::format("{:<44} {:>8} {:>10} {:>11} {:>6} {:>9} {:>8}\n", title, "calls", "forward ms", "backward ms",
                      "share", "MB", "GFLOP/s");
  for (const Profile::Row& row : rows) {
    std::string what = row.*name;
    if (what.size() > 44) what = what.substr(0, 41) + "...";
    text += fmt::format("{:<44} {:>8} {:>10.3f} {:>11.3f} {:>5.1f}% {:>9.2f} {:>8.2f}\n", what, row.calls,
                        row.forward_ms, row.backward_ms, total > 0 ? 100 * row.total_ms() / total : 0, row.bytes / 1e6,
                        row.total_ms() > 0 ? row.flops / row.total_ms() / 1e6 : 0);
  }
}

}  // namespace

std::vector<Profile::Row> Profile::by_operation() const { return added_up(rows, &Row::operation, &Row::where); }
std::vector<Profile::Row> Profile::by_line() const { return added_up(rows, &Row::where, &Row::operation); }

std::string to_string(const Profile& profile) {
  std::string text;
  add_table(text, "operation", profile.by_operation(), &Profile::Row::operation);
  text += "\n";
  add_table(text, "line", profile.by_line(), &Profile::Row::where);
  return text;
}

namespace detail {

namespace {

/// Of a value: how much of it is not finite, where that begins, and the range of the rest.
struct Statistics {
  Index count = 0, nans = 0, infinities = 0, first = -1;
  double low = std::numeric_limits<double>::infinity(), high = -low;

  explicit Statistics(const TensorView& view) {
    for (double x : view.to_vector()) {
      if (!std::isfinite(x)) {
        ++(std::isnan(x) ? nans : infinities);
        if (first < 0) first = count;
      } else {
        low = std::min(low, x);
        high = std::max(high, x);
      }
      ++count;
    }
  }
  bool finite() const { return first < 0; }
  std::string range() const {
    std::string text = low <= high ? fmt::format("in [{:.6g}, {:.6g}]", low, high) : "nowhere finite";
    if (nans > 0) text += fmt::format(", with {} NaN", nans);
    if (infinities > 0) text += fmt::format(", with {} infinite", infinities);
    return text;
  }
  std::string fault(const Shape& shape) const {
    std::string what = nans > 0 && infinities > 0 ? fmt::format("{} NaN and {} infinite", nans, infinities)
                       : nans > 0                 ? fmt::format("{} NaN", nans)
                                                  : fmt::format("{} infinite", infinities);
    std::string place;
    Index rest = first;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      place = fmt::format("{}{}{}", rest % shape[axis], place.empty() ? "" : ", ", place);
      rest /= shape[axis];
    }
    return fmt::format("{} of {} values, the first at [{}]", what, count, place);
  }
};

bool all_finite(const TensorView& view) {
  if (view.dtype() != DType::dual && view.layout().contiguous()) {
    return with_type(view.dtype(), [&]<class T>(T) {
      const T* x = view.data<T>();
      T sum = 0;  // NaN as soon as one element is not finite
      for (Index i = 0; i < view.shape().count(); ++i) sum += x[i] * T(0);
      return sum == T(0);
    });
  }
  return false;  // to be looked at closely
}

std::string letter(std::size_t k) {
  return k < 26 ? std::string(1, static_cast<char>('a' + k)) : fmt::format("x{}", k);
}

std::string describe_inputs(const Graph& graph, std::span<const NodeId> inputs) {
  std::string text;
  for (std::size_t k = 0; k < std::min<std::size_t>(inputs.size(), 4); ++k) {
    TensorView view = graph.shown(graph.view(inputs[k]));
    text += fmt::format("; {} {} is {}", letter(k), view.shape(), Statistics(view).range());
  }
  return text;
}

/// True when every element of a value's gradient has been written.
bool has_gradient(const Graph& graph, NodeId id) {
  const Node &node = graph.node(id), &region = graph.node(node.region);
  return node.needs_grad && graph.current(region) && region.state == GradState::whole &&
         graph.node(node.base).grad != nullptr;
}

}  // namespace

void Watch::check_value(const Graph& graph, NodeId id, std::span<const NodeId> inputs) const {
  TensorView view = graph.shown(graph.view(id));
  if (all_finite(view)) return;
  Statistics found(view);
  if (found.finite()) return;
  // What comes in not finite is not this operation's doing, but for a NaN made of infinities.
  bool nan_in = false, infinite_in = false;
  for (NodeId input : inputs) {
    Statistics in(graph.shown(graph.view(input)));
    nan_in |= in.nans > 0;
    infinite_in |= in.infinities > 0;
  }
  if (nan_in || (infinite_in && found.nans == 0)) return;
  const std::string what = formula(graph, id);
  if (what.starts_with("mask(") && found.nans == 0) return;  // masked_softmax means it
  fail_at(graph.node(id).source(), "find_anomaly: {} gave {}{}", what, found.fault(view.shape()),
          describe_inputs(graph, inputs));
}

void Watch::check_gradients(const Graph& graph, NodeId id) const {
  const Node& node = graph.node(id);
  for (NodeId input : node.input_ids()) {
    if (!has_gradient(graph, input)) continue;
    TensorView view = graph.shown(graph.grad(input, {}));
    if (all_finite(view)) continue;
    Statistics found(view);
    if (found.finite()) continue;
    TensorView dy = graph.shown({node.grad, node.dtype, *node.layout});
    if (!Statistics(dy).finite()) continue;  // a seed, or a gradient carried over, that was so before
    auto k = static_cast<std::size_t>(std::ranges::find(node.input_ids(), input) - node.input_ids().begin());
    fail_at(node.source(), "find_anomaly: backward of {} gave {} of the gradient of {}; dL/dy {} is {}{}",
            formula(graph, id), found.fault(view.shape()), letter(k), dy.shape(), Statistics(dy).range(),
            describe_inputs(graph, node.input_ids()));
  }
}

Watch::Cost& Watch::cost(const Graph& graph, NodeId id, const void* operation) {
  const Node& node = graph.node(id);
  Cost& cost = costs_[{operation, node.file, node.line}];
  if (cost.where.empty()) cost.where = short_location(node.source());
  return cost;
}

void Watch::computed(const Graph& graph, NodeId id, std::span<const NodeId> inputs) {
  const auto now = Clock::now();
  const Node& node = graph.node(id);
  if (profile) {
    Cost& row = cost(graph, id, node.operation);
    if (row.operation.empty()) row.operation = formula(graph, id);
    ++row.calls;
    row.forward += now - begun_;
    row.bytes += static_cast<double>(node.bytes());
    for (NodeId input : inputs) row.bytes += static_cast<double>(graph.node(input).bytes());
    if (node.operation->flops != nullptr) row.flops += node.operation->flops(graph, id, inputs, false);
  }
  if (anomalies) check_value(graph, id, inputs);
}

void Watch::swept(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  if (profile) {
    Cost& row = cost(graph, id, node.operation);
    if (row.operation.empty()) row.operation = formula(graph, id);
    row.backward += Clock::now() - begun_;
    if (node.operation->flops != nullptr) row.flops += node.operation->flops(graph, id, node.input_ids(), true);
  }
  if (anomalies) check_gradients(graph, id);
}

void Watch::finished_weight(const Graph& graph, NodeId id) {
  if (profile) {
    Cost& row = cost(graph, id, this);
    row.operation = "matmul, last rows of a weight's gradient";
    row.backward += Clock::now() - begun_;
  }
  if (!anomalies || !has_gradient(graph, id)) return;
  TensorView view = graph.shown(graph.grad(id, {}));
  Statistics found(view);
  if (found.finite()) return;
  const Node& node = graph.node(id);
  std::string name = node.is_parameter ? static_cast<const Parameter*>(node.payload)->name() : "";
  fail_at(node.source(), "find_anomaly: backward of matmul gave {} of the gradient of its weight {} {}",
          found.fault(view.shape()), name, view.shape());
}

Profile Watch::report() const {
  using Ms = std::chrono::duration<double, std::milli>;
  Profile result;
  for (const auto& [key, row] : costs_)
    result.rows.push_back(
        {row.operation, row.where, row.calls, Ms(row.forward).count(), Ms(row.backward).count(), row.bytes, row.flops});
  std::ranges::sort(result.rows, std::greater(), &Profile::Row::total_ms);
  return result;
}

}  // namespace detail
}  // namespace unroll
