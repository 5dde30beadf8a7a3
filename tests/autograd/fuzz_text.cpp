// Random programs as text and as JSON, and how a failing one is made smaller.

#include <autograd/autograd.h>
#include <tests/autograd/fuzz.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

namespace unroll::testing {

namespace {

using Numbers = std::vector<std::size_t>;

bool is_leaf(const Instruction& instruction) { return instruction.operands.empty(); }

/// The statement with its letters replaced by the values' names.
std::string with_names(const std::string& text, const std::vector<int>& operands) {
  std::string result;
  auto is_word = [&](std::size_t i) { return i < text.size() && (std::isalnum(text[i]) != 0 || text[i] == '_'); };
  for (std::size_t i = 0; i < text.size(); ++i) {
    bool alone = text[i] >= 'a' && text[i] <= 'f' && !is_word(i + 1) && (i == 0 || !is_word(i - 1));
    if (alone)
      result += fmt::format("v{}", operands[static_cast<std::size_t>(text[i] - 'a')]);
    else
      result += text[i];
  }
  return result;
}

bool is_statement(const Instruction& instruction) {
  return with_names(instruction.operation->name, std::vector<int>(6)) != instruction.operation->name;
}

// --- Smaller programs -----------------------------------------------------------------------------------------------

/// The program without the values that no output depends on.
Program without_dead(const Program& program) {
  std::vector<int> number(program.instructions.size(), -1);
  std::vector<bool> needed(number.size());
  for (int output : program.outputs) needed[static_cast<std::size_t>(output)] = true;
  for (std::size_t i = number.size(); i-- > 0;)
    if (needed[i])
      for (int operand : program.instructions[i].operands) needed[static_cast<std::size_t>(operand)] = true;
  Program smaller{program.seed, {}, program.outputs};
  for (std::size_t i = 0; i < number.size(); ++i) {
    if (!needed[i]) continue;
    number[i] = static_cast<int>(smaller.instructions.size());
    smaller.instructions.push_back(program.instructions[i]);
    for (int& operand : smaller.instructions.back().operands) operand = number[static_cast<std::size_t>(operand)];
  }
  for (int& output : smaller.outputs) output = number[static_cast<std::size_t>(output)];
  return smaller;
}

/// Programs that are a little simpler than this one.
std::vector<Program> simpler(const Program& program) {
  std::vector<Program> result;
  for (std::size_t k = 0; k < program.outputs.size(); ++k) {
    if (program.outputs.size() > 1) {
      result.push_back(program);
      result.back().outputs.erase(result.back().outputs.begin() + static_cast<std::ptrdiff_t>(k));
    }
    for (int operand : program.instructions[static_cast<std::size_t>(program.outputs[k])].operands) {
      result.push_back(program);
      result.back().outputs[k] = operand;
    }
  }
  for (std::size_t i = program.instructions.size(); i-- > 0;) {
    const Instruction& instruction = program.instructions[i];
    if (instruction.keep_grad) {
      result.push_back(program);
      result.back().instructions[i].keep_grad = false;
    }
    if (is_leaf(instruction)) continue;
    Instruction leaf;
    leaf.operation = &fuzz_operation("variable");
    leaf.shape = instruction.shape;
    leaf.numbers = {static_cast<Index>(i) + 1000};
    result.push_back(program);
    result.back().instructions[i] = leaf;
    // What uses the value uses an earlier one of its shape instead.
    for (std::size_t j = 0; j < i; ++j) {
      if (program.instructions[j].shape != instruction.shape) continue;
      result.push_back(program);
      for (Instruction& user : result.back().instructions)
        std::ranges::replace(user.operands, static_cast<int>(i), static_cast<int>(j));
      std::ranges::replace(result.back().outputs, static_cast<int>(i), static_cast<int>(j));
      break;
    }
  }
  return result;
}

// --- JSON -----------------------------------------------------------------------------------------------------------

std::string json(const TensorView& tensor) {
  std::string text = "[";
  for (double v : tensor.to_vector()) text += fmt::format("{}{:.17g}", text.size() == 1 ? "" : ",", v);
  return text + "]";
}

}  // namespace

std::string to_string(const Program& program) {
  std::string text;
  for (std::size_t i = 0; i < program.instructions.size(); ++i) {
    const Instruction& instruction = program.instructions[i];
    text += fmt::format("  v{} = ", i);
    if (is_leaf(instruction))
      text += instruction.operation->name;
    else if (is_statement(instruction))
      text += with_names(instruction.operation->name, instruction.operands);
    else if (instruction.numbers.empty())
      text += fmt::format("{}(v{})", instruction.operation->name, fmt::join(instruction.operands, ", v"));
    else
      text += fmt::format("{}(v{}; {})", instruction.operation->name, fmt::join(instruction.operands, ", v"),
                          fmt::join(instruction.numbers, ", "));
    text += fmt::format("{}  {}\n", instruction.keep_grad ? ", its gradient kept" : "", instruction.shape);
  }
  for (std::size_t k = 0; k < program.outputs.size(); ++k)
    text += fmt::format("  backward(v{}{})\n", program.outputs[k], program.seed_of(k) ? ", a seed" : "");
  return text;
}

std::string to_json(const Program& program) {
  Inputs inputs(program);
  Tape tape;
  Vars values = record(program, inputs, tape);
  sweep(program, values, tape);
  std::string text = fmt::format("{{\"seed\":{},\"instructions\":[", program.seed);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Instruction& instruction = program.instructions[i];
    const bool trainable = std::ranges::count(inputs.trainable, i) > 0;
    text += fmt::format("{}{{\"operation\":\"{}\",\"statement\":{},\"operands\":[{}],\"numbers\":[{}],\"shape\":[{}]",
                        i == 0 ? "" : ",", instruction.operation->name, is_statement(instruction),
                        fmt::join(instruction.operands, ","), fmt::join(instruction.numbers, ","),
                        fmt::join(instruction.shape.sizes(), ","));
    text += fmt::format(",\"value\":{}", json(values[i].value()));
    if (trainable || instruction.keep_grad)
      text += fmt::format(",\"gradient\":{}", json(gradient(program, inputs, values, i)));
    text += "}";
  }
  text += "],\"outputs\":[";
  for (std::size_t k = 0; k < program.outputs.size(); ++k) {
    std::optional<Tensor> seed = program.seed_of(k);
    text += fmt::format(
        "{}{{\"value\":{},\"seed\":{}}}", k == 0 ? "" : ",", program.outputs[k],
        json(seed ? *seed : Tensor::full(values[static_cast<std::size_t>(program.outputs[k])].shape(), 1, float64)));
  }
  return text + "]}";
}

Program shrink(Program program, const std::function<bool(const Program&)>& fails) {
  int tries = 1000;
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (const Program& candidate : simpler(program)) {
      Program next = without_dead(candidate);
      if (--tries < 0) return program;
      if (!fails(next)) continue;
      program = next;
      smaller = true;
      break;
    }
  }
  return program;
}

}  // namespace unroll::testing
