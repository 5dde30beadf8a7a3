#include <autograd/loss.h>

#include <autograd/elementwise.h>
#include <autograd/log_sum_exp.h>
#include <autograd/record.h>
#include <autograd/reduce.h>
#include <autograd/shape_ops.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace unroll {

using detail::for_each_row;
using detail::Graph;
using detail::LogSumExp;
using detail::MutableRow;
using detail::Row;

void Target::check(const Graph& graph, const char* function, Source where) const {
  if (tensor_ == nullptr) graph.check(var_, function, where);
}

Var Target::on(Graph& graph, Source where) const {
  return tensor_ == nullptr ? var_ : graph.var(graph.add_leaf(tensor_->view(), false, where));
}

namespace {

// --- Checks --------------------------------------------------------------------------------------------

Graph& graph_of(const char* name, const Var& x, Source where) {
  if (x.graph() == nullptr) fail_at(where, "{}: an empty Var; assign a value to it first", name);
  x.graph()->check(x, name, where);
  return *x.graph();
}

/// Of the prediction x and what it is compared with, but for the shapes.
Graph& check_operands(const char* name, const Var& x, const Target& y, Source where) {
  Graph& graph = graph_of(name, x, where);
  y.check(graph, name, where);
  if (!graph.dual() && x.dtype() != y.dtype())
    fail_at(where, "{}: {} meets {}; convert one of them", name, x.dtype(), y.dtype());
  return graph;
}

void check_mean(const char* name, const Shape& shape, Index terms, Reduction reduction, Source where) {
  if (reduction == Reduction::mean && terms == 0)
    fail_at(where, "{}: shape {} has nothing to average; leave an empty batch out, or use Reduction::sum", name, shape);
}

Graph& check_alike(const char* name, const Var& x, const Target& y, Reduction reduction, Source where) {
  Graph& graph = check_operands(name, x, y, where);
  if (x.shape() != y.shape()) fail_at(where, "{}: shapes {} and {}; they must agree", name, x.shape(), y.shape());
  check_mean(name, x.shape(), x.shape().count(), reduction, where);
  return graph;
}

/// Throws Error, naming the first element that is not `fine`.
template <class Fine>
void check_elements(const char* name, const char* what, const TensorView& x, const char* rule, Source where,
                    Fine&& fine) {
  with_type(x.dtype(), [&]<class T>(T) {
    const T* data = x.data<T>();
    const Layout& layout = x.layout();
    const Index count = layout.shape.count();
    if (layout.contiguous()) {
      bool all = true;  // without a way out of the loop, so that it runs on whole registers
      for (Index i = 0; i < count; ++i) all &= fine(data[i]);
      if (all) return;
    }
    for (Index i = 0; i < count; ++i) {
      Index offset = 0, rest = i;
      for (int axis = layout.shape.rank() - 1; axis >= 0; --axis) {
        offset += rest % layout.shape[axis] * layout.stride(axis);
        rest /= layout.shape[axis];
      }
      if (!fine(data[offset])) fail_at(where, "{}: {} {} is {}; it must be {}", name, what, i, data[offset], rule);
    }
  });
}

/// With room for what rounding leaves of mixtures.
void check_probabilities(const char* name, const char* what, const TensorView& x, Source where) {
  constexpr double slack = 1e-4;
  check_elements(name, what, x, "in [0, 1]", where, [](auto p) { return !(p < -slack) & !(p > 1 + slack); });
}

void check_positive(const char* name, const char* what, double value, Source where) {
  if (!(value > 0) || !std::isfinite(value))
    fail_at(where, "{}: {} is {}; it must be above 0 and finite", name, what, value);
}

// --- Rows ----------------------------------------------------------------------------------------------

/// dL/dx_k, to be written where it is fresh and added to where not.
template <class T>
struct Adjoint {
  Adjoint(Derivative<T>& d, int k) : stride(d.x(k).outerStride()), columns(d.x(k).cols()) {
    detail::GradTarget target = d.graph().target(d.input(k));
    data = reinterpret_cast<T*>(target.data);
    fresh = target.fresh;
  }
  MutableRow<T> row(Index i) const { return {data + i * stride, columns}; }
  template <class E>
  void add(Index i, const E& contribution) const {
    if (fresh)
      row(i) = contribution;
    else
      row(i) += contribution;
  }

