#pragma once

#include <autograd/tape.h>

#include <functional>
#include <vector>

namespace unroll {

// Derivatives of a function as a whole. The function is called with a tape and its inputs on it:
//
//     auto f = [](Tape&, const std::vector<Var>& x) { return sum(Var(tanh(matmul(x[0], x[1])))); };
//     std::vector<Tensor> h = hvp(f, {a, b}, {da, db});
//
// vjp is one backward sweep. jvp carries a tangent beside every value through the forward pass (forward mode), and hvp
// through the forward pass and the sweep (forward over reverse): both are exact, cost some three times the plain pass,
// and compute in double whatever the inputs' type. The function must not draw random numbers: it may be called often.

using Function = std::function<Var(Tape&, const std::vector<Var>&)>;

/// y = f(x) and its derivative along a direction, dy = J v.
struct Jvp {
  Tensor value, tangent;
};
/// The Jacobian-vector product. `direction` holds a tensor of its shape for each input. Throws Error when they differ.
Jvp jvp(const Function& f, const std::vector<Tensor>& inputs, const std::vector<Tensor>& direction);

/// y = f(x) and, for each input, v^T J.
struct Vjp {
  Tensor value;
  std::vector<Tensor> gradients;
};
/// The vector-Jacobian product; `seed` is v, of y's shape and type. Throws Error when it is not.
Vjp vjp(const Function& f, const std::vector<Tensor>& inputs, const Tensor& seed);

/// For each input dy/dx, of shape [y's axes..., x's axes...]: one backward sweep for each element of y.
std::vector<Tensor> jacobian(const Function& f, const std::vector<Tensor>& inputs);

/// For each input the Hessian-vector product H v, where H holds the second derivatives of a scalar f.
/// Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian", equation 3 (here with dual numbers).
/// Throws Error when f is not a scalar.
std::vector<Tensor> hvp(const Function& f, const std::vector<Tensor>& inputs, const std::vector<Tensor>& direction);
/// The same for parameters, as for a layer's loss. Their gradients are not touched.
std::vector<Tensor> hvp(const std::function<Var(Tape&)>& loss, const std::vector<Parameter*>& parameters,
                        const std::vector<Tensor>& direction);
/// The Hessian of a scalar f of one input, [x's axes..., x's axes...]: one hvp for each element.
Tensor hessian(const Function& f, const Tensor& input);

}  // namespace unroll
