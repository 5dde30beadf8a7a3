// A checkpoint is an anchor and, after it, one node for each output. In the sweep every output hands its gradient to
// the anchor; the anchor, which comes last, records the segment again at the tape's end, on the very Vars it was given,
// sweeps over it, and takes it off the tape. All that the segment reads is older than the anchor, so gradients add up
// in the order in which they would have without a checkpoint.

#include <autograd/checkpoint.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

namespace unroll::detail {

namespace {

struct Kept {
  Segment segment;  ///< its function in the tape's memory
  const Var* inputs;
  std::span<const Draw> draws;
  std::byte** grads;  ///< of each output, during a sweep: contiguous
};

/// The second run, and what has to be as it was before.
class Again {
 public:
  Again(Graph& graph, std::span<const Draw> draws)
      : graph_(graph), mark_(graph.mark()), draws_(draws), before_(graph.draws().again) {
    standing_ = graph.array<Generator>(draws.size());
    for (std::size_t i = 0; i < draws.size(); ++i) new (&standing_[i]) Generator(*draws[i].generator);
    graph.draws().again = draws;
  }
  ~Again() {
    for (std::size_t i = 0; i < draws_.size(); ++i) *draws_[i].generator = standing_[i];
    graph_.draws().again = before_;
    graph_.rewind_to(mark_, {});
  }
  Again(const Again&) = delete;
  Again& operator=(const Again&) = delete;

 private:
  Graph& graph_;
  Graph::Mark mark_;
  std::span<const Draw> draws_, before_;
  Generator* standing_;
};

void add_contiguous(Graph& graph, NodeId id, const std::byte* grad) {
  const Node& node = graph.node(id);
  GradTarget target = graph.target(id);
  with_scalar(node.dtype, [&]<class T>(T) {
    const Layout one_by_one(node.layout->shape);
    if (target.fresh) {
      copy(target.data, *node.layout, grad, one_by_one, node.dtype);
      return;
    }
    auto memory = graph.scratch();
    T* sum = graph.array<T>(static_cast<std::size_t>(node.count()));
    copy(sum, one_by_one, target.data, *node.layout, node.dtype);
    for (Index i = 0; i < node.count(); ++i) sum[i] += reinterpret_cast<const T*>(grad)[i];
    copy(target.data, *node.layout, sum, one_by_one, node.dtype);
  });
}

void anchor_backward(Graph& graph, NodeId id) {
  const Kept kept = graph.payload<Kept>(id);
  const std::size_t n = kept.segment.output_count;
  Again again(graph, kept.draws);
  auto* outputs = graph.array<Var>(n);
  std::uninitialized_default_construct_n(outputs, n);
  auto first = static_cast<NodeId>(graph.size());
  kept.segment.run(kept.segment.function, kept.inputs, outputs);
  for (std::size_t k = n; k-- > 0;) {
    if (kept.grads[k] == nullptr) continue;
    NodeId output = graph.check(outputs[k], "checkpoint", {});
    if (graph.node(output).needs_grad) add_contiguous(graph, output, kept.grads[k]);
    graph.pool().release(kept.grads[k], graph.node(output).bytes());
    kept.grads[k] = nullptr;
  }
  graph.sweep_down_to(first);
}

/// Which output of which anchor, its input, a node is.
struct Place {
  std::size_t output;
};

void output_backward(Graph& graph, NodeId id) {
  NodeId anchor = graph.node(id).inputs[0];
  const Kept& kept = graph.payload<Kept>(anchor);
  Node& node = graph.node(id);
  std::byte*& grad = kept.grads[graph.payload<Place>(id).output];
  if (node.keeps_grad) {  // by request: the anchor gets a copy
    grad = graph.pool().allocate(node.bytes());
    std::memcpy(grad, node.grad, node.bytes());
  } else {
    grad = std::exchange(node.grad, nullptr);
  }
  graph.accumulator(anchor);  // so that the sweep stops there
}

constexpr Operation anchor_operation{"checkpoint", anchor_backward};
constexpr Operation output_operation{"checkpoint's output", output_backward};

/// A list that outlives a rewind of the tape: in the pool's memory.
template <class T>
class Listed {
 public:
  Listed(Graph& graph, std::size_t count)
      : graph_(graph), bytes_(std::max<std::size_t>(count, 1) * sizeof(T)), items_(memory(), count) {}
  Listed(Graph& graph, std::span<const T> items) : Listed(graph, items.size()) {
    std::ranges::copy(items, items_.begin());
  }
  ~Listed() { graph_.pool().release(reinterpret_cast<std::byte*>(items_.data()), bytes_); }
  Listed(const Listed&) = delete;
  Listed& operator=(const Listed&) = delete;
  std::span<T> items() const { return items_; }

