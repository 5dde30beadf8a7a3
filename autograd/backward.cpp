// The sweep: from the last node to the first, each adding its share to its inputs' gradients.
//
// A gradient is kept per base node, in the layout of its value; views of the value are views of the
// gradient, so what flows into a view is already where it belongs. `GradState` tells which regions hold
// anything yet: the first contribution is written, later ones are added, and equal parts that nothing
// reached are set to zero only when the whole is read.

#include <autograd/watch.h>

#include <algorithm>
#include <cstring>

namespace unroll::detail {

namespace {

void zero(std::byte* memory, const Layout& layout, DType dtype) {
  if (layout.shape.count() == 0) return;
  if (layout.contiguous()) {
    std::memset(memory, 0, static_cast<std::size_t>(layout.shape.count()) * size_of(dtype));
    return;
  }
  const Dual nothing;  // zero bytes, as many as the largest type has
  Layout repeated = layout;
  repeated.strides.fill(0);
  copy(memory, layout, &nothing, repeated, dtype);
}

/// A Split and, behind it, its owners.
std::size_t split_bytes(Index parts) { return sizeof(Split) + static_cast<std::size_t>(parts) * sizeof(NodeId); }

/// True when a part is one of those that a gradient is split into. (What is split is all of a region, so that equal
/// layouts begin at one address.)
bool is_split_like(const Split& split, const Part& part, const Node& parent) {
  return split.layout == parent.layout && split.axis == part.axis && split.parts == part.parts;
}

}  // namespace

std::byte* Graph::grad_memory(const Node& node) const {
  const Node& base = nodes_[node.base];
  return base.grad + (node.value - base.value);
}

/// True when nothing but the one operation that uses a region contributes to its gradient.
bool Graph::can_borrow(NodeId region) const {
  if (nodes_[region].uses != 1 || nodes_[region].last_part != no_node || nodes_[region].is_parameter) return false;
  while (nodes_[region].is_part) {
    region = nodes_[payload<Part>(region).parent].region;
    if (nodes_[region].uses != 0 || nodes_[region].parts_may_overlap) return false;
  }
  return true;
}

/// A node that hands its gradient on as it is keeps it, where that is safe, in the place where it has to go.
bool Graph::borrow(Node& node) {
  if (node.hands_on == no_node || node.keeps_grad) return false;
  const Node& to = nodes_[node.hands_on];
  // No chains of borrowers: they would be followed by recursion.
  if (!to.needs_grad || nodes_[to.base].hands_on != no_node || !can_borrow(to.region)) return false;
  if (!claim(to.region)) return false;
  nodes_[to.region].state = GradState::whole;
  node.grad = grad_memory(to);
  node.borrows = true;
  return true;
}

/// Gets a region's memory ready to be written. True when nothing is in it yet.
bool Graph::claim(NodeId region) {
  Node& node = touch(region);
  if (node.state != GradState::none) return false;
  return node.is_base(region) ? claim_base(node) : claim_part(region);
}

bool Graph::claim_base(Node& base) {
  bool fresh = true;
  if (base.borrows) {  // from a sweep that an exception ended
    base.borrows = false;
    base.grad = nullptr;
  }
  if (base.is_parameter && !dual_ && !for_list_) {
    auto* parameter = static_cast<Parameter*>(const_cast<void*>(base.payload));
    base.grad = static_cast<std::byte*>(parameter->claim_grad(fresh).raw());
  } else if (base.grad == nullptr) {
    if (!borrow(base)) base.grad = pool_.allocate(base.bytes());
  } else {
    fresh = base.operation != nullptr;  // a leaf's gradient grows with every backward
  }
  if (!fresh) base.state = GradState::whole;
  return fresh;
}

bool Graph::claim_part(NodeId region) {
  const Part& part = payload<Part>(region);
  const Node& parent = nodes_[part.parent];
  Node& holder = touch(parent.region);
  if (holder.state == GradState::none && claim(parent.region)) {
    std::byte* memory = pool_.allocate(split_bytes(part.parts));
    auto* owners = reinterpret_cast<NodeId*>(memory + sizeof(Split));
    for (Index i = 0; i < part.parts; ++i) owners[i] = no_node;
    holder.split = new (memory) Split{parent.layout, parent.value, part.axis, part.parts, owners};
    holder.state = GradState::split;
  }
  if (holder.state == GradState::split) {
    Split& split = *holder.split;
    const bool same = is_split_like(split, part, parent);
    NodeId& owner = split.owner[part.index];
    if (same && owner == no_node) {
      owner = region;
      return true;
    }
    if (!same)
      complete(parent.region);
    else if (owner != filled)
      complete(owner);
  } else {
    holder.state = GradState::whole;
  }
  nodes_[region].state = GradState::whole;
  return false;
}

/// Sets to zero one of the equal parts of a gradient.
void Graph::zero_part(const Node& node, const Split& split, Index index) {
  Layout part = *split.layout;
  Index size = part.shape[split.axis] / split.parts;
  part.shape = part.shape.with(split.axis, size);
  Index first = index * size * part.stride(split.axis);
  std::ptrdiff_t offset = split.value - nodes_[node.base].value + first * static_cast<Index>(size_of(node.dtype));
  zero(nodes_[node.base].grad + offset, part, node.dtype);
}

/// Makes every element of a region valid: what nothing has reached becomes zero.
void Graph::complete(NodeId region) {
  Node& node = touch(region);
  if (node.state == GradState::none && claim(region)) zero(grad_memory(node), *node.layout, node.dtype);
  if (node.state == GradState::split) {
    const Split& split = *node.split;
    for (Index i = 0; i < split.parts; ++i) {
      NodeId owner = split.owner[i];
      if (owner == no_node)
        zero_part(node, split, i);
      else if (owner != filled && nodes_[owner].state != GradState::whole)
        complete(owner);
    }
    pool_.release(reinterpret_cast<std::byte*>(node.split), split_bytes(split.parts));
    node.split = nullptr;
  }
  node.state = GradState::whole;
}

/// Claims the part of a region that is split like it, if nothing has claimed it yet.
inline bool Graph::claim_vacant(NodeId id, Node& node) {
  const Part& part = payload<Part>(id);
  const Node &parent = nodes_[part.parent], &holder = nodes_[parent.region];
  if (!current(holder) || holder.state != GradState::split || !is_split_like(*holder.split, part, parent)) return false;
  NodeId& owner = holder.split->owner[part.index];
  if (owner != no_node || touch(node).state != GradState::none) return false;
  owner = id;
  return true;
}

// The two most frequent cases in the fewest instructions: a value of its own, and a part.
GradTarget Graph::target(NodeId id) {
  Node& node = nodes_[id];
  if (node.region == id) {
    const bool own = node.base == id && node.grad == nullptr && !node.is_parameter && node.hands_on == no_node;
    if (own) node.grad = pool_.allocate(node.bytes());
    if (own || (node.is_part && claim_vacant(id, node))) {
      touch(node).state = GradState::whole;
      return {grad_memory(node), true};
    }
  }
  return target_in_region(id);
}

GradTarget Graph::target_in_region(NodeId id) {
  const Node& node = nodes_[id];
  if (node.irregular) return {accumulator(id), false};
  Node& region = touch(node.region);
  bool fresh = false;
  if (region.state == GradState::split)
    complete(node.region);
  else
    fresh = claim(node.region);
  region.state = GradState::whole;
  return {grad_memory(node), fresh};
}

std::byte* Graph::accumulator(NodeId id) {
  const Node& node = nodes_[id];
  complete(node.region);
  return grad_memory(node);
}

std::byte* Graph::row_accumulator(NodeId id, std::span<const std::int32_t> rows, Index without) {
  Node& node = touch(id);
  if (!node.is_parameter || node.state != GradState::none || dual_ || for_list_) return accumulator(id);
  auto* parameter = static_cast<Parameter*>(const_cast<void*>(node.payload));
  if (!parameter->sparse()) return accumulator(id);
  node.grad = static_cast<std::byte*>(parameter->claim_grad_rows(rows, without).raw());
  return node.grad;
}

/// Adds dL/dL = 1, or the seed, to the gradient of the output.
void Graph::start_sweep(NodeId output, const TensorView* seed) {
  const Node& y = nodes_[output];
  GradTarget to = target(output);
  const Node& base = nodes_[y.base];
  // A seed can be the very gradient that it is to replace.
  auto is_apart = [&](const void* from) { return from < base.grad || from >= base.grad + base.bytes(); };
  if (to.fresh && seed != nullptr && seed->dtype() == y.dtype && is_apart(seed->raw())) {
    copy(to.data, *y.layout, seed->raw(), seed->layout(), y.dtype);
    return;
  }
  with_scalar(y.dtype, [&]<class T>(T) {
    auto memory = scratch();
    const Layout one_by_one(y.layout->shape);
    auto count = static_cast<std::size_t>(y.count());
    T* given = array<T>(count);
    if (seed == nullptr)
      *given = T(1);
    else if constexpr (std::is_same_v<T, Dual>)
      make_dual(given, *seed);
    else
      copy(given, one_by_one, seed->raw(), seed->layout(), y.dtype);
    if (!to.fresh) {  // what a leaf holds already, perhaps seen through a view
      T* sum = array<T>(count);
      copy(sum, one_by_one, to.data, *y.layout, y.dtype);
      for (std::size_t i = 0; i < count; ++i) given[i] = sum[i] + given[i];
    }
    copy(to.data, *y.layout, given, one_by_one, y.dtype);
  });
}

void Graph::check_output(NodeId output, const TensorView* seed, const char* function, Source where) const {
  const Node& y = nodes_[output];
  if (!recording_) fail_at(where, "{}: an inference tape records nothing; use a Tape made by Tape()", function);
  if (!y.needs_grad)
    fail_at(where, "{}: the value depends on no trainable parameter and no variable; nothing to compute", function);
  if (seed == nullptr && y.count() != 1)
    fail_at(where, "{}: the value has shape {}; sum it to a scalar or give dL/dy as a seed", function, y.layout->shape);
  if (seed != nullptr && (seed->shape() != y.layout->shape || (seed->dtype() != y.dtype && !dual_)))
    fail_at(where, "{}: the seed is {} {} and the value {} {}; they must agree", function, seed->dtype(), seed->shape(),
            y.dtype, y.layout->shape);
}

void Graph::sweep(NodeId output, const TensorView* seed) {
  ++sweep_;
  start_sweep(output, seed);
  sweep(output, NodeId{0});
  team_.dismiss();
}

void Graph::sweep(NodeId last, NodeId first) {
  for (NodeId id = last + 1; id-- > first;) {
    if (!current(nodes_[id])) continue;
    if (nodes_[id].weight != nullptr) finish(id);
    if (!nodes_[id].is_base(id) || nodes_[id].state == GradState::none) continue;
    if (nodes_[id].state != GradState::whole) complete(id);
    if (nodes_[id].operation == nullptr) continue;
    if (watch_ != nullptr) [[unlikely]]
      watch_->begin();
    nodes_[id].operation->backward(*this, id);
    if (watch_ != nullptr) [[unlikely]]
      watch_->swept(*this, id);
    Node& node = nodes_[id];  // which may have moved
    if (node.keeps_grad) continue;
    if (!node.borrows && node.grad != nullptr) pool_.release(node.grad, node.bytes());
    node.borrows = false;
    node.grad = nullptr;
  }
}

void Graph::finish(NodeId weight) {
  if (watch_ != nullptr) [[unlikely]]
    watch_->begin();
  finish_weight(*this, weight);
  if (watch_ != nullptr) [[unlikely]]
    watch_->finished_weight(*this, weight);
}

/// Before a view goes that has claimed a part of an older value's gradient.
void Graph::let_go(NodeId id) {
  Node& node = nodes_[id];
  if (!node.is_part || node.region != id || !current(node)) return;
  const Part& part = payload<Part>(id);
  Node& holder = nodes_[nodes_[part.parent].region];
  if (!current(holder) || holder.state != GradState::split) return;
  if (part.index >= holder.split->parts || holder.split->owner[part.index] != id) return;
  if (node.state != GradState::whole) complete(id);
  holder.split->owner[part.index] = filled;
}

void Graph::sweep_down_to(NodeId first) {
  auto end = static_cast<NodeId>(nodes_.size());
  if (end > first) sweep(end - 1, first);
  for (NodeId id = first; id < end; ++id) let_go(id);
}

void Graph::backward(NodeId output, const TensorView* seed, Source where) {
  check_output(output, seed, "backward", where);
  sweep(output, seed);
}

std::vector<Tensor> Graph::gradients(NodeId output, const TensorView* seed, std::span<const NodeId> wanted,
                                     Source where) {
  check_output(output, seed, "gradients", where);
  struct Before {
    std::byte* grad;
    bool needs_grad, keeps_grad, leads;  ///< leads: to a wanted one
  };
  std::vector<Before> before;
  for (const Node& node : nodes_) before.push_back({node.grad, node.needs_grad, node.keeps_grad, false});
  for (NodeId id : wanted) {
    const Node& node = nodes_[id];
    if (!node.needs_grad)
      fail_at(where, "gradients: a value of shape {} in the list needs no gradient; make it with Tape::variable",
              node.layout->shape);
    before[node.base].leads = true;
  }
  struct Restore {
    Graph& graph;
    std::vector<Before>& before;
    ~Restore() {
      for (std::size_t id = 0; id < before.size(); ++id) {
        Node& node = graph.nodes_[id];
        if (node.grad != nullptr && node.grad != before[id].grad && !node.borrows)
          graph.pool_.release(node.grad, node.bytes());
        node.grad = before[id].grad;
        node.needs_grad = before[id].needs_grad;
        node.keeps_grad = before[id].keeps_grad;
        node.borrows = false;
      }
      graph.for_list_ = false;
    }
  } restore{*this, before};

  for_list_ = true;
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    Node& node = nodes_[id];
    const bool asked = before[id].leads;
    before[id].leads |= before[node.base].leads;
    for (NodeId input : node.input_ids()) before[id].leads |= before[input].leads;
    node.needs_grad &= before[id].leads;
    node.keeps_grad = asked;
    node.grad = nullptr;
  }
  if (nodes_[output].needs_grad) sweep(output, seed);
  std::vector<Tensor> result;
  for (NodeId id : wanted) {
    const Node& node = nodes_[id];
    if (nodes_[node.base].grad != nullptr)
      result.emplace_back(shown({grad_memory(node), node.dtype, *node.layout}));
    else
      result.emplace_back(node.layout->shape, node.dtype == float32 ? float32 : float64);
  }
  return result;
}

TensorView Graph::grad(NodeId id, Source where) const {
  const Node& node = nodes_[id];
  const Node& base = nodes_[node.base];
  if (base.grad == nullptr)
    fail_at(where, "grad: no gradient is kept for this value of shape {}; {}", node.layout->shape,
            base.keeps_grad || base.is_parameter ? "no backward has reached it yet"
                                                 : "make it with Tape::variable, or call keep_grad before backward");
  return {grad_memory(node), node.dtype, *node.layout};
}

}  // namespace unroll::detail
