// Rows of the operations that there were before the families got test files of their own. To be deleted with them.

#include <autograd/autograd.h>
#include <tests/autograd/operations.h>

#include <functional>

namespace unroll::testing {

namespace {

using Tensors = std::vector<Tensor>;
using At = std::vector<Index>;
using Numbers = std::vector<double>;

Tensor reduced(const Tensor& x, int axis, bool keep, double scale) {
  const Shape shape = x.shape();
  Index inner = 1;
  for (int k = axis + 1; k < shape.rank(); ++k) inner *= shape[k];
  Tensor y(keep ? shape.with(axis, 1) : shape.without(axis), float64);
  for (Index i = 0; i < x.size(); ++i)
    y.data<double>()[i / inner / shape[axis] * inner + i % inner] += scale * x.data<double>()[i];
  return y;
}

Tensor total(const Tensor& x, double scale) {
  double sum = 0;
  for (double v : x.to_vector()) sum += v;
  return Tensor::scalar(sum * scale, float64);
}

Tensor log_softmax_of(const Tensor& x) {
  Tensor y = x;
  for (Index row = 0; row < x.shape().rows(); ++row) {
    double* values = y.data<double>() + row * x.shape().columns();
    double sum = 0;
    for (Index i = 0; i < x.shape().columns(); ++i) sum += std::exp(values[i]);
    for (Index i = 0; i < x.shape().columns(); ++i) values[i] -= std::log(sum);
  }
  return y;
}

/// y[index of the result] = x[from(index)], with indices of full length.
Tensor gathered(const Tensor& x, const Shape& shape,
                const std::function<std::vector<Index>(std::vector<Index>)>& from) {
  Tensor y(shape, float64);
  for (Index i = 0; i < y.size(); ++i) {
    std::vector<Index> at(static_cast<std::size_t>(shape.rank()));
    Index rest = i, flat = 0;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      at[static_cast<std::size_t>(axis)] = rest % shape[axis];
      rest /= shape[axis];
    }
    std::vector<Index> source = from(at);
    for (int axis = 0; axis < x.shape().rank(); ++axis)
      flat = flat * x.shape()[axis] + source[static_cast<std::size_t>(axis)];
    y.data<double>()[i] = x.data<double>()[flat];
  }
  return y;
}

Tensor product(const Tensor& a, const Tensor& b) {
  Index rows = a.shape().rows(), k = a.shape().columns(), n = b.shape()[1];
  Tensor y(a.shape().with(a.shape().rank() - 1, n), float64);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < n; ++j)
      for (Index l = 0; l < k; ++l)
        y.data<double>()[i * n + j] += a.data<double>()[i * k + l] * b.data<double>()[l * n + j];
  return y;
}

Tensor joined(const Tensors& x, const Shape& shape, Index outer) {
  Tensor y(shape, float64);
  double* to = y.data<double>();
  for (Index row = 0; row < outer; ++row)
    for (const Tensor& part : x)
      for (Index i = 0, width = part.size() / outer; i < width; ++i) *to++ = part.data<double>()[row * width + i];
  return y;
}

}  // namespace

std::vector<OperationRow> reduction_rows() {
  const std::vector<std::vector<Shape>> any{{{3, 4}}, {{}}, {{1}}, {{0, 3}}, {{2, 3, 17}}},
      some{{{3, 4}}, {{}}, {{33}}};
  const std::vector<std::vector<Shape>> cubes{{{2, 3, 4}}, {{2, 33, 17}}, {{1, 1, 1}}, {{0, 2, 3}}};
  return {
      {"sum", any, [](Tape&, const Vars& x) { return sum(x[0]); }, [](const Tensors& x) { return total(x[0], 1); }},
      {"sum over the middle", cubes, [](Tape&, const Vars& x) { return sum(x[0], {1}); },
       [](const Tensors& x) { return reduced(x[0], 1, false, 1); }},
      {"mean", some, [](Tape&, const Vars& x) { return mean(x[0]); },
       [](const Tensors& x) { return total(x[0], 1.0 / static_cast<double>(x[0].size())); }},
      {"mean over the last, kept",
       {{{2, 3, 4}}, {{5}}},
       [](Tape&, const Vars& x) { return mean(x[0], {-1}, true); },
       [](const Tensors& x) {
         return reduced(x[0], x[0].shape().rank() - 1, true, 1.0 / static_cast<double>(x[0].shape().columns()));
       }},
      {"log_softmax",
       {{{3, 4}}, {{5}}, {{2, 1}}, {{2, 3, 33}}},
       [](Tape&, const Vars& x) { return log_softmax(x[0]); },
       [](const Tensors& x) { return log_softmax_of(x[0]); }},
  };
}

std::vector<OperationRow> loss_rows() {
  return {
      {"cross_entropy",
       {{{4, 5}}, {{2, 2, 17}}},
       [](Tape&, const Vars& x) {
         return cross_entropy(x[0], std::vector<std::int32_t>{3, 0, 1, 1});
       },
       [](const Tensors& x) {
         Tensor logs = log_softmax_of(x[0]);
         Index classes = x[0].shape().columns(), row = 0;
         double sum = 0;
         for (Index target : {3, 0, 1, 1}) sum -= logs.data<double>()[row++ * classes + target] / 4;
         return Tensor::scalar(sum, float64);
       }},
      {"mse",
       {{{3, 4}, {3, 4}}, {{}, {}}},
       [](Tape&, const Vars& x) { return mse(x[0], x[1]); },
       [](const Tensors& x) {
         Numbers a = x[0].to_vector(), b = x[1].to_vector();
         double sum = 0;
         for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
         return Tensor::scalar(sum / static_cast<double>(a.size()), float64);
       }},
  };
}

