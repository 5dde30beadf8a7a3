#include <layers/initialize.h>

#include <autograd/file.h>
#include <autograd/safetensors.h>

#include <fmt/ranges.h>
#include <Eigen/QR>

#include <cmath>
#include <string>
#include <vector>

namespace unroll::initialize {

// ---- Targets -------------------------------------------------------------------------------------------------------

Target::Target(Tensor& tensor) : tensor_(&tensor), shape_(tensor.shape()), name_("the tensor") {}

Target::Target(Parameter& parameter)
    : parameter_(&parameter),
      shape_(parameter.shape()),
      name_(parameter.name().empty() ? "the parameter" : parameter.name()) {}

DType Target::dtype() const { return parameter_ != nullptr ? parameter_->dtype() : tensor_->dtype(); }

Target Target::columns(Index begin, Index end) const {
  if (shape_.rank() == 0 || begin < 0 || begin > end || end > shape_.columns())
    fail("initialize::Target: {} is {}, which has no columns {} to {}", name_, shape_, begin, end - 1);
  Target part = *this;
  part.begin_ += begin;
  part.shape_ = shape_.with(shape_.rank() - 1, end - begin);
  return part;
}

void Target::assign(const Tensor& values) const {
  if (values.shape() != shape_)
    fail("initialize: the values for {} are {}; they must be {}", name_, values.shape(), shape_);
  Tensor& tensor = parameter_ != nullptr ? parameter_->value() : *tensor_;
  if (values.empty()) return;
  with_type(values.dtype(), [&]<class From>(From) {
    with_type(tensor.dtype(), [&]<class To>(To) {
      tensor.matrix<To>().middleCols(begin_, shape_.columns()) = values.matrix<From>().template cast<To>();
    });
  });
}

Target block(const Target& target, Index number, Index count) {
  const Shape& shape = target.shape();
  if (count < 1 || shape.rank() == 0 || shape.columns() % count != 0)
    fail("initialize: {} is {}, whose columns cannot be divided into {} equal blocks", target.name(), shape, count);
  if (number < 0 || number >= count)
    fail("initialize: {} has no block {}; they are 0 to {}", target.name(), number, count - 1);
  const Index size = shape.columns() / count;
  return target.columns(number * size, (number + 1) * size);
}

namespace {

/// Calls `fill` with each block of a matrix.
template <class F>
void each_block(const char* function, const Target& target, Index blocks, const F& fill) {
  if (target.shape().rank() != 2)
    fail("{}: {} is {}; it must be a matrix [inputs, outputs]", function, target.name(), target.shape());
  const Target first = block(target, 0, blocks);  // says what is wrong with the number of blocks
  fill(first);
  for (Index number = 1; number < blocks; ++number) fill(block(target, number, blocks));
}

void check_gain(const char* function, const Target& target, double gain) {
  if (!(gain > 0 && std::isfinite(gain)))
    fail("{}: the gain for {} is {}; it must be above 0", function, target.name(), gain);
}

}  // namespace

// ---- Whatever the shape --------------------------------------------------------------------------------------------

void uniform(const Target& target, Generator& rng, double low, double high) {
  if (!(low <= high && std::isfinite(high - low)))
    fail("initialize::uniform: the bounds for {} are {} and {}; they must be finite and in order", target.name(), low,
         high);
  Tensor values(target.shape(), target.dtype());
  rng.fill_uniform(values, low, high);
  target.assign(values);
}

void normal(const Target& target, Generator& rng, double mean, double std) {
  if (!(std::isfinite(mean) && std >= 0 && std::isfinite(std)))
    fail("initialize::normal: the mean for {} is {} and std {}; they must be finite, and std 0 or more", target.name(),
         mean, std);
  Tensor values(target.shape(), target.dtype());
  rng.fill_normal(values, mean, std);
  target.assign(values);
}

void truncated_normal(const Target& target, Generator& rng, double mean, double std, double cut) {
  if (!(std::isfinite(mean) && std >= 0 && std::isfinite(std)))
    fail("initialize::truncated_normal: the mean for {} is {} and std {}; they must be finite, and std 0 or more",
         target.name(), mean, std);
  if (!(cut >= 0.1))
    fail("initialize::truncated_normal: the cut for {} is {}; it must be at least 0.1", target.name(), cut);
  Tensor values(target.shape(), float64);
  double* value = values.data<double>();
  for (Index i = 0; i < values.size(); ++i) {
    double z = rng.normal();
    while (std::abs(z) > cut) z = rng.normal();
    value[i] = mean + std * z;
  }
  target.assign(values);
}

void constant(const Target& target, double value) {
  if (!std::isfinite(value))
    fail("initialize::constant: the value for {} is {}; it must be finite", target.name(), value);
  target.assign(Tensor::full(target.shape(), value, target.dtype()));
}

// ---- By a matrix's sizes -------------------------------------------------------------------------------------------

double gain(Nonlinearity nonlinearity, double slope) {
  if (!std::isfinite(slope)) fail("initialize::gain: the slope is {}; it must be finite", slope);
  switch (nonlinearity) {
    case Nonlinearity::tanh:
      return 5.0 / 3;
    case Nonlinearity::relu:
      return std::sqrt(2.0);
    case Nonlinearity::leaky_relu:
      return std::sqrt(2 / (1 + slope * slope));
    case Nonlinearity::selu:
      return 0.75;
    default:
      return 1;
  }
}

namespace {

enum class Distribution { uniform, normal };

/// Fills each block so that its standard deviation is gain / sqrt(fan(block)).
template <class F>
void fill_scaled(const char* function, const Target& target, Generator& rng, Scale scale, Distribution distribution,
                 const F& fan) {
  check_gain(function, target, scale.gain);
  each_block(function, target, scale.blocks, [&](const Target& part) {
    if (part.shape().count() == 0) return;  // fans of 0
    const double std = scale.gain / std::sqrt(fan(part.shape()));
    const double bound = std * std::sqrt(3.0);
    if (distribution == Distribution::uniform)
      uniform(part, rng, -bound, bound);
    else
      normal(part, rng, 0, std);
  });
}

double mean_fan(const Shape& shape) { return static_cast<double>(shape[0] + shape[1]) / 2; }
double fan_in(const Shape& shape) { return static_cast<double>(shape[0]); }

void kaiming(const char* function, const Target& target, Generator& rng, KaimingOptions options,
             Distribution distribution) {
  fill_scaled(function, target, rng, {gain(options.nonlinearity, options.slope), options.blocks}, distribution,
              [&](const Shape& shape) { return static_cast<double>(shape[options.fan == Fan::in ? 0 : 1]); });
}

}  // namespace

void xavier_uniform(const Target& target, Generator& rng, Scale scale) {
  fill_scaled("initialize::xavier_uniform", target, rng, scale, Distribution::uniform, mean_fan);
}

void xavier_normal(const Target& target, Generator& rng, Scale scale) {
  fill_scaled("initialize::xavier_normal", target, rng, scale, Distribution::normal, mean_fan);
}

void kaiming_uniform(const Target& target, Generator& rng, KaimingOptions options) {
  kaiming("initialize::kaiming_uniform", target, rng, options, Distribution::uniform);
}

void kaiming_normal(const Target& target, Generator& rng, KaimingOptions options) {
  kaiming("initialize::kaiming_normal", target, rng, options, Distribution::normal);
}

void lecun_uniform(const Target& target, Generator& rng, Scale scale) {
  fill_scaled("initialize::lecun_uniform", target, rng, scale, Distribution::uniform, fan_in);
}

void lecun_normal(const Target& target, Generator& rng, Scale scale) {
  fill_scaled("initialize::lecun_normal", target, rng, scale, Distribution::normal, fan_in);
}

// ---- Orthogonal, identity ------------------------------------------------------------------------------------------

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Random with orthonormal columns, rows >= columns.
Matrix orthonormal(Index rows, Index columns, Generator& rng) {
  Tensor normals({rows, columns}, float64);
  rng.fill_normal(normals);
  const Eigen::HouseholderQR<Matrix> qr(normals.matrix<double>());
  Matrix Q = qr.householderQ() * Matrix::Identity(rows, columns);
  // A decomposition is unique only up to these signs, and Householder's are not random.
  for (Index j = 0; j < columns; ++j)
    if (qr.matrixQR()(j, j) < 0) Q.col(j) = -Q.col(j);
  return Q;
}

}  // namespace