  T* data;
  Index stride, columns;
  bool fresh;
};

/// The result of a loss from its terms.
template <class T>
void reduce_terms(MatrixMap<T> y, const Wide<T>* terms, Index count, Reduction reduction, double divisor) {
  Wide<T> sum = 0;
  for (Index i = 0; i < count; ++i) {
    if (reduction == Reduction::none)
      y.data()[i] = static_cast<T>(terms[i]);
    else
      sum += terms[i];
  }
  if (reduction != Reduction::none) y(0, 0) = static_cast<T>(sum / divisor);
}

Var reduce_terms(const Var& terms, Reduction reduction, Source where) {
  return reduction == Reduction::none ? terms : reduction == Reduction::sum ? sum(terms, where) : mean(terms, where);
}

Shape result_shape(const Shape& rows, Reduction reduction) {
  return reduction == Reduction::none ? rows.without(rows.rank() - 1) : Shape{};
}

// --- Losses with classes -------------------------------------------------------------------------------

/// What an option says of every class: l = -sum_c w_c (hard t_c + soft) log p_c.
struct Classes {
  Index count;
  double hard, soft;
  const double* weight;  ///< null when all are 1

  Classes(const char* name, Graph& graph, const Shape& shape, const CrossEntropyOptions& options, Source where)
      : count(shape.columns()), hard(1 - options.label_smoothing), weight(nullptr) {
    if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1))
      fail_at(where, "{}: label_smoothing is {}; it must be in [0, 1]", name, options.label_smoothing);
    soft = options.label_smoothing / static_cast<double>(count);
    if (!options.class_weights) return;
    const Tensor& w = *options.class_weights;
    if (w.shape() != Shape{count})
      fail_at(where, "{}: class_weights are {} and the classes of {} are {}; one weight is needed for each", name,
              w.shape(), shape, count);
    check_elements(name, "class weight", w, "at least 0 and finite", where,
                   [](auto v) { return (v >= 0) & (v <= std::numeric_limits<decltype(v)>::max()); });
    auto* copy = graph.array<double>(static_cast<std::size_t>(count));
    with_type(w.dtype(), [&]<class T>(T) { std::copy_n(w.data<T>(), count, copy); });
    weight = copy;
  }
  double operator[](Index c) const { return weight == nullptr ? 1 : weight[c]; }
  double sum() const {
    double sum = 0;
    for (Index c = 0; c < count; ++c) sum += (*this)[c];
    return sum;
  }
};

/// Classes as targets, each row's.
struct ClassTargets {
  Classes classes;
  Index rows;
  Reduction reduction;
  double divisor = 1;
  double soft_sum = 0;             ///< sum_c w_c soft
  std::int32_t* target = nullptr;  ///< -1 where it is ignored

  ClassTargets(const char* name, const Var& x, const Indices& targets, const CrossEntropyOptions& options, Source where)
      : classes(name, graph_of(name, x, where), x.shape(), options, where),
        rows(x.shape().rows()),
        reduction(options.reduction) {
    const Shape shape = x.shape();
    if (shape.rank() < 1 || targets.size() != rows)
      fail_at(where, "{}: the input is {} and targets are {}; one target is needed for each row", name, shape,
              targets.shape());
    if (reduction == Reduction::mean && rows == 0)
      fail_at(where, "{}: the input is {}; there are no rows to average over", name, shape);
    target = x.graph()->array<std::int32_t>(static_cast<std::size_t>(rows));
    double weights = 0;
    for (Index row = 0; row < rows; ++row) {
      const std::int32_t t = targets[row];
      const bool ignored = t == options.ignore_index;
      if (!ignored && (t < 0 || t >= classes.count))
        fail_at(where, "{}: target {} is {}; an input of shape {} has classes 0 to {}", name, row, t, shape,
                classes.count - 1);
      target[row] = ignored ? -1 : t;
      if (!ignored) weights += classes[t];
    }
    if (reduction == Reduction::mean && weights == 0)
      fail_at(where, "{}: all {} targets are ignored or of weight 0; leave such a batch out, or use Reduction::sum",
              name, rows);
    if (reduction == Reduction::mean) divisor = weights;
    if (classes.soft > 0) soft_sum = classes.soft * classes.sum();
  }

