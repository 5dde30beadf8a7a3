// oneDNN's own fused recurrent primitives, with all that can be done beforehand done beforehand: primitives made,
// weights in the layouts it asks for, memory allocated.

#include <omp.h>
#include <tests/benchmarks/contenders.h>
#include <tests/benchmarks/limits.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <cstring>
#include <unordered_map>

namespace unroll::benchmarks {

namespace {

using dnnl::memory;
using Desc = memory::desc;
using Tag = memory::format_tag;
using dnnl::prop_kind;
constexpr auto rightwards = dnnl::rnn_direction::unidirectional_left2right;

/// What the primitives read and write. The first state is given even where it is zero, for without it the LSTM and the
/// RNN compute wrong gradients (oneDNN 2.6; see its issue 1436); the last one only where it is asked for.
struct Descs {
  Desc x, state, W, U, b, y, last;
};

struct LSTMPrimitives {
  using Forward = dnnl::lstm_forward;
  using Backward = dnnl::lstm_backward;
  /// Which of our gates (i, f, g, o) is at each place of oneDNN's (i, f, c, o).
  static constexpr std::array<Index, 4> order{0, 1, 2, 3};
  static constexpr Index biases = 4;
  static auto forward(prop_kind kind, const Descs& d) {
    return Forward::desc(kind, rightwards, d.x, d.state, d.state, d.W, d.U, d.b, d.y, d.last, d.last);
  }
  static auto backward(const Descs& d, const Descs& diff) {
    return Backward::desc(prop_kind::backward, rightwards, d.x, d.state, d.state, d.W, d.U, d.b, d.y, d.last, d.last,
                          diff.x, diff.state, diff.state, diff.W, diff.U, diff.b, diff.y, diff.last, diff.last);
  }
};

struct GRUPrimitives {
  using Forward = dnnl::lbr_gru_forward;
  using Backward = dnnl::lbr_gru_backward;
  static constexpr std::array<Index, 3> order{1, 0, 2};  // ours r, z, n; oneDNN's u (= z), r, o (= n)
  static constexpr Index biases = 4;                     // the fourth is the candidate's within the reset
  static auto forward(prop_kind kind, const Descs& d) {
    return Forward::desc(kind, rightwards, d.x, d.state, d.W, d.U, d.b, d.y, d.last);
  }
  static auto backward(const Descs& d, const Descs& diff) {
    return Backward::desc(prop_kind::backward, rightwards, d.x, d.state, d.W, d.U, d.b, d.y, d.last, diff.x, diff.state,
                          diff.W, diff.U, diff.b, diff.y, diff.last);
  }
};

struct RNNPrimitives {
  using Forward = dnnl::vanilla_rnn_forward;
  using Backward = dnnl::vanilla_rnn_backward;
  static constexpr std::array<Index, 1> order{0};
  static constexpr Index biases = 1;
  static constexpr auto tanh = dnnl::algorithm::eltwise_tanh;
  static auto forward(prop_kind kind, const Descs& d) {
    return Forward::desc(kind, tanh, rightwards, d.x, d.state, d.W, d.U, d.b, d.y, d.last);
  }
  static auto backward(const Descs& d, const Descs& diff) {
    return Backward::desc(prop_kind::backward, tanh, rightwards, d.x, d.state, d.W, d.U, d.b, d.y, d.last, diff.x,
                          diff.state, diff.W, diff.U, diff.b, diff.y, diff.last);
  }
};

template <class Primitives>
class Layers {
 public:
  Layers(const ProblemPtr& problem, int threads) : problem_(problem), s_(problem->task.sizes) {
    omp_set_num_threads(threads);  // the primitives are cut for it
    if (streams()) s_.steps = 1;
    Descs d = sizes();
    d.W = any(d.W);
    d.U = any(d.U);
    const auto kind = training() ? prop_kind::forward_training : prop_kind::forward_inference;
    const typename Forward::primitive_desc forward(Primitives::forward(kind, d), engine_);
    forward_ = Forward(forward);
    x_ = empty(forward.src_layer_desc());
    y_ = empty(forward.dst_layer_desc());
    b_ = empty(sizes().b);
    fill_weights(forward);
    write(problem->x, x_);
    args_ = {{DNNL_ARG_SRC_LAYER, x_},
             {DNNL_ARG_WEIGHTS_LAYER, W_},
             {DNNL_ARG_WEIGHTS_ITER, U_},
             {DNNL_ARG_BIAS, b_},
             {DNNL_ARG_DST_LAYER, y_}};
    add_states();
    if (training()) add_backward(forward, d);
    stream_.wait();
  }

  void run() {
    if (streams()) return stream_steps();
    forward_.execute(stream_, args_);
    if (training()) backward_.execute(stream_, backward_args_);
    stream_.wait();
  }

