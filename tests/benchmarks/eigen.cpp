// What somebody without a library would write with Eigen, by hand: the input's products of all steps at once, one
// product for all gates, memory allocated beforehand, and for the LSTM the backward worked out on paper. On one thread,
// as Eigen is without OpenMP.
//
// Columns are time steps times batch, so that our row-major [T, N, D] is Eigen's [D, T N] as it stands.

#include <tests/benchmarks/contenders.h>

namespace unroll::benchmarks {

namespace {

using Eigen::MatrixXf;
using Eigen::VectorXf;
using Map = Eigen::Map<const MatrixXf>;

Map columns(const Tensor& t) { return {t.data<float>(), t.shape().columns(), t.shape().rows()}; }
Map weights(const Tensor& t) { return columns(t); }  // our [D, GH] is Eigen's [GH, D]
Eigen::Map<const VectorXf> bias(const Tensor& t) { return {t.data<float>(), t.size()}; }

template <class Matrix>
Tensor tensor(const Matrix& from, const Shape& shape) {
  Tensor to(shape);
  Eigen::Map<MatrixXf>(to.data<float>(), from.rows(), from.cols()) = from;
  return to;
}

/// What the layers have in common: the states of all steps, of which the first N columns are the initial ones.
struct Layer {
  Index H, N, T;
  Map W, U;
  Eigen::Map<const VectorXf> b;
  MatrixXf gates, h;

  Layer(const LayerWeights& w, const Sizes& s)
      : H(s.hidden), N(s.batch), T(s.steps), W(weights(w.W_ih)), U(weights(w.W_hh)), b(bias(w.b_ih)) {
    gates.resize(W.rows(), T * N);
    h.setZero(H, (T + 1) * N);
  }
  template <class X>
  void project(const X& x) {
    gates.noalias() = W * x;
    gates.colwise() += b;
  }
  auto step(MatrixXf& m, Index t) const { return m.middleCols(t * N, N); }
  auto y() const { return h.rightCols(T * N); }
  void reset() { h.setZero(); }
  void carry() { h.leftCols(N) = h.rightCols(N).eval(); }
};

struct RNNLayer : Layer {
  using Layer::Layer;
  template <class X>
  void forward(const X& x) {
    project(x);
    for (Index t = 0; t < T; ++t) {
      auto a = step(gates, t);
      a.noalias() += U * step(h, t);
      step(h, t + 1) = a.array().tanh();
    }
  }
};

struct GRULayer : Layer {
  Eigen::Map<const VectorXf> d;
  MatrixXf recurrent;
  GRULayer(const LayerWeights& w, const Sizes& s) : Layer(w, s), d(bias(w.b_hh)), recurrent(3 * H, N) {}
  template <class X>
  void forward(const X& x) {
    project(x);
    for (Index t = 0; t < T; ++t) {
      recurrent.noalias() = U * step(h, t);
      recurrent.colwise() += d;
      auto a = step(gates, t);
      a.topRows(2 * H) = (a.topRows(2 * H) + recurrent.topRows(2 * H)).array().logistic();
      const auto r = a.topRows(H).array(), z = a.middleRows(H, H).array();
      auto n = a.bottomRows(H).array();
      n = (n + r * recurrent.bottomRows(H).array()).tanh();
      step(h, t + 1).array() = (1 - z) * n + z * step(h, t).array();
    }
  }
};

struct LSTMLayer : Layer {
  MatrixXf c, tanh_c;  // c has the initial one first
  MatrixXf dgates, dx, dW, dU, dh, dc;
  VectorXf db;
  LSTMLayer(const LayerWeights& w, const Sizes& s) : Layer(w, s), tanh_c(H, T * N), dgates(4 * H, T * N) {
    c.setZero(H, (T + 1) * N);
    dx.resize(W.cols(), T * N);
  }
  void reset() {
    Layer::reset();
    c.setZero();
  }
  void carry() {
    Layer::carry();
    c.leftCols(N) = c.rightCols(N).eval();
  }
  template <class X>
  void forward(const X& x) {
    project(x);
    for (Index t = 0; t < T; ++t) {
      auto a = step(gates, t);
      a.noalias() += U * step(h, t);
      a.topRows(2 * H) = a.topRows(2 * H).array().logistic();
      a.middleRows(2 * H, H) = a.middleRows(2 * H, H).array().tanh();
      a.bottomRows(H) = a.bottomRows(H).array().logistic();
      step(c, t + 1).array() =
          a.middleRows(H, H).array() * step(c, t).array() + a.topRows(H).array() * a.middleRows(2 * H, H).array();
      step(tanh_c, t) = step(c, t + 1).array().tanh();
      step(h, t + 1).array() = a.bottomRows(H).array() * step(tanh_c, t).array();
    }
  }
  template <class X, class DY>
  void backward(const X& x, const DY& dy, bool needs_dx) {
    dh.setZero(H, N);
    dc.setZero(H, N);
    for (Index t = T; t-- > 0;) {
      const auto a = step(gates, t);
      const auto i = a.topRows(H).array(), f = a.middleRows(H, H).array(), g = a.middleRows(2 * H, H).array(),
                 o = a.bottomRows(H).array();
      auto da = step(dgates, t);
      dh += dy.middleCols(t * N, N);
      dc.array() += dh.array() * o * (1 - step(tanh_c, t).array().square());
      da.topRows(H).array() = dc.array() * g * i * (1 - i);
      da.middleRows(H, H).array() = dc.array() * step(c, t).array() * f * (1 - f);
      da.middleRows(2 * H, H).array() = dc.array() * i * (1 - g.square());
      da.bottomRows(H).array() = dh.array() * step(tanh_c, t).array() * o * (1 - o);
      dc.array() *= f;
      dh.noalias() = U.transpose() * da;
    }
    dW.noalias() = dgates * x.transpose();
    dU.noalias() = dgates * h.leftCols(T * N).transpose();
    db = dgates.rowwise().sum();
    if (needs_dx) dx.noalias() = W.transpose() * dgates;
  }
};

template <class L>
struct Network {
  static constexpr bool has_backward = std::is_same_v<L, LSTMLayer>;
  ProblemPtr problem;
  std::vector<L> layers;

