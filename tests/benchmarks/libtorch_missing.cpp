#include <tests/benchmarks/contenders.h>

namespace unroll::benchmarks {

Contenders libtorch_recurrent(const ProblemPtr&) { return {}; }
Contenders libtorch_nodes(const Case&) { return {}; }
Contenders libtorch_adam(const Case&) { return {}; }
void prepare_libtorch(char**) {}
std::string libtorch_version() { return {}; }

}  // namespace unroll::benchmarks