  bool counts(Index row) const { return target[row] >= 0; }
  double hard(Index row) const { return classes.hard * classes[target[row]]; }

  template <class T>
  Wide<T> loss(const Row<T>& x, const LogSumExp<T>& sums, Index row) const {
    auto nats = [&](Index c) { return sums.log_sum - (static_cast<Wide<T>>(x[c]) - sums.largest); };
    Wide<T> sum = 0;  // a share of 0 leaves a class out, also one of probability 0
    if (double share = hard(row); share != 0) sum += share * nats(target[row]);
    if (soft_sum == 0) return sum;
    for (Index c = 0; c < classes.count; ++c)
      if (classes[c] != 0) sum += classes.soft * classes[c] * nats(c);
    return sum;
  }

  /// What the shares take from dL/dx: dx_c -= g (hard w_t [c = t] + soft w_c).
  template <class T>
  void subtract_shares(MutableRow<T> dx, T g, Index row) const {
    dx[target[row]] -= g * static_cast<T>(hard(row));
    if (soft_sum == 0) return;
    if (classes.weight == nullptr)
      dx -= g * static_cast<T>(classes.soft);
    else
      for (Index c = 0; c < classes.count; ++c) dx[c] -= g * static_cast<T>(classes.soft * classes.weight[c]);
  }
};

/// The loss of rows of logits, or of what is already logarithms of probabilities.
template <bool softmax>
Var class_loss(const char* name, const Var& input, const ClassTargets& targets, Source where) {
  Graph& graph = *input.graph();
  const Index rows = targets.rows, classes = targets.classes.count;
  auto* memory = softmax ? graph.array<LogSumExp<Dual>>(static_cast<std::size_t>(rows)) : nullptr;
  return record<Duals>(
      name, {input}, result_shape(input.shape(), targets.reduction),
      [=, &graph]<class T>(MatrixMap<T> y, ConstMatrixMap<T> x) {
        auto* sums = reinterpret_cast<LogSumExp<T>*>(memory);
        auto scratch = graph.scratch();
        auto* terms = graph.array<Wide<T>>(static_cast<std::size_t>(rows));
        for_each_row(graph, rows, classes, [&](Index row) {
          Row<T> from(x.row(row).data(), classes);
          terms[row] = 0;
          if (!targets.counts(row)) return;
          if (softmax) sums[row] = LogSumExp<T>(from);
          terms[row] = targets.loss(from, softmax ? sums[row] : LogSumExp<T>(), row);
        });
        reduce_terms<T>(y, terms, rows, targets.reduction, targets.divisor);
      },
      [=]<class T>(Derivative<T>& d) {
        const auto* sums = reinterpret_cast<const LogSumExp<T>*>(memory);
        const T* dy = d.dy().data();
        const auto x = d.x(0);
        const T divisor = static_cast<T>(targets.divisor);
        const Adjoint<T> adjoint(d, 0);
        for_each_row(d.graph(), rows, classes, [&](Index row) {
          if (adjoint.fresh && (!softmax || !targets.counts(row))) adjoint.row(row).setZero();
          if (!targets.counts(row)) return;
          const T g = dy[targets.reduction == Reduction::none ? row : 0] / divisor;
          const T scale = g * static_cast<T>(targets.hard(row) + targets.soft_sum);
          if (softmax) adjoint.add(row, sums[row].log_softmax(Row<T>(x.row(row).data(), classes)).exp() * scale);
          targets.subtract_shares(adjoint.row(row), g, row);
        });
      },
      where);
}

