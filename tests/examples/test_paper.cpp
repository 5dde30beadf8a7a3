#include <examples/long_memory/paper_tasks.h>
#include <tests/examples/program.h>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

using namespace unroll::tests;
using namespace unroll::examples::paper;
using unroll::Generator;
using unroll::Index;

namespace {

using Arguments = std::vector<std::string>;

Outcome paper(const Arguments& arguments) { return Program(UNROLL_EXAMPLES_DIR "/long_memory", arguments).wait(); }

Experiment experiment(const std::string& name) {
  for (Experiment& e : experiments(Generator(1)))
    if (e.name == name) return e;
  throw std::runtime_error("there is no experiment " + name);
}

/// The symbols that sequence n has at each of its steps, of tensors in the 1-of-n code.
std::string symbols_of(const unroll::Tensor& tensor, Index n, Index steps, const std::string& alphabet) {
  std::string found;
  for (Index t = 0; t < steps; ++t) {
    Index ones = 0;
    for (Index k = 0; k < std::ssize(alphabet); ++k)
      if (tensor.at({t, n, k}) != 0) {
        found += alphabet[static_cast<std::size_t>(k)];
        ++ones;
      }
    REQUIRE(ones == 1);
  }
  return found;
}

/// What may follow the beginning of an embedded Reber string, found by trying all that the grammar's rules
///
///     S -> B T R T E | B P R P E      R -> B T t | B P p      t -> S t | X u      u -> X p | S E
///     p -> T p | V v                  v -> P u | V E
///
/// can do with it; "" if nothing may, or if it is no beginning.
std::string legal_after(const std::string& begun) {
  if (begun.size() < 2) return begun.empty() ? "B" : "TP";
  const char outer = begun[1];
  std::string state = "R";
  for (char symbol : begun.substr(2)) {
    static const std::vector<std::pair<std::string, std::string>> rules = {
        {"R B", "b"}, {"b T", "t"}, {"b P", "p"}, {"t S", "t"}, {"t X", "u"}, {"u X", "p"},
        {"u S", "e"}, {"p T", "p"}, {"p V", "v"}, {"v P", "u"}, {"v V", "e"}, {"e E", "o"}};
    const auto rule = std::ranges::find(rules, state + " " + symbol, [](const auto& r) { return r.first; });
    if (rule != rules.end())
      state = rule->second;
    else if (state == "o" && symbol == outer)
      state = "end";
    else if (state == "end" && symbol == 'E')
      state = "done";
    else
      return "";
  }
  if (state == "R") return "B";
  if (state == "b") return "TP";
  if (state == "t") return "SX";
  if (state == "u") return "XS";
  if (state == "p") return "TV";
  if (state == "v") return "PV";
  if (state == "e" || state == "end") return "E";
  return state == "o" ? std::string(1, outer) : "";
}

}  // namespace

TEST_CASE("strings of the embedded Reber grammar, each with all its legal successors") {
  const Experiment e = experiment("reber");
  const Sequences& all = e.examined.value();
  REQUIRE(all.lengths.size() == 512);
  std::set<std::string> trained, tested, both_ways;
  for (Index n = 0; n < 512; ++n) {
    const Index steps = all.lengths[static_cast<std::size_t>(n)];
    const std::string read = symbols_of(all.x, n, steps, "BTPSXVE"),
                      next = symbols_of(all.targets, n, steps, "BTPSXVE");
    REQUIRE(read.substr(1) == next.substr(0, next.size() - 1));
    const std::string whole = read + next.back();
    CHECK(whole.size() >= 9);
    CHECK(whole[1] == whole[whole.size() - 2]);
    CHECK(legal_after(whole) == "");
    for (Index t = 0; t < steps; ++t) {
      std::string legal;
      for (Index k = 0; k < 7; ++k)
        if (all.legal.at({t, n, k}) == 1) legal += "BTPSXVE"[k];
      std::string expected = legal_after(read.substr(0, static_cast<std::size_t>(t) + 1));
      std::ranges::sort(legal);
      std::ranges::sort(expected);
      REQUIRE(legal == expected);
      REQUIRE(legal.find(next[static_cast<std::size_t>(t)]) != legal.npos);
    }
    (n < 256 ? trained : tested).insert(whole);
    both_ways.insert(whole.substr(1, 1));
  }
  CHECK(trained.size() > 50);  // short strings come often
  CHECK(tested.size() > 50);
  CHECK(std::ranges::none_of(tested, [&](const std::string& s) { return trained.contains(s); }));
  CHECK(both_ways.size() == 2);

  Generator rng(2);
  const Sequences drawn = e.draw(300, rng);
  for (Index n = 0; n < 300; ++n) {
    const Index steps = drawn.lengths[static_cast<std::size_t>(n)];
    REQUIRE(trained.contains(symbols_of(drawn.x, n, steps, "BTPSXVE") + 'E'));
  }
}