 private:
  T* memory() { return reinterpret_cast<T*>(graph_.pool().allocate(bytes_)); }
  Graph& graph_;
  std::size_t bytes_;
  std::span<T> items_;
};

/// The older nodes that nodes from `first` on read and contribute gradients to: each once, in the tape's memory.
std::span<const NodeId> older_inputs(Graph& graph, NodeId first) {
  auto visit = [&](auto&& f) {
    for (NodeId id = first; id < graph.size(); ++id) {
      const Node& node = graph.node(id);
      if (node.base < first) f(node.base);
      for (NodeId input : node.input_ids())
        if (input < first) f(input);
    }
  };
  std::size_t count = 0;
  visit([&](NodeId) { ++count; });
  std::span<NodeId> ids(graph.array<NodeId>(count), count);
  auto next = ids.begin();
  visit([&](NodeId id) { *next++ = id; });
  std::sort(ids.begin(), ids.end());  // Clang 14 does not compile libstdc++'s std::ranges::unique
  return ids.first(static_cast<std::size_t>(std::unique(ids.begin(), ids.end()) - ids.begin()));
}

/// The parameters that were used for the first time from `first` on.
std::span<const Parameter* const> new_parameters(Graph& graph, NodeId first) {
  auto** found = graph.array<const Parameter*>(graph.size() - first);
  std::size_t count = 0;
  for (NodeId id = first; id < graph.size(); ++id)
    if (graph.node(id).is_parameter) found[count++] = static_cast<const Parameter*>(graph.node(id).payload);
  return {found, count};
}

/// The first run: what it drew and, if it throws, that it leaves nothing.
class FirstRun {
 public:
  FirstRun(Graph& graph, const Segment& segment, const Var* inputs, Var* outputs)
      : draws_(graph.draws()), begin_(draws_.noted.size()) {
    const Graph::Mark mark = graph.mark();
    ++draws_.noting;
    try {
      segment.run(segment.function, inputs, outputs);
    } catch (...) {
      --draws_.noting;
      draws_.noted.erase(draws_.noted.begin() + static_cast<std::ptrdiff_t>(begin_), draws_.noted.end());
      graph.rewind_to(mark, {});
      throw;
    }
    --draws_.noting;
  }
  ~FirstRun() {
    if (draws_.noting == 0) draws_.noted.clear();
  }
  FirstRun(const FirstRun&) = delete;
  FirstRun& operator=(const FirstRun&) = delete;
  std::span<const Draw> draws() const { return std::span(draws_.noted).subspan(begin_); }

 private:
  Draws& draws_;
  std::size_t begin_;
};

template <class T>
std::span<T> copied(Graph& graph, std::span<const T> items) {
  T* copy = graph.array<T>(items.size());
  std::uninitialized_copy(items.begin(), items.end(), copy);
  return {copy, items.size()};
}

/// One output of the first run, taken off the tape.
struct Result {
  Shape shape;
  DType dtype;
  std::byte* value;
  std::size_t same_as;  ///< the first output that is this value
  bool older, needs_grad;
};

void take(Graph& graph, const Var* outputs, NodeId first, std::span<Result> results, Source where) {
  constexpr std::size_t not_yet = ~std::size_t{0};
  const std::size_t recorded = graph.size() - first;
  std::span<std::size_t> taken(graph.array<std::size_t>(recorded), recorded);
  std::ranges::fill(taken, not_yet);
  for (std::size_t k = 0; k < results.size(); ++k) {
    NodeId id = graph.check(outputs[k], "checkpoint", where);
    const Node& node = graph.node(id);
    Result& result = results[k] = {node.layout->shape, node.dtype, nullptr, k, id < first, node.needs_grad};
    if (result.older) continue;
    if (taken[id - first] == not_yet) taken[id - first] = k;
    result.same_as = taken[id - first];
    if (result.same_as < k) continue;
    result.value = graph.pool().allocate(node.bytes());
    copy(result.value, Layout(result.shape), node.value, *node.layout, node.dtype);
  }
}

}  // namespace

void checkpoint(Graph& graph, const Segment& segment, const Var* inputs, Var* outputs, Source where) {
  for (std::size_t k = 0; k < segment.input_count; ++k) graph.check(inputs[k], "checkpoint", where);
  const std::size_t n = segment.output_count;
  const Graph::Mark mark = graph.mark();
  const auto first = static_cast<NodeId>(graph.size());
  const FirstRun run(graph, segment, inputs, outputs);
  Listed<Result> results(graph, n);
  take(graph, outputs, first, results.items(), where);
  const Listed<NodeId> older(graph, older_inputs(graph, first));
  const Listed<const Parameter*> parameters(graph, new_parameters(graph, first));
  graph.rewind_to(mark, where);

  NodeId anchor = no_node;
  if (std::ranges::any_of(results.items(), [](const Result& r) { return !r.older && r.needs_grad; })) {
    const std::size_t old = older.items().size();
    std::span<NodeId> ids(graph.array<NodeId>(old + parameters.items().size()), old + parameters.items().size());
    std::ranges::copy(older.items(), ids.begin());
    for (std::size_t i = old; i < ids.size(); ++i)
      ids[i] = graph.bind(const_cast<Parameter&>(*parameters.items()[i - old]), where);
    anchor = graph.add(anchor_operation, ids, graph.layout(Shape{}), where);
    std::memset(graph.node(anchor).value, 0, graph.node(anchor).bytes());
    Kept kept{segment, copied(graph, std::span(inputs, segment.input_count)).data(), copied(graph, run.draws()),
              graph.array<std::byte*>(n)};
    kept.segment.function =
        std::memcpy(graph.allocate(segment.function_bytes), segment.function, segment.function_bytes);
    std::fill_n(kept.grads, n, nullptr);
    graph.keep(anchor, kept);
  }
  for (std::size_t k = 0; k < n; ++k) {
    const Result& result = results.items()[k];
    if (result.older) continue;
    if (result.same_as < k) {
      outputs[k] = outputs[result.same_as];
      continue;
    }
    NodeId id;
    if (result.needs_grad) {
      id = graph.add(output_operation, {&anchor, 1}, graph.layout(result.shape), where);
      graph.keep(id, Place{k});
    } else {
      id = graph.add_leaf(result.shape, result.dtype, where);
    }
    const std::size_t bytes = graph.node(id).bytes();
    if (bytes > 0) std::memcpy(graph.node(id).value, result.value, bytes);
    graph.pool().release(result.value, bytes);
    outputs[k] = graph.var(id);
  }
}

}  // namespace unroll::detail