/// What a distribution as target becomes by the options.
template <class T>
struct Shares {
  const Classes& classes;
  const T* target;

  T operator[](Index c) const {
    return static_cast<T>(classes[c]) * (static_cast<T>(classes.hard) * target[c] + static_cast<T>(classes.soft));
  }
  Wide<T> sum() const {
    Wide<T> sum = 0;
    for (Index c = 0; c < classes.count; ++c) sum += static_cast<Wide<T>>((*this)[c]);
    return sum;
  }
  Wide<T> loss(const Row<T>& x, const LogSumExp<T>& sums) const {
    using std::isinf;
    Wide<T> loss = 0;
    for (Index c = 0; c < classes.count; ++c) {
      const Wide<T> share((*this)[c]), nats = sums.log_sum - (static_cast<Wide<T>>(x[c]) - sums.largest);
      if (share != 0 || !isinf(nats)) loss += share * nats;  // 0 log 0 = 0
    }
    return loss;
  }
};

}  // namespace

Var cross_entropy(const Var& logits, const Indices& targets, const CrossEntropyOptions& options, Source where) {
  graph_of("cross_entropy", logits, where);
  return class_loss<true>("cross_entropy", logits, {"cross_entropy", logits, targets, options, where}, where);
}

Var nll(const Var& log_probabilities, const Indices& targets, const CrossEntropyOptions& options, Source where) {
  graph_of("nll", log_probabilities, where);
  return class_loss<false>("nll", log_probabilities, {"nll", log_probabilities, targets, options, where}, where);
}

Var cross_entropy(const Var& logits, const Target& probabilities, const CrossEntropyOptions& options, Source where) {
  constexpr const char* name = "cross_entropy";
  Graph& graph = check_operands(name, logits, probabilities, where);
  const Shape shape = logits.shape();
  const Index rows = shape.rows();
  if (shape.rank() < 1 || probabilities.shape() != shape)
    fail_at(where, "{}: logits are {} and probabilities {}; one is needed for each logit", name, shape,
            probabilities.shape());
  if (options.ignore_index)
    fail_at(where, "{}: ignore_index is {}; it is for targets that are classes, not probabilities", name,
            *options.ignore_index);
  check_mean(name, shape, rows, options.reduction, where);
  check_probabilities(name, "probability", probabilities.value(), where);
  const Classes classes(name, graph, shape, options, where);
  const Reduction reduction = options.reduction;
  const double divisor = reduction == Reduction::mean ? static_cast<double>(rows) : 1;
  auto* memory = graph.array<LogSumExp<Dual>>(static_cast<std::size_t>(rows));
  return record<Duals>(
      name, {logits, probabilities.on(graph, where)}, result_shape(shape, reduction),
      [=, &graph]<class T>(MatrixMap<T> y, ConstMatrixMap<T> x, ConstMatrixMap<T> target) {
        auto* sums = reinterpret_cast<LogSumExp<T>*>(memory);
        auto scratch = graph.scratch();
        auto* terms = graph.array<Wide<T>>(static_cast<std::size_t>(rows));
        for_each_row(graph, rows, classes.count, [&](Index row) {
          Row<T> from(x.row(row).data(), classes.count);
          sums[row] = LogSumExp<T>(from);
          terms[row] = Shares<T>{classes, target.row(row).data()}.loss(from, sums[row]);
        });
        reduce_terms<T>(y, terms, rows, reduction, divisor);
      },
      [=]<class T>(Derivative<T>& d) {  // g = dL/dl: dx_c = g (p_c sum_k s_k - s_c), dt_c = -g hard w_c log p_c
        const auto* sums = reinterpret_cast<const LogSumExp<T>*>(memory);
        const T* dy = d.dy().data();
        const auto x = d.x(0), target = d.x(1);
        auto g = [&](Index row) { return dy[reduction == Reduction::none ? row : 0] / static_cast<T>(divisor); };
        for (int k = 0; k < 2; ++k) {
          if (!d.needs(k)) continue;
          const Adjoint<T> adjoint(d, k);
          for_each_row(d.graph(), rows, classes.count, [&](Index row) {
            Row<T> from(x.row(row).data(), classes.count);
            const Shares<T> shares{classes, target.row(row).data()};
            auto log_p = sums[row].log_softmax(from);
            MutableRow<T> dx = adjoint.row(row);
            if (k == 0) {
              adjoint.add(row, log_p.exp() * (g(row) * static_cast<T>(shares.sum())));
              for (Index c = 0; c < classes.count; ++c) dx[c] -= g(row) * shares[c];
            } else if (classes.weight == nullptr) {
              adjoint.add(row, log_p * (-g(row) * static_cast<T>(classes.hard)));
            } else {
              if (adjoint.fresh) dx.setZero();
              for (Index c = 0; c < classes.count; ++c)
                if (classes.weight[c] != 0)
                  dx[c] -= g(row) * static_cast<T>(classes.hard * classes.weight[c]) * log_p[c];
            }
          });
        }
      },
      where);
}

