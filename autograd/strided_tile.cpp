#include <autograd/strided_tile.h>

#include <autograd/rows.h>

#include <algorithm>
#include <bit>

namespace unroll::detail {

namespace {

/// Goes through a tile in packs: a few rows by a few packets, together small enough for the nearest cache. Operands
/// whose columns are no neighbours are copied there, and back.
template <class T>
class Packer {
 public:
  Packer(TileKernel& kernel, const StridedTile& tile) : kernel_(kernel), tile_(tile), n_(tile.inputs) {
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
    kernel_(pack);
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
    kernel_(pack);
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

  TileKernel& kernel_;
  const StridedTile& tile_;
  std::size_t n_;
  Index each_, rows_each_, columns_each_;  ///< elements of a buffer; rows and columns of a pack
  const void* x_[most_inputs];
  void* dx_[most_inputs];
  Index x_stride_[most_inputs], dx_stride_[most_inputs];
  Adjoint adjoint_[most_inputs];
  alignas(64) std::byte buffers_[buffer_packets * sizeof(Packet<T>)];
};

}  // namespace

void run_kernel(TileKernel& kernel, DType dtype, const StridedTile& tile) {
  if (tile.unit_columns) return kernel(tile);
  with_scalar(dtype, [&]<class T>(T) { Packer<T>(kernel, tile).run(); });
}

template <class T>
void take_some(const T** from, int n, Index at, Index count, T* packets) {
  constexpr Index width = Packet<T>::SizeAtCompileTime;
  for (int k = 0; k < n; ++k, packets += width) {
    const T* source = from[k] + at;
    splat(source[count - 1], packets);
    for (Index i = 0; i + 1 < count; ++i) packets[i] = source[i];
    from[k] = packets;
  }
}

template <class T>
void give_end(T* to, const T* packet, Index count, Adjoint adjoint) {
  if (adjoint == Adjoint::write)
    for (Index i = 0; i < count; ++i) to[i] = packet[i];
  else if (adjoint == Adjoint::add)
    for (Index i = 0; i < count; ++i) to[i] += packet[i];
}

template void take_some(const float**, int, Index, Index, float*);
template void take_some(const double**, int, Index, Index, double*);
template void take_some(const Dual**, int, Index, Index, Dual*);
template void give_end(float*, const float*, Index, Adjoint);
template void give_end(double*, const double*, Index, Adjoint);
template void give_end(Dual*, const Dual*, Index, Adjoint);

}  // namespace unroll::detail
