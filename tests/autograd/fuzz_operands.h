#pragma once

// How the operands and numbers of random instructions are chosen. Each function adds operands, and the numbers that its
// line says, to an instruction; false when nothing in the program fits.

#include <tests/autograd/fuzz.h>

namespace unroll::testing::choose {

using Choose = std::function<bool(Maker&, Instruction&)>;

bool not_empty(const Shape& shape);
bool is_small(const Shape& shape);
/// One operand that fits.
Choose one(bool (*fits)(const Shape&));

bool any(Maker& maker, Instruction& i);
/// Two operands of one shape.
bool two_alike(Maker& maker, Instruction& i);
/// Numbers: the axis.
bool along_axis(Maker& maker, Instruction& i);
/// Numbers: 1 when the axes are kept, then the axes.
bool over_axes(Maker& maker, Instruction& i);
/// The same over so few elements that their product stays tame.
bool over_few(Maker& maker, Instruction& i);
/// Numbers: the axis and an index along it.
bool at_index(Maker& maker, Instruction& i);
/// Numbers: some axes, none of them twice.
bool some_axes(Maker& maker, Instruction& i);
/// Numbers: an order of all axes.
bool all_axes(Maker& maker, Instruction& i);
/// Numbers: an axis of the result, of one more than x has.
bool new_axis(Maker& maker, Instruction& i);
/// Numbers: the axis, first and last, one of them perhaps counted from the end.
bool between(Maker& maker, Instruction& i);
/// The same and a step.
bool between_by(Maker& maker, Instruction& i);
/// Numbers: the axis, which part it is, and the parts' sizes.
bool unequal_parts(Maker& maker, Instruction& i);
/// All the parts along an axis, in order or (rarely) not. Numbers: the axis, their number, and the one that it is.
bool parts(Maker& maker, Instruction& i);
/// Numbers: the sizes.
bool other_shape(Maker& maker, Instruction& i);
/// Numbers: the axis and the sizes that it is taken apart into.
bool apart(Maker& maker, Instruction& i);
/// Numbers: the sizes of a shape that x broadcasts to.
bool larger_shape(Maker& maker, Instruction& i);
/// Numbers: how often along each axis.
bool times(Maker& maker, Instruction& i);
/// Numbers: how much before and after, for each axis.
bool around(Maker& maker, Instruction& i);
/// Numbers: two axes.
bool two_axes(Maker& maker, Instruction& i);
/// One to four of one shape. Numbers: a new axis, or none for the first.
bool some_alike(Maker& maker, Instruction& i);
/// Values that differ along one axis only, which is the number.
bool alike_but_for_axis(Maker& maker, Instruction& i);
/// Numbers: a class for each row.
bool with_targets(Maker& maker, Instruction& i);
/// Numbers: rows of the table.
bool with_rows(Maker& maker, Instruction& i);
/// Numbers: the axis and indices along it, for slices.
bool slices(Maker& maker, Instruction& i);
/// Numbers: the axis, the sizes of indices along it, and these, for elements.
bool elements(Maker& maker, Instruction& i);
/// A second operand that differs along the axis only, whose elements go to the places that the indices say.
bool to_elements(Maker& maker, Instruction& i);
/// Numbers: a diagonal.
bool diagonal(Maker& maker, Instruction& i);
/// Numbers: the axis, and for each element 1 when it counts.
bool with_mask(Maker& maker, Instruction& i);
/// Numbers: for each element 1 or -1.
bool with_signs(Maker& maker, Instruction& i);
/// Numbers: a label for each sequence of x [T, N, C].
bool with_labels(Maker& maker, Instruction& i);
/// x and as many rows [columns of x] as are asked for.
Choose with_rows_of(int count);
/// Three of one shape, or the third a scalar.
bool with_variance(Maker& maker, Instruction& i);
/// Two vectors.
bool vectors(Maker& maker, Instruction& i);
/// Any two that there is a product of, which the library says.
bool factors(Maker& maker, Instruction& i);
/// h <- tanh(x[t] + h U + b) for all t: the same weight at every step, and a stack of the states at the end.
bool recurrence(Maker& maker, Instruction& i);

}  // namespace unroll::testing::choose
