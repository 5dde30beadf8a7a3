#include <autograd/error.h>
#include <examples/common/sentences.h>
#include <examples/common/words.h>

#include <doctest/doctest.h>

using namespace unroll;
using namespace unroll::examples;

using Words = std::vector<std::string>;

TEST_CASE("a text is split into words in lower case") {
  CHECK(split_words("Not bad, isn't it?") == Words{"not", "bad", ",", "isn't", "it", "?"});
  CHECK(split_words(" 2nd\tTIME\r\n(again)...") == Words{"2nd", "time", "(", "again", ")", ".", ".", "."});
  CHECK(split_words("na\xc3\xafve \xe2\x80\x9cit isn\xe2\x80\x99t\xe2\x80\x9d\xe2\x80\x94so") ==
        Words{"na\xc3\xafve", "\xe2\x80\x9c", "it", "isn't", "\xe2\x80\x9d", "\xe2\x80\x94", "so"});
  CHECK(split_words("").empty());
  CHECK(split_words(" \n").empty());
  CHECK_THROWS_WITH_AS(split_words("na\xefve"), doctest::Contains("not UTF-8"), Error);
}

TEST_CASE("a vocabulary counts words, cuts off the rare ones and survives its metadata") {
  const Words words = {"b", "a", "c", "b", "a", "b", "d"};
  const WordVocabulary all(words, {});
  CHECK(all.size() == 5);
  CHECK(all.to_json() == R"(["<unk>","b","a","c","d"])");
  CHECK(all.word(1) == "b");
  CHECK(all.encode({"d", "z", "a"}) == std::vector<std::int32_t>{4, WordVocabulary::unknown, 2});
  CHECK(WordVocabulary(words, {.least = 2}).to_json() == R"(["<unk>","b","a"])");
  CHECK(WordVocabulary(words, {.most = 3}).to_json() == R"(["<unk>","b","a","c"])");
  CHECK(WordVocabulary({"<unk>", "<unk>", "a"}, {}).to_json() == R"(["<unk>","a"])");

  const WordVocabulary back = WordVocabulary::from_json(all.to_json());
  CHECK(back.to_json() == all.to_json());
  CHECK(back.encode(words) == all.encode(words));
  for (const char* bad : {"", "[]", "{}", "[1]", R"(["a"])", R"(["<unk>","a","a"])", R"(["<unk>",1])", R"(["<unk>")"})
    CHECK_THROWS_AS(WordVocabulary::from_json(bad), Error);
}

TEST_CASE("sentences stand side by side, and a bag of words does not see their order or their padding") {
  const std::vector<Sentence> sentences = {{{1, 2, 3}, 0}, {{4}, 1}, {{3, 1, 2}, 1}};
  const SentenceBatch batch(sentences);
  CHECK(batch.steps == 3);
  CHECK(batch.words == std::vector<std::int32_t>{1, 4, 3, 2, 0, 1, 3, 0, 2});
  CHECK(batch.lengths == std::vector<Index>{3, 1, 3});
  CHECK(batch.labels == std::vector<std::int32_t>{0, 1, 1});

  Generator rng(1);
  BagOfWords bag(2, 4, rng, {});
  Tensor x({3, 3, 2});
  rng.fill_uniform(x, -1, 1);
  for (Index k : {0, 1}) {
    for (Index t : {0, 1, 2}) x.set({t, 2, k}, x.at({(t + 1) % 3, 0, k}));
    x.set({1, 1, k}, 7);  // padding
  }
  Tape tape;
  const Tensor y(bag(tape, tape.constant(x), batch.lengths).value());
  Tensor alone({1, 1, 2});
  for (Index k : {0, 1}) alone.set({0, 0, k}, x.at({0, 1, k}));
  const Tensor of_one(bag(tape, tape.constant(alone), std::vector<Index>{1}).value());
  for (Index j = 0; j < 4; ++j) {
    CHECK(y.at({0, j}) == doctest::Approx(y.at({2, j})).epsilon(1e-6));
    CHECK(y.at({1, j}) == doctest::Approx(of_one.at({0, j})).epsilon(1e-6));
    CHECK(y.at({0, j}) != doctest::Approx(y.at({1, j})).epsilon(1e-6));
  }
}

TEST_CASE("drawn sentences are some of those given, with a word unknown here and there") {
  std::vector<Sentence> sentences;
  for (std::int32_t i = 1; i <= 10; ++i) sentences.push_back({std::vector<std::int32_t>(20, i), i});
  const SentenceBatch batch = draw_batch(sentences, 500, Generator(1));
  REQUIRE(batch.count() == 500);
  int unknown = 0;
  for (std::size_t i = 0; i < batch.words.size(); ++i) {
    if (batch.words[i] == WordVocabulary::unknown)
      ++unknown;
    else
      CHECK(batch.words[i] == batch.labels[i % 500]);
  }
  CHECK(unknown > 100);  // of 10000, a fiftieth
  CHECK(unknown < 300);
  CHECK(draw_batch(sentences, 500, Generator(1)).words == batch.words);
  CHECK(draw_batch(sentences, 500, Generator(2)).words != batch.words);
}
