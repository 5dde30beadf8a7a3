#pragma once

// Random programs: lists of instructions, made from a seed, that are recorded on a tape. As data they can be recorded
// in several ways, printed, made smaller and written out for another library to follow. The checks: test_fuzz.cpp.

#include <tests/autograd/operations.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace unroll::testing {

struct FuzzOperation;

/// One line of a program. Its result is the value of the same number.
struct Instruction {
  const FuzzOperation* operation = nullptr;
  std::vector<int> operands;   ///< the numbers of earlier values
  std::vector<Index> numbers;  ///< axes, sizes, targets: what the operation makes of them
  Shape shape;                 ///< of the result
  bool keep_grad = false;      ///< the gradient is asked for, and compared too
};

/// A program and the values that `backward` is called on, one after the other.
struct Program {
  std::uint64_t seed = 0;
  std::vector<Instruction> instructions;
  std::vector<int> outputs;

  /// dL/dy of the k-th output. Empty for a scalar every other time: `backward(y)` without a seed.
  std::optional<Tensor> seed_of(std::size_t k) const;
};

/// The values of a program's leaves, by the numbers of their instructions.
struct Inputs {
  explicit Inputs(const Program& program, DType dtype = float64);
  std::vector<std::unique_ptr<Parameter>> leaves;  ///< null for instructions that are no leaves

  /// The leaves that have gradients.
  std::vector<std::size_t> trainable;
};

/// What an operation sees when it is recorded.
struct Recording {
  Tape& tape;
  const Instruction& instruction;
  std::size_t number;  ///< of the instruction
  Inputs& inputs;
  bool split;  ///< statements are to be recorded one operation at a time

  Vars x;
  const std::vector<Index>& numbers() const { return instruction.numbers; }
};

class Maker;

/// A kind of instruction.
struct FuzzOperation {
  /// Unique. Of a statement, its text.
  std::string name;
  /// How often it is chosen.
  double weight;
  /// Chooses operands and numbers; false when nothing in the program fits.
  std::function<bool(Maker&, Instruction&)> choose;
  std::function<Var(const Recording&)> record;
  /// How far the operands are from where the derivative jumps; null where it never does.
  std::function<double(const Recording&)> distance = nullptr;
};

/// The distance of the element that is nearest to 0, and of the two elements that are nearest to each other.
double from_zero(const TensorView& x);
double between_elements(const TensorView& x);

/// Statements of one to eight operations, and sums of products (fuzz_statements.cpp).
std::vector<FuzzOperation> fuzz_statements();
/// All kinds of instructions (fuzz_operations.cpp).
const std::vector<FuzzOperation>& fuzz_operations();
const FuzzOperation& fuzz_operation(const std::string& name);

/// Draws what a program is made of, and keeps what has been made so far on a tape.
class Maker {
 public:
  explicit Maker(std::uint64_t seed);
  Program make();

  Index below(Index n) { return random_.below(n); }
  bool chance(double probability) { return random_.uniform() < probability; }
  Index size() { return sizes_[static_cast<std::size_t>(below(3))]; }
  Index most_elements() const { return large_ ? 20000 : 1500; }

  const Shape& shape(int value) const { return program_.instructions[static_cast<std::size_t>(value)].shape; }
  /// A value that `fits(shape)`, one of the last ones more often than others; -1 when there is none.
  int pick(const std::function<bool(const Shape&)>& fits);
  int pick() {
    return pick([](const Shape&) { return true; });
  }
  /// A new leaf, of values in [-2, 2).
  int leaf(const Shape& shape);
  /// Adds an instruction and, where it leaves the range of tame values, one that brings it back. -1 when it can't be
  /// recorded or is at a kink; the program is as before then.
  int add(Instruction instruction);
  /// Adds one of a given kind, with given operands.
  int add(const std::string& operation, std::vector<int> operands, std::vector<Index> numbers = {});
  const Var& value(int number) const { return values_[static_cast<std::size_t>(number)]; }

 private:
  void add_leaves();
  void add_random();
  void choose_outputs();
  std::vector<int> ends() const;

  Generator random_;
  Program program_;
  Inputs none_{program_};
  Tape tape_;
  Vars values_;
  std::vector<bool> tame_;
  std::array<Index, 3> sizes_{};
  bool large_ = false, finished_ = false;
};

/// The shape of a statement over both; none when they do not broadcast.
std::optional<Shape> broadcast_of(const Shape& a, const Shape& b);

struct RecordOptions {
  bool split = false;
  /// Some instructions are recorded, taken back and recorded again.
  bool detours = false;
  /// What `detach` gives, instead of computing it, so that differences see what the gradient sees: by number.
  const std::vector<std::optional<Tensor>>* detached = nullptr;
  /// On a dual tape: the leaves' tangents, by number.
  const std::vector<std::optional<Tensor>>* tangents = nullptr;
};

/// Records a program; the values of its instructions.
Vars record(const Program& program, Inputs& inputs, Tape& tape, const RecordOptions& options = {});
/// Calls backward for the outputs.
void sweep(const Program& program, const Vars& values, Tape& tape);
/// The gradient of a leaf or kept value, zeros where none arrived.
Tensor gradient(const Program& program, const Inputs& inputs, const Vars& values, std::size_t number);

/// The program as text: a line for each instruction.
std::string to_string(const Program& program);
/// One line of JSON, with all values and gradients: see tests/pytorch/compare.py.
std::string to_json(const Program& program);

/// A smaller program that still fails, found by leaving out and replacing instructions.
Program shrink(Program program, const std::function<bool(const Program&)>& fails);

}  // namespace unroll::testing