TEST_CASE("an answer is right where every legal successor outranks every illegal one") {
  Sequences s{unroll::Tensor({2, 1, 3}), {2}, unroll::Tensor({2, 1, 3}), unroll::Tensor({2, 1, 3}, {1, 1, 0, 0, 0, 1})};
  const auto error = [&](std::initializer_list<double> outputs) {
    return errors_of(unroll::Tensor({2, 1, 3}, outputs, unroll::float64), s)[0];
  };
  CHECK(error({.5, .4, .3, .1, .2, .9}) == doctest::Approx(-.1));
  CHECK(error({.5, .2, .3, .1, .2, .9}) == doctest::Approx(.1));
  CHECK(error({.5, .4, .3, .1, .9, .2}) == doctest::Approx(.7));
  s.lengths = {1};  // what is past the end counts for nothing
  CHECK(error({.5, .4, .3, .1, .9, .2}) == doctest::Approx(-.1));
  s.legal = unroll::Tensor();
  CHECK(error({.5, .4, -.6, .1, .9, .2}) == doctest::Approx(.6));

  const Criterion strict{.tolerance = 0.5, .mean_error = 0.2}, lenient{.tolerance = 0.5, .most_wrong = 1};
  CHECK(strict.met({0.4, 0, 0.1}));
  CHECK_FALSE(strict.met({0.4, 0.2, 0.1}));
  CHECK_FALSE(strict.met({0.5, 0, 0}));
  CHECK(lenient.met({0.5, 0.4, 0.4}));
  CHECK_FALSE(lenient.met({0.5, 0.4, 0.6}));
}

TEST_CASE("the long lag: two sequences, and the first symbol comes again at the end") {
  const Experiment e = experiment("long-lag");
  Generator rng(1);
  const Sequences drawn = e.draw(40, rng);
  Index with_x = 0;
  for (Index n = 0; n < 40; ++n) {
    CHECK(drawn.lengths[static_cast<std::size_t>(n)] == 100);
    const Index last = drawn.targets.at({99, n, 99}) == 1 ? 99 : 100;
    with_x += last - 99;
    for (Index t = 0; t < 100; ++t)
      for (Index k = 0; k < 101; ++k) {
        REQUIRE(drawn.x.at({t, n, k}) == (k == (t == 0 ? last : t - 1) ? 1 : 0));
        REQUIRE(drawn.targets.at({t, n, k}) == (k == (t == 99 ? last : t) ? 1 : 0));
      }
  }
  CHECK(with_x > 8);
  CHECK(with_x < 32);
  REQUIRE(e.examined->lengths.size() == 2);
  CHECK(e.examined->x.at({0, 0, 99}) == 1);
  CHECK(e.examined->x.at({0, 1, 100}) == 1);
}

TEST_CASE("two sequences: three ones or minus ones, then noise of variance 0.2") {
  Generator rng(1);
  const Sequences s = experiment("two-sequence").draw(300, rng);
  double sum = 0, square = 0, count = 0, first_class = 0;
  for (Index n = 0; n < 300; ++n) {
    const Index length = s.lengths[static_cast<std::size_t>(n)];
    const double target = s.targets.at({n, 0});
    first_class += target;
    for (Index t = 0; t < s.x.shape()[0]; ++t) {
      const double x = s.x.at({t, n, 0});
      if (t < 3) REQUIRE(x == (target == 1 ? 1 : -1));
      if (t >= length) REQUIRE(x == 0);
      if (t < 3 || t >= length) continue;
      sum += x;
      square += x * x;
      count += 1;
    }
  }
  CHECK(first_class / 300 == doctest::Approx(0.5).epsilon(0.2));
  CHECK(std::abs(sum / count) < 0.02);
  CHECK(square / count == doctest::Approx(0.2).epsilon(0.03));
  CHECK(std::ranges::minmax(s.lengths).min == 100);
  CHECK(std::ranges::minmax(s.lengths).max == 110);
}

