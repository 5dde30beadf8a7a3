#include <autograd/expression.h>
#include <autograd/strided_tile.h>

#include <algorithm>
#include <cstring>

namespace unroll::detail {

namespace {

constexpr std::size_t few = 16;

/// An array for one call: on the stack, unless it is long; then in memory that the caller gives back.
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
  T on_stack_[few];
  T* data_;
};

/// A walk's work cut into blocks: of columns when there is one row, else of rows.
struct Blocks {
  Index count = 1;
  Index units;       ///< columns or rows of all
  Index units_each;  ///< of every block but the last
  bool of_columns;

  Blocks(const Walk& walk, Index most) {
    of_columns = walk.rows == 1;
    units = of_columns ? walk.size[0] : walk.rows;
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

/// Adds contiguous numbers to memory of another layout of the same shape.
template <class T>
void add_into(T* to, const Layout& layout, const T* from) {
  const Shape& shape = layout.shape;
  const int last = shape.rank() - 1;
  const Index columns = shape.columns(), stride = last < 0 ? 1 : layout.stride(last);
  for (Index row = 0; row < shape.rows(); ++row, from += columns) {
    Index offset = 0, rest = row;
    for (int axis = last - 1; axis >= 0; --axis) {
      offset += rest % shape[axis] * layout.stride(axis);
      rest /= shape[axis];
    }
    for (Index i = 0; i < columns; ++i) to[offset + i * stride] += from[i];
  }
}

/// True when the gradients of two inputs could have memory in common. (One that needs none, such as a detached view,
/// has no gradient, and nothing is kept of its being a part.)
bool may_overlap(const Graph& graph, NodeId a, NodeId b) {
  const Node &x = graph.node(a), &y = graph.node(b);
  if (a == b || x.base != y.base || !x.needs_grad || !y.needs_grad) return false;
  if (x.is_part && y.is_part) {
    const Part &p = graph.payload<Part>(a), &q = graph.payload<Part>(b);
    return p.parent != q.parent || p.axis != q.axis || p.parts != q.parts || p.index == q.index;
  }
  return true;
}

/// What the sweep needs of a statement.
struct Kept {
  const Plan* plan;
  const double* constants;
};

void keep_statement(Graph& graph, NodeId id, const Plan& plan, std::span<const double> constants) {
  if (!graph.node(id).needs_grad) return;
  auto* kept = graph.array<double>(constants.size());
  for (std::size_t i = 0; i < constants.size(); ++i) kept[i] = constants[i];
  graph.keep(id, Kept{&plan, kept});
}

}  // namespace

NodeId record_statement(Graph& graph, const Statement& statement, const NodeId* inputs, const double* constants,
                        Source where) {
  const std::size_t n = statement.inputs;
  SmallArray<const NodeLayout*> layouts(graph, n);
  SmallArray<void*> data(graph, n);
  const Node& first = graph.node(inputs[0]);
  const DType dtype = first.dtype;
  for (std::size_t k = 0; k < n; ++k) {
    const Node& input = graph.node(inputs[k]);
    if (input.dtype != dtype)
      fail_at(where, "element-wise expression: {} {} meets {} {}; convert one of them", dtype, first.layout->shape,
              input.dtype, input.layout->shape);
    layouts[k] = input.layout;
    data[k] = input.value;
  }
  const Plan& plan = graph.plans().plan({layouts.data(), n}, where);
  const Walk& walk = plan.walk;
  NodeId id = graph.add(statement.operation, {inputs, n}, plan.result, where);
  if (!statement.differentiable) graph.node(id).needs_grad = false;
  keep_statement(graph, id, plan, {constants, statement.constants});
  if (walk.count == 0) return id;

  TileKernel& kernel = *statement.forward[static_cast<int>(dtype)];
  StridedTile whole;  // member by member: initialised as one, its padding would be set to zero first
  whole.rows = walk.rows;
  whole.columns = walk.size[0];
  whole.x = data.data();
  whole.row_stride = walk.strides[1];
  whole.constants = constants;
  whole.y = graph.node(id).value;
  whole.y_stride = walk.size[0];
  whole.dy = nullptr;
  whole.inputs = n;
  whole.column_stride = walk.strides[0];
  whole.unit_columns = walk.unit_columns;
  if (plan.whole) {
    run_kernel(kernel, dtype, whole);
    graph.computed(id, {inputs, n});
    return id;
  }
  auto scratch = graph.scratch();
  Blocks blocks(walk, 256);
  const std::size_t size = size_of(dtype);
  SmallArray<void*> starts(graph, n * static_cast<std::size_t>(blocks.count));
  graph.team().for_each_block(blocks.count, [&](Index block) {
    void** x = starts.data() + static_cast<std::size_t>(block) * n;
    for_each_tile(walk, blocks, block, [&](Index rows, Index columns, auto offset, Index y_offset) {
      for (std::size_t k = 0; k < n; ++k) x[k] = advance(data[k], offset(k), size);
      StridedTile tile = whole;
      tile.rows = rows;
      tile.columns = columns;
      tile.x = x;
      tile.y = advance(whole.y, y_offset, size);
      run_kernel(kernel, dtype, tile);
    });
  });
  graph.computed(id, {inputs, n});
  return id;
}

namespace {

/// The backward pass of one statement: where each input's gradient goes, then the walk.
class StatementSweep {
 public:
  static constexpr std::size_t few = detail::few / 2;  ///< so many inputs take no memory but the stack