void orthogonal(const Target& target, Generator& rng, Scale scale) {
  check_gain("initialize::orthogonal", target, scale.gain);
  each_block("initialize::orthogonal", target, scale.blocks, [&](const Target& part) {
    const Index rows = part.shape()[0], columns = part.shape()[1];
    if (rows == 0 || columns == 0) return;
    Tensor values(part.shape(), float64);
    if (rows >= columns)
      values.matrix<double>() = scale.gain * orthonormal(rows, columns, rng);
    else
      values.matrix<double>() = scale.gain * orthonormal(columns, rows, rng).transpose();
    part.assign(values);
  });
}

void identity(const Target& target, Scale scale) {
  check_gain("initialize::identity", target, scale.gain);
  each_block("initialize::identity", target, scale.blocks, [&](const Target& part) {
    Tensor values(part.shape(), float64);
    values.matrix<double>().diagonal().setConstant(scale.gain);
    part.assign(values);
  });
}

// ---- Files ---------------------------------------------------------------------------------------------------------

void from_file(const Target& target, const std::filesystem::path& path, std::string_view name, FileOptions options) {
  const TensorFile file = read_safetensors(path);
  const auto found = file.tensors.find(std::string(name));
  if (found == file.tensors.end()) {
    std::vector<std::string> names;
    for (const auto& entry : file.tensors) names.push_back(detail::in_quotes(entry.first, 100));
    fail("initialize::from_file: {} has no \"{}\" for {}; it has {}", detail::in_quotes(path.string()), name,
         target.name(), fmt::join(names, ", "));
  }
  const Tensor& stored = found->second;
  const bool fits = options.transposed
                        ? target.shape().rank() == 2 && stored.shape().rank() == 2 &&
                              stored.shape()[0] == target.shape()[1] && stored.shape()[1] == target.shape()[0]
                        : stored.shape() == target.shape();
  if (!fits)
    fail("initialize::from_file: \"{}\" in {} is {}{}; {} is {}", name, detail::in_quotes(path.string()),
         stored.shape(), options.transposed ? ", to be transposed" : "", target.name(), target.shape());
  target.assign(options.transposed ? stored.transposed() : stored);
}

}  // namespace unroll::initialize
