// Random programs: how they are made and recorded.

#include <autograd/autograd.h>
#include <tests/autograd/fuzz.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace unroll::testing {

namespace {

/// Values stay in this range, so that no statement overflows and derivatives stay of a size that differences can tell.
constexpr double tame = 4;
/// How far from a kink a program is: further than the steps of finite differences reach.
constexpr double margin = 1e-4;

double largest(const TensorView& x) {
  double most = 0;
  for (double v : x.to_vector()) most = std::max(most, std::abs(v));
  return most;
}

bool is_leaf(const Instruction& instruction) { return instruction.operands.empty(); }
bool is_trainable(const Instruction& instruction) {
  return instruction.operation->name == "variable" || instruction.operation->name == "parameter";
}

std::unique_ptr<Parameter> make_leaf(const Program& program, std::size_t number, DType dtype) {
  const Instruction& instruction = program.instructions[number];
  Tensor values(instruction.shape, float64);
  Generator(program.seed, static_cast<std::uint64_t>(instruction.numbers[0])).fill_uniform(values, -2, 2);
  auto leaf = std::make_unique<Parameter>(fmt::format("v{}", number), values.to(dtype));
  leaf->set_trainable(instruction.operation->name != "frozen");
  return leaf;
}

Var record_one(const Instruction& instruction, std::size_t number, Inputs& inputs, const Vars& values, Tape& tape,
               bool split) {
  Recording recording{tape, instruction, number, inputs, split, {}};
  for (int operand : instruction.operands) recording.x.push_back(values[static_cast<std::size_t>(operand)]);
  return instruction.operation->record(recording);
}

}  // namespace

double from_zero(const TensorView& x) {
  double least = std::numeric_limits<double>::infinity();
  for (double v : x.to_vector()) least = std::min(least, std::abs(v));
  return least;
}

double between_elements(const TensorView& x) {
  std::vector<double> values = x.to_vector();
  std::ranges::sort(values);
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t i = 1; i < values.size(); ++i) least = std::min(least, values[i] - values[i - 1]);
  return least;
}

std::optional<Shape> broadcast_of(const Shape& a, const Shape& b) {
  Shape result = a.rank() >= b.rank() ? a : b;
  const Shape& other = a.rank() >= b.rank() ? b : a;
  for (int k = 1; k <= other.rank(); ++k) {
    int axis = result.rank() - k;
    Index own = result[axis], size = other[other.rank() - k];
    if (own != size && own != 1 && size != 1) return std::nullopt;
    if (own == 1) result = result.with(axis, size);
  }
  return result;
}

std::optional<Tensor> Program::seed_of(std::size_t k) const {
  const Shape& shape = instructions[static_cast<std::size_t>(outputs[k])].shape;
  if (shape.count() == 1 && (seed + k) % 2 == 0) return std::nullopt;
  return random_tensor(shape, seed + 1000 + k, 0.5, 1.5);
}

Inputs::Inputs(const Program& program, DType dtype) : leaves(program.instructions.size()) {
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (!is_leaf(program.instructions[i])) continue;
    leaves[i] = make_leaf(program, i, dtype);
    if (is_trainable(program.instructions[i])) trainable.push_back(i);
  }
}

// --- Making -------------------------------------------------------------------------------------------------------

Maker::Maker(std::uint64_t seed) : random_(seed, 1) {
  program_.seed = seed;
  large_ = seed % 100 == 99;
  constexpr std::array<Index, 16> small{1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 5, 8, 16, 17, 33};
  constexpr std::array<Index, 4> large{33, 64, 65, 130};
  for (Index& size : sizes_)
    size = chance(0.02) ? 0
           : large_     ? large[static_cast<std::size_t>(below(4))]
                        : small[static_cast<std::size_t>(below(16))];
}

int Maker::pick(const std::function<bool(const Shape&)>& fits) {
  std::vector<int> found;
  for (int i = 0; i < std::ssize(values_); ++i)
    if (tame_[static_cast<std::size_t>(i)] && fits(shape(i))) found.push_back(i);
  if (found.empty()) return -1;
  Index count = std::ssize(found), last = chance(0.5) ? std::min<Index>(3, count) : count;
  return found[static_cast<std::size_t>(count - 1 - below(last))];
}

int Maker::leaf(const Shape& shape) {
  constexpr const char* kinds[] = {"variable", "variable", "parameter", "parameter", "parameter", "constant", "frozen"};
  Instruction instruction;
  instruction.operation = &fuzz_operation(program_.instructions.empty() ? "variable" : kinds[below(7)]);
  instruction.shape = shape;
  instruction.numbers = {std::ssize(program_.instructions) + 100};
  return add(std::move(instruction));
}

int Maker::add(Instruction instruction) {
  const std::size_t number = program_.instructions.size();
  Recording recording{tape_, instruction, number, none_, false, {}};
  for (int operand : instruction.operands) recording.x.push_back(value(operand));
  Var result;
  if (is_leaf(instruction)) {
    program_.instructions.push_back(instruction);
    // A parameter would have to live as long as the tape; a variable serves as well here.
    const Tensor values = make_leaf(program_, number, float64)->value();
    result = is_trainable(instruction) ? tape_.variable(values) : tape_.constant(values);
  } else {
    std::size_t before = 0;
    try {
      if (instruction.operation->distance && instruction.operation->distance(recording) < margin) return -1;
      before = tape_.size();
      result = instruction.operation->record(recording);
    } catch (const Error& error) {
      if (before != 0 && tape_.size() != before)
        throw std::logic_error(fmt::format("left on the tape by: {}", error.what()));
      return -1;
    }
    program_.instructions.push_back(instruction);
  }
  program_.instructions.back().shape = result.shape();
  values_.push_back(result);
  tame_.push_back(finished_ || largest(result.value()) <= tame);
  if (tame_.back()) return static_cast<int>(number);
  constexpr const char* bounded[] = {"tanh(a)", "a * 0.25", "log(1.5 + square(a))", "sigmoid(a)"};
  return add(bounded[below(4)], {static_cast<int>(number)});
}

