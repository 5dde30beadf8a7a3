#include <autograd/statement.h>

#include <autograd/expression.h>
#include <autograd/parallel.h>

#include <algorithm>
#include <cstring>

namespace unroll::detail {

namespace {

/// An array for one call: on the stack, unless it is long.
template <class T>
class SmallArray {
 public:
  SmallArray(Graph& graph, std::size_t size) : data_(size <= few ? on_stack_ : graph.array<T>(size)) {}
  SmallArray(const SmallArray&) = delete;
  SmallArray& operator=(const SmallArray&) = delete;
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  T* data() { return data_; }

 private:
  static constexpr std::size_t few = 16;
  T on_stack_[few];
  T* data_;
};

/// How a statement is walked: the axes of its result, merged where every operand's memory allows it.
/// Axis 0 is the columns, axis 1 the rows; `strides` holds, for each axis, one stride for each operand.
struct Walk {
  std::array<Index, max_rank> size;
  std::array<const Index*, max_rank> strides;
  int rank = 0;
  Index count = 0;
  bool flat = false;  ///< every operand's elements lie in memory as the result's do

  Index rows() const { return count / size[0]; }
};

/// The stride of an operand along an axis of the result: 0 where it is repeated.
Index stride_along(const Layout& operand, const Shape& result, int axis) {
  int own = axis - (result.rank() - operand.shape.rank());
  return own < 0 || operand.shape[own] == 1 ? 0 : operand.stride(own);
}

Walk plan(Graph& graph, const Shape& result, std::span<const Layout* const> operands) {
  Walk walk;
  walk.count = result.count();
  static constexpr auto zeros_and_ones = [] {
    std::array<Index, 64> values{};
    std::fill(values.begin() + 32, values.end(), 1);
    return values;
  }();
  walk.flat = operands.size() <= 32 && std::ranges::all_of(operands, [&](const Layout* operand) {
                return operand->shape.count() == walk.count && operand->contiguous();
              });
  if (walk.flat) {
    walk.rank = 2;
    walk.size[0] = walk.count;
    walk.size[1] = 1;
    walk.strides[0] = zeros_and_ones.data() + 32;
    walk.strides[1] = zeros_and_ones.data();
    return walk;
  }
  for (int axis = result.rank() - 1; axis >= 0; --axis) {
    if (result[axis] == 1) continue;
    auto last = static_cast<std::size_t>(walk.rank) - 1;
    bool merges = walk.rank > 0;
    for (std::size_t k = 0; k < operands.size() && merges; ++k)
      merges = stride_along(*operands[k], result, axis) == walk.strides[last][k] * walk.size[last];
    if (merges) {
      walk.size[last] *= result[axis];
      continue;
    }
    auto next = static_cast<std::size_t>(walk.rank++);
    walk.size[next] = result[axis];
    auto* strides = graph.array<Index>(operands.size());
    for (std::size_t k = 0; k < operands.size(); ++k) strides[k] = stride_along(*operands[k], result, axis);
    walk.strides[next] = strides;
  }
  for (; walk.rank < 2; ++walk.rank) {
    auto next = static_cast<std::size_t>(walk.rank);
    walk.size[next] = 1;
    auto* strides = graph.array<Index>(operands.size());
    std::fill_n(strides, operands.size(), 0);
    walk.strides[next] = strides;
  }
  return walk;
}

/// A walk's work cut into blocks: of columns when there is one row, else of rows.
struct Blocks {
  Index count = 1;
  Index units;       ///< columns or rows of all
  Index units_each;  ///< of every block but the last
  bool of_columns;