// --- Element by element --------------------------------------------------------------------------------

namespace {

/// Its operands are Packets, for Eigen's select computes an expression one element after another.
template <class P>
P choose(const auto& condition, const P& yes, const P& no) {
  return condition.select(yes, no);
}

template <class P>
P by_sign(const P& x, const P& above_0, const P& below_0) {
  return choose<P>(x > P::Zero(), above_0, choose<P>(x < P::Zero(), below_0, P::Zero()));
}

struct AbsoluteError {
  static auto value(const auto& x, const auto& y) { return (x - y).abs(); }
  template <class P>
  static auto derivative(const P& x, const P& y, const P&) {
    P sign = by_sign<P>(x - y, P::Ones(), -P::Ones());
    return std::tuple<P, P>{sign, -sign};
  }
};

struct Huber {
  template <class P>
  static P value(const P& x, const P& y, const P& delta) {
    P r = (x - y).abs();
    return choose<P>(r <= delta, 0.5 * r * r, delta * (r - 0.5 * delta));
  }
  template <class P>
  static auto derivative(const P& x, const P& y, const P& delta, const P&) {
    P r = (x - y).max(-delta).min(delta);
    return std::tuple<P, P, Zero>{r, -r, {}};
  }
};

struct Hinge {
  template <class P>
  static P value(const P& x, const P& y, const P& margin) {
    return choose<P>(x * y >= margin, P::Zero(), margin - x * y);
  }
  template <class P>
  static auto derivative(const P& x, const P& y, const P& margin, const P&) {
    return std::tuple<P, Zero, Zero>{choose<P>(margin > x * y, -y, P::Zero()), {}, {}};
  }
};

struct Pinball {
  template <class P>
  static P value(const P& x, const P& y, const P& q) {
    return (x - y) * by_sign<P>(x - y, 1 - q, -q);
  }
  template <class P>
  static auto derivative(const P& x, const P& y, const P& q, const P&) {
    P dx = by_sign<P>(x - y, 1 - q, -q);
    return std::tuple<P, P, Zero>{dx, -dx, {}};
  }
};

/// x: a logit, t: its target, w: what a positive counts for. softplus(x) = max(x, 0) + log(1 + e^-|x|).
struct BinaryCrossEntropy {
  template <class P>
  static P softplus(const P& x) {
    return x.max(P::Zero()) + packet::exp(P(-x.abs())).log1p();
  }
  template <class P>
  static P value(const P& x, const P& t, const P& w) {
    const P infinite = P::Constant(std::numeric_limits<double>::infinity());
    return choose<P>(t == P::Zero() && x == -infinite, P::Zero(), w * t * softplus<P>(-x)) +
           choose<P>(t == P::Ones() && x == infinite, P::Zero(), (1 - t) * softplus<P>(x));
  }
  template <class P>
  static auto derivative(const P& x, const P& t, const P& w, const P&) {
    P p = x.logistic(), q = (-x).logistic();
    return std::tuple<P, P, Zero>{(1 - t) * p - w * t * q, w * softplus<P>(-x) - softplus<P>(x), {}};
  }
};

struct RelativeEntropy {
  template <class P>
  static P value(const P& x, const P& t) {
    return choose<P>(t == P::Zero(), P::Zero(), t * (t.log() - x));
  }
  template <class P>
  static auto derivative(const P& x, const P& t, const P&) {
    return std::tuple<P, P>{-t, choose<P>(t == P::Zero(), P::Zero(), t.log() + 1 - x)};
  }
};

struct GaussianNll {
  /// max(variance, epsilon) with the derivative of the variance everywhere.
  template <class P>
  static P clamped(const P& variance, const P& epsilon) {
    P lacking = (epsilon - variance).max(P::Zero());
    if constexpr (std::is_same_v<typename P::Scalar, Dual>) lacking[0].tangent = 0;
    return variance + lacking;
  }
  template <class P>
  static P value(const P& x, const P& y, const P& variance, const P& epsilon, const P& constant) {
    P v = clamped(variance, epsilon);
    return 0.5 * (v.log() + (x - y) * (x - y) / v) + constant;
  }
  template <class P>
  static auto derivative(const P& x, const P& y, const P& variance, const P& epsilon, const P&, const P&) {
    P v = clamped(variance, epsilon), r = (x - y) / v;
    return std::tuple<P, P, P, Zero, Zero>{r, -r, 0.5 * (v.inverse() - r * r), {}, {}};
  }
};

}  // namespace

