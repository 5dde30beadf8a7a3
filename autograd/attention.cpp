#include <autograd/attention.h>

#include <autograd/elementwise.h>
#include <autograd/matmul.h>
#include <autograd/shape_ops.h>
#include <autograd/softmax.h>

#include <algorithm>
#include <cmath>

namespace unroll {

namespace {

constexpr const char* name = "scaled_dot_product_attention";

/// Throws Error unless a mask fits the weights.
void check_mask(const AttentionMask& mask, const Shape& weights, DType dtype, Source where) {
  const Shape shape = mask.tensor() != nullptr ? mask.tensor()->shape() : mask.var()->shape();
  for (int i = 1; i <= shape.rank(); ++i)
    if (i > weights.rank() || (shape[shape.rank() - i] != 1 && shape[shape.rank() - i] != weights[weights.rank() - i]))
      fail_at(where, "{}: the mask is {} and the weights are {}; it must broadcast to them", name, shape, weights);
  if (mask.var() == nullptr) return;
  if (mask.var()->dtype() != dtype)
    fail_at(where, "{}: the mask is {} and the query {}; convert one", name, mask.var()->dtype(), dtype);
  if (mask.var()->needs_grad()) fail_at(where, "{}: the mask needs a gradient, and there is none; detach it", name);
}

void check(const Var& query, const Var& key, const Var& value, const AttentionMask& mask, Source where) {
  for (const Var* x : {&query, &key, &value})
    if (!*x) fail_at(where, "{}: an empty Var; assign a value to it first", name);
  const Shape &q = query.shape(), &k = key.shape(), &v = value.shape();
  if (std::min({q.rank(), k.rank(), v.rank()}) < 2)
    fail_at(where, "{}: query is {}, key {} and value {}; each must have at least two axes", name, q, k, v);
  if (q.columns() != k.columns()) fail_at(where, "{}: query is {} and key {}; their last axes must agree", name, q, k);
  if (k[k.rank() - 2] != v[v.rank() - 2])
    fail_at(where, "{}: key is {} and value {}; their second to last axes must agree", name, k, v);
  if (query.dtype() != key.dtype() || query.dtype() != value.dtype())
    fail_at(where, "{}: query is {}, key {} and value {}; convert them to one type", name, query.dtype(), key.dtype(),
            value.dtype());
  auto batch = [](const Shape& shape) {
    return Shape(shape.sizes().first(static_cast<std::size_t>(shape.rank() - 2)));
  };
  Shape weights = broadcast(batch(q), batch(k), name, where);
  broadcast(weights, batch(v), name, where);
  weights = weights.insert(weights.rank(), q[q.rank() - 2]);
  weights = weights.insert(weights.rank(), k[k.rank() - 2]);
  if (mask.tensor() != nullptr || mask.var() != nullptr) check_mask(mask, weights, query.dtype(), where);
}

/// Ones where query t may attend to key s: for s <= t.
Var causal_mask(detail::Graph& graph, Index queries, Index keys, DType dtype, Source where) {
  const detail::NodeId id = graph.add_leaf(Shape{queries, keys}, dtype, where);
  with_scalar(graph.node(id).dtype, [&]<class T>(T) {
    T* row = graph.value<T>(id);
    for (Index t = 0; t < queries; ++t, row += keys) {
      const Index some = std::min(t + 1, keys);
      std::fill_n(row, some, T(1));
      std::fill_n(row + some, keys - some, T(0));
    }
  });
  return graph.var(id);
}

/// The weights for these scores [..., T, S].
Var weigh(const Var& scores, const AttentionOptions& options, Source where) {
  detail::Graph& graph = *scores.graph();
  Var mask;
  if (options.mask.var() != nullptr) mask = *options.mask.var();
  if (const Tensor* tensor = options.mask.tensor())
    mask = graph.var(tensor->dtype() == scores.dtype() ? graph.add_leaf(*tensor, false, where)
                                                       : graph.add_leaf(tensor->to(scores.dtype()), false, where));
  if (options.causal) {
    const Var causal = causal_mask(graph, scores.size(-2), scores.size(-1), scores.dtype(), where);
    mask = mask ? Var(mask * causal, where) : causal;
  }
  return mask ? masked_softmax(scores, mask, -1, where) : softmax(scores, -1, where);
}

}  // namespace

Attention attention_with_weights(const Var& query, const Var& key, const Var& value, const AttentionOptions& options,
                                 Source where) {
  check(query, key, value, options.mask, where);
  const double scale = options.scale.value_or(1 / std::sqrt(static_cast<double>(query.shape().columns())));
  const Var scores(matmul(Var(query * scale, where), transpose(key, -2, -1, where), where), where);
  const Var weights = weigh(scores, options, where);
  return {Var(matmul(weights, value, where), where), weights};
}

Var scaled_dot_product_attention(const Var& query, const Var& key, const Var& value, const AttentionOptions& options,
                                 Source where) {
  return attention_with_weights(query, key, value, options, where).output;
}

}  // namespace unroll
