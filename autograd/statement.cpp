#include <autograd/expression.h>
#include <autograd/strided_tile.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

namespace unroll::detail {

namespace {

constexpr std::size_t few = 16;
static_assert(most_lanes % Packet<float>::SizeAtCompileTime == 0);

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

/// An array of N elements, or where that is not known of `size`.
template <class T, std::size_t N>
struct ArrayOf : std::array<T, N> {
  ArrayOf(Graph&, std::size_t) {}
};
template <class T>
struct ArrayOf<T, std::dynamic_extent> : SmallArray<T> {
  using SmallArray<T>::SmallArray;
};

/// `f.operator()<N>()` with N the number of inputs, where they are few: loops over them would be a large part of what a
/// statement of single numbers costs.
template <class F>
UNROLL_INLINE decltype(auto) with_count(std::size_t inputs, F&& f) {
  switch (inputs) {
    case 1:
      return f.template operator()<1>();
    case 2:
      return f.template operator()<2>();
    case 3:
      return f.template operator()<3>();
    case 4:
      return f.template operator()<4>();
    default:
      return f.template operator()<std::dynamic_extent>();
  }
}

/// A walk's work cut into blocks: of columns when there is one row, else of rows.
struct Blocks {
  Index count = 1;
  Index units;       ///< columns or rows of all
  Index units_each;  ///< of every block but the last
  bool of_columns;