  Values result() {
    // The gradients of the weights are added to what is there.
    if (training())
      for (const memory& gradient : {dW_, dU_, db_}) clear(gradient);
    for (const memory& state : states_) clear(state);
    run();
    const Shape output{s_.steps, s_.batch, s_.hidden};
    if (streams()) return {{"h", read(y_, {1, s_.batch, s_.hidden})}};
    Values values{{"y", read(y_, output)}};
    if (!training()) return values;
    if (problem_->task.topic == topic::sweep_dx) values.emplace("dx", read(dx_, problem_->x.shape()));
    read_weights(dW_, sizes().W, s_.input, "weight_ih_l", values);
    read_weights(dU_, sizes().U, s_.hidden, "weight_hh_l", values);
    return values;
  }

 private:
  using Forward = typename Primitives::Forward;
  using Backward = typename Primitives::Backward;
  static constexpr Index gate_count = Primitives::order.size();

  bool streams() const { return problem_->task.topic == topic::streaming; }
  bool training() const { return problem_->task.topic != topic::inference && !streams(); }

  static Desc desc(const memory::dims& dims, Tag tag) { return {dims, memory::data_type::f32, tag}; }
  static Desc any(const Desc& d) { return desc(d.dims(), Tag::any); }
  memory empty(const Desc& d) const { return {d, engine_}; }
  static void clear(const memory& m) { std::memset(m.get_data_handle(), 0, m.get_desc().get_size()); }
  memory zeros(const Desc& d) const {
    memory m = empty(d);
    clear(m);
    return m;
  }
  /// The layouts we can read and write.
  Descs sizes() const {
    const auto& [batch, steps, input, hidden, layers] = s_;
    const Desc state = desc({layers, 1, batch, hidden}, Tag::ldnc);
    return {desc({steps, batch, input}, Tag::tnc),
            state,
            desc({layers, 1, input, gate_count, hidden}, Tag::ldigo),
            desc({layers, 1, hidden, gate_count, hidden}, Tag::ldigo),
            desc({layers, 1, Primitives::biases, hidden}, Tag::ldgo),
            desc({steps, batch, hidden}, Tag::tnc),
            streams() ? state : Desc()};
  }

  static float* data(const memory& m) { return static_cast<float*>(m.get_data_handle()); }
  static void write(const Tensor& from, const memory& to) {
    std::memcpy(data(to), from.raw(), std::min(static_cast<std::size_t>(from.size()) * 4, to.get_desc().get_size()));
  }
  static Tensor read(const memory& from, const Shape& shape) {
    Tensor to(shape);
    std::memcpy(to.raw(), data(from), static_cast<std::size_t>(to.size()) * 4);
    return to;
  }
  void reorder(memory from, memory to) { dnnl::reorder(from, to).execute(stream_, from, to); }

  /// Copies blocks of H between our order of the gates and oneDNN's.
  void exchange_gates(float* ours, float* theirs, Index rows, bool to_ours) const {
    for (Index block = 0; block < rows * gate_count; ++block) {
      const Index row = block / gate_count, gate = block % gate_count;
      float* a = ours + (row * gate_count + Primitives::order[static_cast<std::size_t>(gate)]) * s_.hidden;
      float* b = theirs + block * s_.hidden;
      to_ours ? std::copy_n(b, s_.hidden, a) : std::copy_n(a, s_.hidden, b);
    }
  }

  void fill_weights(const typename Forward::primitive_desc& forward) {
    const memory W = empty(sizes().W), U = empty(sizes().U);
    for (Index layer = 0; layer < s_.layers; ++layer) {
      LayerWeights w = problem_->layers[static_cast<std::size_t>(layer)];
      const Index width = gate_count * s_.hidden;
      exchange_gates(w.W_ih.data<float>(), data(W) + layer * s_.input * width, s_.input, false);
      exchange_gates(w.W_hh.data<float>(), data(U) + layer * s_.hidden * width, s_.hidden, false);
      // Both biases are added to a gate; but for the GRU's candidate, which has them apart.
      float *ih = w.b_ih.data<float>(), *hh = w.b_hh.data<float>(),
            *b = data(b_) + layer * Primitives::biases * s_.hidden;
      const Index together = Primitives::biases > gate_count ? width - s_.hidden : width;
      for (Index j = 0; j < together; ++j) ih[j] += hh[j];
      exchange_gates(ih, b, 1, false);
      std::copy_n(hh + together, width - together, b + width);
    }
    W_ = empty(forward.weights_layer_desc());
    U_ = empty(forward.weights_iter_desc());
    reorder(W, W_);
    reorder(U, U_);
  }

