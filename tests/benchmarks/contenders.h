#pragma once

// Who takes part. Each function returns the contenders it has for a problem, or none where it has nothing to offer; a
// library that is not installed is replaced by its NAME_missing.cpp, which offers nothing. To add one, write a function
// and name it in topics.cpp.

#include <tests/benchmarks/case.h>

namespace unroll::benchmarks {

/// Inference, forward and backward, training step and streaming of a recurrent layer, as the problem's topic has it.
Contenders unroll_recurrent(const ProblemPtr& problem);
Contenders onednn_recurrent(const ProblemPtr& problem);
Contenders libtorch_recurrent(const ProblemPtr& problem);
Contenders eigen_recurrent(const ProblemPtr& problem);

/// `steps` statements x = x * 0.999 + 0.001 of one number, and their backward.
Contenders unroll_nodes(const Case& c);
Contenders libtorch_nodes(const Case& c);

/// The two element-wise statements of an LSTM's step, of [batch, hidden] elements.
Contenders unroll_statement(const Case& c);
Contenders eigen_statement(const Case& c);

/// Forward and backward of a long sequence's final state, with a checkpoint every sqrt(steps) steps ("unroll") and
/// without ("plain"); and the bytes that their tapes hold then.
Contenders unroll_checkpoint(const ProblemPtr& problem);
/// Forward and backward of sequences whose lengths are spread evenly from 1 to the steps ("unroll"), and of as many
/// that all have the steps ("full").
Contenders unroll_lengths(const ProblemPtr& problem);
std::map<std::string, double> unroll_checkpoint_bytes(const ProblemPtr& problem);

/// One step of Adam over `hidden` parameters.
Contenders unroll_adam(const Case& c);
Contenders libtorch_adam(const Case& c);

/// The compiler's run over the same small program with each library, and over Eigen's header alone ("eigen").
Contenders compilations();

/// Empty when the library is not installed.
std::string onednn_version();
std::string libtorch_version();

/// To be called first, with main's arguments, for it may start the program anew: an OpenBLAS that is older than the
/// processor (Debian 12's) takes it for a Prescott of 2004 and has to be told otherwise when it is loaded.
void prepare_libtorch(char** argv);

}  // namespace unroll::benchmarks