  Blocks(const Walk& walk, Index most) {
    of_columns = walk.rows == 1;
    units = of_columns ? walk.size[0] : walk.rows;
    Index wanted = std::min(grains(walk.count), std::max<Index>(most, 1));
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

/// What the sweep needs of a statement. Its constants lie behind it.
struct Kept {
  const Plan* plan;
  const double* constants() const { return reinterpret_cast<const double*>(this + 1); }
};

void keep_statement(Graph& graph, Node& node, const Plan& plan, const double* constants, std::size_t count) {
  if (!node.needs_grad) return;
  auto* kept = new (graph.arena().allocate(sizeof(Kept) + count * sizeof(double), alignof(Kept))) Kept{&plan};
  auto* numbers = reinterpret_cast<double*>(kept + 1);
  for (std::size_t i = 0; i < count; ++i) numbers[i] = constants[i];
  node.payload = kept;
}

/// Of the tile that is all of a walk, whatever follows from the walk.
UNROLL_INLINE void set_walk(Tile& tile, const Walk& walk) {
  tile.rows = walk.rows;
  tile.columns = walk.size[0];
  tile.row_stride = tile.dx_row_stride = walk.strides[1];
  tile.y_stride = walk.size[0];
  tile.column_stride = tile.dx_column_stride = walk.strides[0];
  tile.unit_columns = walk.unit_columns;
}

/// The forward of a statement that is large, or no rectangle.
void run_blocks(Graph& graph, const Walk& walk, StretchKernel& kernel, DType dtype, const Tile& whole) {
  auto scratch = graph.scratch();
  const Blocks blocks(walk, 256);
  const std::size_t n = whole.inputs, size = size_of(dtype);
  SmallArray<void*> starts(graph, n * static_cast<std::size_t>(blocks.count));
  graph.team().for_each_block(blocks.count, [&](Index block) {
    void** x = starts.data() + static_cast<std::size_t>(block) * n;
    for_each_tile(walk, blocks, block, [&](Index rows, Index columns, auto offset, Index y_offset) {
      for (std::size_t k = 0; k < n; ++k) x[k] = advance(whole.x[k], offset(k), size);
      Tile tile = whole;
      tile.rows = rows;
      tile.columns = columns;
      tile.x = x;
      tile.y = advance(whole.y, y_offset, size);
      run_kernel(kernel, dtype, tile);
    });
  });
}

[[gnu::noinline]] void compute(Graph& graph, const Plan& plan, StretchKernel& kernel, DType dtype, std::size_t n,
                               void* const* x, const double* constants, void* y) {
  if (plan.straight) return kernel({plan.walk.count, x, constants, y, nullptr, nullptr, nullptr});
  Tile whole;  // member by member: initialised as one, its padding would be set to zero first
  set_walk(whole, plan.walk);
  whole.inputs = n;
  whole.x = x;
  whole.constants = constants;
  whole.y = y;
  whole.dy = nullptr;
  if (plan.whole)
    run_kernel(kernel, dtype, whole);
  else
    run_blocks(graph, plan.walk, kernel, dtype, whole);
}

/// Packets in which every lane is the same number, and their addresses, as a kernel takes them.
template <std::size_t N>
struct Numbers {
  static constexpr std::size_t most = N == std::dynamic_extent ? most_inputs : N;
  alignas(64) std::byte packets[most][sizeof(Packet<float>)];
  void* addresses[most];

  /// The first element of each.
  template <class T>
  T& at(std::size_t k) {
    return *reinterpret_cast<T*>(packets[k]);
  }
  template <class T>
  void take(const void* from, std::size_t k) {
    splat(*static_cast<const T*>(from), &at<T>(k));
    addresses[k] = packets[k];
  }
};

/// A statement of single numbers: nothing is repeated, so nothing is counted.
template <std::size_t N>
UNROLL_INLINE void compute_number(StretchKernel& kernel, DType dtype, std::size_t n, void* const* x,
                                  const double* constants, void* y) {
  with_scalar(dtype, [&]<class T>(T) {
    Numbers<N> inputs;
    Numbers<1> result;
    for (std::size_t k = 0; k < n; ++k) inputs.template take<T>(x[k], k);
    kernel({Packet<T>::SizeAtCompileTime, inputs.addresses, constants, result.packets, nullptr, nullptr, nullptr});
    *static_cast<T*>(y) = result.at<T>(0);
  });
}

/// Its backward, where x are the inputs and, behind them, their gradients.
template <std::size_t N>
UNROLL_INLINE void sweep_number(StretchKernel& kernel, DType dtype, std::size_t n, void* const* x,
                                const double* constants, const void* dy, const Adjoint* adjoint) {
  with_scalar(dtype, [&]<class T>(T) {
    Numbers<N> inputs, shares;
    Numbers<1> from_above;
    for (std::size_t k = 0; k < n; ++k) {
      inputs.template take<T>(x[k], k);
      shares.addresses[k] = shares.packets[k];
    }
    from_above.take<T>(dy, 0);
    kernel({Packet<T>::SizeAtCompileTime, inputs.addresses, constants, nullptr, from_above.packets, shares.addresses,
            all_written.data()});
    for (std::size_t k = 0; k < n; ++k) {  // one by one: two of the inputs may be the same
      T* dx = static_cast<T*>(x[n + k]);
      if (adjoint[k] == Adjoint::write)
        *dx = shares.template at<T>(k);
      else if (adjoint[k] == Adjoint::add)
        *dx += shares.template at<T>(k);
    }
  });
}

[[noreturn]] void refuse_types(const Node& x, const Node& y, Source where) {
  fail_at(where, "element-wise expression: {} {} meets {} {}; convert one of them", x.dtype, x.layout->shape, y.dtype,
          y.layout->shape);
}

/// Whether a gradient is wanted for an input that more than a mask is computed from.
bool any_needs_grad(const Graph& graph, const Statement& statement, std::span<const NodeId> inputs) {
  const bool* differentiable = statement.differentiable;
  return std::ranges::any_of(inputs, [&](NodeId input) { return *differentiable++ && graph.node(input).needs_grad; });
}

// What takes the address of a variable keeps it out of a register: a statement of single numbers, whose recording is
// counted in nanoseconds, would notice. So all of that is in other functions, and a few inputs have code of their own.
template <std::size_t N>
NodeId record(Graph& graph, const Statement& statement, std::span<const NodeId, N> inputs, const double* constants,
              Source where) {
  const std::size_t n = inputs.size();
  ArrayOf<const NodeLayout*, N> layouts(graph, n);
  ArrayOf<void*, N> data(graph, n);
  const DType dtype = graph.node(inputs[0]).dtype;
  for (std::size_t k = 0; k < n; ++k) {
    const Node& input = graph.node(inputs[k]);
    if (input.dtype != dtype) [[unlikely]]
      refuse_types(graph.node(inputs[0]), input, where);
    layouts[k] = input.layout;
    data[k] = input.value;
  }
  const Plan& plan = graph.plans().plan(std::span<const NodeLayout* const, N>(layouts.data(), n), where);
  const Walk& walk = plan.walk;
  const NodeId id = graph.add(statement.operation, inputs, plan.result, where);
  Node& node = graph.node(id);
  if (!statement.wholly) node.needs_grad = any_needs_grad(graph, statement, inputs);
  keep_statement(graph, node, plan, constants, statement.constants);
  if (walk.count == 0) return id;

  StretchKernel& kernel = *statement.forward[static_cast<int>(dtype)];
  if (walk.count == 1)
    compute_number<N>(kernel, dtype, n, data.data(), constants, node.value);
  else
    compute(graph, plan, kernel, dtype, n, data.data(), constants, node.value);
  graph.computed(id, inputs);
  return id;
}

}  // namespace

NodeId record_statement(Graph& graph, const Statement& statement, const NodeId* inputs, const double* constants,
                        Source where) {
  return with_count(statement.inputs, [&]<std::size_t N>() {
    return record(graph, statement, std::span<const NodeId, N>(inputs, statement.inputs), constants, where);
  });
}

namespace {

/// Notes where the inputs' elements lie and, behind them, their gradients. True when the gradients of two inputs may
/// overlap in memory, so that blocks would race.
UNROLL_INLINE bool choose_targets(Graph& graph, const Node& node, std::size_t n, const Plan& plan, void** x,
                                  Adjoint* adjoint) {
  bool any_overlap = false;
  for (std::size_t k = 0; k < n; ++k) {
    adjoint[k] = Adjoint::skip;
    for (std::size_t j = 0; j < k; ++j) {
      if (!may_overlap(graph, node.inputs[k], node.inputs[j])) continue;
      any_overlap = true;
      adjoint[k] = adjoint[j] = Adjoint::add;
    }
  }
  for (std::size_t k = 0; k < n; ++k) {
    const Node& input = graph.node(node.inputs[k]);
    x[k] = x[n + k] = input.value;  // the gradient that nobody needs is never written
    if (!input.needs_grad) continue;
    GradTarget target{nullptr, false};
    if (adjoint[k] == Adjoint::add || (plan.repeats && plan.walk.repeats(k, 0)))
      target.data = graph.accumulator(node.inputs[k]);
    else
      target = graph.target(node.inputs[k]);
    x[n + k] = target.data;
    adjoint[k] = target.fresh ? Adjoint::write : Adjoint::add;
  }
  return any_overlap;
}

/// The backward of a statement that is large, or no rectangle, or has an input that is broadcast.
class BlockSweep {
 public:
  /// `all` is the statement as one tile.
  BlockSweep(Graph& graph, const Node& node, const Walk& walk, StretchKernel& kernel, const Tile& all)
      : graph_(graph),
        node_(node),
        walk_(&walk),
        kernel_(kernel),
        all_(all),
        size_(size_of(node.dtype)),
        n_(all.inputs) {}

