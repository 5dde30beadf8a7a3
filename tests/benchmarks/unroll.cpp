// Unroll itself, as its users write it. Its threads are limited for the whole of a case (topics.cpp).

#include <autograd/autograd.h>
#include <examples/common/cells.h>
#include <optim/optim.h>
#include <tests/benchmarks/contenders.h>
#include <tests/benchmarks/own_cell.h>

#include <cmath>

namespace unroll::benchmarks {

namespace {

/// A recurrent layer with a head, and the tape it runs on.
template <class Layer>
struct Model : Module {
  ProblemPtr problem;
  Generator rng{1};
  Layer layer;
  Linear head;
  Tape tape;
  RecurrentState state;
  std::unique_ptr<Adam> adam;
  Var x, y;
  double loss = 0;

  explicit Model(const ProblemPtr& p, const Sizes& s)
      : problem(p),
        layer(s.input, s.hidden, rng, {.layers = s.layers}),
        head(s.hidden, classes(s), rng),
        tape(p->task.topic == topic::inference || p->task.topic == topic::streaming ? Tape::inference() : Tape()) {
    add("layer", layer);
    add("head", head);
    for (std::size_t i = 0; i < p->layers.size(); ++i) {
      const LayerWeights& w = p->layers[i];
      for (const auto& [name, value] :
           {std::pair{"weight_ih", &w.W_ih}, {"weight_hh", &w.W_hh}, {"bias_ih", &w.b_ih}, {"bias_hh", &w.b_hh}})
        if (name != std::string("bias_hh") || p->task.cell == "gru")
          layer.parameter(fmt::format("{}_l{}", name, i)).value() = *value;
    }
    if (p->head_W.empty()) return;
    head.W.value() = p->head_W;
    head.b.value() = p->head_b;
    adam = std::make_unique<Adam>(parameters());
  }

  void forward() {
    tape.clear();
    x = problem->task.topic == topic::sweep_dx ? tape.variable(problem->x) : tape.constant(problem->x);
    y = layer(x).y;
  }
  void sweep() {
    forward();
    tape.backward(y, problem->dy);
    for (Parameter* parameter : layer.parameters()) parameter->use_up_grad();
  }
  void train_step() {
    forward();
    Var nats = cross_entropy(head(y), problem->targets);
    tape.backward(nats);
    clip_grad_norm(parameters(), 1.0);
    adam->step();
    loss = nats.item();
  }
  /// The steps come one at a time, as from a microphone.
  void stream() {
    const Sizes& s = problem->task.sizes;
    const float* next = problem->x.template data<float>();
    state.reset();
    for (Index t = 0; t < s.steps; ++t, next += s.batch * s.input) {
      const Tape::Mark mark = tape.mark();
      auto [out, last] = layer(tape.constant(TensorView(next, float32, Layout(Shape{1, s.batch, s.input}))), state);
      state = detach(last);
      tape.rewind_to(mark);
    }
  }

  void run() {
    const std::string& what = problem->task.topic;
    if (what == topic::inference) return forward();
    if (what == topic::streaming) return stream();
    if (what == topic::training || what == topic::memory) return train_step();
    sweep();
  }
  Values result() {
    run();
    if (problem->task.topic == topic::streaming) return {{"h", state.tensors().front()}};
    if (adam) {
      run();  // whose loss depends on the first step's update
      return {{"loss", Tensor::scalar(loss)}};
    }
    Values values{{"y", Tensor(y.value())}};
    if (problem->task.topic == topic::inference) return values;
    for (const Parameter* parameter : layer.parameters())
      if (parameter->name().find("weight") != std::string::npos)
        values.emplace(parameter->name().substr(parameter->name().find("weight")), parameter->grad());
    if (problem->task.topic == topic::sweep_dx) values.emplace("dx", x.grad());
    return values;
  }
};

template <class Layer>
Contenders contender(const ProblemPtr& problem) {
  auto model = std::make_shared<Model<Layer>>(problem, problem->task.sizes);
  return {{"unroll", [model] { model->run(); }, [model] { return model->result(); }}};
}

}  // namespace

Contenders unroll_recurrent(const ProblemPtr& problem) {
  if (problem->task.cell == "mgu") return contender<Recurrent<MGUCell>>(problem);
  return examples::with_layer(problem->task.cell,
                              [&]<class Layer>(std::type_identity<Layer>) { return contender<Layer>(problem); });
}

Contenders unroll_nodes(const Case& c) {
  struct Chain {
    Tape tape;
    Var first, last;
    void run(Index steps) {
      tape.clear();
      Var x = first = tape.variable(Tensor::scalar(1));
      for (Index i = 0; i < steps; ++i) x = x * 0.999 + 0.001;
      tape.backward(x);
      last = x;
    }
  };
  auto chain = std::make_shared<Chain>();
  auto run = [chain, steps = c.sizes.steps] { chain->run(steps); };
  return {{"unroll", run, [chain, run] {
             run();
             return Values{{"y", Tensor(chain->last.value())}, {"dx", Tensor(chain->first.grad())}};
           }}};
}

namespace {

struct LongSequence {
  ProblemPtr problem;
  Generator rng{1};
  LSTM lstm;
  Tape tape;
  Var h;