std::vector<OperationRow> shape_rows() {
  return {
      {"reshape",
       {{{3, 4}}, {{12}}},
       [](Tape&, const Vars& x) {
         return reshape(x[0], {2, -1});
       },
       [](const Tensors& x) {
         return x[0].reshaped({2, 6});
       }},
      {"transpose",
       {{{3, 4}}, {{2, 3, 17}}, {{0, 2}}},
       [](Tape&, const Vars& x) { return transpose(x[0]); },
       [](const Tensors& x) {
         Shape s = x[0].shape();
         int n = s.rank();
         return gathered(x[0], s.with(n - 2, s[n - 1]).with(n - 1, s[n - 2]), [](At at) {
           std::swap(at[at.size() - 1], at[at.size() - 2]);
           return at;
         });
       }},
      {"slice",
       {{{3, 4}}, {{33, 4, 2}}},
       [](Tape&, const Vars& x) { return slice(x[0], 1, 1, 3); },
       [](const Tensors& x) {
         return gathered(x[0], x[0].shape().with(1, 2), [](At at) {
           ++at[1];
           return at;
         });
       }},
      {"select",
       {{{3, 4}}, {{2, 3, 4}}},
       [](Tape&, const Vars& x) { return select(x[0], 1, -1); },
       [](const Tensors& x) {
         return gathered(x[0], x[0].shape().without(1), [&](At at) {
           at.insert(at.begin() + 1, x[0].shape()[1] - 1);
           return at;
         });
       }},
      {"chunk",
       {{{3, 4}}, {{2, 2, 34}}},
       [](Tape&, const Vars& x) { return chunk<2>(x[0])[1]; },
       [](const Tensors& x) {
         Index half = x[0].shape().columns() / 2;
         return gathered(x[0], x[0].shape().with(x[0].shape().rank() - 1, half), [&](At at) {
           at.back() += half;
           return at;
         });
       }},
      {"part",
       {{{6, 4}}},
       [](Tape&, const Vars& x) { return part(x[0], 0, 3, 1); },
       [](const Tensors& x) {
         return gathered(x[0], {2, 4}, [](At at) {
           at[0] += 2;
           return at;
         });
       }},
      {"detach",
       {{{3, 4}}, {{}}},
       [](Tape&, const Vars& x) { return detach(x[0]); },
       [](const Tensors& x) { return x[0]; },
       -2,
       2,
       false},
      {"stack",
       {{{3, 4}, {3, 4}}, {{}, {}, {}}},
       [](Tape&, const Vars& x) { return stack(x); },
       [](const Tensors& x) { return joined(x, x[0].shape().insert(0, static_cast<Index>(x.size())), 1); }},
      {"concat",
       {{{3, 4}, {3, 1}}, {{2, 17, 2}, {2, 0, 2}, {2, 1, 2}}},
       [](Tape&, const Vars& x) { return concat(x, 1); },
       [](const Tensors& x) {
         Index size = 0;
         for (const Tensor& part : x) size += part.shape()[1];
         return joined(x, x[0].shape().with(1, size), x[0].shape()[0]);
       }},
  };
}

std::vector<OperationRow> linear_algebra_rows() {
  return {
      {"matmul",
       {{{3, 4}, {4, 5}}, {{4}, {4, 1}}, {{2, 3, 17}, {17, 33}}, {{4, 4}, {4, 4}}, {{3, 0}, {0, 2}}},
       [](Tape&, const Vars& x) { return Var(matmul(x[0], x[1])); },
       [](const Tensors& x) { return product(x[0], x[1]); }},
      {"matmul with an addend",
       {{{3, 4}, {4, 5}, {5}}, {{17, 33}, {33, 5}, {17, 5}}, {{4, 4}, {4, 4}, {4, 1}}},
       [](Tape&, const Vars& x) { return Var(matmul(x[0], x[1]) + x[2]); },
       [](const Tensors& x) {
         Tensor y = product(x[0], x[1]);
         Shape shape = x[2].shape();
         Index n = y.shape().columns();
         for (Index i = 0; i < y.size(); ++i) {
           Index at = shape.rank() == 1 ? i % n : shape[1] == 1 ? i / n : i;
           y.data<double>()[i] += x[2].data<double>()[at];
         }
         return y;
       }},
      {"embedding",
       {{{5, 3}}, {{4, 17}}, {{4, 1}}},
       [](Tape& tape, const Vars& x) {
         return embedding(tape, x[0], std::vector<std::int32_t>{3, 0, 3, 1});
       },
       [](const Tensors& x) {
         Index rows[] = {3, 0, 3, 1};
         return gathered(x[0], {4, x[0].shape()[1]}, [&](At at) { return At{rows[at[0]], at[1]}; });
       }},
  };
}

std::vector<std::string> elementwise_names() {
  return {"add", "subtract", "multiply", "divide", "negate", "exp", "log", "sqrt", "square", "tanh", "sigmoid", "relu"};
}

}  // namespace unroll::testing
