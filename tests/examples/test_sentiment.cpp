#include <autograd/safetensors.h>
#include <examples/common/text.h>
#include <tests/examples/program.h>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

using namespace unroll::tests;

namespace {

using Arguments = std::vector<std::string>;

Outcome sentiment(const Arguments& arguments) { return Program(UNROLL_EXAMPLES_DIR "/sentiment", arguments).wait(); }

Arguments quick(const std::string& out, const Arguments& more) {
  Arguments all = {"--out", out, "--hidden", "8", "--embedding", "6", "--batch", "8", "--threads", "1"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// Text to label, of a file of reviews.
std::map<std::string, std::string> labels_in(const fs::path& path) {
  std::map<std::string, std::string> labels;
  std::istringstream in(content_of(path));
  for (std::string line; std::getline(in, line);) {
    const std::size_t tab = line.find('\t');
    REQUIRE(tab != line.npos);
    labels[line.substr(tab + 1)] = line.substr(0, tab);
  }
  return labels;
}

std::string sorted_words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words{std::istream_iterator<std::string>(in), {}};
  std::ranges::sort(words);
  std::string all;
  for (const std::string& word : words) all += word + " ";
  return all;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

/// What the grammar means, worked out again from the text: the opinion that counts, and whether it is turned round.
std::string meaning(std::string text) {
  static const std::set<std::string> praise = {"great",    "good",   "enjoyable", "brilliant",  "charming", "funny",
                                               "gripping", "clever", "wonderful", "delightful", "moving",   "superb"},
                                     blame = {"boring", "bad",         "dull",     "awful", "tedious", "clumsy",
                                              "silly",  "predictable", "dreadful", "weak",  "ugly",    "annoying"};
  if (const auto but = text.find(" but "); but != text.npos)
    text = text.substr(but);
  else if (const auto although = text.find("although "); although != text.npos) {
    const auto comma = text.find(" , ", although);  // in a sentence that begins with it, the verdict comes after
    text = comma != text.npos ? text.substr(comma) : text.substr(0, although);
  }
  std::istringstream in(text);
  bool negated = false;
  for (std::string word; in >> word;) {
    if (word == "not" || word == "never" || word == "hardly" || word == "no") negated = true;
    if (praise.contains(word)) return negated ? "negative" : "positive";
    if (blame.contains(word)) return negated ? "positive" : "negative";
  }
  return "none";
}

/// The pairs of adjectives that sentences of two opinions are made of.
std::set<std::string> pairs_of_opinions(const std::map<std::string, std::string>& reviews) {
  std::set<std::string> pairs;
  for (const auto& [text, label] : reviews) {
    std::istringstream in(text);
    std::set<std::string> found;
    for (std::string word; in >> word;)
      if (meaning(word) != "none") found.insert(word);
    if (found.size() == 2) pairs.insert(*found.begin() + " " + *found.rbegin());
  }
  return pairs;
}

/// Lines to learn from: the word "fine" or "poor" decides.
std::string lines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text +=
        (i % 2 == 0 ? "good\tthing " : "bad\tthing ") + std::to_string(i) + (i % 2 == 0 ? " is fine\n" : " is poor\n");
  return text;
}

}  // namespace

TEST_CASE("the sentences mean what their labels say, in pairs of the same words, and the test's are new") {
  Folder folder;
  const Outcome outcome = sentiment(quick(folder / "out", {"--steps", "2"}));
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  const auto training = labels_in(folder / "out/training.tsv"), validation = labels_in(folder / "out/validation.tsv"),
             test = labels_in(folder / "out/test.tsv");
  CHECK(training.size() == 9000);
  CHECK(validation.size() == 600);
  CHECK(test.size() == 1200);
  std::set<std::string> words;
  for (const auto& review : training) {
    const std::string &text = review.first, &label = review.second;
    REQUIRE_MESSAGE(meaning(text) == label, text);
    std::istringstream in(text);
    words.insert(std::istream_iterator<std::string>(in), {});
  }
  int contrasts = 0;
  std::map<std::string, int> balance;  // of each bag of words of a contrast
  for (const auto& review : test) {
    const std::string &text = review.first, &label = review.second;
    CAPTURE(text);
    REQUIRE(meaning(text) == label);
    CHECK_FALSE(training.contains(text));
    CHECK_FALSE(validation.contains(text));
    std::istringstream in(text);
    for (std::string word; in >> word;) CHECK(words.contains(word));
    if (contains(text, " but ") || contains(text, "although ")) {
      ++contrasts;
      balance[sorted_words(text)] += label == "positive" ? 1 : -1;
    }
  }
  for (const auto& [text, label] : validation) CHECK_FALSE(training.contains(text));
  CHECK(contrasts == 400);
  for (const auto& bag : balance) CHECK_MESSAGE(bag.second == 0, bag.first);

  const auto learned = pairs_of_opinions(training);
  CHECK(learned.size() > 100);
  for (const std::string& pair : pairs_of_opinions(test)) CHECK_MESSAGE(!learned.contains(pair), pair);
  CHECK_FALSE(std::ranges::any_of(training, [](const auto& review) {  // the first of each: a held-out pair
    return contains(review.first, "started off") && contains(review.first, "by the end");
  }));
}

TEST_CASE("the order of words is learned, a bag of words guesses, and the run leaves what it promises") {
  Folder folder;
  const std::string out = folder / "out";
  const Outcome outcome = sentiment(
      {"--out", out, "--threads", "1", "--steps", "600", "--hidden", "24", "--embedding", "16", "--rate", "0.008"});
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  const auto result = nlohmann::json::parse(outcome.last_line());
  CHECK(result["bag_of_words"]["contrast"] == 0.5);
  CHECK(result["bag_of_words"]["plain"].get<double>() > 0.85);
  for (const char* model : {"lstm", "bidirectional_lstm"}) {
    CAPTURE(model);
    for (const char* kind : {"all", "plain", "negation", "contrast"}) CHECK(result[model][kind].get<double>() > 0.9);
    CHECK(content_of(out + "/" + model + "/metrics.csv").starts_with("step,epoch,train_nats,validation_nats\n50,"));
  }
  for (const char* column : {"all", "plain", "negation", "contrast", "drift", "boring"})
    CHECK(contains(outcome.out, column));
  CHECK(content_of(out + "/accuracy.csv").starts_with(",all,plain,negation,contrast\nbag_of_words,"));
  CHECK(content_of(out + "/learning.csv").starts_with("step,bag_of_words,rnn,lstm,bidirectional_lstm\n250,"));
  CHECK(content_of(out + "/explain.csv").starts_with(",the,plot,started,off,"));
  CHECK(result["explained"]["label"] == "negative");

  // It explains any sentence, and leaves the run as it is. (An unknown word behind the verdict may change it: in
  // training none was, and what followed mattered.)
  const Outcome explained = sentiment({"--out", out, "--explain", "Zebedee, the film was hardly great"});
  REQUIRE_MESSAGE(explained.code == 0, explained.err);
  CHECK(contains(explained.out, "zebedee ?"));
  CHECK_FALSE(contains(explained.out, "film ?"));
  CHECK(nlohmann::json::parse(explained.last_line())["label"] == "negative");
  CHECK(fs::exists(out + "/accuracy.csv"));
  check_refused(sentiment({"--out", out, "--explain", " "}), "no words");
  check_refused(sentiment({"--out", out, "--explain", "\xe4"}), "not UTF-8");
  check_refused(sentiment({"--out", out, "--explain", "x", "--hidden", "9"}), "--hidden 9 does not fit");
  auto weights = unroll::read_safetensors(out + "/lstm/best.safetensors");
  weights.metadata.clear();
  unroll::write_safetensors(out + "/lstm/best.safetensors", weights);
  check_refused(sentiment({"--out", out, "--explain", "x"}), "does not hold weights of sentiment");

  // A new run puts it aside.
  REQUIRE(sentiment(quick(out, {"--steps", "2"})).code == 0);
  CHECK(fs::exists(out + "/earlier-1/lstm/best.safetensors"));
  CHECK(fs::exists(out + "/earlier-1/accuracy.csv"));
}

TEST_CASE("a run that was made longer, on any number of threads, has the bits of one that was not") {
  Folder folder;
  const Outcome whole = sentiment(quick(folder / "whole", {"--steps", "40", "--dropout", "0.2"}));
  REQUIRE_MESSAGE(whole.code == 0, whole.err);
  REQUIRE(sentiment(quick(folder / "parts", {"--steps", "15", "--dropout", "0.2"})).code == 0);
  const Outcome parts = sentiment({"--resume", "--out", folder / "parts", "--steps", "40", "--threads", "2"});
  REQUIRE_MESSAGE(parts.code == 0, parts.err);
  CHECK(parts.out == whole.out);
  for (const char* model : {"bag_of_words", "rnn", "lstm", "bidirectional_lstm"}) {
    CAPTURE(model);
    const std::string file = std::string("/") + model + "/checkpoint.safetensors";
    CHECK((content_of(folder / "whole" + file) == content_of(folder / "parts" + file)));
  }
  check_refused(sentiment({"--resume", "--out", folder / "nothing"}), "no run to resume");
  check_refused(sentiment({"--resume", "--out", folder / "parts", "--hidden", "9"}), "--hidden 9 does not fit");
}

TEST_CASE("the user's own file") {
  Folder folder;
  // With what editors add: a mark at the start, and the line ends of another system.
  std::string text = "\xef\xbb\xbf" + lines(200);
  for (std::size_t at = 0; (at = text.find('\n', at)) != text.npos; at += 2) text.replace(at, 1, "\r\n");
  const std::string good = folder.write("good.tsv", text);
  const Outcome outcome = sentiment(quick(folder / "out", {"--data", good, "--steps", "150", "--rate", "0.02"}));
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  const auto result = nlohmann::json::parse(outcome.last_line());
  CHECK(result["bag_of_words"]["all"] == 1);
  CHECK(result["lstm"]["all"] == 1);
  CHECK_FALSE(result["lstm"].contains("contrast"));
  const auto metadata = unroll::read_safetensors(folder / "out/lstm/best.safetensors").metadata;
  CHECK(metadata.at("labels") == R"(["bad","good"])");

  auto refused = [&](const std::string& content, const std::string& because) {
    check_refused(sentiment(quick(folder / "none", {"--data", folder.write("bad.tsv", content), "--steps", "2"})),
                  because);
  };
  refused("", "is empty");
  refused("\n\n", "no lines");
  refused("good\tfine\nbad", "line 2 of");
  refused("good\tfine\nbad", "has 1 column, not 2");
  refused("good\tfine\tvery\n", "has 3 columns, not 2");
  refused("good\tfine\n\tpoor\n", "has no label");
  refused("good\tfine\nbad\t \n", "has no text");
  refused("good\tfine\nbad\tna\xefve\n", "line 2 of");
  refused("good\tfine\nbad\tna\xefve\n", "not UTF-8");
  refused(std::string("\xff\xfeg\0\t\0", 6), "zero byte");
  refused("good\tfine\ngood\tvery fine\n", "only the label \"good\"");
  refused(lines(8), "too few");
  // A label that is in the test only, which the words of its one line decide.
  int number = 0;
  auto for_test = [&] {
    return std::stoull(unroll::examples::fingerprint(fmt::format("so so {}", number)), nullptr, 16) % 10 == 0;
  };
  while (!for_test()) ++number;
  refused(lines(200) + fmt::format("mixed\tSo so {}\n", number), "the label \"mixed\" in");
  refused(lines(200) + fmt::format("mixed\tSo so {}\n", number), "never seen in training");
  check_refused(sentiment({"--data", folder / "gone", "--out", folder / "none"}), "No such file");
  check_refused(sentiment({"--hidden", "0"}), "--hidden");
  check_refused(sentiment({"--rate", "nan"}), "--rate");
  check_refused(sentiment({"--no-such"}), "--no-such");
  CHECK_FALSE(fs::exists(folder / "none"));
}
