// libtorch, as its users write it. The only file that includes its headers, which take long to compile.

#include <autograd/random.h>
#include <dlfcn.h>
#include <tests/benchmarks/contenders.h>
#include <torch/torch.h>
#include <torch/version.h>
#include <unistd.h>

#include <cstring>

namespace unroll::benchmarks {

namespace {

at::Tensor to_torch(const Tensor& t) {
  return torch::from_blob(const_cast<void*>(t.raw()), {t.shape().begin(), t.shape().end()}, torch::kFloat32).clone();
}
Tensor from_torch(const at::Tensor& t) {
  const at::Tensor dense = t.detach().contiguous();
  Tensor out(Shape(std::span(dense.sizes().data(), dense.sizes().size())));
  std::memcpy(out.raw(), dense.data_ptr<float>(), static_cast<std::size_t>(out.size()) * 4);
  return out;
}

/// The threads of libtorch itself and of an OpenBLAS that its products run on.
struct Threads {
  int own, products;
  void use() const {
    using Set = void (*)(int);
    static const auto set_openblas = reinterpret_cast<Set>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));
    at::set_num_threads(own);
    if (set_openblas != nullptr) set_openblas(products);
  }
};

/// One contender for each way to use two cores, of which the fastest counts: libtorch is at times slower on two
/// threads. (Two of its own beside two of OpenBLAS's get in each other's way: they were up to seven times slower.)
template <class Run, class Result>
Contenders on_any_threads(Run run, Result result) {
  Contenders contenders;
  for (const Threads threads : {Threads{1, 1}, {1, 2}, {2, 1}}) {
    // OpenBLAS's threads go on spinning for some 30 ms.
    contenders.push_back({"libtorch", run, nullptr, [threads] { threads.use(); }, threads.products > 1 ? 40.0 : 5.0});
  }
  contenders.front().result = result;
  return contenders;
}

/// Module is torch::nn::LSTM, GRU or RNN.
template <class Module, class Options>
struct Model {
  ProblemPtr problem;
  Module layer;
  torch::nn::Linear head{nullptr};
  std::vector<at::Tensor> parameters;
  std::unique_ptr<torch::optim::Adam> adam;
  at::Tensor x, y, dy, targets;
  std::tuple_element_t<1, decltype(layer->forward(x))> state;
  double loss = 0;

  explicit Model(const ProblemPtr& p)
      : problem(p),
        layer(Options(p->task.sizes.input, p->task.sizes.hidden).num_layers(p->task.sizes.layers)),
        x(to_torch(p->x)),
        dy(to_torch(p->dy)) {
    layer->train(!infers());
    x.requires_grad_(topic() == topic::sweep_dx);
    if (trains()) head = torch::nn::Linear(p->task.sizes.hidden, classes(p->task.sizes));
    reset();
    parameters = layer->parameters();
    if (!trains()) return;
    targets = torch::from_blob(const_cast<std::int32_t*>(p->targets.data()), {std::ssize(p->targets)}, torch::kInt32)
                  .to(torch::kInt64);
    for (const at::Tensor& parameter : head->parameters()) parameters.push_back(parameter);
    adam = std::make_unique<torch::optim::Adam>(parameters);
  }

  const std::string& topic() const { return problem->task.topic; }
  bool infers() const { return topic() == topic::inference || topic() == topic::streaming; }
  bool trains() const { return topic() == topic::training || topic() == topic::memory; }

  /// Back to the problem's weights.
  void reset() {
    torch::NoGradGuard none;
    for (std::size_t i = 0; i < problem->layers.size(); ++i) {
      const LayerWeights& w = problem->layers[i];
      auto set = [&](const char* name, const at::Tensor& value) {
        layer->named_parameters()[fmt::format("{}_l{}", name, i)].copy_(value);
      };
      set("weight_ih", to_torch(w.W_ih).t());
      set("weight_hh", to_torch(w.W_hh).t());
      set("bias_ih", to_torch(w.b_ih));
      set("bias_hh", to_torch(w.b_hh));
    }
    if (!trains()) return;
    head->weight.copy_(to_torch(problem->head_W).t());
    head->bias.copy_(to_torch(problem->head_b));
    if (adam) adam = std::make_unique<torch::optim::Adam>(parameters);
  }