Var mse(const Var& x, const Target& y, Reduction reduction, Source where) {
  Graph& graph = check_alike("mse", x, y, reduction, where);
  return reduce_terms(Var(square(x - y.on(graph, where)), where), reduction, where);
}

Var l1(const Var& x, const Target& y, Reduction reduction, Source where) {
  Graph& graph = check_alike("l1", x, y, reduction, where);
  return reduce_terms(Var(apply<AbsoluteError>(x, y.on(graph, where)), where), reduction, where);
}

Var huber(const Var& x, const Target& y, const HuberOptions& options, Source where) {
  Graph& graph = check_alike("huber", x, y, options.reduction, where);
  check_positive("huber", "delta", options.delta, where);
  return reduce_terms(Var(apply<Huber>(x, y.on(graph, where), options.delta), where), options.reduction, where);
}

Var hinge(const Var& x, const Target& y, const HingeOptions& options, Source where) {
  Graph& graph = check_alike("hinge", x, y, options.reduction, where);
  check_positive("hinge", "margin", options.margin, where);
  check_elements("hinge", "target", y.value(), "-1 or 1", where, [](auto t) { return (t == 1) | (t == -1); });
  const Var targets = detach(y.on(graph, where), where);
  return reduce_terms(Var(apply<Hinge>(x, targets, options.margin), where), options.reduction, where);
}

namespace {

void check_quantile(double q, Source where) {
  if (!(q > 0 && q < 1)) fail_at(where, "pinball: the quantile's level is {}; it must be in (0, 1)", q);
}

}  // namespace

Var pinball(const Var& x, const Target& y, double q, Reduction reduction, Source where) {
  Graph& graph = check_alike("pinball", x, y, reduction, where);
  check_quantile(q, where);
  return reduce_terms(Var(apply<Pinball>(x, y.on(graph, where), q), where), reduction, where);
}