  void add_backward(const typename Forward::primitive_desc& forward, const Descs& d) {
    const typename Backward::primitive_desc backward(Primitives::backward(d, d), engine_, forward);
    backward_ = Backward(backward);
    memory workspace = empty(forward.workspace_desc()), W = empty(backward.weights_layer_desc()),
           U = empty(backward.weights_iter_desc()), dy = empty(backward.diff_dst_layer_desc());
    reorder(W_, W);
    reorder(U_, U);
    write(problem_->dy, dy);
    dx_ = empty(backward.diff_src_layer_desc());
    dW_ = empty(backward.diff_weights_layer_desc());
    dU_ = empty(backward.diff_weights_iter_desc());
    db_ = empty(backward.diff_bias_desc());
    args_.insert({DNNL_ARG_WORKSPACE, workspace});
    backward_args_ = args_;
    for (const auto& [place, m] :
         std::initializer_list<std::pair<int, memory>>{{DNNL_ARG_WEIGHTS_LAYER, W},
                                                       {DNNL_ARG_WEIGHTS_ITER, U},
                                                       {DNNL_ARG_DIFF_DST_LAYER, dy},
                                                       {DNNL_ARG_DIFF_SRC_LAYER, dx_},
                                                       {DNNL_ARG_DIFF_WEIGHTS_LAYER, dW_},
                                                       {DNNL_ARG_DIFF_WEIGHTS_ITER, dU_},
                                                       {DNNL_ARG_DIFF_BIAS, db_},
                                                       {DNNL_ARG_DIFF_SRC_ITER, empty(sizes().state)},
                                                       {DNNL_ARG_DIFF_SRC_ITER_C, empty(sizes().state)}})
      backward_args_.insert_or_assign(place, m);
  }

  /// The gradient of the weights, which is in a layout of oneDNN's choice, as ours.
  void read_weights(const memory& gradient, const Desc& plain, Index rows, const std::string& name, Values& values) {
    const memory readable = empty(plain);
    reorder(gradient, readable);
    stream_.wait();
    for (Index layer = 0; layer < s_.layers; ++layer) {
      Tensor ours({rows, gate_count * s_.hidden});
      exchange_gates(ours.data<float>(), data(readable) + layer * ours.size(), rows, true);
      values.emplace(name + std::to_string(layer), ours);
    }
  }

  /// States are h and, for the LSTM, c: two before a step and two after it, which change places at every step.
  static constexpr bool has_c = std::is_same_v<Primitives, LSTMPrimitives>;
  void add_states() {
    for (int i = 0; i < 4; ++i) states_.push_back(zeros(sizes().state));
    args_.insert({DNNL_ARG_SRC_ITER, states_[0]});
    if (has_c) args_.insert({DNNL_ARG_SRC_ITER_C, states_[1]});
    if (!streams()) return;
    for (std::size_t odd : {0, 1}) {
      auto& args = step_args_[odd] = args_;
      args.insert_or_assign(DNNL_ARG_SRC_ITER, states_[2 * odd]);
      args.insert_or_assign(DNNL_ARG_DST_ITER, states_[2 - 2 * odd]);
      if (!has_c) continue;
      args.insert_or_assign(DNNL_ARG_SRC_ITER_C, states_[2 * odd + 1]);
      args.insert_or_assign(DNNL_ARG_DST_ITER_C, states_[3 - 2 * odd]);
    }
  }
  void stream_steps() {
    const Index steps = problem_->task.sizes.steps, each = s_.batch * s_.input;
    for (Index t = 0; t < steps; ++t) {
      std::copy_n(problem_->x.data<float>() + t * each, each, data(x_));
      forward_.execute(stream_, step_args_[t % 2]);
      stream_.wait();
    }
  }

  ProblemPtr problem_;
  Sizes s_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  Forward forward_;
  Backward backward_;
  memory x_, W_, U_, b_, y_, dx_, dW_, dU_, db_;
  std::vector<memory> states_;
  std::unordered_map<int, memory> args_, backward_args_, step_args_[2];
};

template <class Primitives>
Contenders contender(const ProblemPtr& problem) {
  Contenders contenders;  // what is small may be faster on fewer threads
  for (int threads = 1; threads <= problem->task.threads; ++threads) {
    auto layers = std::make_shared<Layers<Primitives>>(problem, threads);
    contenders.push_back({"onednn", [layers] { layers->run(); }, [layers] { return layers->result(); },
                          [threads] { omp_set_num_threads(threads); }});
  }
  return contenders;
}

}  // namespace

Contenders onednn_recurrent(const ProblemPtr& problem) {
  const Case& c = problem->task;
  // It has neither a head nor an optimizer, and stacks only layers that are as wide as their input.
  if (c.topic == topic::training || (c.sizes.layers > 1 && c.sizes.input != c.sizes.hidden)) return {};
  if (c.cell == "lstm") return contender<LSTMPrimitives>(problem);
  if (c.cell == "gru") return contender<GRUPrimitives>(problem);
  return contender<RNNPrimitives>(problem);
}

std::optional<Contender> gemm_peak(int threads) {
  struct Product {
    Tensor a, b, c;
  };
  constexpr Index n = gemm_rows;
  auto product =
      std::make_shared<Product>(Product{Tensor::full({n, n}, 1), Tensor::full({n, n}, 1), Tensor::full({n, n}, 0)});
  auto run = [product] {
    dnnl_sgemm('N', 'N', n, n, n, 1, product->a.data<float>(), n, product->b.data<float>(), n, 0,
               product->c.data<float>(), n);
  };
  return Contender{"limit", run, [] { return Values(); }, [threads] { omp_set_num_threads(threads); }};
}

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch);
}

}  // namespace unroll::benchmarks
