#include <autograd/linear_algebra.h>

#include <autograd/elementwise.h>
#include <autograd/gemm.h>
#include <autograd/matmul.h>
#include <autograd/shape_ops.h>
#include <autograd/statement.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace unroll {

namespace detail {

namespace {

// Multiplications that are worth a thread, as in gemm.cpp.
constexpr Index work_each = Index{1} << 19;

/// How the matrices of one operand lie in memory.
struct Side {
  Index rows, columns;
  Index stride = 1;                    ///< from row to row; the elements of a row are neighbours
  bool transposed = false;             ///< the rows in memory are the columns
  std::array<Index, max_rank> step{};  ///< to the next matrix along a batch axis: 0 where the same one is used again

  Side flipped() const {
    Side result = *this;
    std::swap(result.rows, result.columns);
    result.transposed = !transposed;
    if (result.transposed && result.columns == 1) {  // one row in memory: a column of neighbours
      result.transposed = false;
      result.stride = 1;
    } else if (result.transposed && result.rows == 1 && stride == 1) {
      result.transposed = false;
      result.stride = result.columns;
    }
    return result;
  }
};

/// The number of axes that count batches: the last two are a matrix's; a vector is a matrix too.
int batch_rank(const Shape& shape) { return std::max(shape.rank() - 2, 0); }

/// The last axes of a layout as a matrix. A vector is a row of the left-hand factor, a column of the right-hand one.
struct Matrix {
  Index rows, columns;
  Index down, right;  ///< strides

  Matrix(const Layout& layout, bool is_right) {
    const Shape& shape = layout.shape;
    const int last = shape.rank() - 1;
    rows = last > 0 ? shape[last - 1] : 1;
    columns = shape[last];
    down = last > 0 ? layout.stride(last - 1) : 0;
    right = layout.stride(last);
    if (last > 0 || !is_right) return;
    std::swap(rows, columns);
    std::swap(down, right);
  }
  bool has_rows() const { return columns <= 1 || right == 1; }
  bool has_columns() const { return rows <= 1 || down == 1; }
  Side side() const {
    if (has_rows()) return {.rows = rows, .columns = columns, .stride = rows > 1 ? down : std::max<Index>(columns, 1)};
    return {.rows = rows, .columns = columns, .stride = right, .transposed = true};
  }
};

/// y = a b as a walk over batch axes: of each the size, and what one step along it is in the operands.
struct Batches {
  int rank = 0;
  std::array<Index, max_rank> size{};
  Side a, b, y;

  Batches(const Layout& left, const Layout& right) : a(Matrix(left, false).side()), b(Matrix(right, true).side()) {
    y = {.rows = a.rows, .columns = b.columns, .stride = std::max<Index>(b.columns, 1)};
    const int axes = std::max(batch_rank(left.shape), batch_rank(right.shape));
    for (int axis = 0; axis < axes; ++axis) add_axis(axis - axes, left, right);
    Index next = a.rows * b.columns;
    for (auto axis = static_cast<std::size_t>(rank); axis-- > 0; next *= size[axis]) y.step[axis] = next;
    merge_rows();
  }

 private:
  /// `axis` counts from the last batch axis, which is -1.
  void add_axis(int axis, const Layout& left, const Layout& right) {
    Index most = 1;
    const auto next = static_cast<std::size_t>(rank);
    auto add = [&](const Layout& layout, Side& side) {
      const int own = batch_rank(layout.shape) + axis;
      side.step[next] = 0;
      if (own < 0 || layout.shape[own] == 1) return;
      side.step[next] = layout.stride(own);
      most = layout.shape[own];
    };
    add(left, a);
    add(right, b);
    size[next] = most;
    if (most != 1) ++rank;
  }

  /// Matrices of a that lie one after another and meet the same matrix of b are one matrix with more rows.
  void merge_rows() {
    while (rank > 0) {
      const auto last = static_cast<std::size_t>(rank) - 1;
      if (b.step[last] != 0 || a.transposed || (a.rows > 1 && a.step[last] != a.rows * a.stride)) return;
      if (a.rows == 1) a.stride = a.step[last];
      a.rows *= size[last];
      y.rows = a.rows;
      --rank;
    }
  }
};

/// c (+)= l r, matrix by matrix, summed over the batch axes that c does not have.
template <class T>
class Products {
 public:
  template <class U>
  struct Operand {
    U* data;
    Side side;
    Operand flipped() const { return {data, side.flipped()}; }
  };

