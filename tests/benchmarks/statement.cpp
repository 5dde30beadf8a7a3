// The LSTM's two element-wise statements: as Unroll records them, and as a loop written by hand over the same packets.

#include <autograd/autograd.h>
#include <tests/benchmarks/contenders.h>

#include <utility>

namespace unroll::benchmarks {

namespace {

using P = Packet<float>;
constexpr Index width = P::SizeAtCompileTime;

/// The gates [N, 4H] in the order i, f, g, o, and the cell before, [N, H].
struct Inputs {
  Tensor gates, c;
  explicit Inputs(const Case& c) : gates({c.sizes.batch, 4 * c.sizes.hidden}), c({c.sizes.batch, c.sizes.hidden}) {
    Generator rng(1);
    rng.fill_uniform(gates, -2, 2);
    rng.fill_uniform(this->c, -1, 1);
  }
};

struct Recorded {
  bool with_backward;
  Tape tape;
  Var gates, c0, h;
  Tensor dh;
  Tape::Mark inputs;

  explicit Recorded(const Case& task) : with_backward(task.cell != "forward") {
    const Inputs in(task);
    gates = tape.variable(in.gates);
    c0 = tape.variable(in.c);
    inputs = tape.mark();
    dh = Tensor::full(in.c.shape(), 1);
  }
  void run() {
    tape.rewind_to(inputs);
    auto [i, f, g, o] = chunk<4>(gates);
    Var c = sigmoid(f) * c0 + sigmoid(i) * tanh(g);
    h = sigmoid(o) * tanh(c);
    if (with_backward) tape.backward(h, dh);
  }
  Values result() {
    run();
    Values values{{"h", Tensor(h.value())}};
    if (!with_backward) return values;
    values.emplace("dgates", gates.grad());
    values.emplace("dc", c0.grad());
    return values;
  }
};

struct ByHand {
  Case task;
  Inputs in{task};
  Tensor c{in.c.shape()}, h{in.c.shape()}, dh = Tensor::full(in.c.shape(), 1), dgates{in.gates.shape()},
                                           dc0{in.c.shape()};

  static Eigen::Map<const P> load(const float* from) { return Eigen::Map<const P>(from); }

  void forward() {
    const Index H = task.sizes.hidden;
    for (Index row = 0; row < task.sizes.batch; ++row) {
      const float *gates = in.gates.data<float>() + row * 4 * H, *c0 = std::as_const(in.c).data<float>() + row * H;
      for (Index j = 0; j < H; j += width) {
        const P i = load(gates + j).logistic(), f = load(gates + H + j).logistic(), g = load(gates + 2 * H + j).tanh(),
                o = load(gates + 3 * H + j).logistic();
        const P new_c = f * load(c0 + j) + i * g;
        Eigen::Map<P>(c.data<float>() + row * H + j) = new_c;
        Eigen::Map<P>(h.data<float>() + row * H + j) = o * new_c.tanh();
      }
    }
  }
  /// Computes the gates again rather than storing them, and adds to the gradients, both as the tape does here.
  void backward() {
    const Index H = task.sizes.hidden;
    for (Index row = 0; row < task.sizes.batch; ++row) {
      const float *gates = in.gates.data<float>() + row * 4 * H, *c0 = std::as_const(in.c).data<float>() + row * H;
      float *d = dgates.data<float>() + row * 4 * H, *dc = dc0.data<float>() + row * H;
      for (Index j = 0; j < H; j += width) {
        const P i = load(gates + j).logistic(), f = load(gates + H + j).logistic(), g = load(gates + 2 * H + j).tanh(),
                o = load(gates + 3 * H + j).logistic();
        const P tanh_c = load(c.data<float>() + row * H + j).tanh(), dy = load(dh.data<float>() + row * H + j);
        const P dnew = dy * o * (1 - tanh_c * tanh_c);
        Eigen::Map<P>(d + j) += dnew * g * i * (1 - i);
        Eigen::Map<P>(d + H + j) += dnew * load(c0 + j) * f * (1 - f);
        Eigen::Map<P>(d + 2 * H + j) += dnew * i * (1 - g * g);
        Eigen::Map<P>(d + 3 * H + j) += dy * tanh_c * o * (1 - o);
        Eigen::Map<P>(dc + j) += dnew * f;
      }
    }
  }
  void run() {
    forward();
    if (task.cell != "forward") backward();
  }
  Values result() {
    run();
    Values values{{"h", h}};
    if (task.cell == "forward") return values;
    values.emplace("dgates", dgates);
    values.emplace("dc", dc0);
    return values;
  }
};

template <class Way>
Contenders contender(const char* name, const Case& c) {
  auto way = std::make_shared<Way>(Way{c});
  return {{name, [way] { way->run(); }, [way] { return way->result(); }}};
}

}  // namespace

Contenders unroll_statement(const Case& c) { return contender<Recorded>("unroll", c); }
Contenders eigen_statement(const Case& c) {
  if (c.sizes.hidden % width != 0) return {};  // the loop knows whole packets alone
  return contender<ByHand>("eigen", c);
}

}  // namespace unroll::benchmarks
