#include <autograd/tensor.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace unroll {

namespace {

constexpr std::size_t alignment = 64;

/// Calls `f(offset)` for every element of a layout, in row-major order.
template <class F>
void for_each_offset(const Layout& layout, F&& f) {
  const Shape& shape = layout.shape;
  std::array<Index, max_rank> at{};
  Index offset = 0;
  for (Index n = shape.count(); n > 0; --n) {
    f(offset);
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      auto i = static_cast<std::size_t>(axis);
      offset += layout.strides[i];
      if (++at[i] < shape[axis]) break;
      offset -= at[i] * layout.strides[i];
      at[i] = 0;
    }
  }
}

Index offset_of(const Layout& layout, std::initializer_list<Index> index) {
  const Shape& shape = layout.shape;
  if (static_cast<int>(index.size()) != shape.rank())
    fail("at: {} indices into a tensor of shape {}", index.size(), shape);
  Index offset = 0;
  int axis = 0;
  for (Index i : index) {
    if (i < 0 || i >= shape[axis]) fail("at: index {} of axis {} in a tensor of shape {}", i, axis, shape);
    offset += i * layout.stride(axis++);
  }
  return offset;
}

double element(const void* data, DType dtype, Index offset) {
  return dtype == float32 ? static_cast<double>(static_cast<const float*>(data)[offset])
                          : static_cast<const double*>(data)[offset];
}

/// Appends axis `axis` of the elements from `offset` on, nested in brackets.
void print(std::string& out, const TensorView& tensor, int axis, Index offset, bool elide) {
  const Shape& shape = tensor.shape();
  if (axis == shape.rank()) {
    fmt::format_to(std::back_inserter(out), "{:.6g}", element(tensor.raw(), tensor.dtype(), offset));
    return;
  }
  constexpr Index ends = 3;
  bool innermost = axis == shape.rank() - 1;
  std::string separator = innermost ? ", " : ",\n" + std::string(static_cast<std::size_t>(axis) + 1, ' ');
  out += '[';
  for (Index i = 0; i < shape[axis]; ++i) {
    if (i > 0) out += separator;
    if (elide && shape[axis] > 2 * ends && i == ends) {
      out += "..." + separator;
      i = shape[axis] - ends;
    }
    print(out, tensor, axis + 1, offset + i * tensor.layout().stride(axis), elide);
  }
  out += ']';
}

}  // namespace

double TensorView::at(std::initializer_list<Index> index) const {
  return element(data_, dtype_, offset_of(layout_, index));
}

double TensorView::item() const {
  if (shape().count() != 1) fail("item: the tensor has shape {}; only a single element can be read so", shape());
  return element(data_, dtype_, 0);
}

std::vector<double> TensorView::to_vector() const {
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(shape().count()));
  for_each_offset(layout_, [&](Index offset) { values.push_back(element(data_, dtype_, offset)); });
  return values;
}

void Tensor::Free::operator()(void* memory) const noexcept { std::free(memory); }

Tensor::Tensor(const Shape& shape, DType dtype) : shape_(shape), dtype_(dtype) {
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<std::size_t>(shape.count()), size_of(dtype), &bytes) ||
      bytes > PTRDIFF_MAX - alignment)
    fail("Tensor: shape {} does not fit in memory", shape);
  if (bytes == 0) return;
  bytes = (bytes + alignment - 1) / alignment * alignment;
  data_.reset(std::aligned_alloc(alignment, bytes));
  if (!data_) throw std::bad_alloc();
  std::memset(data_.get(), 0, bytes);
}

Tensor::Tensor(const Shape& shape, std::span<const double> values, DType dtype) : Tensor(shape, dtype) {
  if (static_cast<Index>(values.size()) != shape.count())
    fail("Tensor: {} values for shape {}, which has {} elements", values.size(), shape, shape.count());
  with_type(dtype, [&]<class T>(T) {
    std::ranges::transform(values, data<T>(), [](double value) { return static_cast<T>(value); });
  });
}

Tensor::Tensor(const TensorView& view) : Tensor(view.shape(), view.dtype()) { assign(view); }

Tensor Tensor::full(const Shape& shape, double value, DType dtype) {
  Tensor result(shape, dtype);
  result.fill(value);
  return result;
}

