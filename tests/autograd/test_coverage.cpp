// No operation is without a row in one of the two tables: the public headers are read, as text, for what they declare.

#include <tests/autograd/operations.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <utility>

using namespace unroll::testing;

namespace {

const std::set<std::string> exceptions{
    "record",  // makes operations, of which each has its row
};

/// Operators by the names of their rows.
const std::map<std::string, std::string> operators{
    {"operator+", "add"},          {"operator-", "subtract"},     {"operator*", "multiply"},
    {"operator/", "divide"},       {"operator<", "comparisons"},  {"operator<=", "comparisons"},
    {"operator>", "comparisons"},  {"operator>=", "comparisons"}, {"operator==", "comparisons"},
    {"operator!=", "comparisons"},
};

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string without_comments(const std::string& text) {
  static const std::regex comments("//[^\\n]*|#[^\\n]*");
  return std::regex_replace(text, comments, "");
}

/// The declarations that stand directly in namespace unroll: no members, no bodies, nothing of unroll::detail.
std::vector<std::string> public_declarations(const std::string& header) {
  std::vector<std::string> declarations;
  std::string current;
  bool inside = false;
  int braces = 0, parentheses = 0;
  auto end_declaration = [&] {
    if (inside) declarations.push_back(std::exchange(current, {}));
    current.clear();
  };
  for (char c : without_comments(header)) {
    if (braces > 0) {  // a body, a class, a nested namespace, or "{}" as a default argument: skipped
      braces += c == '{' ? 1 : c == '}' ? -1 : 0;
    } else if (c == '{' && !inside && current == "namespace unroll ") {
      inside = true;
      current.clear();
    } else if (c == '{') {
      braces = 1;
      if (parentheses == 0) end_declaration();
    } else if (c == '}') {
      inside = false;
      current.clear();
    } else if (c == ';') {
      end_declaration();
    } else if (c != ' ' && c != '\n') {
      current += c;
      parentheses += c == '(' ? 1 : c == ')' ? -1 : 0;
    } else if (!current.empty() && current.back() != ' ') {
      current += ' ';
    }
  }
  return declarations;
}

/// The names of the operations that a header declares.
std::vector<std::string> operations_of(const std::string& header) {
  static const std::regex function(
      "(?:^|[ ])(?:Var|Affine<[^>]*>|std::array<Var, ?[^>]*>|std::vector<Var>|std::pair<Var, ?Var>) (\\w+) ?\\(.*"
      "Source where = Source::here\\(\\)");
  static const std::regex elementwise("requires Operands<.*auto (operator[^ (]+|\\w+) ?\\(");
  std::vector<std::string> names;
  for (const std::string& declaration : public_declarations(header)) {
    std::smatch match;
    if (std::regex_search(declaration, match, function) || std::regex_search(declaration, match, elementwise)) {
      auto named = operators.find(match[1]);
      names.push_back(named == operators.end() ? match[1].str() : named->second);
    }
  }
  return names;
}

}  // namespace

TEST_CASE("operations are found in headers, and nothing else") {
  const std::string header = R"(#pragma once
    namespace unroll { class Var; }
    namespace unroll {
    namespace detail { Var hidden(Source where = Source::here()); }
    /// Var commented(Source where = Source::here());
    Var one(const Var& x, Source where = Source::here());
    Var defaults(const Var& x, std::span<int> axes = {}, bool keep = false,
                 Source where = Source::here());
    template <std::size_t N>
    std::array<Var, N> many(const Var& x, Source where = Source::here()) { return { part(x, where) }; }
    inline Affine<1, 0> product(const Argument& a, Source where = Source::here()) { return {{a}, where}; }
    class Thing { Var member(Source where = Source::here()); };
    template <class A>
      requires Operands<A>
    auto wave(const A& a) { return apply<Wave>(a); }
    template <class A, class B>
      requires Operands<A, B> && (!detail::AffineSum<A, B>)
    auto operator+(const A& a, const B& b) { return apply<Add>(a, b); }
    Shape shape_only(const Shape& a, Source where = Source::here());
    })";
  CHECK(operations_of(header) == std::vector<std::string>{"one", "defaults", "many", "product", "wave", "add"});
}

TEST_CASE("every operation of the public headers has a row") {
  std::set<std::string> rows;
  auto add = [&](const std::string& name) { rows.insert(name.substr(0, name.find(' '))); };
  for (const auto& family : {reduction_rows(), loss_rows(), shape_rows(), linear_algebra_rows()})
    for (const OperationRow& row : family) add(row.name);
  for (const std::string& name : elementwise_names()) add(name);

  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(UNROLL_SOURCE_DIR) / "autograd")) {
    if (entry.path().extension() != ".h") continue;
    for (const std::string& name : operations_of(read(entry.path()))) {
      ++found;
      if (exceptions.count(name) == 0)
        CHECK_MESSAGE(rows.count(name) == 1, entry.path().filename(), " declares ", name, ", which has no row");
    }
  }
  CHECK(found >= 25);  // or the headers are no longer read as they are written
}
