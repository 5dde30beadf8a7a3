// What watch.h says of a tape in words: formulas, a drawing, a summary.

#include <autograd/statement.h>
#include <autograd/watch.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

namespace unroll::detail {

namespace {

/// A piece of a formula and how tightly its outermost operation binds.
struct Piece {
  std::string text;
  int binding;  // 1 comparisons, 2 sums, 3 products, 4 all else
};

struct Infix {
  std::string_view name, sign;
  int binding;
};
constexpr Infix infixes[] = {
    {"Add", "+", 2},        {"Subtract", "-", 2}, {"Multiply", "*", 3},      {"Divide", "/", 3}, {"Less", "<", 1},
    {"LessEqual", "<=", 1}, {"Greater", ">", 1},  {"GreaterEqual", ">=", 1}, {"Equal", "==", 1}, {"NotEqual", "!=", 1},
};

/// "LogSigmoid" as the function is called: "log_sigmoid".
std::string function_name(std::string_view name) {
  if (name == "Choose") return "where";
  if (name == "Power") return "pow";
  std::string text;
  for (char c : name) {
    if (std::isupper(static_cast<unsigned char>(c)) && !text.empty()) text += '_';
    text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return text;
}

std::string in_brackets(const Piece& piece, int binding) {
  return piece.binding < binding ? fmt::format("({})", piece.text) : piece.text;
}

Piece combine(const Token& token, std::span<const Piece> operands) {
  if (operands.size() == 2)
    for (const Infix& infix : infixes)
      if (infix.name == token.name)
        return {fmt::format("{} {} {}", in_brackets(operands[0], infix.binding), infix.sign,
                            in_brackets(operands[1], infix.binding + 1)),
                infix.binding};
  if (token.name == "Negate") return {fmt::format("-{}", in_brackets(operands[0], 3)), 3};
  std::string list;
  for (const Piece& operand : operands) list += fmt::format("{}{}", list.empty() ? "" : ", ", operand.text);
  return {fmt::format("{}({})", function_name(token.name), list), 4};
}

std::string name_of_input(std::size_t k) {
  return k < 26 ? std::string(1, static_cast<char>('a' + k)) : fmt::format("x{}", k);
}

/// What nodes have in common that unrolled steps repeat.
struct Group {
  const Operation* operation;
  const char* file;
  int line;
  std::string shape;
  auto operator<=>(const Group&) const = default;
};

std::string label(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  std::string shape = fmt::format("{}", node.layout->shape);
  if (node.is_parameter) {
    const std::string& name = static_cast<const Parameter*>(node.payload)->name();
    return fmt::format("{}\\n{}", name.empty() ? "parameter" : name, shape);
  }
  std::string what = node.operation == nullptr ? (node.needs_grad ? "variable" : "constant") : formula(graph, id);
  return fmt::format("{}\\n{}\\n{}", what, shape, short_location(node.source()));
}

std::string escaped(const std::string& text) {
  std::string result;
  for (char c : text) {
    if (c == '"') result += '\\';
    result += c;
  }
  return result;
}

}  // namespace

std::string formula(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  if (node.operation->backward != statement_backward) return node.operation->name;
  const auto& statement = *reinterpret_cast<const Statement*>(node.operation);
  std::span<const double> constants = statement_constants(graph, id);
  std::vector<Piece> stack;
  std::size_t inputs = 0, constant = 0;
  std::map<NodeId, std::string> names;  // an operand used twice has one name
  for (const Token& token : statement.tokens) {
    if (token.name.empty()) {
      NodeId input = node.inputs != nullptr ? node.inputs[inputs] : static_cast<NodeId>(inputs);
      ++inputs;
      stack.push_back({names.try_emplace(input, name_of_input(names.size())).first->second, 4});
    } else if (token.name == "#") {
      stack.push_back({constant < constants.size() ? fmt::format("{:.6g}", constants[constant]) : "k", 4});
      ++constant;
    } else {
      auto n = static_cast<std::size_t>(token.operands);
      Piece piece = combine(token, std::span(stack).last(n));
      stack.resize(stack.size() - n);
      stack.push_back(std::move(piece));
    }
  }
  return stack.back().text;
}

std::string to_dot(const Graph& graph, bool fold) {
  std::map<Group, std::size_t> groups;
  std::vector<std::size_t> number(graph.size());
  struct Box {
    NodeId first;
    Index count;
  };
  std::vector<Box> boxes;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (!node.is_base(id)) continue;  // a view is drawn as what it looks at
    std::size_t box = boxes.size();
    if (fold && node.operation != nullptr) {
      Group group{node.operation, node.file, node.line, fmt::format("{}", node.layout->shape)};
      box = groups.try_emplace(group, box).first->second;
    }
    if (box == boxes.size()) boxes.push_back({id, 0});
    ++boxes[box].count;
    number[id] = box;
  }
  std::string text = "digraph tape {\n  rankdir=TB;\n  node [shape=box, fontname=\"monospace\", fontsize=10];\n";
  for (std::size_t box = 0; box < boxes.size(); ++box) {
    const Node& node = graph.node(boxes[box].first);
    const char* style = node.is_parameter           ? ", style=filled, fillcolor=\"#cfe2f3\""
                        : node.operation == nullptr ? ", style=filled, fillcolor=\"#eeeeee\""
                                                    : "";
    std::string times = boxes[box].count > 1 ? fmt::format("\\n{} times", boxes[box].count) : "";
    text += fmt::format("  n{} [label=\"{}{}\"{}];\n", box, escaped(label(graph, boxes[box].first)), times, style);
  }
  std::set<std::pair<std::size_t, std::size_t>> edges;
  for (NodeId id = 0; id < graph.size(); ++id)
    for (NodeId input : graph.node(id).input_ids())
      edges.emplace(number[graph.node(input).base], number[graph.node(id).base]);
  for (const auto& [from, to] : edges) text += fmt::format("  n{} -> n{};\n", from, to);
  return text + "}\n";
}

std::string summary(const Graph& graph) {
  struct Row {
    std::string what, shape, where;
    Index count = 0;
    std::size_t bytes = 0;
  };
  std::map<Group, Row> rows;
  Index parameters = 0, learned = 0;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (node.is_parameter) {
      ++parameters;
      learned += node.count();
      continue;
    }
    Group group{node.operation, node.file, node.line, fmt::format("{}", node.layout->shape)};
    Row& row = rows[group];
    if (row.count++ == 0)
      row = {node.operation == nullptr ? "leaf" : formula(graph, id), group.shape, short_location(node.source()), 1, 0};
    if (node.is_base(id)) row.bytes += node.bytes();
  }
  std::vector<Row> sorted;
  for (auto& [group, row] : rows) sorted.push_back(std::move(row));
  std::ranges::stable_sort(sorted, std::greater(), &Row::bytes);
  std::string text = fmt::format("{} values, {} parameters with {} numbers; {:.2f} MB in use, {:.2f} MB held\n",
                                 graph.size(), parameters, learned, static_cast<double>(graph.bytes_in_use()) / 1e6,
                                 static_cast<double>(graph.bytes_held()) / 1e6);
  text += fmt::format("{:<44} {:<18} {:<20} {:>7} {:>9}\n", "operation", "shape", "line", "times", "MB");
  for (const Row& row : sorted) {
    std::string what = row.what.size() > 44 ? row.what.substr(0, 41) + "..." : row.what;
    text += fmt::format("{:<44} {:<18} {:<20} {:>7} {:>9.3f}\n", what, row.shape, row.where, row.count,
                        static_cast<double>(row.bytes) / 1e6);
  }
  return text;
}

}  // namespace unroll::detail
