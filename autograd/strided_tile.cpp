#include <autograd/strided_tile.h>

#include <autograd/rows.h>

#include <algorithm>
#include <bit>

namespace unroll::detail {

namespace {

/// Goes through a tile in packs: a few packets by a few rows, together small enough for the nearest cache.
template <class T>
class Packer {
 public:
  Packer(TileKernel& kernel, const StridedTile& tile) : kernel_(kernel), tile_(tile), n_(tile.inputs) {
    const auto packets = std::min<std::size_t>(64, std::bit_floor(buffer_packets / (2 * n_ + 2)));
    const auto most_rows = std::min<std::size_t>(std::bit_ceil(static_cast<std::size_t>(tile.rows)), 16);
    rows_each_ = static_cast<Index>(std::min(most_rows, packets));
    each_ = static_cast<Index>(packets) * width;
    columns_each_ = each_ / rows_each_;
  }

  /// Columns [first, end): of every operand, or only of those whose columns are no neighbours.
  void run(Index first, Index end, bool everything) {
    everything_ = everything;
    for (Index column = first; column < end; column += columns_each_)
      for (Index row = 0; row < tile_.rows; row += rows_each_)
        run_pack(row, std::min(rows_each_, tile_.rows - row), column, std::min(columns_each_, end - column));
  }

 private:
  static constexpr Index width = Packet<T>::SizeAtCompileTime;
  static constexpr std::size_t n_most = most_inputs, buffer_packets = 512;
  static_assert(buffer_packets >= 2 * n_most + 2);

  bool packed(Index column_stride) const { return everything_ || column_stride != 1; }
  T* buffer(std::size_t operand) { return reinterpret_cast<T*>(buffers_) + static_cast<Index>(operand) * each_; }

  void run_pack(Index row, Index rows, Index column, Index columns) {
    const Index padded = (columns + width - 1) / width * width;
    Tile pack = tile_;
    pack.rows = rows;
    pack.columns = padded;
    pack.x = x_;
    pack.row_stride = x_stride_;
    for (std::size_t k = 0; k < n_; ++k) {
      const T* from = static_cast<const T*>(tile_.x[k]) + row * tile_.row_stride[k] + column * tile_.column_stride[k];
      x_[k] = from;
      x_stride_[k] = tile_.row_stride[k];
      if (packed(tile_.column_stride[k])) {
        gather(buffer(k), from, rows, columns, tile_.row_stride[k], tile_.column_stride[k]);
        x_[k] = buffer(k);
        x_stride_[k] = padded;
      }
    }
    if (tile_.dy == nullptr)
      run_forward(pack, row, column, columns);
    else
      run_backward(pack, row, column, columns);
  }

  void run_forward(Tile& pack, Index row, Index column, Index columns) {
    T* y = static_cast<T*>(tile_.y) + row * tile_.y_stride + column;
    pack.y = y;
    if (everything_) {
      pack.y = buffer(n_);
      pack.y_stride = pack.columns;
    }
    kernel_(pack);
    if (everything_) scatter(y, buffer(n_), pack.rows, columns, tile_.y_stride, 1, Adjoint::write);
  }

  void run_backward(Tile& pack, Index row, Index column, Index columns) {
    const T* dy = static_cast<const T*>(tile_.dy) + row * tile_.y_stride + column;
    pack.dy = dy;
    if (everything_) {
      gather(buffer(n_), dy, pack.rows, columns, tile_.y_stride, 1);
      pack.dy = buffer(n_);
      pack.y_stride = pack.columns;
    }
    T* to[n_most];
    pack.dx = dx_;
    pack.dx_row_stride = dx_stride_;
    pack.adjoint = adjoint_;
    for (std::size_t k = 0; k < n_; ++k) {
      to[k] = static_cast<T*>(tile_.dx[k]) + row * tile_.dx_row_stride[k] + column * tile_.dx_column_stride[k];
      dx_[k] = to[k];
      dx_stride_[k] = tile_.dx_row_stride[k];
      adjoint_[k] = tile_.adjoint[k];
      if (adjoint_[k] != Adjoint::skip && packed(tile_.dx_column_stride[k])) {
        dx_[k] = buffer(n_ + 1 + k);
        dx_stride_[k] = pack.columns;
        adjoint_[k] = Adjoint::write;
      }
    }
    kernel_(pack);
    for (std::size_t k = 0; k < n_; ++k)
      if (dx_[k] == buffer(n_ + 1 + k))
        scatter(to[k], buffer(n_ + 1 + k), pack.rows, columns, tile_.dx_row_stride[k], tile_.dx_column_stride[k],
                tile_.adjoint[k]);
  }

  /// The lanes beyond the last column repeat it: what did not trap does not trap there either.
  static void gather(T* to, const T* from, Index rows, Index columns, Index row_stride, Index column_stride) {
    const Index last = (columns - 1) / width * width;  // where the last packet begins
    for (Index row = 0; row < rows; ++row, from += row_stride, to += last + width) {
      const Packet<T> repeated = splat(from[(columns - 1) * column_stride]);
      Eigen::Map<Packet<T>>(to + last) = repeated;
      if (column_stride == 0)
        for (Index at = 0; at < last; at += width) Eigen::Map<Packet<T>>(to + at) = repeated;
      else
        for (Index at = 0; at + 1 < columns; ++at) to[at] = from[at * column_stride];
    }
  }

  static void scatter(T* to, const T* from, Index rows, Index columns, Index row_stride, Index column_stride,
                      Adjoint adjoint) {
    const Index padded = (columns + width - 1) / width * width;
    for (Index row = 0; row < rows; ++row, to += row_stride, from += padded) {
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
  Index each_, rows_each_, columns_each_;  ///< elements of a buffer, and of a pack
  bool everything_ = false;
  const void* x_[n_most];
  void* dx_[n_most];
  Index x_stride_[n_most], dx_stride_[n_most];
  Adjoint adjoint_[n_most];
  alignas(64) std::byte buffers_[buffer_packets * sizeof(Packet<T>)];
};

}  // namespace

void run_kernel(TileKernel& kernel, DType dtype, const StridedTile& tile) {
  with_scalar(dtype, [&]<class T>(T) {
    const Index whole = tile.columns / Packet<T>::SizeAtCompileTime * Packet<T>::SizeAtCompileTime;
    if (tile.unit_columns && whole == tile.columns) return kernel(tile);
    Packer<T> packer(kernel, tile);
    if (tile.unit_columns && whole > 0) {
      Tile neighbours = tile;
      neighbours.columns = whole;
      kernel(neighbours);
    } else {
      packer.run(0, whole, false);
    }
    packer.run(whole, tile.columns, true);
  });
}

}  // namespace unroll::detail
