#pragma once

#include <autograd/dual.h>

#include <memory>
#include <vector>

namespace unroll {

namespace detail {
/// Where nothing lies. Not null, to which no offset may be added, 0 bytes long or not.
alignas(64) inline std::byte nowhere[64] = {};
}  // namespace detail

/// A row-major matrix over somebody else's memory, its rows a fixed distance apart.
template <class T>
using MatrixMap =
    Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>;
template <class T>
using ConstMatrixMap =
    Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>;

/// Elements to read that somebody else owns: what `Var::value()` gives. Valid as long as its owner is
/// (for a Var, until its tape is cleared).
class TensorView {
 public:
  TensorView(const void* data, DType dtype, const Layout& layout) : data_(data), dtype_(dtype), layout_(layout) {}

  const Shape& shape() const { return layout_.shape; }
  const Layout& layout() const { return layout_; }
  DType dtype() const { return dtype_; }
  /// The first element. Throws Error when T is not the tensor's type.
  template <class T>
  const T* data() const;
  /// The elements as a matrix of `shape().rows()` rows. Throws Error when the rows are not contiguous or
  /// T is not the tensor's type.
  template <class T>
  ConstMatrixMap<T> matrix() const;

  /// One element, whatever the type. Throws Error on a wrong number of indices or one out of range.
  double at(std::initializer_list<Index> index) const;
  /// The only element. Throws Error unless there is exactly one.
  double item() const;
  /// Every element in row-major order, as double.
  std::vector<double> to_vector() const;

  const void* raw() const { return data_; }

 private:
  const void* data_;
  DType dtype_;
  Layout layout_;
};

/// Plain numbers: dense, row-major, rank 0 to `max_rank`, float32 or float64, 64-byte-aligned.
/// A Tensor is a value: a copy is a copy. It knows nothing of tapes or gradients.
class Tensor {
 public:
  /// An empty tensor of shape [0].
  Tensor() : Tensor(Shape{0}) {}
  /// Zeros.
  explicit Tensor(const Shape& shape, DType dtype = float32);
  /// The values in row-major order. Throws Error unless there are `shape.count()` of them.
  Tensor(const Shape& shape, std::span<const double> values, DType dtype = float32);
  Tensor(const Shape& shape, std::initializer_list<double> values, DType dtype = float32)
      : Tensor(shape, std::span<const double>(values.begin(), values.size()), dtype) {}
  /// A copy of a view's elements.
  explicit Tensor(const TensorView& view);
  static Tensor full(const Shape& shape, double value, DType dtype = float32);
  static Tensor scalar(double value, DType dtype = float32) { return full({}, value, dtype); }

  Tensor(const Tensor& other);
  Tensor& operator=(const Tensor& other);
  Tensor(Tensor&&) noexcept = default;
  Tensor& operator=(Tensor&&) noexcept = default;

  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  Index size() const { return shape_.count(); }
  bool empty() const { return size() == 0; }

  template <class T>
  T* data();
  template <class T>
  const T* data() const {
    return view().data<T>();
  }
  template <class T>
  MatrixMap<T> matrix();
  template <class T>
  ConstMatrixMap<T> matrix() const {
    return view().matrix<T>();
  }
  void* raw() { return data_ ? data_.get() : detail::nowhere; }
  const void* raw() const { return data_ ? data_.get() : detail::nowhere; }

  TensorView view() const { return {raw(), dtype_, Layout(shape_)}; }
  operator TensorView() const { return view(); }  // NOLINT(google-explicit-constructor)

  double at(std::initializer_list<Index> index) const { return view().at(index); }
  double item() const { return view().item(); }
  std::vector<double> to_vector() const { return view().to_vector(); }
  /// Sets one element, whatever the type. Throws Error like `at`.
  void set(std::initializer_list<Index> index, double value);

  void fill(double value);
  /// Becomes a copy of `view`, in the memory it has when shape and type agree.
  void assign(const TensorView& view);
  /// A copy in another type.
  Tensor to(DType dtype) const;
  /// A copy with the same elements under another shape. Throws Error when the counts differ.
  Tensor reshaped(const Shape& shape) const;
  /// A copy of a matrix with rows and columns exchanged. Throws Error unless the rank is 2.
  Tensor transposed() const;

 private:
  struct Free {
    void operator()(void* memory) const noexcept;
  };
  std::unique_ptr<void, Free> data_;
  Shape shape_;
  DType dtype_ = float32;
};

/// "Tensor float32 [2, 2]" and the elements, row by row; of a large tensor, the ends of each axis.
std::string to_string(const TensorView& tensor);

namespace detail {
/// Copies the elements of one layout into another of the same shape and type.
void copy(void* to, const Layout& to_layout, const void* from, const Layout& from_layout, DType dtype);
[[noreturn]] void fail_type(DType have, DType want);
[[noreturn]] void fail_rowwise(const Layout& layout);
}  // namespace detail

template <class T>
const T* TensorView::data() const {
  if (dtype_ != dtype_of<T>) detail::fail_type(dtype_, dtype_of<T>);
  return static_cast<const T*>(data_);
}

template <class T>
ConstMatrixMap<T> TensorView::matrix() const {
  if (!layout_.rowwise()) detail::fail_rowwise(layout_);
  return {data<T>(), layout_.shape.rows(), layout_.shape.columns(), Eigen::OuterStride<>(layout_.row_stride())};
}

template <class T>
T* Tensor::data() {
  if (dtype_ != dtype_of<T>) detail::fail_type(dtype_, dtype_of<T>);
  return static_cast<T*>(raw());
}

template <class T>
MatrixMap<T> Tensor::matrix() {
  return {data<T>(), shape_.rows(), shape_.columns(), Eigen::OuterStride<>(shape_.columns())};
}

}  // namespace unroll

template <>
struct fmt::formatter<unroll::TensorView> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  auto format(const unroll::TensorView& tensor, format_context& context) const {
    return unroll::detail::put(context.out(), unroll::to_string(tensor));
  }
};

template <>
struct fmt::formatter<unroll::Tensor> : fmt::formatter<unroll::TensorView> {};
