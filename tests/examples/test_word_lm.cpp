#include <autograd/safetensors.h>
#include <tests/examples/program.h>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>

using namespace unroll::tests;

namespace {

using Arguments = std::vector<std::string>;

Outcome word_lm(const Arguments& arguments) { return Program(UNROLL_EXAMPLES_DIR "/word_lm", arguments).wait(); }

/// Sentences in which the last word follows from the first two, and a word that occurs once.
std::string sentences() {
  const char *subjects[] = {"the cat", "a dog", "the fish", "every bird"},
             *deeds[] = {"drinks milk .", "eats bones .", "swims far .", "sings well ."};
  std::string text = "Hapax .\n";
  for (int i = 0; i < 400; ++i) text += std::string(subjects[i * 7 % 4]) + " often " + deeds[i * 7 % 4] + "\n";
  return text;
}

Arguments quick(const Folder& folder, const std::string& out, const Arguments& more) {
  Arguments all = {"--data",   folder.write("text.txt", sentences()),
                   "--out",    folder / out,
                   "--hidden", "16",
                   "--layers", "1",
                   "--batch",  "4",
                   "--window", "10",
                   "--length", "12"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

double perplexity(const Outcome& outcome) {
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  return nlohmann::json::parse(outcome.last_line())["validation_perplexity"].get<double>();
}

}  // namespace

TEST_CASE("tied and untied, with and without dropout, it learns what follows") {
  Folder folder;
  // Three of four words follow from those before; the first of a sentence can be any of four in a fixed order.
  CHECK(perplexity(word_lm(quick(folder, "tied", {"--steps", "250"}))) < 4);
  CHECK(perplexity(word_lm(quick(folder, "untied", {"--steps", "250", "--head", "untied", "--cell", "gru"}))) < 4);
  CHECK(perplexity(word_lm(
            quick(folder, "dropped", {"--steps", "250", "--dropout", "0.1", "--recurrent-dropout", "0.1"}))) < 8);
  const auto tied = unroll::read_safetensors(folder / "tied" + "/best.safetensors");
  CHECK(tied.metadata.at("head") == "tied");
  CHECK(tied.tensors.contains("embedding.weight"));
  CHECK_FALSE(tied.tensors.contains("head.weight"));
  // The once seen word is cut off, and so is nothing else.
  const auto words = nlohmann::json::parse(tied.metadata.at("words"));
  CHECK(words.size() == 1 + 7 + 1 + 8 + 1);
  CHECK(words[0] == "<unk>");
  CHECK(std::ranges::find(words, "hapax") == words.end());

  const Outcome sample =
      word_lm({"--sample", "--out", folder / "tied", "--prompt", "The cat", "--length", "4", "--temperature", "0"});
  REQUIRE_MESSAGE(sample.code == 0, sample.err);
  CHECK(sample.out == "the cat often drinks milk .\n");
}

TEST_CASE("stopped and resumed, with dropout, the same bits as in one go; the rate falls with the epochs") {
  Folder folder;
  const Arguments more = {"--dropout", "0.2", "--recurrent-dropout", "0.1", "--decay-after", "1"};
  auto with = [&](const std::string& out, Arguments arguments) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return quick(folder, out, arguments);
  };
  const Outcome whole = word_lm(with("whole", {"--steps", "120"}));
  REQUIRE_MESSAGE(whole.code == 0, whole.err);
  REQUIRE(word_lm(with("parts", {"--steps", "70"})).code == 0);
  const Outcome resumed = word_lm({"--resume", "--out", folder / "parts", "--steps", "120"});
  REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
  for (const char* name : {"best.safetensors", "metrics.csv"})
    CHECK((content_of(folder / "whole" + "/" + name) == content_of(folder / "parts" + "/" + name)));

  const Outcome fixed_rate = word_lm(
      quick(folder, "fixed", {"--steps", "120", "--dropout", "0.2", "--recurrent-dropout", "0.1", "--decay", "1"}));
  CHECK(perplexity(fixed_rate) != perplexity(whole));
}

TEST_CASE("bad input gets one line") {
  Folder folder;
  auto refused = [](const Arguments& arguments, const std::string& because) {
    check_refused(word_lm(arguments), because);
  };
  const std::string out = folder / "out";
  refused({"--out", out, "--data", folder / "missing.txt"}, "missing.txt");
  refused({"--out", out, "--data", folder.write("latin1.txt", "caf\xe9 au lait")}, "not UTF-8");
  refused({"--out", out, "--data", folder.write("short.txt", "too short")}, "tokens are too few");
  refused({"--out", out, "--head", "other"}, "--head");
  refused({"--sample", "--out", folder / "nowhere"}, "nowhere");
}
