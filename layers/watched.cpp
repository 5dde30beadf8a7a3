#include <layers/watched.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace unroll {

Watched::Track Watched::track(std::string_view name, Index layer, Index direction, Source where) const {
  if (vars_ == nullptr) fail_at(where, "watched: nothing was; run a layer made with {{.watch = true}} first");
  const auto found = std::ranges::find(names_, name);
  if (found == names_.end()) fail_at(where, "watched: there is no \"{}\"; there are {}", name, fmt::join(names_, ", "));
  const auto layers = static_cast<Index>(cells_ / directions_), ways = static_cast<Index>(directions_);
  if (layer < 0 || layer >= layers || direction < 0 || direction >= ways)
    fail_at(where, "watched: layer {}, direction {}; there are {} layers and {} directions", layer, direction, layers,
            ways);
  const auto cell = static_cast<std::size_t>(layer * ways + direction);
  const auto place = static_cast<std::size_t>(found - names_.begin());
  return {vars_ + cell * static_cast<std::size_t>(batch_.steps()) * names_.size() + place, direction == 1,
          place >= gates_};
}

Tensor Watched::values(std::string_view name, Index layer, Index direction, Source where) const {
  const Track found = track(name, layer, direction, where);
  if (batch_.steps() == 0) return Tensor({batch_.all_steps(), batch_.sequences(), 0});
  const Var& first = at(found, 0);
  const Index columns = first.size(1);
  Tensor all({batch_.all_steps(), batch_.sequences(), columns}, first.dtype());
  for (Index step = 0; step < batch_.steps(); ++step) {
    const std::vector<double> rows = at(found, step).value().to_vector();
    for (Index k = 0; k < batch_.running(step); ++k)
      for (Index j = 0; j < columns; ++j)
        all.set({batch_.time_of(step, k, found.reverse), batch_.sequence_of(step, k), j},
                rows[static_cast<std::size_t>(k * columns + j)]);
  }
  return all;
}

std::vector<double> Watched::gradient_norms(std::string_view name, Index layer, Index direction, Source where) const {
  const Track found = track(name, layer, direction, where);
  if (!found.of_state)
    fail_at(where, "watched: \"{}\" is a gate; the gradients kept are those of {}", name,
            fmt::join(names_.subspan(gates_), ", "));
  std::vector<double> norms(static_cast<std::size_t>(batch_.all_steps()));
  for (Index step = 0; step < batch_.steps(); ++step) {
    const std::vector<double> rows = at(found, step).grad(where).to_vector();
    const auto columns = rows.size() / static_cast<std::size_t>(batch_.running(step));
    for (std::size_t i = 0; i < rows.size(); ++i)
      norms[static_cast<std::size_t>(batch_.time_of(step, static_cast<Index>(i / columns), found.reverse))] +=
          rows[i] * rows[i];
  }
  for (double& norm : norms) norm = std::sqrt(norm);
  return norms;
}

}  // namespace unroll
