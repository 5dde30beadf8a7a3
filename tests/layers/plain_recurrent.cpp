#include <tests/layers/plain_recurrent.h>

#include <algorithm>
#include <cmath>

namespace unroll::testing {

namespace {

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }
Numbers block(const Numbers& x, std::size_t k, std::size_t size) {
  return {x.begin() + static_cast<std::ptrdiff_t>(k * size), x.begin() + static_cast<std::ptrdiff_t>((k + 1) * size)};
}
Numbers add(Numbers a, const Numbers& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}
Numbers times(Numbers a, const Numbers& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] *= b[i];
  return a;
}
template <class F>
Numbers each(Numbers a, F f) {
  std::ranges::transform(a, a.begin(), f);
  return a;
}

}  // namespace

Numbers PlainCell::product(const std::string& name, const Numbers& x) const {
  const Tensor& W = weights.at(name);
  Numbers y(static_cast<std::size_t>(W.shape()[0]));
  for (std::size_t i = 0; i < y.size(); ++i)
    for (std::size_t j = 0; j < x.size(); ++j) y[i] += W.at({static_cast<Index>(i), static_cast<Index>(j)}) * x[j];
  return y;
}

Numbers PlainCell::normalised(const std::string& gain, Numbers x) const {
  if (!has(gain)) return x;
  double mean = 0, variance = 0;
  for (double value : x) mean += value / static_cast<double>(x.size());
  for (double value : x) variance += (value - mean) * (value - mean) / static_cast<double>(x.size());
  return times(each(x, [&](double value) { return (value - mean) / std::sqrt(variance + 1e-5); }), vector(gain));
}

Numbers PlainCell::plus(Numbers x, const std::string& name) const { return has(name) ? add(x, vector(name)) : x; }

PlainState PlainRNN::step(const Numbers& x, const PlainState& before) const {
  Numbers a =
      add(normalised("gain_ih", product("weight_ih", x)), normalised("gain_hh", product("weight_hh", before.h)));
  a = plus(plus(a, "bias_ih"), "bias_hh");
  return {each(a, [&](double v) { return relu ? std::max(v, 0.0) : std::tanh(v); }), {}};
}

PlainState PlainLSTM::step(const Numbers& x, const PlainState& before) const {
  Numbers a =
      add(normalised("gain_ih", product("weight_ih", x)), normalised("gain_hh", product("weight_hh", before.h)));
  a = plus(plus(a, "bias_ih"), "bias_hh");
  const std::size_t hidden = before.c.size(), blocks = a.size() / hidden;
  const bool coupled = blocks == 3;
  auto peephole = [&](const std::string& name, Numbers sum, const Numbers& c) {
    return has(name) ? add(sum, times(vector(name), c)) : sum;
  };
  Numbers f = each(peephole("peephole_f", block(a, coupled ? 0 : 1, hidden), before.c), sigmoid_of);
  Numbers i = coupled ? each(f, [](double v) { return 1 - v; })
                      : each(peephole("peephole_i", block(a, 0, hidden), before.c), sigmoid_of);
  Numbers g = each(block(a, blocks - 2, hidden), [](double v) { return std::tanh(v); });
  Numbers c = add(times(f, before.c), times(i, g));
  Numbers o = each(peephole("peephole_o", block(a, blocks - 1, hidden), c), sigmoid_of);
  Numbers h = times(o, each(plus(normalised("gain_c", c), "bias_c"), [](double v) { return std::tanh(v); }));
  return {has("weight_hr") ? product("weight_hr", h) : h, c};
}

PlainState PlainGRU::step(const Numbers& x, const PlainState& before) const {
  const std::size_t hidden = before.h.size();
  Numbers a = plus(normalised("gain_ih", product("weight_ih", x)), "bias_ih");
  Numbers b = plus(normalised("gain_hh", product("weight_hh", before.h)), "bias_hh");
  Numbers r = each(add(block(a, 0, hidden), block(b, 0, hidden)), sigmoid_of);
  Numbers z = each(add(block(a, 1, hidden), block(b, 1, hidden)), sigmoid_of);
  Numbers past = has("weight_hn") ? normalised("gain_hn", product("weight_hn", times(r, before.h)))
                                  : times(r, block(b, 2, hidden));
  Numbers n = each(add(block(a, 2, hidden), past), [](double v) { return std::tanh(v); });
  return {add(times(each(z, [](double v) { return 1 - v; }), n), times(z, before.h)), {}};
}

PlainOutput run_plain(PlainCell& cell, const std::map<std::string, Tensor>& state_dict, const PlainOptions& options,
                      Steps x, const std::vector<PlainState>& initial) {
  PlainOutput out{{}, initial};
  const std::size_t directions = options.bidirectional == Bidirectional::no ? 1 : 2;
  for (std::size_t layer = 0; layer < static_cast<std::size_t>(options.layers); ++layer) {
    Steps y(x.size());
    for (std::size_t direction = 0; direction < directions; ++direction) {
      const std::string suffix = fmt::format("_l{}{}", layer, direction == 0 ? "" : "_reverse");
      cell.weights.clear();
      for (const auto& [name, tensor] : state_dict)
        if (name.ends_with(suffix)) cell.weights[name.substr(0, name.size() - suffix.size())] = tensor;
      PlainState& state = out.states[layer * directions + direction];
      for (std::size_t k = 0; k < x.size(); ++k) {
        const std::size_t t = direction == 0 ? k : x.size() - 1 - k;
        state = cell.step(x[t], state);
        if (direction == 0)
          y[t] = state.h;
        else if (options.bidirectional == Bidirectional::summed)
          y[t] = add(y[t], state.h);
        else
          y[t].insert(y[t].end(), state.h.begin(), state.h.end());
      }
    }
    if (options.residual && !x.empty() && x[0].size() == y[0].size())
      for (std::size_t t = 0; t < x.size(); ++t) y[t] = add(y[t], x[t]);
    x = y;
  }
  out.y = x;
  return out;
}

}  // namespace unroll::testing