  Products(Graph& graph, const Batches& batches, const Operand<T>& c, bool fresh, const Operand<const T>& l,
           const Operand<const T>& r)
      : graph_(graph), c_(c), l_(l), r_(r), fresh_(fresh) {
    if (c_.side.transposed) flip();
    // With one row or one column, nothing has to be arranged if it meets the other factor's rows as they lie.
    if (c_.side.rows == 1 ? r_.side.transposed : c_.side.columns == 1 && c_.side.stride == 1 && l_.side.transposed)
      flip();
    by_column_ = c_.side.columns == 1 && !l_.side.transposed && (r_.side.stride == 1 || r_.side.rows <= 1);
    by_row_ = l_.side.columns == 1 && !r_.side.transposed && !by_column_;
    order_axes(batches);
  }

  void run() {
    const Side &c = c_.side, &l = l_.side;
    const Index all = targets_ * terms_, each = c.rows * c.columns * l.columns, team = graph_.team().size();
    if (all * c.rows * c.columns == 0) return;
    // However the work is cut, the bits are the same: here, too, it may follow the number of threads.
    Index pieces = std::clamp<Index>(all * each / work_each, 1, std::min(targets_, team));
    if (targets_ < 2 * team && each >= 2 * work_each) pieces = 1;  // the threads share each product instead
    auto scratch = graph_.scratch();
    const Index memory = arrange();
    T* buffers = static_cast<T*>(graph_.allocate(static_cast<std::size_t>(pieces * memory) * sizeof(T)));
    if (pieces == 1) {
      run(graph_.team(), 0, all, buffers);
      return;
    }
    graph_.team().for_each_block(pieces, [&](Index piece) {
      Team alone{Team::Alone{}};
      run(alone, targets_ * piece / pieces * terms_, targets_ * (piece + 1) / pieces * terms_,
          buffers + piece * memory);
    });
  }

 private:
  /// c^T = r^T l^T.
  void flip() {
    c_ = c_.flipped();
    std::swap(l_, r_);
    l_ = l_.flipped();
    r_ = r_.flipped();
  }

  /// First the axes of c, among them last those where a matrix of r is used again; then those summed over.
  void order_axes(const Batches& batches) {
    for (int turn = 0; turn < 3; ++turn)
      for (std::size_t axis = 0; axis < static_cast<std::size_t>(batches.rank); ++axis) {
        const int order = c_.side.step[axis] == 0 ? 2 : r_.side.step[axis] == 0 ? 1 : 0;
        if (order != turn) continue;
        axes_[rank_++] = {batches.size[axis], c_.side.step[axis], l_.side.step[axis], r_.side.step[axis]};
        (turn == 2 ? terms_ : targets_) *= batches.size[axis];
      }
  }

  /// Decides which factors are copied for the kernels; the elements that takes. A column of a factor that spreads over
  /// more than this is slow to read again and again.
  Index arrange() {
    constexpr Index near = Index{1} << 17, few_rows = 64;
    const Index m = c_.side.rows, n = c_.side.columns, k = l_.side.columns;
    if (by_column_ || by_row_ || k == 0) return 0;
    auto far = [&](const Side& side) { return k * std::abs(side.stride) * static_cast<Index>(sizeof(T)) > near; };
    packs_right_ = r_.side.transposed || (m >= few_rows && far(r_.side));
    packs_left_ = l_.side.transposed && far(l_.side);
    auto rounded = [](Index size) { return (size + 15) / 16 * 16; };
    right_size_ = packs_right_ ? rounded(packed_size(k, n, panel_columns<T>())) : 0;
    return right_size_ + (packs_left_ ? rounded(packed_size(k, m, group_rows<T>(m))) : 0);
  }

  void run(Team& team, Index begin, Index end, T* buffer) const {
    const Index m = c_.side.rows, n = c_.side.columns, k = l_.side.columns;
    const T* packed = nullptr;
    for (Index i = begin; i < end; ++i) {
      T* c = c_.data;
      const T *l = l_.data, *r = r_.data;
      Index rest = i;
      for (std::size_t axis = rank_; axis-- > 0; rest /= axes_[axis].size) {
        const Index at = rest % axes_[axis].size;
        c += at * axes_[axis].c;
        l += at * axes_[axis].l;
        r += at * axes_[axis].r;
      }
      const Start<T> start = fresh_ && i % terms_ == 0 ? Start<T>{} : Start<T>{c, c_.side.stride};
      if (by_column_ || by_row_) {
        by_column_ ? multiply_by_column(team, l, r, start, c) : multiply_by_row(team, l, r, start, c);
        continue;
      }
      if (packs_right_ && std::exchange(packed, r) != r) pack_right(team, r, buffer);
      multiply(team, m, n, k, left(team, l, buffer + right_size_),
               packs_right_ ? packed_right<T>(buffer, k) : right_in_place(r, r_.side.stride), start, c, c_.side.stride);
    }
  }