  Blocks(const Walk& walk, Index most) {
    of_columns = walk.rows() == 1;
    units = of_columns ? walk.size[0] : walk.rows();
    Index wanted = std::clamp<Index>(walk.count / parallel_grain, 1, std::max<Index>(most, 1));
    units_each = (units + wanted - 1) / wanted;
    if (of_columns) units_each = (units_each + 15) / 16 * 16;  // whole packets
    count = (units + units_each - 1) / units_each;
  }
};

std::byte* advance(const void* from, Index elements, std::size_t size) {
  return static_cast<std::byte*>(const_cast<void*>(from)) + elements * static_cast<Index>(size);
}

/// Calls `f(rows, columns, offset_of_operand, y_offset)` for the tiles of one block.
template <class F>
void for_each_tile(const Walk& walk, const Blocks& blocks, Index block, F&& f) {
  Index begin = block * blocks.units_each, end = std::min(begin + blocks.units_each, blocks.units);
  if (blocks.of_columns) {
    f(
        Index{1}, end - begin, [&](std::size_t k) { return begin * walk.strides[0][k]; }, begin);
    return;
  }
  for (Index row = begin; row < end;) {
    Index first = row % walk.size[1];
    Index rows = std::min(end - row, walk.size[1] - first);
    auto offset = [&](std::size_t k) {
      Index sum = first * walk.strides[1][k], outer = row / walk.size[1];
      for (std::size_t axis = 2; axis < static_cast<std::size_t>(walk.rank); ++axis) {
        sum += outer % walk.size[axis] * walk.strides[axis][k];
        outer /= walk.size[axis];
      }
      return sum;
    };
    f(rows, walk.size[0], offset, row * walk.size[0]);
    row += rows;
  }
}

bool unit_columns(const Walk& walk, std::size_t operands) {
  return std::all_of(walk.strides[0], walk.strides[0] + operands, [](Index stride) { return stride == 1; });
}

/// The result's layout: an input's own where that will do.
const Layout* result_layout(Graph& graph, std::span<const NodeId> inputs, Source where) {
  const Layout* first = graph.node(inputs[0]).layout;
  bool same = true;
  for (NodeId id : inputs) same &= graph.node(id).layout == first;
  if (same && first->contiguous()) return first;
  Shape shape = first->shape;
  for (NodeId id : inputs) shape = broadcast(shape, graph.node(id).layout->shape, "element-wise expression", where);
  for (NodeId id : inputs)
    if (const Layout* layout = graph.node(id).layout; layout->shape == shape && layout->contiguous()) return layout;
  return graph.layout(shape);
}

/// Adds contiguous numbers to memory of another layout of the same shape.
template <class T>
void add_into(T* to, const Layout& layout, const T* from) {
  const Shape& shape = layout.shape;
  for (Index i = 0; i < shape.count(); ++i) {
    Index offset = 0, rest = i;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      offset += rest % shape[axis] * layout.stride(axis);
      rest /= shape[axis];
    }
    to[offset] += from[i];
  }
}

/// True when writing through one view could touch what is read or written through the other.
bool may_overlap(const Graph& graph, NodeId a, NodeId b) {
  const Node &x = graph.node(a), &y = graph.node(b);
  if (a == b || x.base != y.base) return false;
  if (x.is_part && y.is_part) {
    const Part &p = graph.payload<Part>(a), &q = graph.payload<Part>(b);
    return p.parent != q.parent || p.axis != q.axis || p.parts != q.parts || p.index == q.index;
  }
  return true;
}

}  // namespace

NodeId record_statement(Graph& graph, const Statement& statement, std::span<const NodeId> inputs,
                        std::span<const double> constants, Source where) {
  DType dtype = graph.node(inputs[0]).dtype;
  for (NodeId id : inputs)
    if (graph.node(id).dtype != dtype)
      fail_at(where, "element-wise expression: {} {} meets {} {}; convert one of them", dtype,
              graph.node(inputs[0]).layout->shape, graph.node(id).dtype, graph.node(id).layout->shape);
  const Layout* layout = result_layout(graph, inputs, where);
  NodeId id = graph.add(statement.operation, inputs, layout, dtype, where);
  if (graph.node(id).needs_grad && !constants.empty()) {
    auto* kept = graph.array<double>(constants.size());
    std::ranges::copy(constants, kept);
    graph.node(id).payload = kept;
  }
  if (layout->shape.count() == 0) return id;

  auto scratch = graph.scratch();
  const std::size_t n = inputs.size(), size = size_of(dtype);
  SmallArray<const Layout*> layouts(graph, n);
  SmallArray<void*> data(graph, n);
  for (std::size_t k = 0; k < n; ++k) {
    layouts[k] = graph.node(inputs[k]).layout;
    data[k] = graph.node(inputs[k]).value;
  }
  Walk walk = plan(graph, layout->shape, {layouts.data(), n});
  Blocks blocks(walk, 256);
  auto kernel = statement.forward[dtype == float64][unit_columns(walk, n)];
  Tile whole{.rows = 1,
             .columns = walk.count,
             .x = data.data(),
             .row_stride = walk.strides[1],
             .column_stride = walk.strides[0],
             .constants = constants.data(),
             .y = graph.node(id).value,
             .y_stride = walk.size[0]};
  if (walk.flat && blocks.count == 1) {
    kernel(whole);
    return id;
  }
  SmallArray<void*> starts(graph, n * static_cast<std::size_t>(blocks.count));
  for_each_block(blocks.count, [&](Index block) {
    void** x = starts.data() + static_cast<std::size_t>(block) * n;
    for_each_tile(walk, blocks, block, [&](Index rows, Index columns, auto offset, Index y_offset) {
      for (std::size_t k = 0; k < n; ++k) x[k] = advance(data[k], offset(k), size);
      Tile tile = whole;
      tile.rows = rows;
      tile.columns = columns;
      tile.x = x;
      tile.y = advance(whole.y, y_offset, size);
      kernel(tile);
    });
  });
  return id;
}