  LongSequence(const ProblemPtr& p, Index checkpoint)
      : problem(p), lstm(p->task.sizes.input, p->task.sizes.hidden, rng, {.checkpoint = checkpoint}) {}
  void run() {
    tape.clear();
    h = lstm.final_state(tape.constant(problem->x)).values[0];
    tape.backward(sum(square(h)));
    for (Parameter* parameter : lstm.parameters()) parameter->use_up_grad();
  }
  Values result() {
    run();
    Values values{{"h", Tensor(h.value())}};
    for (const Parameter* parameter : lstm.parameters()) values.emplace(parameter->name(), parameter->grad());
    return values;
  }
};

Index root(Index steps) { return static_cast<Index>(std::lround(std::sqrt(static_cast<double>(steps)))); }

}  // namespace

Contenders unroll_checkpoint(const ProblemPtr& problem) {
  Contenders contenders;
  for (const auto& [name, every] : {std::pair{"unroll", root(problem->task.sizes.steps)}, {"plain", Index{0}}}) {
    auto sequence = std::make_shared<LongSequence>(problem, every);
    contenders.push_back({name, [sequence] { sequence->run(); }, [sequence] { return sequence->result(); }});
  }
  return contenders;
}

Contenders unroll_lengths(const ProblemPtr& problem) {
  struct Ragged {
    ProblemPtr problem;
    std::vector<Index> lengths;
    Generator rng{1};
    LSTM lstm;
    Tape tape;
    Ragged(const ProblemPtr& p, bool ragged) : problem(p), lstm(p->task.sizes.input, p->task.sizes.hidden, rng) {
      const Sizes& s = p->task.sizes;
      for (Index n = 0; ragged && n < s.batch; ++n)  // in no order
        lengths.push_back(1 + (n * 7 % s.batch) * (s.steps - 1) / std::max<Index>(s.batch - 1, 1));
    }
    void run() {
      tape.clear();
      tape.backward(lstm(tape.constant(problem->x), {}, lengths).y, problem->dy);
      for (Parameter* parameter : lstm.parameters()) parameter->use_up_grad();
    }
  };
  Contenders contenders;
  for (bool ragged : {true, false}) {
    auto run = std::make_shared<Ragged>(problem, ragged);
    contenders.push_back({ragged ? "unroll" : "full", [run] { run->run(); }, {}});
  }
  return contenders;
}

std::map<std::string, double> unroll_checkpoint_bytes(const ProblemPtr& problem) {
  std::map<std::string, double> bytes;
  for (const auto& [name, every] : {std::pair{"unroll", root(problem->task.sizes.steps)}, {"plain", Index{0}}}) {
    LongSequence sequence(problem, every);
    sequence.run();
    bytes[name] = static_cast<double>(sequence.tape.bytes_held());
  }
  return bytes;
}

Contenders unroll_adam(const Case& c) {
  struct Update {
    Parameter p;
    Adam adam;
    explicit Update(Index size) : p(Shape{size}), adam({&p}) {
      Generator rng(1);
      rng.fill_uniform(p.value(), -1, 1);
      rng.fill_uniform(p.grad(), -1, 1);
    }
    void run() {
      bool fresh = false;
      p.claim_grad(fresh);  // as a backward would, or the step would pass it over
      adam.step();
    }
  };
  auto update = std::make_shared<Update>(c.sizes.hidden);
  return {{"unroll", [update] { update->run(); },
           [update] {
             update->run();
             return Values{{"p", update->p.value()}};
           }}};
}

}  // namespace unroll::benchmarks
