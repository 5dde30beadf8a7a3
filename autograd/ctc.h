#pragma once

#include <autograd/loss.h>

namespace unroll {

struct CtcOptions {
  std::int32_t blank = 0;  ///< the class that stands for no label
  Reduction reduction = Reduction::mean;
  bool zero_infinity = false;  ///< a sequence that no alignment fits has loss 0 and gradient 0
};

/// Connectionist temporal classification: -log of the probability that the inputs say the labels (Graves, Fernandez,
/// Gomez and Schmidhuber 2006). An alignment gives every time step a class; without its repetitions, and then without
/// its blanks, it must read as the labels l:
///     loss = -log sum_{alignments} prod_t p_t(class at t).
/// With l' = blank l_1 blank ... l_S blank, the sum over alignments is that of the forward variables (equations 5 to
/// 8),
///     a_t(s) = (a_{t-1}(s) + a_{t-1}(s-1) [+ a_{t-1}(s-2) unless l'_s is blank or l'_{s-2}]) p_t(l'_s),
/// in logarithms and double precision, and the gradient is that of the backward variables b (equations 9 to 11):
///     dloss / dlog p_t(c) = -sum_{s: l'_s = c} a_t(s) b_t(s) / (p_t(c) sum_{alignments}).
/// This is the derivative in the given numbers, so they may come from anywhere; usually from `log_softmax`.
///
/// log_probabilities [T, N, C]; targets [N, S], of which each row's first labels count, or [sum of target lengths], one
/// sequence after another; input_lengths [N], each in [0, T]; target_lengths [N]. Time steps past a sequence's length
/// have no part in anything. A target may be empty. The mean is PyTorch's: each loss is divided by its target's length
/// (1 if it is empty), then averaged over the batch. With Reduction::none the result is [N].
///
/// Where no alignment has a probability above 0, as when there are fewer time steps than labels and blanks between
/// equal ones need, the loss is infinite and its gradient NaN, unless `zero_infinity` is set.
///
/// Throws Error when shapes or counts differ, a length is out of range, a label is not a class or is the blank, the
/// blank is not a class, and when the mean has an empty batch. Cost: N T S, sequences side by side on all threads.
Var ctc(const Var& log_probabilities, const Indices& targets, const Indices& input_lengths,
        const Indices& target_lengths, const CtcOptions& options = {}, Source where = Source::here());

}  // namespace unroll