namespace {

/// The backward pass of one statement: where each input's gradient goes, then the walk.
class StatementSweep {
 public:
  StatementSweep(Graph& graph, NodeId id)
      : graph_(graph),
        id_(id),
        inputs_(graph.node(id).input_ids()),
        size_(size_of(graph.node(id).dtype)),
        n_(inputs_.size()),
        layouts_(graph, 2 * n_),
        x_(graph, 2 * n_),
        adjoint_(graph, n_),
        partial_(graph, n_) {}

  void run() {
    for (std::size_t k = 0; k < n_; ++k) {
      const Node& input = graph_.node(inputs_[k]);
      layouts_[k] = layouts_[n_ + k] = input.layout;
      x_[k] = input.value;
      partial_[k] = nullptr;
    }
    const Shape& shape = graph_.node(id_).layout->shape;
    if (shape.count() == 0) {
      for (std::size_t k = 0; k < n_; ++k)
        if (needs(k)) graph_.accumulator(inputs_[k]);
      return;
    }
    walk_ = plan(graph_, shape, {layouts_.data(), 2 * n_});
    bool overlap = choose_targets();
    Blocks blocks(walk_, overlap ? 1 : most_blocks());
    if (blocks.count > 1 && give_blocks_their_own(blocks)) walk_ = plan(graph_, shape, {layouts_.data(), 2 * n_});
    sweep(blocks);
    gather(blocks);
  }

 private:
  bool needs(std::size_t k) const { return graph_.node(inputs_[k]).needs_grad; }

  /// True when several elements of the result share one of input k, in one row or in several.
  bool repeated(std::size_t k, std::size_t first_axis) const {
    for (auto axis = first_axis; axis < static_cast<std::size_t>(walk_.rank); ++axis)
      if (walk_.strides[axis][n_ + k] == 0 && walk_.size[axis] > 1) return true;
    return false;
  }

  /// True when the gradients of two inputs may overlap in memory, so that blocks would race.
  bool choose_targets() {
    bool any_overlap = false;
    for (std::size_t k = 0; k < n_; ++k) {
      adjoint_[k] = Adjoint::skip;
      x_[n_ + k] = nullptr;
      if (!needs(k)) continue;
      bool overlap = false;
      for (std::size_t j = 0; j < n_; ++j) overlap |= needs(j) && may_overlap(graph_, inputs_[k], inputs_[j]);
      any_overlap |= overlap;
      GradTarget target{nullptr, false};
      if (overlap || repeated(k, 0))
        target.data = graph_.accumulator(inputs_[k]);
      else
        target = graph_.target(inputs_[k]);
      x_[n_ + k] = target.data;
      adjoint_[k] = target.fresh ? Adjoint::write : Adjoint::add;
    }
    return any_overlap;
  }

  /// Blocks that share an input's gradient each sum into memory of their own: no more of it in all than
  /// the statement itself is large.
  Index most_blocks() const {
    Index shared = 0;
    for (std::size_t k = 0; k < n_; ++k)
      if (needs(k) && repeated(k, walk_.rows() == 1 ? 0 : 1)) shared += layouts_[k]->shape.count();
    return shared == 0 ? 256 : std::min<Index>(32, walk_.count / (2 * shared));
  }

