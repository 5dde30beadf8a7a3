#include <autograd/graph.h>
#include <autograd/var.h>
#include <autograd/watch.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace unroll::detail {

Graph::Graph(bool recording, bool dual) : recording_(recording), dual_(dual) {}
Graph::~Graph() = default;

Watch& Graph::watch() {
  if (watch_ == nullptr) watch_ = std::make_unique<Watch>();
  return *watch_;
}

void Graph::unwatch() { watch_.reset(); }

void Graph::note_computed(NodeId id, std::span<const NodeId> inputs) { watch_->computed(*this, id, inputs); }

void Graph::refuse(const Var& var, const char* function, Source where) const {
  if (var.graph_ == nullptr) fail_at(where, "{}: an empty Var; assign a value to it first", function);
  if (var.graph_ != this) fail_at(where, "{}: Vars of two tapes; an expression belongs to one", function);
  fail_at(where, "{}: a Var whose tape has been cleared since; keep its value in a Tensor instead", function);
}

void Graph::check_room(Index more, Source where) const {
  if (nodes_.size() + static_cast<std::size_t>(more) > no_node)
    fail_at(where, "Tape: more than {} values; clear it between steps", no_node);
}

NodeId Graph::append(const Operation* operation, const NodeLayout* layout, DType dtype, Source where) {
  check_room(1, where);
  if (watch_ != nullptr) [[unlikely]]
    watch_->begin();
  auto id = static_cast<NodeId>(nodes_.size());
  nodes_.emplace_back(operation, layout, dtype, where, stamp_, id);
  return id;
}

void make_dual(Dual* to, const TensorView& from) {
  const Shape& shape = from.shape();
  // Copied to the end of where the result will be, and spread from its beginning on.
  with_type(from.dtype(), [&]<class T>(T) {
    T* copied = reinterpret_cast<T*>(to + shape.count()) - shape.count();
    copy(copied, Layout(shape), from.raw(), from.layout(), from.dtype());
    for (Index i = 0; i < shape.count(); ++i) {
      const T value = copied[i];
      to[i] = Dual(static_cast<double>(value));
    }
  });
}

TensorView Graph::shown(const TensorView& view, bool tangents) const {
  if (view.dtype() != DType::dual) return view;
  Layout layout = view.layout();
  for (Index& stride : layout.strides) stride *= 2;
  return {static_cast<const double*>(view.raw()) + (tangents ? 1 : 0), float64, layout};
}

void Graph::set_tangent(NodeId leaf, const TensorView& tangent) {
  auto* duals = value<Dual>(leaf);
  std::vector<double> values = tangent.to_vector();
  for (std::size_t i = 0; i < values.size(); ++i) duals[i].tangent = values[i];
}

void Graph::draws_from(Generator& generator) {
  if (!draws_.again.empty()) {
    generator = draws_.again.front().before;
    draws_.again = draws_.again.subspan(1);
  }
  if (draws_.noting > 0) draws_.noted.push_back({&generator, generator});
}

NodeId Graph::add_leaf(const Shape& shape, DType dtype, Source where) {
  NodeId id = append(nullptr, layout(shape), dual_ ? DType::dual : dtype, where);
  nodes_[id].value = static_cast<std::byte*>(arena_.allocate(nodes_[id].bytes()));
  return id;
}

NodeId Graph::add_leaf(const TensorView& tensor, bool needs_grad, Source where) {
  NodeId id = add_leaf(tensor.shape(), tensor.dtype(), where);
  Node& node = nodes_[id];
  if (dual_)
    make_dual(value<Dual>(id), tensor);
  else
    copy(node.value, *node.layout, tensor.raw(), tensor.layout(), tensor.dtype());
  node.needs_grad = node.keeps_grad = needs_grad && recording_;
  return id;
}

bool Graph::is_bound(const Binding& binding) const {
  return binding.node < nodes_.size() && nodes_[binding.node].is_parameter &&
         nodes_[binding.node].payload == binding.parameter;
}

Graph::Binding& Graph::binding(const Parameter& parameter) {
  if (2 * (binding_count_ + 1) > bindings_.size()) {
    std::vector<Binding> old(std::max<std::size_t>(32, 2 * bindings_.size()));
    old.swap(bindings_);
    binding_count_ = 0;
    for (const Binding& b : old)
      if (b.parameter != nullptr && is_bound(b)) binding(*b.parameter) = b;
  }
  std::size_t mask = bindings_.size() - 1;
  auto address = reinterpret_cast<std::uintptr_t>(&parameter);
  for (std::size_t i = (address >> 4) * 0x9E3779B97F4A7C15u >> 20 & mask;; i = (i + 1) & mask) {
    if (bindings_[i].parameter == nullptr) {
      bindings_[i].parameter = &parameter;
      ++binding_count_;
    }
    if (bindings_[i].parameter == &parameter) return bindings_[i];
  }
}

NodeId Graph::bind(Parameter& parameter, Source where) {
  Binding& slot = binding(parameter);
  if (is_bound(slot)) {
    Factor* factor = nodes_[slot.node].factor;
    if (factor != nullptr && factor->version != parameter.version()) {
      factor->packed = nullptr;
      factor->version = parameter.version();
    }
    return slot.node;
  }
  NodeId id;
  if (dual_) {
    id = add_leaf(std::as_const(parameter).value(), true, where);
  } else {
    id = append(nullptr, layout(parameter.shape()), parameter.dtype(), where);
    nodes_[id].value = static_cast<std::byte*>(const_cast<void*>(std::as_const(parameter).value().raw()));
  }
  Node& node = nodes_[id];
  node.payload = &parameter;
  node.is_parameter = true;
  node.needs_grad = parameter.trainable() && recording_;
  slot.node = id;
  return id;
}

