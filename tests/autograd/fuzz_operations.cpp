// The instructions of random programs, a line each: how its operands and numbers are chosen, and how it is recorded.
// tests/pytorch/compare.py has a line of the same name for each.

#include <autograd/autograd.h>
#include <tests/autograd/fuzz_operands.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace unroll::testing {

namespace {

using namespace choose;

// --- How they are recorded ----------------------------------------------------------------------------------------

/// f({numbers...}), for functions that take their numbers as a list.
template <class T, class F>
auto with_list(const std::vector<T>& n, F f) {
  switch (n.size()) {
    case 1:
      return f({n[0]});
    case 2:
      return f({n[0], n[1]});
    case 3:
      return f({n[0], n[1], n[2]});
    case 4:
      return f({n[0], n[1], n[2], n[3]});
    default:
      return f({n[0], n[1], n[2], n[3], n[4]});
  }
}

using Axes = std::initializer_list<int>;
using Sizes = std::initializer_list<Index>;
using R = const Recording&;

int axis(R r, std::size_t k = 0) { return static_cast<int>(r.numbers()[k]); }

std::vector<int> axes(R r, std::size_t first = 0) {
  return {r.numbers().begin() + static_cast<std::ptrdiff_t>(first), r.numbers().end()};
}

/// f(x, axes, keep) with the numbers of `over_axes`.
auto over(Var (*f)(const Var& x, Axes axes, bool keep)) {
  return [f](R r) { return with_list(axes(r, 1), [&](Axes a) { return f(r.x[0], a, r.numbers()[0] != 0); }); };
}

std::vector<std::int32_t> whole_numbers(R r, std::size_t first = 0) {
  return {r.numbers().begin() + static_cast<std::ptrdiff_t>(first), r.numbers().end()};
}

/// f(indices) with the numbers of `index_elements`.
template <class F>
Var with_indices(R r, F f) {
  const std::size_t rank = static_cast<std::size_t>(r.x[0].rank());
  const Shape shape(std::span(r.numbers()).subspan(1, rank));
  const std::vector<std::int32_t> values = whole_numbers(r, 1 + rank);
  return f(Indices(values, shape));
}

/// The numbers from `first` on, as a constant.
Var constant_of(R r, std::size_t first) {
  Tensor values(r.x[0].shape(), r.x[0].dtype());
  with_type(values.dtype(), [&]<class T>(T) {
    for (Index i = 0; i < values.size(); ++i)
      values.data<T>()[i] = static_cast<T>(r.numbers()[static_cast<std::size_t>(i) + first]);
  });
  return r.tape.constant(values);
}

Parameter& leaf(R r) { return *r.inputs.leaves[r.number]; }

Var deviation(const Var& x, Axes axes, bool keep) { return stddev(x, axes, keep); }
Var length(const Var& x, Axes axes, bool keep) { return norm(x, axes, keep); }

std::vector<FuzzOperation> make_operations() {
  std::vector<FuzzOperation> operations{
      {"variable", 0, nullptr, [](R r) { return r.tape.variable(leaf(r).value()); }},
      {"constant", 0, nullptr, [](R r) { return r.tape.constant(leaf(r).value()); }},
      {"parameter", 0, nullptr, [](R r) { return r.tape.use(leaf(r)); }},
      {"frozen", 0, nullptr, [](R r) { return r.tape.use(leaf(r)); }},

      {"sum", 1, any, [](R r) { return sum(r.x[0]); }},
      {"mean", 0.5, any, [](R r) { return mean(r.x[0]); }},
      {"prod", 0.3, one(is_small), [](R r) { return prod(r.x[0]); }},
      {"max", 0.5, any, [](R r) { return max(r.x[0]); }, [](R r) { return between_elements(r.x[0].value()); }},
      {"min", 0.5, any, [](R r) { return min(r.x[0]); }, [](R r) { return between_elements(r.x[0].value()); }},
      {"logsumexp", 0.5, one(not_empty), [](R r) { return logsumexp(r.x[0]); }},
      {"sum over", 2, over_axes, over([](const Var& x, Axes a, bool keep) { return sum(x, a, keep); })},
      {"mean over", 1, over_axes, over([](const Var& x, Axes a, bool keep) { return mean(x, a, keep); })},
      {"prod over", 0.5, over_few, over([](const Var& x, Axes a, bool keep) { return prod(x, a, keep); })},
      {"max over", 0.5, over_axes, over([](const Var& x, Axes a, bool keep) { return max(x, a, keep); }),
       [](R r) { return between_elements(r.x[0].value()); }},
      {"min over", 0.5, over_axes, over([](const Var& x, Axes a, bool keep) { return min(x, a, keep); }),
       [](R r) { return between_elements(r.x[0].value()); }},
      {"variance over", 0.5, over_axes, over([](const Var& x, Axes a, bool keep) { return variance(x, a, keep); })},
      {"stddev over", 0.5, over_axes, over(deviation), [](R r) { return from_zero(over(deviation)(r).value()) / 100; }},
      {"norm over", 0.5, over_axes, over(length), [](R r) { return from_zero(over(length)(r).value()) / 100; }},
      {"norm 1 over", 0.3, over_axes, over([](const Var& x, Axes a, bool keep) { return norm(x, a, keep, 1); }),
       [](R r) { return from_zero(r.x[0].value()); }},
      {"logsumexp over", 0.5, over_axes, over([](const Var& x, Axes a, bool keep) { return logsumexp(x, a, keep); })},
      {"cumsum", 0.5, along_axis, [](R r) { return cumsum(r.x[0], axis(r)); }},
      {"softmax", 1, along_axis, [](R r) { return softmax(r.x[0], axis(r)); }},
      {"log_softmax", 1, along_axis, [](R r) { return log_softmax(r.x[0], axis(r)); }},
      {"masked_softmax", 0.5, with_mask, [](R r) { return masked_softmax(r.x[0], constant_of(r, 1), axis(r)); }},
      {"layer_norm", 1, with_rows_of(2), [](R r) { return layer_norm(r.x[0], r.x[1], r.x[2], 0.1); }},
      {"rms_norm", 0.5, with_rows_of(1), [](R r) { return rms_norm(r.x[0], r.x[1], 0.1); }},

      {"cross_entropy", 1, with_targets, [](R r) { return cross_entropy(r.x[0], whole_numbers(r)); }},
      {"smooth_cross_entropy", 0.3, with_targets,
       [](R r) { return cross_entropy(r.x[0], whole_numbers(r), {.label_smoothing = 0.1}); }},
      {"soft_cross_entropy", 0.5, two_alike, [](R r) { return cross_entropy(r.x[0], softmax(r.x[1])); }},
      {"nll", 0.5, with_targets, [](R r) { return nll(log_softmax(r.x[0]), whole_numbers(r)); }},
      {"binary_cross_entropy", 0.5, two_alike,
       [](R r) { return binary_cross_entropy_with_logits(r.x[0], sigmoid(r.x[1])); }},
      {"mse", 0.5, two_alike, [](R r) { return mse(r.x[0], r.x[1]); }},
      {"l1", 0.3, two_alike, [](R r) { return l1(r.x[0], r.x[1]); },
       [](R r) { return from_zero(Var(r.x[0] - r.x[1]).value()); }},
      {"huber", 0.3, two_alike, [](R r) { return huber(r.x[0], r.x[1]); },
       [](R r) { return from_zero(Var(square(r.x[0] - r.x[1]) - 1).value()); }},
      {"hinge", 0.3, with_signs, [](R r) { return hinge(r.x[0], constant_of(r, 0)); },
       [](R r) { return from_zero(Var(r.x[0] * constant_of(r, 0) - 1).value()); }},
      {"pinball", 0.3, two_alike, [](R r) { return pinball(r.x[0], r.x[1], 0.3); },
       [](R r) { return from_zero(Var(r.x[0] - r.x[1]).value()); }},
      {"kl_divergence", 0.5, two_alike, [](R r) { return kl_divergence(log_softmax(r.x[0]), softmax(r.x[1])); }},
      {"gaussian_nll", 0.5, with_variance,
       [](R r) { return gaussian_nll(r.x[0], r.x[1], Var(sigmoid(r.x[2]) + 0.5)); }},
      {"ctc", 0.5, with_labels,
       [](R r) {
         std::vector<std::int32_t> labels = whole_numbers(r), ones(labels.size(), 1),
                                   lengths(labels.size(), static_cast<std::int32_t>(r.x[0].size(0)));
         return ctc(log_softmax(r.x[0]), labels, lengths, ones);
       }},

      {"select", 3, at_index, [](R r) { return select(r.x[0], axis(r), r.numbers()[1]); }},
      {"unbind", 1, at_index,
       [](R r) {
         const std::vector<Var> all = unbind(r.x[0], axis(r));
         const Index i = r.numbers()[1];
         return all[static_cast<std::size_t>(i) + (i < 0 ? all.size() : 0)];
       }},
      {"slice", 3, between, [](R r) { return slice(r.x[0], axis(r), r.numbers()[1], r.numbers()[2]); }},
      {"slice by", 1, between_by,
       [](R r) { return slice(r.x[0], axis(r), r.numbers()[1], r.numbers()[2], r.numbers()[3]); }},
      {"part", 5, parts, [](R r) { return part(r.x[0], axis(r), r.numbers()[1], r.numbers()[2]); }},
      {"split", 1, unequal_parts,
       [](R r) {
         return split(r.x[0], std::span(r.numbers()).subspan(2), axis(r))[static_cast<std::size_t>(r.numbers()[1])];
       }},
      {"transpose", 3, two_axes, [](R r) { return transpose(r.x[0], axis(r), axis(r, 1)); }},
      {"permute", 1, all_axes, [](R r) { return with_list(axes(r), [&](Axes a) { return permute(r.x[0], a); }); }},
      {"flip", 1, some_axes, [](R r) { return with_list(axes(r), [&](Axes a) { return flip(r.x[0], a); }); }},
      {"squeeze", 0.5, any, [](R r) { return squeeze(r.x[0]); }},
      {"squeeze axis", 0.5, along_axis, [](R r) { return squeeze(r.x[0], axis(r)); }},
      {"unsqueeze", 1, new_axis, [](R r) { return unsqueeze(r.x[0], axis(r)); }},
      {"unflatten", 1, apart,
       [](R r) {
         return unflatten(r.x[0], axis(r), {r.numbers()[1], r.numbers()[2]});
       }},
      {"flatten", 0.5, any, [](R r) { return flatten(r.x[0]); }},
      {"reshape", 3, other_shape, [](R r) { return reshape(r.x[0], Shape(r.numbers())); }},
      {"detach", 0.5, any, [](R r) { return detach(r.x[0]); }},
      {"stack", 2, some_alike, [](R r) { return stack(r.x, r.numbers().empty() ? 0 : axis(r)); }},
      {"concat", 2, alike_but_for_axis, [](R r) { return concat(r.x, axis(r)); }},
      {"broadcast_to", 1, larger_shape, [](R r) { return broadcast_to(r.x[0], Shape(r.numbers())); }},
      {"repeat", 0.5, times,
       [](R r) { return with_list(r.numbers(), [&](Sizes counts) { return repeat(r.x[0], counts); }); }},
      {"pad", 1, around,
       [](R r) {
         std::vector<Padding> amounts;
         for (std::size_t k = 0; k < r.numbers().size(); k += 2)
           amounts.push_back({r.numbers()[k], r.numbers()[k + 1]});
         return with_list(amounts, [&](std::initializer_list<Padding> list) { return pad(r.x[0], list, 0.5); });
       }},
      {"index_select", 1, slices, [](R r) { return index_select(r.x[0], axis(r), whole_numbers(r, 1)); }},
      {"gather", 0.5, elements,
       [](R r) { return with_indices(r, [&](const Indices& at) { return gather(r.x[0], axis(r), at); }); }},
      {"scatter_add", 0.5, to_elements,
       [](R r) {
         return with_indices(r, [&](const Indices& at) { return scatter_add(r.x[0], axis(r), at, r.x[1]); });
       }},
      {"tril", 0.3, diagonal, [](R r) { return tril(r.x[0], r.numbers()[0]); }},
      {"triu", 0.3, diagonal, [](R r) { return triu(r.x[0], r.numbers()[0]); }},

      {"embedding", 1, with_rows, [](R r) { return embedding(r.tape, r.x[0], whole_numbers(r)); }},
      {"product", 2, factors, [](R r) { return Var(matmul(r.x[0], r.x[1])); }},
      {"dot", 0.5, vectors, [](R r) { return dot(r.x[0], r.x[1]); }},
      {"outer", 0.5, vectors, [](R r) { return outer(r.x[0], r.x[1]); }},
      {"checkpoint", 1, two_alike,
       [](R r) {
         return checkpoint(
             [](const Var& x, const Var& y) {
               Var h = tanh(x * y);
               return Var(h * x + sum(h));
             },
             r.x[0], r.x[1]);
       }},
      {"recurrence", 2, recurrence, nullptr},
  };
  double weight = 0;
  for (const FuzzOperation& operation : operations) weight += operation.weight;
  // Every other instruction is a statement.
  std::vector<FuzzOperation> statements = fuzz_statements();
  double of_statements = 0;
  for (const FuzzOperation& statement : statements) of_statements += statement.weight;
  for (FuzzOperation& statement : statements) {
    statement.weight *= weight / of_statements;
    operations.push_back(std::move(statement));
  }
  return operations;
}

}  // namespace

const std::vector<FuzzOperation>& fuzz_operations() {
  static const std::vector<FuzzOperation> operations = make_operations();
  return operations;
}

const FuzzOperation& fuzz_operation(const std::string& name) {
  static const auto by_name = [] {
    std::unordered_map<std::string, const FuzzOperation*> map;
    for (const FuzzOperation& operation : fuzz_operations()) map[operation.name] = &operation;
    return map;
  }();
  return *by_name.at(name);
}

}  // namespace unroll::testing