  bool give_blocks_their_own(const Blocks& blocks) {
    bool any = false;
    for (std::size_t k = 0; k < n_; ++k) {
      if (!needs(k) || !repeated(k, blocks.of_columns ? 0 : 1)) continue;
      std::size_t bytes = static_cast<std::size_t>(blocks.count) * graph_.node(inputs_[k]).bytes();
      partial_[k] = graph_.pool().allocate(bytes);
      std::memset(partial_[k], 0, bytes);
      layouts_[n_ + k] = graph_.layout(layouts_[k]->shape);
      any = true;
    }
    return any;
  }

  void sweep(const Blocks& blocks) {
    const Node& node = graph_.node(id_);
    const auto& statement = *reinterpret_cast<const Statement*>(node.operation);
    auto kernel = statement.backward[node.dtype == float64][unit_columns(walk_, 2 * n_)];
    Tile whole{.rows = 1,
               .columns = walk_.count,
               .x = x_.data(),
               .row_stride = walk_.strides[1],
               .column_stride = walk_.strides[0],
               .constants = static_cast<const double*>(node.payload),
               .y_stride = walk_.size[0],
               .dy = node.grad,
               .dx = x_.data() + n_,
               .dx_row_stride = walk_.strides[1] + n_,
               .dx_column_stride = walk_.strides[0] + n_,
               .adjoint = adjoint_.data()};
    if (walk_.flat && blocks.count == 1) {
      kernel(whole);
      return;
    }
    SmallArray<void*> starts(graph_, 2 * n_ * static_cast<std::size_t>(blocks.count));
    for_each_block(blocks.count, [&](Index block) {
      void** x = starts.data() + static_cast<std::size_t>(block) * 2 * n_;
      for_each_tile(walk_, blocks, block, [&](Index rows, Index columns, auto offset, Index y_offset) {
        for (std::size_t k = 0; k < n_; ++k) {
          void* to = x_[n_ + k];
          if (partial_[k] != nullptr)
            to = partial_[k] + static_cast<std::size_t>(block) * graph_.node(inputs_[k]).bytes();
          x[k] = advance(x_[k], offset(k), size_);
          x[n_ + k] = to == nullptr ? nullptr : advance(to, offset(n_ + k), size_);
        }
        Tile tile = whole;
        tile.rows = rows;
        tile.columns = columns;
        tile.x = x;
        tile.dx = x + n_;
        tile.dy = advance(node.grad, y_offset, size_);
        kernel(tile);
      });
    });
  }

  /// Adds up what the blocks summed, in the blocks' order.
  void gather(const Blocks& blocks) {
    for (std::size_t k = 0; k < n_; ++k) {
      if (partial_[k] == nullptr) continue;
      const Node& input = graph_.node(inputs_[k]);
      with_type(input.dtype, [&]<class T>(T) {
        const T* sums = reinterpret_cast<const T*>(partial_[k]);
        for (Index block = 0; block < blocks.count; ++block)
          add_into(static_cast<T*>(x_[n_ + k]), *input.layout, sums + block * input.count());
      });
      graph_.pool().release(partial_[k], static_cast<std::size_t>(blocks.count) * input.bytes());
    }
  }

  Graph& graph_;
  NodeId id_;
  std::span<const NodeId> inputs_;
  std::size_t size_, n_;
  SmallArray<const Layout*> layouts_;  ///< of the inputs, then of their gradients
  SmallArray<void*> x_;                ///< the inputs' elements, then their gradients'
  SmallArray<Adjoint> adjoint_;
  SmallArray<std::byte*> partial_;  ///< sums of each block for a gradient that several share
  Walk walk_;
};

/// y = x: the statement that makes a copy, contiguous whatever the layout of x.
struct Copy {
  template <class X>
  static const X& value(const X& x) {
    return x;
  }
  template <class X>
  static One derivative(const X&, const X&) {
    return {};
  }
};

}  // namespace

void statement_backward(Graph& graph, NodeId id) {
  auto scratch = graph.scratch();
  StatementSweep(graph, id).run();
}

NodeId Graph::rowwise(NodeId id, Source where) {
  if (nodes_[id].layout->rowwise()) return id;
  return contiguous(id, where);
}

NodeId Graph::contiguous(NodeId id, Source where) {
  if (nodes_[id].layout->contiguous()) return id;
  return record_statement(*this, statement<Apply<Copy, Input>>, {&id, 1}, {}, where);
}

}  // namespace unroll::detail