TEST_CASE("adding and multiplication: two marks, and what is to be made of the numbers there") {
  for (const std::string name : {"adding-100", "adding-500", "adding-1000", "multiplication-140"}) {
    CAPTURE(name);
    const bool add = name.starts_with("adding");
    const Index T = add ? std::stoi(name.substr(7)) : 100, count = T == 100 ? 2000 : 200;
    Generator rng(1);
    const Sequences s = experiment(name).draw(count, rng);
    const auto [shortest, longest] = std::ranges::minmax(s.lengths);
    CHECK(shortest >= T);
    CHECK(shortest <= T + T / 20);
    CHECK(longest <= T + T / 10);
    CHECK(longest >= T + T / 20);
    Index first_marked = 0;
    double least = 1;
    for (Index n = 0; n < count; ++n) {
      const Index length = s.lengths[static_cast<std::size_t>(n)];
      std::vector<Index> marked;
      for (Index t = 0; t < length; ++t) {
        const double x = s.x.at({t, n, 0}), mark = s.x.at({t, n, 1});
        REQUIRE(x >= (add ? -1 : 0));
        REQUIRE(x <= 1);
        least = std::min(least, x);
        if (mark == 1) marked.push_back(t);
        if (mark != 1) REQUIRE(mark == (t == 0 || t == length - 1 ? -1 : 0));
      }
      REQUIRE(marked.size() <= 2);
      if (marked.size() == 1) {  // the other was the first pair, which changes nothing
        ++first_marked;
        REQUIRE(s.x.at({0, n, 0}) == (add ? 0 : 1));
      }
      if (marked.size() == 2) REQUIRE(marked[0] < 10);
      REQUIRE(marked.back() <= T / 2 - 1);
      double sum = 0, product = 1;
      for (Index t : marked) {
        sum += s.x.at({t, n, 0});
        product *= s.x.at({t, n, 0});
      }
      REQUIRE(s.targets.at({n, 0}) == doctest::Approx(add ? 0.5 + sum / 4 : product));
    }
    CHECK(least < (add ? -0.99 : 0.01));
    // The first of the ten with a probability of 1/10, else by the second mark with one of 1 / (T/2 - 1).
    const double rate = 0.1 + 0.9 / (static_cast<double>(T) / 2 - 1);
    CHECK(static_cast<double>(first_marked) / static_cast<double>(count) ==
          doctest::Approx(rate).epsilon(T == 100 ? 0.2 : 0.5));
  }
}

TEST_CASE("temporal order: the class is the order of the X and Y among other symbols") {
  for (const Index classes : {4, 8}) {
    const std::vector<std::pair<Index, Index>> places =
        classes == 4 ? std::vector<std::pair<Index, Index>>{{10, 20}, {50, 60}}
                     : std::vector<std::pair<Index, Index>>{{10, 20}, {33, 43}, {66, 76}};
    Generator rng(1);
    const Sequences s = experiment(classes == 4 ? "temporal-order-4" : "temporal-order-8").draw(400, rng);
    std::set<std::pair<std::size_t, Index>> positions;
    std::set<Index> seen;
    for (Index n = 0; n < 400; ++n) {
      const Index length = s.lengths[static_cast<std::size_t>(n)];
      REQUIRE(length >= 100);
      REQUIRE(length <= 110);
      const std::string read = symbols_of(s.x, n, length, "EBabcdXY");
      CHECK(read.front() == 'E');
      CHECK(read.back() == 'B');
      Index order = 0;
      std::size_t found = 0;
      for (std::size_t t = 1; t + 1 < read.size(); ++t) {
        if (std::string("abcd").find(read[t]) != std::string::npos) continue;
        REQUIRE((read[t] == 'X' || read[t] == 'Y'));
        REQUIRE(found < places.size());
        REQUIRE(static_cast<Index>(t) >= places[found].first);
        REQUIRE(static_cast<Index>(t) <= places[found].second);
        positions.insert({found++, static_cast<Index>(t)});
        order = 2 * order + (read[t] == 'Y' ? 1 : 0);
      }
      REQUIRE(found == places.size());
      seen.insert(order);
      for (Index k = 0; k < classes; ++k) REQUIRE(s.targets.at({n, k}) == (k == order ? 1 : 0));
    }
    CHECK(std::ssize(seen) == classes);
    CHECK(positions.size() == 11 * places.size());
  }
}