Var pinball(const Var& x, const Target& y, std::span<const double> q, Reduction reduction, Source where) {
  Graph& graph = check_operands("pinball", x, y, where);
  const Shape shape = x.shape();
  const auto levels = static_cast<Index>(q.size());
  if (shape.rank() < 1 || shape.columns() != levels || y.shape() != shape.without(shape.rank() - 1))
    fail_at(where, "pinball: x is {}, y {} and there are {} levels; x must be y's shape with the levels as last axis",
            shape, y.shape(), levels);
  check_mean("pinball", shape, shape.count(), reduction, where);
  for (double level : q) check_quantile(level, where);
  const Var target = reshape(y.on(graph, where), y.shape().insert(y.shape().rank(), 1), where);
  const detail::NodeId id = graph.add_leaf(Shape{levels}, x.dtype(), where);
  with_scalar(graph.node(id).dtype, [&]<class T>(T) {
    std::ranges::transform(q, graph.value<T>(id), [](double level) { return static_cast<T>(level); });
  });
  return reduce_terms(Var(apply<Pinball>(x, target, graph.var(id)), where), reduction, where);
}

Var binary_cross_entropy_with_logits(const Var& x, const Target& targets, const BinaryCrossEntropyOptions& options,
                                     Source where) {
  constexpr const char* name = "binary_cross_entropy_with_logits";
  Graph& graph = check_alike(name, x, targets, options.reduction, where);
  check_probabilities(name, "target", targets.value(), where);
  if (!options.positive_weight)
    return reduce_terms(Var(apply<BinaryCrossEntropy>(x, targets.on(graph, where), 1), where), options.reduction,
                        where);
  const Tensor& w = *options.positive_weight;
  if (broadcast(w.shape(), x.shape(), name, where) != x.shape())
    fail_at(where, "{}: positive_weight is {} and x is {}; it must broadcast to that", name, w.shape(), x.shape());
  check_elements(name, "positive weight", w, "at least 0", where, [](auto v) { return v >= 0; });
  const Var weight = w.dtype() == x.dtype() ? Target(w).on(graph, where) : Target(w.to(x.dtype())).on(graph, where);
  return reduce_terms(Var(apply<BinaryCrossEntropy>(x, targets.on(graph, where), weight), where), options.reduction,
                      where);
}

Var kl_divergence(const Var& log_probabilities, const Target& probabilities, Reduction reduction, Source where) {
  constexpr const char* name = "kl_divergence";
  Graph& graph = check_alike(name, log_probabilities, probabilities, Reduction::none, where);
  const Shape shape = log_probabilities.shape();
  if (shape.rank() < 1) fail_at(where, "{}: shape {}; the last axis must be the classes", name, shape);
  check_mean(name, shape, shape.rows(), reduction, where);
  check_probabilities(name, "probability", probabilities.value(), where);
  const Var terms(apply<RelativeEntropy>(log_probabilities, probabilities.on(graph, where)), where);
  return reduce_terms(sum(terms, {-1}, false, where), reduction, where);
}

Var gaussian_nll(const Var& x, const Target& y, const Target& variance, const GaussianNllOptions& options,
                 Source where) {
  constexpr const char* name = "gaussian_nll";
  Graph& graph = check_alike(name, x, y, options.reduction, where);
  check_operands(name, x, variance, where);
  check_positive(name, "epsilon", options.epsilon, where);
  if (broadcast(variance.shape(), x.shape(), name, where) != x.shape())
    fail_at(where, "{}: the variance is {} and x is {}; it must broadcast to that", name, variance.shape(), x.shape());
  check_elements(name, "variance", variance.value(), "at least 0", where, [](auto v) { return !(v < 0); });
  const double constant = options.full ? 0.5 * std::log(2 * std::numbers::pi) : 0;
  return reduce_terms(
      Var(apply<GaussianNll>(x, y.on(graph, where), variance.on(graph, where), options.epsilon, constant), where),
      options.reduction, where);
}

}  // namespace unroll
