#pragma once

// What a tape can say of itself: which operation made the first NaN, where the time goes, what was recorded. All in the
// lines of the program that recorded it. A tape that is not asked pays for one comparison a value.

#include <autograd/graph.h>

#include <chrono>
#include <map>
#include <string>
#include <tuple>

namespace unroll {

/// What a tape's operations cost since `Tape::start_profile`: one row for each operation and line, dearest first.
struct Profile {
  struct Row {
    std::string operation;  ///< its name, or a statement's formula
    std::string where;      ///< "my_model.cpp:41"
    Index calls = 0;
    double forward_ms = 0, backward_ms = 0;
    double bytes = 0;  ///< of operands and result, once for each call
    double flops = 0;  ///< forward and backward: two for each multiply-add of a product, one for each element-wise
                       ///< operation forward and two backward
    double total_ms() const { return forward_ms + backward_ms; }
  };
  std::vector<Row> rows;
  /// The rows added up by operation, or by line.
  std::vector<Row> by_operation() const;
  std::vector<Row> by_line() const;
};
/// Two tables, by operation and by line: calls, milliseconds forward and backward, share, MB and GFLOP/s.
std::string to_string(const Profile& profile);

namespace detail {

/// "sigmoid(a) * b + tanh(c)" for a statement, its operands being a, b, c, ...; the operation's name for others.
std::string formula(const Graph& graph, NodeId id);

class Watch {
 public:
  bool anomalies = false, profile = false;

  /// Called when a node has been made, when its value has been computed, and around its backward.
  void begin() { begun_ = Clock::now(); }
  void computed(const Graph& graph, NodeId id, std::span<const NodeId> inputs);
  void swept(const Graph& graph, NodeId id);
  void finished_weight(const Graph& graph, NodeId id);
  void reset() { costs_.clear(); }
  Profile report() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Cost {
    std::string operation, where;
    Index calls = 0;
    Clock::duration forward{}, backward{};
    double bytes = 0, flops = 0;
  };
  using Key = std::tuple<const void*, const char*, int>;
  Cost& cost(const Graph& graph, NodeId id, const void* operation);
  void check_value(const Graph& graph, NodeId id, std::span<const NodeId> inputs) const;
  void check_gradients(const Graph& graph, NodeId id) const;

  Clock::time_point begun_;
  std::map<Key, Cost> costs_;
};

std::string to_dot(const Graph& graph, bool fold);
std::string summary(const Graph& graph);

}  // namespace detail
}  // namespace unroll

template <>
struct fmt::formatter<unroll::Profile> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  auto format(const unroll::Profile& profile, format_context& context) const {
    return unroll::detail::put(context.out(), unroll::to_string(profile));
  }
};