  StatementSweep(Graph& graph, NodeId id)
      : graph_(graph),
        id_(id),
        kept_(graph.payload<Kept>(id)),
        walk_(&kept_.plan->walk),
        inputs_(graph.node(id).input_ids()),
        size_(size_of(graph.node(id).dtype)),
        n_(inputs_.size()),
        x_(graph, 2 * n_),
        adjoint_(graph, n_) {}

  void run() {
    if (walk_->count == 0) {
      for (std::size_t k = 0; k < n_; ++k)
        if (needs(k)) graph_.accumulator(inputs_[k]);
      return;
    }
    bool overlap = choose_targets();
    const Plan& plan = *kept_.plan;
    if (plan.whole && !plan.repeats)
      run_kernel(kernel(), dtype(), whole());
    else
      run_blocks(overlap);
  }

 private:
  bool needs(std::size_t k) const { return graph_.node(inputs_[k]).needs_grad; }

  /// True when the gradients of two inputs may overlap in memory, so that blocks would race.
  bool choose_targets() {
    bool any_overlap = false;
    for (std::size_t k = 0; k < n_; ++k) {
      adjoint_[k] = Adjoint::skip;
      for (std::size_t j = 0; j < k; ++j) {
        if (!may_overlap(graph_, inputs_[k], inputs_[j])) continue;
        any_overlap = true;
        adjoint_[k] = adjoint_[j] = Adjoint::add;
      }
    }
    for (std::size_t k = 0; k < n_; ++k) {
      const Node& input = graph_.node(inputs_[k]);
      x_[k] = x_[n_ + k] = input.value;  // the gradient that nobody needs is never written
      if (!input.needs_grad) continue;
      GradTarget target{nullptr, false};
      if (adjoint_[k] == Adjoint::add || (kept_.plan->repeats && walk_->repeats(k, 0)))
        target.data = graph_.accumulator(inputs_[k]);
      else
        target = graph_.target(inputs_[k]);
      x_[n_ + k] = target.data;
      adjoint_[k] = target.fresh ? Adjoint::write : Adjoint::add;
    }
    return any_overlap;
  }

  DType dtype() const { return graph_.node(id_).dtype; }
  TileKernel& kernel() const {
    const auto* statement = reinterpret_cast<const Statement*>(graph_.node(id_).operation);
    return *statement->backward[static_cast<int>(dtype())];
  }
  StridedTile whole() {
    StridedTile tile;
    tile.rows = walk_->rows;
    tile.columns = walk_->size[0];
    tile.x = x_.data();
    tile.row_stride = walk_->strides[1];
    tile.constants = kept_.constants;
    tile.y_stride = walk_->size[0];
    tile.dy = graph_.node(id_).grad;
    tile.dx = x_.data() + n_;
    tile.dx_row_stride = walk_->strides[1] + grads_;
    tile.adjoint = adjoint_.data();
    tile.inputs = n_;
    tile.column_stride = walk_->strides[0];
    tile.dx_column_stride = walk_->strides[0] + grads_;
    tile.unit_columns = walk_->unit_columns;
    return tile;
  }

  void run_blocks(bool overlap) {
    auto scratch = graph_.scratch();
    SmallArray<std::byte*> partial(graph_, n_);
    std::fill_n(partial.data(), n_, nullptr);
    Blocks blocks(*walk_, overlap ? 1 : most_blocks());
    Walk own;
    if (blocks.count > 1 && give_blocks_their_own(blocks, partial, own)) walk_ = &own;
    sweep(blocks, partial);
    gather(blocks, partial);
  }

  /// Blocks that share an input's gradient each sum into memory of their own: no more of it in all than
  /// the statement itself is large.
  Index most_blocks() const {
    Index shared = 0;
    for (std::size_t k = 0; k < n_; ++k)
      if (needs(k) && walk_->repeats(k, walk_->rows == 1 ? 0 : 1)) shared += graph_.node(inputs_[k]).count();
    return shared == 0 ? 256 : std::min<Index>(32, walk_->count / (2 * shared));
  }