  void run(bool overlap) {
    auto scratch = graph_.scratch();
    SmallArray<std::byte*> partial(graph_, n_);
    std::fill_n(partial.data(), n_, nullptr);
    Blocks blocks(*walk_, overlap ? 1 : most_blocks());
    Walk own;
    if (blocks.count > 1 && give_blocks_their_own(blocks, partial, own)) {
      walk_ = &own;
      set_walk(all_, own);
      all_.dx_row_stride += n_;
      all_.dx_column_stride += n_;
      grads_ = n_;
    }
    sweep(blocks, partial);
    gather(blocks, partial);
  }

 private:
  const Node& input(std::size_t k) const { return graph_.node(node_.inputs[k]); }

  /// Blocks that share an input's gradient each sum into memory of their own: no more of it in all than
  /// the statement itself is large.
  Index most_blocks() const {
    Index shared = 0;
    for (std::size_t k = 0; k < n_; ++k)
      if (input(k).needs_grad && walk_->repeats(k, walk_->rows == 1 ? 0 : 1)) shared += input(k).count();
    return shared == 0 ? 256 : std::min<Index>(32, walk_->count / (2 * shared));
  }

  /// Makes memory for those sums, and the walk that goes with it. False when there are none.
  bool give_blocks_their_own(const Blocks& blocks, SmallArray<std::byte*>& partial, Walk& own) {
    bool any = false;
    auto* layouts = graph_.array<const Layout*>(2 * n_);
    for (std::size_t k = 0; k < n_; ++k) {
      const Node& x = input(k);
      layouts[k] = layouts[n_ + k] = x.layout;
      if (!x.needs_grad || !walk_->repeats(k, blocks.of_columns ? 0 : 1)) continue;
      std::size_t bytes = static_cast<std::size_t>(blocks.count) * x.bytes();
      partial[k] = graph_.pool().allocate(bytes);
      std::memset(partial[k], 0, bytes);
      layouts[n_ + k] = graph_.layout(x.layout->shape);
      any = true;
    }
    if (!any) return false;
    own = Walk(graph_.arena(), node_.layout->shape, {layouts, 2 * n_});
    return true;
  }