TEST_CASE("the experiments are reproduced with the criterion of the paper, in fewer sequences") {
  Folder folder;
  const auto run = [&](const std::string& threads) {
    return paper({"--paper", "reber,two-sequence", "--trials", "1", "--out", folder / "out", "--threads", threads});
  };
  const Outcome outcome = run("1");
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  const auto result = nlohmann::json::parse(outcome.last_line());
  CHECK(result.size() == 2);
  CHECK(result["reber"]["sequences"][0] < 8440);
  CHECK(result["two-sequence"]["sequences"][0] < 39850);
  CHECK(result["two-sequence"]["wrong"][0] < 100);
  CHECK(outcome.out.find("\nembedded Reber grammar          8440 ") != std::string::npos);
  const std::string csv = content_of(folder / "out/paper.csv");
  CHECK(csv.starts_with("experiment,paper_sequences,sequences,failed,paper_wrong,wrong,units,weights\nreber,8440,"));
  CHECK(std::ranges::count(csv, '\n') == 3);
  const Outcome again = run("2");
  CHECK(again.out == outcome.out);
  CHECK(again.err.find("earlier-1") != std::string::npos);
  CHECK(content_of(folder / "out/earlier-1/paper.csv") == csv);
}

TEST_CASE("what is not learned within the limit is said to be so, and can be gone on with, with the same bits") {
  Folder folder;
  const auto run = [&](const std::string& out, const std::string& sequences, const Arguments& more) {
    Arguments all = {"--paper", "temporal-order-4", "reber", "--trials", "1", "--out", folder / out};
    all.insert(all.end(), {"--sequences", sequences});
    all.insert(all.end(), more.begin(), more.end());
    return paper(all);
  };
  const Outcome through = run("through", "640", {});
  REQUIRE_MESSAGE(through.code == 0, through.err);
  CHECK(through.out.find("1 of 1 not within 640") != std::string::npos);
  const auto result = nlohmann::json::parse(through.last_line());
  CHECK(result["reber"]["not_within"] == 640);
  CHECK(result["reber"]["sequences"].empty());
  REQUIRE(run("parts", "320", {}).code == 0);
  CHECK(content_of(folder / "parts/paper-reber-1.safetensors") !=
        content_of(folder / "through/paper-reber-1.safetensors"));
  CHECK(run("parts", "640", {"--resume"}).out == through.out);
  for (const std::string file : {"paper.csv", "paper-reber-1.safetensors", "paper-temporal-order-4-1.safetensors"})
    CHECK_MESSAGE(content_of(folder / ("parts/" + file)) == content_of(folder / ("through/" + file)), file);
  CHECK_FALSE(fs::exists(folder / "parts/earlier-1"));

  check_refused(run("parts", "640", {"--resume", "--seed", "2"}), "seed");
}

TEST_CASE("a signal stops it, and all is saved") {
  Folder folder;
  const std::string file = folder / "out/paper-multiplication-13-1.safetensors";
  Program run(UNROLL_EXAMPLES_DIR "/long_memory", {"--paper", "multiplication-13", "--out", folder / "out"});
  REQUIRE(wait_until([&] { return fs::exists(folder / "out"); }));
  run.signal(SIGINT);
  const Outcome outcome = run.wait();
  CHECK(outcome.code == 130);
  CHECK(outcome.err.find("stopped in multiplication-13 after ") != std::string::npos);
  CHECK(fs::exists(file));
}

TEST_CASE("bad input is one clear line") {
  Folder folder;
  check_refused(paper({"--paper", "chess"}), "chess");
  check_refused(paper({"--paper", "reber", "--rate", "0.1"}), "--paper");
  check_refused(paper({"--paper", "--task", "copy"}), "--paper");
  check_refused(paper({"--paper", "reber", "--trials", "0"}), "--trials");
  check_refused(paper({"--paper", "reber", "--sequences", "-1"}), "--sequences");
  check_refused(paper({"--sequences", "100"}), "--paper");
  check_refused(paper({"--paper", "reber", "--resume", "--out", folder / "none"}), "no run to resume");
  CHECK_FALSE(fs::exists(folder / "none"));
  check_refused(paper({"--paper", "reber", "--out", folder.write("file", "x")}), "cannot be made");
}