  void pack_right(Team& team, const T* r, T* to) const {
    const Index k = r_.side.rows, n = r_.side.columns, width = panel_columns<T>();
    if (r_.side.transposed)
      pack_transposed(team, r, r_.side.stride, k, n, width, to);
    else
      pack_rows<T>(team, k, {r, r_.side.stride, n, width, to, k});
  }
  Left<T> left(Team& team, const T* l, T* to) const {
    const Index m = l_.side.rows, k = l_.side.columns, stride = l_.side.stride, group = group_rows<T>(m);
    if (!l_.side.transposed) return left_in_place(l, stride, m);
    if (!packs_left_) return {l, 1, stride, group, group};
    pack_rows<T>(team, k, {l, stride, m, group, to, k});
    return packed_left<T>(to, k, m);
  }

  /// c = start + l r where r is a column: every row is read once, as it lies.
  void multiply_by_column(Team& team, const T* l, const T* r, const Start<T>& start, T* c) const {
    const Index k = l_.side.columns;
    for_rows(team, c_.side.rows, k, [&](Index begin, Index end) {
      for (Index row = begin; row < end; ++row) {
        const T sum = sum_of_products(l + row * l_.side.stride, r, k);
        c[row * c_.side.stride] = start.data == nullptr ? sum : start.data[row * start.row] + sum;
      }
    });
  }

  /// What 16 packets come to in T is added up in Wide<T>.
  static T sum_of_products(const T* x, const T* y, Index k) {
    using P = Packet<T>;
    constexpr Index width = P::SizeAtCompileTime, some = 16 * width;
    const Index whole = k / width * width;
    Wide<T> sum(0);
    for (Index begin = 0; begin < whole; begin += some) {
      P part = P::Zero();
      for (Index p = begin; p < std::min(begin + some, whole); p += width)
        part += Eigen::Map<const P>(x + p) * Eigen::Map<const P>(y + p);
      sum += static_cast<Wide<T>>(part.sum());
    }
    using Rest = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1, 0, width>>;
    if (whole < k) sum += static_cast<Wide<T>>((Rest(x + whole, k - whole) * Rest(y + whole, k - whole)).sum());
    return static_cast<T>(sum);
  }

  /// c = start + l r where l is a column and r a row: nothing is summed.
  void multiply_by_row(Team& team, const T* l, const T* r, const Start<T>& start, T* c) const {
    using Row = Eigen::Array<T, Eigen::Dynamic, 1>;
    const Index n = c_.side.columns, step = l_.side.transposed ? 1 : l_.side.stride;
    for_rows(team, c_.side.rows, n, [&](Index begin, Index end) {
      for (Index row = begin; row < end; ++row) {
        Eigen::Map<Row> to(c + row * c_.side.stride, n);
        const Eigen::Map<const Row> from(r, n);
        if (start.data == nullptr)
          to = l[row * step] * from;
        else
          to += l[row * step] * from;
      }
    });
  }

  template <class F>
  static void for_rows(Team& team, Index rows, Index each, const F& f) {
    const Index blocks = std::clamp<Index>(rows * each / (8 * parallel_grain), 1, std::min<Index>(16, rows));
    team.for_each_block(blocks, [&](Index block) { f(rows * block / blocks, rows * (block + 1) / blocks); });
  }

  struct Axis {
    Index size, c, l, r;
  };