  /// Makes memory for those sums, and the walk that goes with it. False when there are none.
  bool give_blocks_their_own(const Blocks& blocks, SmallArray<std::byte*>& partial, Walk& own) {
    bool any = false;
    auto* layouts = graph_.array<const Layout*>(2 * n_);
    for (std::size_t k = 0; k < n_; ++k) {
      const Node& input = graph_.node(inputs_[k]);
      layouts[k] = layouts[n_ + k] = input.layout;
      if (!input.needs_grad || !walk_->repeats(k, blocks.of_columns ? 0 : 1)) continue;
      std::size_t bytes = static_cast<std::size_t>(blocks.count) * input.bytes();
      partial[k] = graph_.pool().allocate(bytes);
      std::memset(partial[k], 0, bytes);
      layouts[n_ + k] = graph_.layout(input.layout->shape);
      any = true;
    }
    if (!any) return false;
    own = Walk(graph_.arena(), graph_.node(id_).layout->shape, {layouts, 2 * n_});
    grads_ = n_;
    return true;
  }

  void sweep(const Blocks& blocks, SmallArray<std::byte*>& partial) {
    const StridedTile all = whole();
    TileKernel& kernel = this->kernel();
    SmallArray<void*> starts(graph_, 2 * n_ * static_cast<std::size_t>(blocks.count));
    graph_.team().for_each_block(blocks.count, [&](Index block) {
      void** x = starts.data() + static_cast<std::size_t>(block) * 2 * n_;
      for_each_tile(*walk_, blocks, block, [&](Index rows, Index columns, auto offset, Index y_offset) {
        for (std::size_t k = 0; k < n_; ++k) {
          void* to = x_[n_ + k];
          if (partial[k] != nullptr)
            to = partial[k] + static_cast<std::size_t>(block) * graph_.node(inputs_[k]).bytes();
          x[k] = advance(x_[k], offset(k), size_);
          x[n_ + k] = advance(to, offset(grads_ + k), size_);
        }
        StridedTile tile = all;
        tile.rows = rows;
        tile.columns = columns;
        tile.x = x;
        tile.dx = x + n_;
        tile.dy = advance(all.dy, y_offset, size_);
        run_kernel(kernel, dtype(), tile);
      });
    });
  }

  /// Adds up what the blocks summed, in the blocks' order.
  void gather(const Blocks& blocks, SmallArray<std::byte*>& partial) {
    for (std::size_t k = 0; k < n_; ++k) {
      if (partial[k] == nullptr) continue;
      const Node& input = graph_.node(inputs_[k]);
      with_scalar(input.dtype, [&]<class T>(T) {
        const T* sums = reinterpret_cast<const T*>(partial[k]);
        for (Index block = 0; block < blocks.count; ++block)
          add_into(static_cast<T*>(x_[n_ + k]), *input.layout, sums + block * input.count());
      });
      graph_.pool().release(partial[k], static_cast<std::size_t>(blocks.count) * input.bytes());
    }
  }

  Graph& graph_;
  NodeId id_;
  const Kept& kept_;
  const Walk* walk_;
  std::span<const NodeId> inputs_;
  std::size_t size_, n_;
  std::size_t grads_ = 0;  ///< where the strides of the inputs' gradients begin among the walk's
  SmallArray<void*> x_;    ///< the inputs' elements, then their gradients'
  SmallArray<Adjoint> adjoint_;
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

double statement_flops(const Graph& graph, NodeId id, std::span<const NodeId>, bool backward) {
  const Node& node = graph.node(id);
  const auto& tokens = reinterpret_cast<const Statement*>(node.operation)->tokens;
  auto operations = std::ranges::count_if(tokens, [](const Token& token) { return token.operands > 0; });
  return static_cast<double>(operations * node.count()) * (backward ? 2 : 1);
}

std::span<const double> statement_constants(const Graph& graph, NodeId id) {
  const auto& statement = *reinterpret_cast<const Statement*>(graph.node(id).operation);
  if (!graph.node(id).needs_grad) return {};
  return {graph.payload<Kept>(id).constants, statement.constants};
}

void statement_backward(Graph& graph, NodeId id) {
  if (graph.node(id).input_count <= StatementSweep::few) return StatementSweep(graph, id).run();
  auto scratch = graph.scratch();
  StatementSweep(graph, id).run();
}

NodeId Graph::rowwise(NodeId id, Source where) {
  if (nodes_[id].layout->rowwise()) return id;
  return contiguous(id, where);
}

NodeId Graph::contiguous(NodeId id, Source where) {
  if (nodes_[id].layout->contiguous()) return id;
  return record_statement(*this, statement<Apply<Copy, Input>>, &id, nullptr, where);
}

}  // namespace unroll::detail