int Maker::add(const std::string& operation, std::vector<int> operands, std::vector<Index> numbers) {
  Instruction instruction;
  instruction.operation = &fuzz_operation(operation);
  instruction.operands = std::move(operands);
  instruction.numbers = std::move(numbers);
  return add(std::move(instruction));
}

void Maker::add_leaves() {
  for (Index n = 2 + below(3); n > 0; --n) {
    std::vector<Index> sizes(static_cast<std::size_t>(below(large_ ? 3 : 5)));
    for (Index& size : sizes) size = chance(0.1) ? 1 : this->size();
    Shape shape(sizes);
    while (shape.count() > most_elements()) shape = shape.without(0);
    leaf(shape);
  }
}

void Maker::add_random() {
  double total = 0;
  for (const FuzzOperation& operation : fuzz_operations()) total += operation.weight;
  for (int tries = 0; tries < 20; ++tries) {
    double drawn = random_.uniform() * total;
    const FuzzOperation* operation = nullptr;
    for (const FuzzOperation& each : fuzz_operations()) {
      operation = &each;
      if ((drawn -= each.weight) < 0) break;
    }
    Instruction instruction;
    instruction.operation = operation;
    if (operation->choose(*this, instruction) && add(std::move(instruction)) >= 0) return;
  }
}

std::vector<int> Maker::ends() const {
  std::vector<bool> used(values_.size());
  for (const Instruction& instruction : program_.instructions)
    for (int operand : instruction.operands) used[static_cast<std::size_t>(operand)] = true;
  std::vector<int> result;
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (!used[i] && values_[i].needs_grad()) result.push_back(static_cast<int>(i));
  return result;
}

void Maker::choose_outputs() {
  finished_ = true;  // what is large now stays so, for nothing comes after it: the end of a saturated tanh has no slope
  std::vector<int> last = ends();
  if (last.empty()) last.push_back(0);  // the first leaf is a variable
  while (last.size() > 12) last.erase(last.begin() + below(std::ssize(last)));
  double way = random_.uniform();
  if (way < 0.4) {  // all of them, one after another
    for (int& end : last)
      if (shape(end).rank() != 1) end = add("reshape", {end}, {shape(end).count()});
    program_.outputs = {add("concat", last, {0})};
  } else if (way < 0.65) {  // their sum
    int sum = add("sum", {last[0]});
    for (std::size_t k = 1; k < last.size(); ++k) sum = add("a + b", {sum, add("sum", {last[k]})});
    program_.outputs = {sum};
  } else {  // one of them, or two values in turn; the others are in vain
    program_.outputs = {last.back()};
    int other = static_cast<int>(below(std::ssize(values_)));
    if (chance(0.5) && values_[static_cast<std::size_t>(other)].needs_grad()) program_.outputs.push_back(other);
  }
}

Program Maker::make() {
  add_leaves();
  for (Index length = 1 + below(60); std::ssize(program_.instructions) < length;) add_random();
  choose_outputs();
  return std::move(program_);
}

// --- Recording ----------------------------------------------------------------------------------------------------

Vars record(const Program& program, Inputs& inputs, Tape& tape, const RecordOptions& options) {
  Vars values;
  values.reserve(program.instructions.size());
  auto next = [&](std::size_t i) {
    const Instruction& instruction = program.instructions[i];
    if (options.detached != nullptr && (*options.detached)[i]) return tape.constant(*(*options.detached)[i]);
    Var y = record_one(instruction, i, inputs, values, tape, options.split);
    if (options.tangents != nullptr && (*options.tangents)[i])
      tape.graph().set_tangent(tape.graph().check(y, "record", {}), *(*options.tangents)[i]);
    return instruction.keep_grad ? y.keep_grad() : y;
  };
  for (std::size_t i = 0; i < program.instructions.size(); ++i) {
    if (options.detours && (program.seed + i) % 5 == 0) {
      const std::size_t so_far = values.size();
      Tape::Mark mark = tape.mark();
      for (std::size_t j = i; j < std::min(i + 3, program.instructions.size()); ++j) values.push_back(next(j));
      values.resize(so_far);
      tape.rewind_to(mark);
    }
    values.push_back(next(i));
  }
  return values;
}

void sweep(const Program& program, const Vars& values, Tape& tape) {
  for (std::size_t k = 0; k < program.outputs.size(); ++k) {
    const Var& y = values[static_cast<std::size_t>(program.outputs[k])];
    if (!y.needs_grad()) continue;  // nothing but masks on the way
    if (std::optional<Tensor> seed = program.seed_of(k))
      tape.backward(y, seed->to(y.dtype()));
    else
      tape.backward(y);
  }
}

Tensor gradient(const Program& program, const Inputs& inputs, const Vars& values, std::size_t number) {
  const Instruction& instruction = program.instructions[number];
  const Tensor none(values[number].shape(), values[number].dtype());
  if (instruction.operation->name == "parameter") {
    const Parameter& parameter = *inputs.leaves[number];
    return parameter.has_grad() ? parameter.grad() : none;
  }
  try {
    return Tensor(values[number].grad());
  } catch (const Error&) {
    return none;
  }
}

}  // namespace unroll::testing
