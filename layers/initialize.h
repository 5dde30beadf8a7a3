#pragma once

#include <autograd/parameter.h>
#include <autograd/random.h>

#include <filesystem>
#include <string>
#include <string_view>

/// What weights start from. Every initialiser overwrites all of a Tensor or Parameter, of either type, or one block of
/// its columns; the same generator gives the same numbers, on any number of threads.
///
///     initialize::xavier_uniform(head.W, rng);
///     initialize::orthogonal(cell.W_hh, rng, {.blocks = 4});       // the four gates, each on its own
///     initialize::constant(initialize::block(cell.b, 1, 4), 1.0);  // the forget gate's bias
///
/// Our weights are [inputs, outputs], as in y = x W: fan-in is the number of rows, fan-out that of columns. (PyTorch's
/// are transposed.) All throw Error, with the parameter's name, when a value is not what its description says, and
/// those that speak of fans, of orthogonality or of the identity when the target is not a matrix.
namespace unroll::initialize {

/// What an initialiser fills.
class Target {
 public:
  Target(Tensor& tensor);        // NOLINT(google-explicit-constructor)
  Target(Parameter& parameter);  // NOLINT(google-explicit-constructor)
  /// Columns [begin, end) of this target, counted from its own first. Throws Error when there are none such.
  Target columns(Index begin, Index end) const;

  /// The tensor's shape, the last axis cut to this target's columns.
  const Shape& shape() const { return shape_; }
  DType dtype() const;
  /// "lstm.weight_hh_l0", or "the tensor"; for messages.
  const std::string& name() const { return name_; }
  /// Copies the values into the target, converting them. Throws Error unless they have its shape.
  void assign(const Tensor& values) const;

 private:
  Tensor* tensor_ = nullptr;  // one of these two
  Parameter* parameter_ = nullptr;
  Shape shape_;
  Index begin_ = 0;
  std::string name_;
};

/// Block `number`, from 0, of `count` equal blocks of columns: one gate of a recurrent cell's weights [D, count * H] or
/// of its bias [count * H]. Throws Error when the columns cannot be divided so or there is no such block.
Target block(const Target& target, Index number, Index count);

/// The factor that keeps a signal's size through a layer with this activation. tanh: 5/3; ReLU: sqrt(2); leaky ReLU of
/// a slope a below 0: sqrt(2 / (1 + a^2)); SELU: 3/4; else 1. (The values of PyTorch's `calculate_gain`; those of the
/// rectifiers are He et al. 2015, equations 10 and 15.)
enum class Nonlinearity { linear, sigmoid, tanh, relu, leaky_relu, selu };
double gain(Nonlinearity nonlinearity, double slope = 0.01);

/// Uniform in [low, high). Throws Error unless low <= high and both are finite.
void uniform(const Target& target, Generator& rng, double low, double high);

/// Normal with this mean and standard deviation. Throws Error unless both are finite and std >= 0.
void normal(const Target& target, Generator& rng, double mean = 0, double std = 1);

/// Normal, where each number further than `cut` times std from the mean is drawn again, so that none is far out. With a
/// cut of 2, one in 22 is, and the result's standard deviation is 0.88 std. Throws Error unless cut is at least 0.1.
void truncated_normal(const Target& target, Generator& rng, double mean = 0, double std = 1, double cut = 2);

/// One number everywhere. Throws Error unless it is finite.
void constant(const Target& target, double value);

/// For the initialisers that look at a matrix's sizes.
struct Scale {
  double gain = 1;   ///< what the standard deviation is multiplied with; above 0
  Index blocks = 1;  ///< the matrix is this many equal blocks of columns, each initialised on its own, in order
};

/// Keeps the variance of activations and of gradients about equal through the layers, as a compromise between both:
/// uniform in +-gain sqrt(6 / (fan_in + fan_out)), or normal with std = gain sqrt(2 / (fan_in + fan_out)).
/// Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks",
/// equation 16.
void xavier_uniform(const Target& target, Generator& rng, Scale scale = {});
void xavier_normal(const Target& target, Generator& rng, Scale scale = {});

enum class Fan { in, out };

struct KaimingOptions {
  Nonlinearity nonlinearity = Nonlinearity::relu;
  double slope = 0.01;  ///< below 0, of leaky_relu alone
  Fan fan = Fan::in;    ///< `in` keeps the variance in the forward pass, `out` in the backward pass
  Index blocks = 1;     ///< as in Scale
};

/// For rectifiers: normal with std = gain / sqrt(fan), or uniform in +-gain sqrt(3 / fan), which has the same variance.
/// Source: He, Zhang, Ren and Sun 2015, "Delving deep into rectifiers", equations 10, 14 and 15.
void kaiming_uniform(const Target& target, Generator& rng, KaimingOptions options = {});
void kaiming_normal(const Target& target, Generator& rng, KaimingOptions options = {});

/// Sums of unit variance from inputs of unit variance: std = gain / sqrt(fan_in), normal or uniform in
/// +-gain sqrt(3 / fan_in).
/// Source: LeCun, Bottou, Orr and Müller 1998, "Efficient BackProp", equation 16.
void lecun_uniform(const Target& target, Generator& rng, Scale scale = {});
void lecun_normal(const Target& target, Generator& rng, Scale scale = {});

/// gain times a random matrix with orthonormal columns (rows, when there are more columns than rows), each such matrix
/// being equally likely (Haar measure): W^T W = gain^2 I. Gradients then neither vanish nor explode in a linear
/// recurrence. Costs a QR decomposition of a matrix of normal numbers, with the signs of R's diagonal made positive.
/// Sources: Saxe, McClelland and Ganguli 2014, "Exact solutions to the nonlinear dynamics of learning in deep linear
/// neural networks"; Mezzadri 2007, "How to generate random matrices from the classical compact groups", section 5.
void orthogonal(const Target& target, Generator& rng, Scale scale = {});

/// gain on the main diagonal and 0 elsewhere: a recurrent matrix that at first only remembers, or with a gain below 1
/// forgets slowly. The matrix need not be square.
/// Source: Le, Jaitly and Hinton 2015, "A simple way to initialize recurrent networks of rectified linear units".
void identity(const Target& target, Scale scale = {});

struct FileOptions {
  /// The file has the matrix as PyTorch stores a Linear or recurrent layer's: [outputs, inputs].
  bool transposed = false;
};

/// An entry of a safetensors file, such as word vectors, converted to the target's type. Throws Error when the file is
/// damaged, has no such entry, or one of another shape.
void from_file(const Target& target, const std::filesystem::path& path, std::string_view name,
               FileOptions options = {});

}  // namespace unroll::initialize