Factor& Graph::factor(NodeId id) {
  Node& node = nodes_[id];
  if (node.factor == nullptr) {
    node.factor = new (arena_.allocate(sizeof(Factor), alignof(Factor))) Factor;
    node.factor->made_at = nodes_.size();
    if (node.is_parameter) node.factor->version = static_cast<const Parameter*>(node.payload)->version();
    factors_.push_back(id);
  }
  return *node.factor;
}

// Flattened: with `append` in a call of its own, it has a tenth more instructions.
template <std::size_t N>
[[gnu::flatten]] NodeId Graph::add(const Operation& operation, std::span<const NodeId, N> inputs,
                                   const NodeLayout* layout, Source where) {
  NodeId id = append(&operation, layout, nodes_[inputs[0]].dtype, where);
  Node& node = nodes_[id];
  std::size_t bytes = node.bytes();
  node.value = static_cast<std::byte*>(arena_.allocate(bytes, bytes < 64 ? 16 : 64));
  bool needs_grad = false;
  for (NodeId input : inputs) needs_grad |= nodes_[input].needs_grad;
  node.needs_grad = needs_grad;
  if (needs_grad) {
    auto* kept = arena_.array<NodeId>(inputs.size());
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      kept[k] = inputs[k];
      ++nodes_[nodes_[inputs[k]].region].uses;
    }
    node.inputs = kept;
    node.input_count = static_cast<std::uint32_t>(inputs.size());
  }
  return id;
}

template NodeId Graph::add(const Operation&, std::span<const NodeId, 1>, const NodeLayout*, Source);
template NodeId Graph::add(const Operation&, std::span<const NodeId, 2>, const NodeLayout*, Source);
template NodeId Graph::add(const Operation&, std::span<const NodeId, 3>, const NodeLayout*, Source);
template NodeId Graph::add(const Operation&, std::span<const NodeId, 4>, const NodeLayout*, Source);

NodeId Graph::add(const Operation& operation, std::span<const NodeId> inputs, const NodeLayout* layout, Source where) {
  return add<std::dynamic_extent>(operation, inputs, layout, where);
}

NodeId Graph::add_view(NodeId input, const NodeLayout* layout, Index offset, Source where) {
  static constexpr Operation view{"view", nullptr};
  NodeId id = append(&view, layout, nodes_[input].dtype, where);
  const Node& of = nodes_[input];
  Node& node = nodes_[id];
  node.value = of.value + offset * static_cast<Index>(size_of(of.dtype));
  node.base = of.base;
  node.region = of.region;
  node.irregular = of.irregular || node.count() != of.count();
  node.needs_grad = of.needs_grad;
  return id;
}

NodeId Graph::add_part(const Part& part, const NodeLayout* layout, Index offset, Source where) {
  NodeId id = add_view(part.parent, layout, offset, where);
  Node& node = nodes_[id];
  if (part.parts == 1 || nodes_[part.parent].irregular) return id;
  Node& whole = nodes_[node.region];
  node.irregular = false;
  node.region = id;
  node.is_part = true;
  keep(id, part);
  if (whole.last_part != no_node) {
    bool known = whole.last_part < id && nodes_[whole.last_part].is_part && nodes_[whole.last_part].payload != nullptr;
    const Part* last = known ? &payload<Part>(whole.last_part) : nullptr;
    bool next = known && last->parent == part.parent && last->axis == part.axis && last->parts == part.parts &&
                last->index < part.index;
    whole.parts_may_overlap |= !next;
  }
  whole.last_part = id;
  return id;
}

NodeId Graph::add_parts(Part part, const NodeLayout* layout, Index distance, Source where) {
  const NodeId first = add_part(part, layout, 0, where);
  check_room(part.parts - 1, where);
  for (Index i = 1; i < part.parts; ++i) {
    const auto id = static_cast<NodeId>(nodes_.size());
    Node& node = nodes_.emplace_back(nodes_[first]);  // differs by where it begins alone
    node.value += i * distance * static_cast<Index>(size_of(node.dtype));
    if (!node.is_part) continue;
    node.region = id;
    part.index = i;
    keep(id, part);
  }
  if (nodes_[first].is_part) nodes_[nodes_[part.parent].region].last_part = static_cast<NodeId>(nodes_.size() - 1);
  return first;
}

void Graph::rewind_to(const Mark& mark, Source where) {
  bool known = mark.nodes <= nodes_.size() && (mark.nodes == 0 || nodes_[mark.nodes - 1].stamp <= mark.stamp);
  if (!known) fail_at(where, "rewind_to: the mark lies in a part of the tape that has been cleared since");
  if (mark.nodes == 0) {
    pool_.clear();
    plans_.tidy();
  } else {
    for (std::size_t i = mark.nodes; i < nodes_.size(); ++i)
      if (nodes_[i].grad != nullptr && (!nodes_[i].is_parameter || dual_) && !nodes_[i].borrows)
        pool_.release(nodes_[i].grad, nodes_[i].bytes());
  }
  std::erase_if(factors_, [&](NodeId id) {
    if (id >= mark.nodes) return true;
    Factor*& factor = nodes_[id].factor;
    if (factor->made_at > mark.nodes) {
      factor = nullptr;
      return true;
    }
    if (factor->packed_at > mark.nodes) factor->packed = nullptr;
    factor->uses = 0;
    return false;
  });
  nodes_.erase(nodes_.begin() + static_cast<std::ptrdiff_t>(mark.nodes), nodes_.end());
  arena_.rewind_to(mark.arena);
  ++stamp_;
}

}  // namespace unroll::detail