Tensor::Tensor(const Tensor& other) : Tensor(other.view()) {}

Tensor& Tensor::operator=(const Tensor& other) {
  if (this != &other) assign(other);
  return *this;
}

void Tensor::set(std::initializer_list<Index> index, double value) {
  Index offset = offset_of(Layout(shape_), index);
  with_type(dtype_, [&]<class T>(T) { data<T>()[offset] = static_cast<T>(value); });
}

void Tensor::fill(double value) {
  with_type(dtype_, [&]<class T>(T) { std::fill_n(data<T>(), size(), static_cast<T>(value)); });
}

void Tensor::assign(const TensorView& view) {
  bool moved_from = !data_ && size() > 0;
  if (shape_ != view.shape() || dtype_ != view.dtype() || moved_from) *this = Tensor(view.shape(), view.dtype());
  detail::copy(raw(), Layout(shape_), view.raw(), view.layout(), dtype_);
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return *this;
  Tensor result(shape_, dtype);
  with_type(dtype_, [&]<class From>(From) {
    with_type(dtype, [&]<class To>(To) {
      std::transform(data<From>(), data<From>() + size(), result.data<To>(), [](From x) { return static_cast<To>(x); });
    });
  });
  return result;
}

Tensor Tensor::reshaped(const Shape& shape) const {
  if (shape.count() != size()) fail("reshaped: {} has {} elements and {} has {}", shape_, size(), shape, shape.count());
  Tensor result = *this;
  result.shape_ = shape;
  return result;
}

Tensor Tensor::transposed() const {
  if (shape_.rank() != 2) fail("transposed: the tensor has shape {}; only a matrix can be transposed", shape_);
  Tensor result({shape_[1], shape_[0]}, dtype_);
  with_type(dtype_, [&]<class T>(T) { result.matrix<T>() = matrix<T>().transpose(); });
  return result;
}

std::string to_string(const TensorView& tensor) {
  std::string out = fmt::format("Tensor {} {}\n", tensor.dtype(), tensor.shape());
  constexpr Index all = 1000;
  print(out, tensor, 0, 0, tensor.shape().count() > all);
  return out;
}

namespace detail {

void copy(void* to, const Layout& to_layout, const void* from, const Layout& from_layout, DType dtype) {
  if (to_layout.shape.count() == 0) return;
  std::size_t bytes = size_of(dtype);
  if (to_layout.contiguous() && from_layout.contiguous()) {
    std::memcpy(to, from, static_cast<std::size_t>(to_layout.shape.count()) * bytes);
    return;
  }
  with_scalar(dtype, [&]<class T>(T) {
    auto* out = static_cast<T*>(to);
    const auto* in = static_cast<const T*>(from);
    if (to_layout.rowwise() && from_layout.rowwise()) {
      const Shape& shape = to_layout.shape;
      for (Index row = 0; row < shape.rows(); ++row)
        std::copy_n(in + row * from_layout.row_stride(), shape.columns(), out + row * to_layout.row_stride());
      return;
    }
    // The general case walks both layouts together: the outer axes one by one, the last as a loop.
    const Shape& shape = to_layout.shape;
    int last = shape.rank() - 1;
    Index columns = shape[last], rows = shape.rows();
    std::array<Index, max_rank> at{};
    Index to_offset = 0, from_offset = 0;
    for (Index row = 0; row < rows; ++row) {
      for (Index i = 0; i < columns; ++i)
        out[to_offset + i * to_layout.stride(last)] = in[from_offset + i * from_layout.stride(last)];
      for (int axis = last - 1; axis >= 0; --axis) {
        auto a = static_cast<std::size_t>(axis);
        to_offset += to_layout.strides[a];
        from_offset += from_layout.strides[a];
        if (++at[a] < shape[axis]) break;
        to_offset -= at[a] * to_layout.strides[a];
        from_offset -= at[a] * from_layout.strides[a];
        at[a] = 0;
      }
    }
  });
}

void fail_type(DType have, DType want) { fail("the tensor is {} and was read as {}", have, want); }

void fail_rowwise(const Layout& layout) {
  fail("matrix: a tensor of shape {} whose rows are not contiguous; copy it to a Tensor first", layout.shape);
}

}  // namespace detail
}  // namespace unroll
