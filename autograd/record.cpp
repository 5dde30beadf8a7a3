#include <autograd/record.h>

namespace unroll::detail {

NodeId start_record(const Operation& operation, std::span<const Argument> arguments, const Shape& shape, Graph*& graph,
                    NodeId* inputs, Source where) {
  graph = nullptr;
  for (const Argument& argument : arguments) graph = graph != nullptr ? graph : argument.graph();
  if (graph == nullptr)
    fail_at(where, "{}: no operand is a Var, so no tape; start from tape.use(parameter)", operation.name);
  for (std::size_t k = 0; k < arguments.size(); ++k) inputs[k] = arguments[k].bind(*graph, operation.name, where);
  DType dtype = graph->node(inputs[0]).dtype;
  for (std::size_t k = 1; k < arguments.size(); ++k)
    if (graph->node(inputs[k]).dtype != dtype)
      fail_at(where, "{}: operand 0 is {} and operand {} is {}; convert one of them", operation.name, dtype, k,
              graph->node(inputs[k]).dtype);
  for (std::size_t k = 0; k < arguments.size(); ++k) inputs[k] = graph->rowwise(inputs[k], where);
  return graph->add(operation, {inputs, arguments.size()}, graph->layout(shape), where);
}

void fail_without_duals(const char* name, Source where) {
  fail_at(where, "{}: recorded for float32 and float64 only, so it has no jvp or hvp; record it with record<Duals>",
          name);
}

}  // namespace unroll::detail
