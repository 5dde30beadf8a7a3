#include <autograd/tape.h>

#include <autograd/shape_ops.h>

namespace unroll {

Var Tape::constant(const TensorView& tensor, Source where) {
  return graph_->var(graph_->add_leaf(tensor, false, where));
}

Var Tape::variable(const TensorView& tensor, Source where) {
  return graph_->var(graph_->add_leaf(tensor, true, where));
}

Var Tape::zeros(const Shape& shape, DType dtype, Source where) {
  double nothing = 0;
  Layout repeated(shape);
  repeated.strides.fill(0);
  return constant(TensorView(&nothing, dtype, repeated), where);
}

Var Tape::use(Parameter& parameter, Source where) { return graph_->var(graph_->bind(parameter, where)); }

void Tape::backward(const Var& loss, Source where) {
  graph_->backward(graph_->check(loss, "backward", where), nullptr, where);
}

void Tape::backward(const Var& y, const TensorView& seed, Source where) {
  graph_->backward(graph_->check(y, "backward", where), &seed, where);
}

namespace {

std::vector<Tensor> gradients(detail::Graph& graph, const Var& y, const TensorView* seed, std::span<const Var> wrt,
                              Source where) {
  std::vector<detail::NodeId> ids;
  for (const Var& x : wrt) ids.push_back(graph.check(x, "gradients", where));
  return graph.gradients(graph.check(y, "gradients", where), seed, ids, where);
}

}  // namespace

std::vector<Tensor> Tape::gradients(const Var& loss, std::span<const Var> wrt, Source where) {
  return unroll::gradients(*graph_, loss, nullptr, wrt, where);
}

std::vector<Tensor> Tape::gradients(const Var& y, const TensorView& seed, std::span<const Var> wrt, Source where) {
  return unroll::gradients(*graph_, y, &seed, wrt, where);
}

void Tape::clear() { graph_->clear(); }

void Tape::find_anomaly(bool on) {
  graph_->watch().anomalies = on;
  if (!on && !graph_->watch().profile) graph_->unwatch();
}

void Tape::start_profile() {
  graph_->watch().reset();
  graph_->watch().profile = true;
}

void Tape::stop_profile() { graph_->watch().profile = false; }
Profile Tape::profile() const { return graph_->watch().report(); }
std::string Tape::to_dot(bool fold) const { return detail::to_dot(*graph_, fold); }
std::string Tape::summary() const { return detail::summary(*graph_); }

const detail::Node& Var::node() const {
  if (graph_ == nullptr) fail("Var: an empty Var has no value; assign one to it first");
  return graph_->node(graph_->check(*this, "Var", {}));
}

TensorView Var::value() const {
  node();
  return graph_->shown(graph_->view(id_));
}

TensorView Var::grad(Source where) const {
  node();
  return graph_->shown(graph_->grad(id_, where));
}

Var Var::keep_grad() const {
  graph_->node(node().base).keeps_grad = true;
  return *this;
}

Var Var::operator[](Index t) const { return select(*this, 0, t); }

}  // namespace unroll