  Graph& graph_;
  Operand<T> c_;
  Operand<const T> l_, r_;
  std::array<Axis, max_rank> axes_;
  std::size_t rank_ = 0;
  Index targets_ = 1, terms_ = 1;  ///< matrices of c, and products summed in each
  Index right_size_ = 0;           ///< elements of an arranged right-hand factor
  bool fresh_, by_column_ = false, by_row_ = false, packs_left_ = false, packs_right_ = false;
};

/// dA = dY B^T and dB = A^T dY, matrix by matrix.
void batches_backward(Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  const NodeId a = node.inputs[0], b = node.inputs[1];
  const bool needs_a = graph.node(a).needs_grad, needs_b = graph.node(b).needs_grad;
  if (node.count() == 0) {
    if (needs_a) graph.accumulator(a);
    if (needs_b) graph.accumulator(b);
    return;
  }
  const Batches batches(*graph.node(a).layout, *graph.node(b).layout);
  with_scalar(node.dtype, [&]<class T>(T) {
    using From = typename Products<T>::template Operand<const T>;
    const From l{graph.value<T>(a), batches.a}, r{graph.value<T>(b), batches.b};
    const From dy{reinterpret_cast<const T*>(node.grad), batches.y};
    auto add = [&](NodeId input, const Side& side, const From& left, const From& right) {
      const GradTarget target = graph.target(input);
      Products<T>(graph, batches, {reinterpret_cast<T*>(target.data), side}, target.fresh, left, right).run();
    };
    if (needs_a) add(a, batches.a, dy, r.flipped());
    if (needs_b) add(b, batches.b, l.flipped(), dy);
  });
}

double batches_flops(const Graph& graph, NodeId id, std::span<const NodeId> inputs, bool backward) {
  const Node &a = graph.node(inputs[0]), &b = graph.node(inputs[1]);
  const double products = backward ? (a.needs_grad ? 1 : 0) + (b.needs_grad ? 1 : 0) : 1;
  return 2.0 * products * static_cast<double>(graph.node(id).count() * a.layout->shape.columns());
}

constexpr Operation batches_operation{"matmul", batches_backward, batches_flops};

/// The operand itself when its matrices can be read as they lie, else a copy of it.
NodeId readable(Graph& graph, NodeId id, bool is_right, Source where) {
  const Matrix matrix(*graph.node(id).layout, is_right);
  return matrix.has_rows() || matrix.has_columns() ? id : graph.contiguous(id, where);
}

}  // namespace

Shape product_shape(const Shape& a, const Shape& b, Source where) {
  if (a.rank() < 1 || b.rank() < 1)
    fail_at(where, "matmul: a is {} and b is {}; each must have at least one axis", a, b);
  const bool to_vector = b.rank() == 1;
  if (a.columns() != b[std::max(b.rank() - 2, 0)])
    fail_at(where, "matmul: a is {} and b is {}; a's last axis must equal b's {}", a, b,
            to_vector ? "only one" : "second to last");
  const Shape matrix(std::array<Index, 2>{a.rank() > 1 ? a[a.rank() - 2] : 1, to_vector ? 1 : b.columns()});
  auto batch = [](const Shape& shape) {
    return Shape(shape.sizes().first(static_cast<std::size_t>(batch_rank(shape))));
  };
  const Shape p = batch(a), q = batch(b);
  for (int i = 1; i <= std::min(p.rank(), q.rank()); ++i) {
    const Index m = p[p.rank() - i], n = q[q.rank() - i];
    if (m != n && m != 1 && n != 1)
      fail_at(where, "matmul: a is {} and b is {}; the axes before the matrices, {} and {}, do not broadcast", a, b, p,
              q);
  }
  Shape y = broadcast(p, q, "matmul", where);
  if (a.rank() > 1) y = y.insert(y.rank(), a[a.rank() - 2]);
  if (b.rank() > 1) y = y.insert(y.rank(), b.columns());
  return y;
}

NodeId record_batches(Graph& graph, NodeId a, NodeId b, const NodeLayout* y, Source where) {
  const NodeId inputs[] = {readable(graph, a, false, where), readable(graph, b, true, where)};
  const NodeId id = graph.add(batches_operation, inputs, y, where);
  if (graph.node(id).count() == 0) return id;
  const Batches batches(*graph.node(inputs[0]).layout, *graph.node(inputs[1]).layout);
  with_scalar(graph.node(id).dtype, [&]<class T>(T) {
    Products<T>(graph, batches, {graph.value<T>(id), batches.y}, true, {graph.value<T>(inputs[0]), batches.a},
                {graph.value<T>(inputs[1]), batches.b})
        .run();
  });
  graph.computed(id, inputs);
  return id;
}

}  // namespace detail

namespace {

/// Two vectors on one tape.
std::array<Var, 2> vectors(const char* function, const Argument& a, const Argument& b, Source where) {
  detail::Graph* graph = a.graph() != nullptr ? a.graph() : b.graph();
  if (graph == nullptr) fail_at(where, "{}: no operand is a Var, so no tape; start from tape.use(parameter)", function);
  const std::array<Var, 2> x{graph->var(a.bind(*graph, function, where)), graph->var(b.bind(*graph, function, where))};
  if (x[0].rank() != 1 || x[1].rank() != 1)
    fail_at(where, "{}: a is {} and b is {}; both must be vectors", function, x[0].shape(), x[1].shape());
  if (x[0].dtype() != x[1].dtype())
    fail_at(where, "{}: a is {} and b is {}; convert one of them", function, x[0].dtype(), x[1].dtype());
  return x;
}

}  // namespace

Var dot(const Argument& a, const Argument& b, Source where) {
  const std::array<Var, 2> x = vectors("dot", a, b, where);
  if (x[0].shape() != x[1].shape())
    fail_at(where, "dot: a is {} and b is {}; they must agree", x[0].shape(), x[1].shape());
  return Var(matmul(x[0], x[1], where), where);
}

Var outer(const Argument& a, const Argument& b, Source where) {
  const std::array<Var, 2> x = vectors("outer", a, b, where);
  return Var(reshape(x[0], {x[0].size(0), 1}, where) * x[1], where);
}

}  // namespace unroll
