#include <autograd/gemm.h>

#include <autograd/parallel.h>
#include <autograd/tensor.h>

#ifdef UNROLL_HAVE_ONEDNN
#include <dnnl.h>
#include <omp.h>
#endif

#include <algorithm>

namespace unroll::detail {

namespace {

template <class T>
void eigen_product(Index m, Index n, Index k, Operand2D<T> a, Operand2D<T> b, T beta, T* c, Index c_stride) {
  using Eigen::OuterStride;
  MatrixMap<T> out(c, m, n, OuterStride<>(c_stride));
  ConstMatrixMap<T> left(a.data, a.transposed ? k : m, a.transposed ? m : k, OuterStride<>(a.stride));
  ConstMatrixMap<T> right(b.data, b.transposed ? n : k, b.transposed ? k : n, OuterStride<>(b.stride));
  if (beta == 0)
    out.setZero();
  else if (beta != 1)
    out *= beta;
  if (a.transposed && b.transposed)
    out.noalias() += left.transpose() * right.transpose();
  else if (a.transposed)
    out.noalias() += left.transpose() * right;
  else if (b.transposed)
    out.noalias() += left * right.transpose();
  else
    out.noalias() += left * right;
}

#ifdef UNROLL_HAVE_ONEDNN
/// oneDNN would start threads of its own; within a piece of ours it is to use the one it is called on.
class OneOpenMpThread {
 public:
  OneOpenMpThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneOpenMpThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  OneOpenMpThread(const OneOpenMpThread&) = delete;
  OneOpenMpThread& operator=(const OneOpenMpThread&) = delete;

 private:
  int before_;
};

void product(Index m, Index n, Index k, Operand2D<float> a, Operand2D<float> b, float beta, float* c, Index c_stride) {
  OneOpenMpThread one;
  auto status = dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', m, n, k, 1.0F, a.data, a.stride, b.data,
                           b.stride, beta, c, c_stride);
  if (status != dnnl_success) eigen_product(m, n, k, a, b, beta, c, c_stride);
}
#else
void product(Index m, Index n, Index k, Operand2D<float> a, Operand2D<float> b, float beta, float* c, Index c_stride) {
  eigen_product(m, n, k, a, b, beta, c, c_stride);
}
#endif

void product(Index m, Index n, Index k, Operand2D<double> a, Operand2D<double> b, double beta, double* c,
             Index c_stride) {
  eigen_product(m, n, k, a, b, beta, c, c_stride);
}

}  // namespace

template <class T>
void gemm(Index m, Index n, Index k, Operand2D<T> a, Operand2D<T> b, T beta, T* c, Index c_stride) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    eigen_product(m, n, k, a, b, beta, c, c_stride);
    return;
  }
  constexpr Index work_each = Index{1} << 22;  // multiplications that are worth a thread: some 30 microseconds
  constexpr Index grid = 64;                   // pieces of whole registers
  bool by_columns = n >= m;
  Index length = by_columns ? n : m;
  Index pieces = std::clamp<Index>(m * n * k / work_each, 1, std::min<Index>(16, (length + grid - 1) / grid));
  Index each = ((length + pieces - 1) / pieces + grid - 1) / grid * grid;
  pieces = (length + each - 1) / each;
  for_each_block(pieces, [&](Index piece) {
    Index begin = piece * each, size = std::min(each, length - begin);
    if (by_columns) {
      Operand2D<T> columns{b.data + begin * (b.transposed ? b.stride : 1), b.stride, b.transposed};
      product(m, size, k, a, columns, beta, c + begin, c_stride);
    } else {
      Operand2D<T> rows{a.data + begin * (a.transposed ? 1 : a.stride), a.stride, a.transposed};
      product(size, n, k, rows, b, beta, c + begin * c_stride, c_stride);
    }
  });
}

template void gemm(Index, Index, Index, Operand2D<float>, Operand2D<float>, float, float*, Index);
template void gemm(Index, Index, Index, Operand2D<double>, Operand2D<double>, double, double*, Index);

}  // namespace unroll::detail
