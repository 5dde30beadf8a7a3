#pragma once

#include <autograd/tensor.h>

#include <cmath>
#include <map>
#include <string>

namespace unroll::detail {

// What state_dict of optimizers and the like has beside tensors. Throw Error in the name of `owner`.

inline bool is_count(double number) { return number >= 0 && number < 0x1p53 && number == std::floor(number); }

/// The number saved under this name.
inline double saved_number(const char* owner, const std::map<std::string, Tensor>& state, const std::string& name) {
  auto found = state.find(name);
  if (found == state.end() || found->second.size() != 1)
    fail("{}: the saved state has no number \"{}\"; it is of something else", owner, name);
  return found->second.item();
}

/// The same, of something counted.
inline Index saved_count(const char* owner, const std::map<std::string, Tensor>& state, const std::string& name) {
  const double count = saved_number(owner, state, name);
  if (!is_count(count)) fail("{}: the saved \"{}\" is {}; the state is damaged", owner, name, count);
  return static_cast<Index>(count);
}

}  // namespace unroll::detail
