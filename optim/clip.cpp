#include <optim/clip.h>

#include <optim/elementwise_update.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory_resource>
#include <unordered_set>
#include <utility>

namespace unroll {

namespace {

/// The parameters whose gradients count, each once, in their order. On the stack, unless there are thousands.
class WithGrad {
 public:
  explicit WithGrad(const std::vector<Parameter*>& parameters) {
    list_.reserve(parameters.size());
    std::pmr::unordered_set<Parameter*> seen(parameters.size(), &memory_);
    for (Parameter* parameter : parameters)
      if (parameter->has_grad() && parameter->trainable() && parameter->size() > 0 && seen.insert(parameter).second)
        list_.push_back(parameter);
  }
  auto begin() const { return list_.begin(); }
  auto end() const { return list_.end(); }

 private:
  std::array<std::byte, 1 << 16> buffer_;
  std::pmr::monotonic_buffer_resource memory_{buffer_.data(), buffer_.size()};
  std::pmr::vector<Parameter*> list_{&memory_};
};

template <class T>
using Piece = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;

/// combine(of_piece(x), of_piece(y), ...) over the pieces of a tensor, or of some rows of it, of which there are few,
/// so that the results need no heap. How it is cut follows from its size alone.
template <class OfPiece, class Combine>
double reduce(const Tensor& tensor, const std::vector<Index>* rows, OfPiece&& of_piece, Combine&& combine) {
  return with_type(tensor.dtype(), [&]<class T>(T) {
    constexpr Index most = 64, aligned = 16;
    alignas(64) std::array<double, most> results;  // Eigen sums in an order that depends on the alignment
    const T* x = tensor.data<T>();
    const Index row = rows == nullptr ? 1 : tensor.size() / tensor.shape()[0];
    const Index count = rows == nullptr ? tensor.size() : static_cast<Index>(rows->size());
    const Index each =
        std::max((count + most * aligned - 1) / (most * aligned) * aligned, detail::parallel_grain / row);
    const Index pieces = (count + each - 1) / each;
    detail::for_each_block(pieces, [&](Index piece) {
      const Index begin = piece * each, end = std::min(begin + each, count);
      double& result = results[static_cast<std::size_t>(piece)];
      if (rows == nullptr) {
        result = of_piece(Piece<T>(x + begin, end - begin));
        return;
      }
      result = 0;
      for (Index i = begin; i < end; ++i) {
        const Piece<T> used(x + (*rows)[static_cast<std::size_t>(i)] * row, row);
        alignas(64) const std::array<double, 2> both = {result, static_cast<double>(of_piece(used))};
        result = combine(Piece<double>(both.data(), 2));
      }
    });
    return pieces == 0 ? 0 : static_cast<double>(combine(Piece<double>(results.data(), pieces)));
  });
}

/// Calls `f` with pieces of what of a gradient can differ from zero.
template <class F>
void update_grad(Parameter& parameter, F&& f) {
  if (const std::vector<Index>* rows = parameter.grad_rows())
    detail::update_rows(f, *rows, parameter.grad());
  else
    detail::update_elementwise(f, parameter.grad());
}

/// NaN when there is one.
double largest_magnitude(const Tensor& tensor, const std::vector<Index>* rows = nullptr) {
  auto largest = [](const auto& x) { return x.abs().template maxCoeff<Eigen::PropagateNaN>(); };
  return reduce(tensor, rows, largest, largest);
}

/// The sum of f(x) over the elements x, as double.
template <class F>
double sum_of(const Parameter& parameter, F&& f) {
  auto sum_piece = [&](const auto& x) {
    constexpr Index lanes = 16;  // as many sums side by side keep a vector unit busy
    Eigen::Array<double, lanes, 1> sums = Eigen::Array<double, lanes, 1>::Zero();
    const Index count = x.size(), whole = count / lanes * lanes;
    for (Index i = 0; i < whole; i += lanes)
      for (Index k = 0; k < lanes; ++k) sums[k] += f(static_cast<double>(x[i + k]));
    for (Index i = whole; i < count; ++i) sums[i - whole] += f(static_cast<double>(x[i]));
    return sums.sum();
  };
  return reduce(parameter.grad(), parameter.grad_rows(), sum_piece, [](const auto& sums) { return sums.sum(); });
}

/// sum (|g| / scale)^p.
double sum_of_powers(const WithGrad& parameters, double p, double scale) {
  double sum = 0;
  for (const Parameter* parameter : parameters) {
    sum += scale == 1 && p == 2   ? sum_of(*parameter, [](double g) { return g * g; })
           : scale == 1 && p == 1 ? sum_of(*parameter, [](double g) { return std::abs(g); })
                                  : sum_of(*parameter, [=](double g) { return std::pow(std::abs(g) / scale, p); });
  }
  return sum;
}

/// The largest magnitude of all. When one is not finite, what the user chose is done, and it is returned.
double largest_grad(const WithGrad& parameters, NonFinite non_finite, const char* function) {
  double largest = 0;
  for (Parameter* parameter : parameters) {
    const double own = largest_magnitude(parameter->grad(), parameter->grad_rows());
    largest = std::max(largest, own);
    if (std::isfinite(own)) continue;
    if (non_finite == NonFinite::error)
      fail("{}: the gradient of \"{}\" {} is not finite; lower the learning rate, or look for a division by zero",
           function, parameter->name(), parameter->shape());
    for (Parameter* skipped : parameters) skipped->use_up_grad();
    return own;
  }
  return largest;
}

/// In double: in float32 the factor for gradients near the largest number would be denormal.
template <class G>
void multiply(G&& g, double factor) {
  for (auto& x : g) x = static_cast<std::remove_reference_t<decltype(x)>>(x * factor);
}

constexpr Index unit_block = 64;
using OfUnits = Eigen::Array<double, 1, Eigen::Dynamic, Eigen::RowMajor, 1, unit_block>;

/// The norms of a matrix's columns.
template <class Matrix>
OfUnits norms_of_columns(const Matrix& matrix, double scale) {
  const double inverse = 1 / scale;
  OfUnits squares = OfUnits::Zero(matrix.cols());
  for (Index row = 0; row < matrix.rows(); ++row)
    squares += (matrix.row(row).array().template cast<double>() * inverse).square();
  return squares.sqrt() * scale;
}

/// What to divide by so that squares do not overflow, at least 1. Those of float32 never do in double; what is lost of
/// a small norm is far below any limit.
double safe_scale(const Tensor& tensor) {
  return tensor.dtype() == float32 ? 1 : std::max(1., largest_magnitude(tensor));
}

template <class T>
void clip_columns(MatrixMap<T> g, double g_scale, ConstMatrixMap<T> w, double w_scale, double clipping,
                  double epsilon) {
  const OfUnits limits = norms_of_columns(w, w_scale).max(epsilon) * clipping, norms = norms_of_columns(g, g_scale);
  if ((norms <= limits).all()) return;
  const OfUnits factors = (norms > limits).select(limits / norms, 1);
  for (Index row = 0; row < g.rows(); ++row)
    g.row(row) = (g.row(row).array().template cast<double>() * factors).template cast<T>().matrix();
}

void clip_units(Parameter& parameter, double clipping, double epsilon) {
  const Shape& shape = parameter.shape();
  const Index units = shape.rows() == 1 ? 1 : shape.columns(), size = parameter.size() / units;
  const Tensor& value = std::as_const(parameter).value();
  Tensor& grad = parameter.grad();
  const double w_scale = safe_scale(value), g_scale = safe_scale(grad);
  const Index blocks = (units + unit_block - 1) / unit_block;
  const Index together = std::max<Index>(1, detail::parallel_grain / (unit_block * size));
  with_type(parameter.dtype(), [&]<class T>(T) {
    detail::for_each_block((blocks + together - 1) / together, [&](Index task) {
      for (Index block = task * together; block < std::min(blocks, (task + 1) * together); ++block) {
        const Index begin = block * unit_block, count = std::min(unit_block, units - begin);
        const Eigen::OuterStride<> stride(units);
        clip_columns<T>({grad.data<T>() + begin, size, count, stride}, g_scale,
                        {value.data<T>() + begin, size, count, stride}, w_scale, clipping, epsilon);
      }
    });
  });
}

}  // namespace

double clip_grad_norm(const std::vector<Parameter*>& parameters, double max_norm, ClipOptions options) {
  constexpr const char* function = "clip_grad_norm";
  const double p = options.p;
  if (!(max_norm > 0)) fail("{}: max_norm is {}; it must be above 0", function, max_norm);
  if (!(p >= 1)) fail("{}: p is {}; it must be at least 1", function, p);
  const WithGrad with_grad(parameters);
  const bool infinite = std::isinf(p);
  double scale = 1, sum = infinite ? 0 : sum_of_powers(with_grad, p, scale);
  if (!(sum > 1e-280 && std::isfinite(sum))) {  // a power may have left the range of double
    scale = largest_grad(with_grad, options.non_finite, function);
    if (scale == 0 || !std::isfinite(scale)) return scale;
    sum = infinite ? 1 : sum_of_powers(with_grad, p, scale);
  }
  const double root = p == 2 ? std::sqrt(sum) : std::pow(sum, 1 / p), norm = root * scale;
  if (norm <= max_norm) return norm;
  const double factor = max_norm / scale / root;
  for (Parameter* parameter : with_grad) update_grad(*parameter, [=](auto g) { multiply(g, factor); });
  return norm;
}

double clip_grad_value(const std::vector<Parameter*>& parameters, double max, NonFinite non_finite) {
  if (!(max > 0)) fail("clip_grad_value: max is {}; it must be above 0", max);
  const WithGrad with_grad(parameters);
  const double largest = largest_grad(with_grad, non_finite, "clip_grad_value");
  if (largest <= max || !std::isfinite(largest)) return largest;
  for (Parameter* parameter : with_grad)
    update_grad(*parameter, [=]<class A>(A g) {
      using T = typename A::Scalar;
      g = g.max(static_cast<T>(-max)).min(static_cast<T>(max));
    });
  return largest;
}

void clip_grad_adaptive(const std::vector<Parameter*>& parameters, double clipping, double epsilon) {
  constexpr const char* function = "clip_grad_adaptive";
  for (auto [name, value] : {std::pair("clipping", clipping), std::pair("epsilon", epsilon)})
    if (!(value > 0 && std::isfinite(value))) fail("{}: {} is {}; it must be above 0", function, name, value);
  const WithGrad with_grad(parameters);
  largest_grad(with_grad, NonFinite::error, function);
  for (Parameter* parameter : with_grad) clip_units(*parameter, clipping, epsilon);
}

}  // namespace unroll
