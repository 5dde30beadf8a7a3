#include <autograd/strided_tile.h>

#include <autograd/rows.h>

#include <algorithm>
#include <bit>
#include <type_traits>

namespace unroll::detail {

namespace {

/// Goes through a tile whose columns are neighbours, row by row. What is left of a row, too little for a packet, is
/// copied to packets of its own, and back. The lanes beyond it repeat the last element, which cannot trap where that
/// did not.
template <class T>
class Rows {
 public:
  Rows(StretchKernel& kernel, const Tile& tile)
      : kernel_(kernel), tile_(tile), n_(tile.inputs), rest_(tile.columns % width), whole_(tile.columns - rest_) {
    stretch_.constants = tile.constants;
  }

  void forward() {
    for (Index row = 0; row < tile_.rows; ++row) {
      const void* const* x = row == 0 ? tile_.x : in_row(x_, tile_.x, tile_.row_stride, row);
      T* y = static_cast<T*>(tile_.y) + row * tile_.y_stride;
      if (whole_ > 0) {
        stretch_.count = whole_;
        stretch_.x = x;
        stretch_.y = y;
        kernel_(stretch_);
      }
      if (rest_ == 0) continue;
      take_inputs(x);
      stretch_.y = packet(n_);
      kernel_(stretch_);
      give(y + whole_, packet(n_), Adjoint::write);
    }
  }

  void backward() {
    for (Index row = 0; row < tile_.rows; ++row) {
      const void* const* x = row == 0 ? tile_.x : in_row(x_, tile_.x, tile_.row_stride, row);
      void* const* dx = row == 0 ? tile_.dx : in_row(dx_, tile_.dx, tile_.dx_row_stride, row);
      const T* dy = static_cast<const T*>(tile_.dy) + row * tile_.y_stride;
      if (whole_ > 0) {
        stretch_.count = whole_;
        stretch_.x = x;
        stretch_.dy = dy;
        stretch_.dx = dx;
        stretch_.adjoint = tile_.adjoint;
        stretch_.ahead = row + 1 < tile_.rows ? tile_.row_stride : nullptr;
        kernel_(stretch_);
      }
      if (rest_ == 0) continue;
      take_inputs(x);
      stretch_.ahead = nullptr;  // x are copies now
      take(dy + whole_, packet(n_));
      stretch_.dy = packet(n_);
      for (std::size_t k = 0; k < n_; ++k) dx_ends_[k] = packet(n_ + 1 + k);
      stretch_.dx = dx_ends_;
      stretch_.adjoint = all_written.data();
      kernel_(stretch_);
      for (std::size_t k = 0; k < n_; ++k) give(static_cast<T*>(dx[k]) + whole_, packet(n_ + 1 + k), tile_.adjoint[k]);
    }
  }

 private:
  static constexpr Index width = Packet<T>::SizeAtCompileTime;

  template <class Pointer>
  Pointer* in_row(Pointer* to, Pointer const* first, const Index* stride, Index row) {
    using Element = std::conditional_t<std::is_const_v<std::remove_pointer_t<Pointer>>, const T, T>;
    for (std::size_t k = 0; k < n_; ++k) to[k] = static_cast<Element*>(first[k]) + row * stride[k];
    return to;
  }

  T* packet(std::size_t k) { return packets_ + static_cast<Index>(k) * width; }

  void take(const T* from, T* to) {
    splat(from[rest_ - 1], to);
    for (Index i = 0; i + 1 < rest_; ++i) to[i] = from[i];
  }

  void take_inputs(const void* const* x) {
    for (std::size_t k = 0; k < n_; ++k) {
      take(static_cast<const T*>(x[k]) + whole_, packet(k));
      x_ends_[k] = packet(k);
    }
    stretch_.count = width;
    stretch_.x = x_ends_;
  }

  void give(T* to, const T* from, Adjoint adjoint) {
    if (adjoint == Adjoint::write)
      for (Index i = 0; i < rest_; ++i) to[i] = from[i];
    else if (adjoint == Adjoint::add)
      for (Index i = 0; i < rest_; ++i) to[i] += from[i];
  }

  StretchKernel& kernel_;
  const Tile& tile_;
  std::size_t n_;
  Index rest_, whole_;  ///< elements of a row: beyond the last whole packet, and up to there
  Stretch stretch_;
  const void *x_[most_inputs], *x_ends_[most_inputs];
  void *dx_[most_inputs], *dx_ends_[most_inputs];
  alignas(64) T packets_[(2 * most_inputs + 1) * static_cast<std::size_t>(width)];
};

template <class T>
void run_rows(StretchKernel& kernel, const Tile& tile) {
  Rows<T> rows(kernel, tile);
  if (tile.dy == nullptr)
    rows.forward();
  else
    rows.backward();
}

/// Goes through a tile in packs: a few rows by a few packets, together small enough for the nearest cache. Operands
/// whose columns are no neighbours are copied there, and back.
template <class T>
class Packer {
 public:
  Packer(StretchKernel& kernel, const Tile& tile) : kernel_(kernel), tile_(tile), n_(tile.inputs) {
    const auto packets = std::min<std::size_t>(64, std::bit_floor(buffer_packets / (2 * n_)));
    const auto most_rows = std::min<std::size_t>(std::bit_ceil(static_cast<std::size_t>(tile.rows)), 16);
    rows_each_ = static_cast<Index>(std::min(most_rows, packets));
    each_ = static_cast<Index>(packets) * width;
    columns_each_ = each_ / rows_each_;
  }