  void infer() {
    c10::InferenceMode inference;
    y = std::get<0>(layer->forward(x));
  }
  void stream() {
    c10::InferenceMode inference;
    const Sizes& s = problem->task.sizes;
    const at::Tensor zeros = torch::zeros({s.layers, s.batch, s.hidden});
    if constexpr (std::is_same_v<decltype(state), at::Tensor>)
      state = zeros;
    else
      state = {zeros, zeros};
    for (Index t = 0; t < s.steps; ++t) std::tie(y, state) = layer->forward(x.narrow(0, t, 1), state);
  }
  void sweep() {
    layer->zero_grad(/*set_to_none=*/true);
    x.mutable_grad().reset();
    y = std::get<0>(layer->forward(x));
    y.backward(dy);
  }
  void train_step() {
    y = std::get<0>(layer->forward(x));
    const at::Tensor logits = head->forward(y.view({-1, y.size(2)}));
    const at::Tensor nats = torch::nn::functional::cross_entropy(logits, targets);
    layer->zero_grad(/*set_to_none=*/true);
    head->zero_grad(/*set_to_none=*/true);
    nats.backward();
    torch::nn::utils::clip_grad_norm_(parameters, 1.0);
    adam->step();
    loss = nats.item<double>();
  }

  void run() {
    if (topic() == topic::inference) return infer();
    if (topic() == topic::streaming) return stream();
    if (trains()) return train_step();
    sweep();
  }
  Values result() {
    reset();
    run();
    if (topic() == topic::streaming) return {{"h", from_torch(y)}};
    if (trains()) {
      run();  // whose loss depends on the first step's update
      return {{"loss", Tensor::scalar(loss)}};
    }
    Values values{{"y", from_torch(y)}};
    if (topic() == topic::inference) return values;
    for (const auto& parameter : layer->named_parameters())
      if (parameter.key().starts_with("weight")) values.emplace(parameter.key(), from_torch(parameter->grad().t()));
    if (topic() == topic::sweep_dx) values.emplace("dx", from_torch(x.grad()));
    return values;
  }
};

template <class Module, class Options>
Contenders contenders(const ProblemPtr& problem) {
  auto model = std::make_shared<Model<Module, Options>>(problem);
  return on_any_threads([model] { model->run(); }, [model] { return model->result(); });
}

}  // namespace

Contenders libtorch_recurrent(const ProblemPtr& problem) {
  if (problem->task.cell == "lstm") return contenders<torch::nn::LSTM, torch::nn::LSTMOptions>(problem);
  if (problem->task.cell == "gru") return contenders<torch::nn::GRU, torch::nn::GRUOptions>(problem);
  return contenders<torch::nn::RNN, torch::nn::RNNOptions>(problem);
}

Contenders libtorch_nodes(const Case& c) {
  struct Chain {
    at::Tensor first, last;
  };
  auto chain = std::make_shared<Chain>();
  auto run = [chain, steps = c.sizes.steps] {
    at::Tensor x = chain->first = torch::ones({}, torch::requires_grad());
    for (Index i = 0; i < steps; ++i) x = x * 0.999 + 0.001;
    x.backward();
    chain->last = x;
  };
  return on_any_threads(run, [chain, run] {
    run();
    return Values{{"y", from_torch(chain->last)}, {"dx", from_torch(chain->first.grad())}};
  });
}

Contenders libtorch_adam(const Case& c) {
  struct Update {
    at::Tensor p;
    std::unique_ptr<torch::optim::Adam> adam;
    void reset(Index size) {
      Tensor values(Shape{size}), gradient(Shape{size});
      Generator rng(1);
      rng.fill_uniform(values, -1, 1);
      rng.fill_uniform(gradient, -1, 1);
      p = to_torch(values).requires_grad_();
      p.mutable_grad() = to_torch(gradient);
      adam = std::make_unique<torch::optim::Adam>(std::vector{p});
    }
  };
  auto update = std::make_shared<Update>();
  update->reset(c.sizes.hidden);
  return on_any_threads([update] { update->adam->step(); },
                        [update, size = c.sizes.hidden] {
                          update->reset(size);
                          update->adam->step();
                          return Values{{"p", from_torch(update->p)}};
                        });
}

void prepare_libtorch(char** argv) {
  using Name = const char* (*)();
  const auto core = reinterpret_cast<Name>(dlsym(RTLD_DEFAULT, "openblas_get_corename"));
  const bool mistaken = core != nullptr && std::string(core()) == "Prescott" && __builtin_cpu_supports("avx2");
  if (!mistaken || std::getenv("OPENBLAS_CORETYPE") != nullptr) return;
  setenv("OPENBLAS_CORETYPE", __builtin_cpu_supports("avx512vl") ? "SkylakeX" : "Haswell", 1);
  execv("/proc/self/exe", argv);  // it chooses when it is loaded
}

std::string libtorch_version() { return "libtorch " TORCH_VERSION; }

}  // namespace unroll::benchmarks