  explicit Network(const ProblemPtr& p) : problem(p) {
    Sizes s = p->task.sizes;
    if (streams()) s.steps = 1;
    for (const LayerWeights& w : p->layers) layers.emplace_back(w, s);
  }
  bool streams() const { return problem->task.topic == topic::streaming; }
  bool sweeps() const { return !streams() && problem->task.topic != topic::inference; }

  template <class X>
  void forward(const X& x) {
    layers[0].forward(x);
    for (std::size_t i = 1; i < layers.size(); ++i) layers[i].forward(layers[i - 1].y());
  }
  void backward() {
    if constexpr (has_backward)
      for (std::size_t i = layers.size(); i-- > 0;) {
        const bool needs_dx = i > 0 || problem->task.topic == topic::sweep_dx;
        auto from = [&](const auto& dy) {
          i == 0 ? layers[i].backward(columns(problem->x), dy, needs_dx)
                 : layers[i].backward(layers[i - 1].y(), dy, needs_dx);
        };
        i + 1 == layers.size() ? from(columns(problem->dy)) : from(layers[i + 1].dx);
      }
  }
  void stream() {
    for (L& layer : layers) layer.reset();
    for (Index t = 0, N = problem->task.sizes.batch; t < problem->task.sizes.steps; ++t) {
      forward(columns(problem->x).middleCols(t * N, N));
      for (L& layer : layers) layer.carry();
    }
  }
  void run() {
    if (streams()) return stream();
    forward(columns(problem->x));
    if (sweeps()) backward();
  }
  Values result() {
    run();
    const Sizes& s = problem->task.sizes;
    if (streams()) return {{"h", tensor(layers.back().y(), {1, s.batch, s.hidden})}};
    Values values{{"y", tensor(layers.back().y(), problem->dy.shape())}};
    if constexpr (has_backward) {
      if (!sweeps()) return values;
      for (std::size_t i = 0; i < layers.size(); ++i) {
        values.emplace(fmt::format("weight_ih_l{}", i), tensor(layers[i].dW, problem->layers[i].W_ih.shape()));
        values.emplace(fmt::format("weight_hh_l{}", i), tensor(layers[i].dU, problem->layers[i].W_hh.shape()));
      }
      if (problem->task.topic == topic::sweep_dx) values.emplace("dx", tensor(layers[0].dx, problem->x.shape()));
    }
    return values;
  }
};

template <class L>
Contenders contender(const ProblemPtr& problem) {
  auto network = std::make_shared<Network<L>>(problem);
  if (network->sweeps() && !network->has_backward) return {};
  return {{"eigen", [network] { network->run(); }, [network] { return network->result(); }}};
}

}  // namespace

Contenders eigen_recurrent(const ProblemPtr& problem) {
  if (problem->task.threads > 1 || problem->task.topic == topic::training) return {};
  if (problem->task.cell == "lstm") return contender<LSTMLayer>(problem);
  if (problem->task.cell == "gru") return contender<GRULayer>(problem);
  return contender<RNNLayer>(problem);
}

}  // namespace unroll::benchmarks