  void run() {
    for (Index column = 0; column < tile_.columns; column += columns_each_)
      for (Index row = 0; row < tile_.rows; row += rows_each_)
        run_pack(row, std::min(rows_each_, tile_.rows - row), column, std::min(columns_each_, tile_.columns - column));
  }

 private:
  static constexpr Index width = Packet<T>::SizeAtCompileTime;
  static constexpr std::size_t buffer_packets = 512;
  static_assert(buffer_packets >= 2 * most_inputs);

  T* buffer(std::size_t operand) { return reinterpret_cast<T*>(buffers_) + static_cast<Index>(operand) * each_; }

  void run_pack(Index row, Index rows, Index column, Index columns) {
    Tile pack = tile_;
    pack.rows = rows;
    pack.columns = columns;
    pack.x = x_;
    pack.row_stride = x_stride_;
    for (std::size_t k = 0; k < n_; ++k) {
      const Index stride = tile_.column_stride[k];
      const T* from = static_cast<const T*>(tile_.x[k]) + row * tile_.row_stride[k] + column * stride;
      x_[k] = from;
      x_stride_[k] = tile_.row_stride[k];
      if (stride == 1) continue;
      gather(buffer(k), from, rows, columns, tile_.row_stride[k], stride);
      x_[k] = buffer(k);
      x_stride_[k] = columns;
    }
    const Index first = row * tile_.y_stride + column;
    if (tile_.dy != nullptr) return run_backward(pack, static_cast<const T*>(tile_.dy) + first, row, column);
    pack.y = static_cast<T*>(tile_.y) + first;
    run_rows<T>(kernel_, pack);
  }

  void run_backward(Tile& pack, const T* dy, Index row, Index column) {
    T* to[most_inputs];
    pack.dy = dy;
    pack.dx = dx_;
    pack.dx_row_stride = dx_stride_;
    pack.adjoint = adjoint_;
    for (std::size_t k = 0; k < n_; ++k) {
      const Index stride = tile_.dx_column_stride[k];
      to[k] = static_cast<T*>(tile_.dx[k]) + row * tile_.dx_row_stride[k] + column * stride;
      dx_[k] = to[k];
      dx_stride_[k] = tile_.dx_row_stride[k];
      adjoint_[k] = tile_.adjoint[k];
      if (stride == 1 || adjoint_[k] == Adjoint::skip) continue;
      dx_[k] = buffer(n_ + k);
      dx_stride_[k] = pack.columns;
      adjoint_[k] = Adjoint::write;
    }
    run_rows<T>(kernel_, pack);
    for (std::size_t k = 0; k < n_; ++k)
      if (dx_[k] == buffer(n_ + k))
        scatter(to[k], buffer(n_ + k), pack.rows, pack.columns, tile_.dx_row_stride[k], tile_.dx_column_stride[k],
                tile_.adjoint[k]);
  }

  static void gather(T* to, const T* from, Index rows, Index columns, Index row_stride, Index column_stride) {
    for (Index row = 0; row < rows; ++row, from += row_stride, to += columns) {
      if (column_stride == 0)
        std::fill_n(to, columns, *from);
      else
        for (Index at = 0; at < columns; ++at) to[at] = from[at * column_stride];
    }
  }

  static void scatter(T* to, const T* from, Index rows, Index columns, Index row_stride, Index column_stride,
                      Adjoint adjoint) {
    for (Index row = 0; row < rows; ++row, to += row_stride, from += columns) {
      if (columns > 1 && column_stride == 0) {
        *to += static_cast<T>(wide_sum(from, columns));
      } else if (adjoint == Adjoint::write) {
        for (Index at = 0; at < columns; ++at) to[at * column_stride] = from[at];
      } else {
        for (Index at = 0; at < columns; ++at) to[at * column_stride] += from[at];
      }
    }
  }

  StretchKernel& kernel_;
  const Tile& tile_;
  std::size_t n_;
  Index each_, rows_each_, columns_each_;  ///< elements of a buffer; rows and columns of a pack
  const void* x_[most_inputs];
  void* dx_[most_inputs];
  Index x_stride_[most_inputs], dx_stride_[most_inputs];
  Adjoint adjoint_[most_inputs];
  alignas(64) std::byte buffers_[buffer_packets * sizeof(Packet<T>)];
};

}  // namespace

void run_kernel(StretchKernel& kernel, DType dtype, const Tile& tile) {
  with_scalar(dtype, [&]<class T>(T) {
    if (tile.unit_columns)
      run_rows<T>(kernel, tile);
    else
      Packer<T>(kernel, tile).run();
  });
}

}  // namespace unroll::detail
