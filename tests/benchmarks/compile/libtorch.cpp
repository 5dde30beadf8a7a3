// The program of unroll.cpp, for libtorch.

#include <torch/torch.h>

struct LanguageModel : torch::nn::Module {
  torch::nn::Embedding embedding;
  torch::nn::LSTM lstm;
  torch::nn::Linear head;

  LanguageModel(int64_t words, int64_t units) : embedding(words, units), lstm(units, units), head(units, words) {
    register_module("embedding", embedding);
    register_module("lstm", lstm);
    register_module("head", head);
  }

  torch::Tensor forward(const torch::Tensor& words, std::tuple<torch::Tensor, torch::Tensor>& state) {
    auto [y, last] = lstm->forward(embedding->forward(words), state);
    state = {std::get<0>(last).detach(), std::get<1>(last).detach()};
    return head->forward(y);
  }
};

double train(LanguageModel& model, torch::optim::Adam& adam, std::tuple<torch::Tensor, torch::Tensor>& state,
             const torch::Tensor& words, const torch::Tensor& next) {
  adam.zero_grad();
  const torch::Tensor nats = torch::cross_entropy_loss(model.forward(words, state).flatten(0, 1), next.flatten());
  nats.backward();
  torch::nn::utils::clip_grad_norm_(model.parameters(), 1.0);
  adam.step();
  return nats.item<double>();
}