  void sweep(const Blocks& blocks, SmallArray<std::byte*>& partial) {
    SmallArray<void*> starts(graph_, 2 * n_ * static_cast<std::size_t>(blocks.count));
    graph_.team().for_each_block(blocks.count, [&](Index block) {
      void** x = starts.data() + static_cast<std::size_t>(block) * 2 * n_;
      for_each_tile(*walk_, blocks, block, [&](Index rows, Index columns, auto offset, Index y_offset) {
        for (std::size_t k = 0; k < n_; ++k) {
          void* to = all_.dx[k];
          if (partial[k] != nullptr) to = partial[k] + static_cast<std::size_t>(block) * input(k).bytes();
          x[k] = advance(all_.x[k], offset(k), size_);
          x[n_ + k] = advance(to, offset(grads_ + k), size_);
        }
        Tile tile = all_;
        tile.rows = rows;
        tile.columns = columns;
        tile.x = x;
        tile.dx = x + n_;
        tile.dy = advance(all_.dy, y_offset, size_);
        run_kernel(kernel_, node_.dtype, tile);
      });
    });
  }

  /// Adds up what the blocks summed, in the blocks' order.
  void gather(const Blocks& blocks, SmallArray<std::byte*>& partial) {
    for (std::size_t k = 0; k < n_; ++k) {
      if (partial[k] == nullptr) continue;
      const Node& x = input(k);
      with_scalar(x.dtype, [&]<class T>(T) {
        const T* sums = reinterpret_cast<const T*>(partial[k]);
        for (Index block = 0; block < blocks.count; ++block)
          add_into(static_cast<T*>(all_.dx[k]), *x.layout, sums + block * x.count());
      });
      graph_.pool().release(partial[k], static_cast<std::size_t>(blocks.count) * x.bytes());
    }
  }

  Graph& graph_;
  const Node& node_;
  const Walk* walk_;
  StretchKernel& kernel_;
  Tile all_;
  std::size_t size_, n_;
  std::size_t grads_ = 0;  ///< where the strides of the inputs' gradients begin among the walk's
};

[[gnu::noinline]] void sweep_tile(Graph& graph, const Node& node, const Plan& plan, StretchKernel& kernel, void** x,
                                  const double* constants, const Adjoint* adjoint, bool overlap) {
  if (plan.straight) return kernel({plan.walk.count, x, constants, nullptr, node.grad, x + node.input_count, adjoint});
  Tile all;
  set_walk(all, plan.walk);
  all.inputs = node.input_count;
  all.x = x;
  all.constants = constants;
  all.dy = node.grad;
  all.dx = x + node.input_count;
  all.adjoint = adjoint;
  if (plan.whole && !plan.repeats)
    run_kernel(kernel, node.dtype, all);
  else
    BlockSweep(graph, node, plan.walk, kernel, all).run(overlap);
}

template <std::size_t N>
void sweep(Graph& graph, const Node& node) {
  const std::size_t n = N == std::dynamic_extent ? node.input_count : N;
  const auto& kept = *static_cast<const Kept*>(node.payload);
  const Plan& plan = *kept.plan;
  if (plan.walk.count == 0) {
    for (NodeId input : node.input_ids())
      if (graph.node(input).needs_grad) graph.accumulator(input);
    return;
  }
  ArrayOf<void*, N == std::dynamic_extent ? N : 2 * N> x(graph, 2 * n);
  ArrayOf<Adjoint, N> adjoint(graph, n);
  const bool overlap = choose_targets(graph, node, n, plan, x.data(), adjoint.data());
  const auto& statement = *reinterpret_cast<const Statement*>(node.operation);
  StretchKernel& kernel = *statement.backward[static_cast<int>(node.dtype)];
  if (plan.walk.count == 1)
    sweep_number<N>(kernel, node.dtype, n, x.data(), kept.constants(), node.grad, adjoint.data());
  else
    sweep_tile(graph, node, plan, kernel, x.data(), kept.constants(), adjoint.data(), overlap);
}

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
  return {graph.payload<Kept>(id).constants(), statement.constants};
}

void statement_backward(Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  with_count(node.input_count, [&]<std::size_t N>() {
    if constexpr (N == std::dynamic_extent) {
      auto scratch = graph.scratch();
      sweep<N>(graph, node);
    } else {
      sweep<N>(graph, node);
    }
  });
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
