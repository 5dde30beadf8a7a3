#include <autograd/error.h>
#include <autograd/file.h>
#include <examples/common/console.h>
#include <examples/common/text.h>
#include <examples/common/words.h>
#include <examples/sentiment/reviews.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <set>

namespace unroll::examples {

using unroll::detail::in_quotes;

Kind kind_of(const std::vector<std::string>& words) {
  static const std::set<std::string_view> contrasts = {"but", "although", "though", "however", "yet", "despite"},
                                          negations = {"not",     "no",      "never",   "hardly",  "none",
                                                       "neither", "nothing", "nowhere", "without", "cannot"};
  auto any = [&](auto&& condition) { return std::ranges::any_of(words, condition); };
  if (any([](const std::string& word) { return contrasts.contains(word); })) return Kind::contrast;
  if (any([](const std::string& word) { return negations.contains(word) || word.ends_with("n't"); }))
    return Kind::negation;
  return Kind::plain;
}

Reviews read_reviews(const std::filesystem::path& path) {
  const std::string text = read_text({path});
  Reviews reviews;
  std::set<std::string> labels, known;
  std::size_t number = 0;
  std::string_view rest = text;
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);  // the mark that some editors put before UTF-8
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;

    const std::string where = fmt::format("line {} of {}", number, quoted(path));
    if (line.find('\0') != line.npos) fail("{} holds a zero byte; save the file as UTF-8 text", where);
    if (const auto tabs = std::ranges::count(line, '\t'); tabs != 1)
      fail("{} has {} column{}, not 2; it must be a label, a tab and the text", where, tabs + 1, tabs == 0 ? "" : "s");
    const std::size_t tab = line.find('\t');
    const Review review{std::string(line.substr(tab + 1)), std::string(line.substr(0, tab))};
    std::vector<std::string> words;
    try {
      split_words(review.label);
      words = split_words(review.text);
    } catch (const Error& error) {
      fail("{}: {}", where, error.what());
    }
    if (review.label.empty()) fail("{} has no label before its tab", where);
    if (words.empty()) fail("{} has no text after its tab", where);

    labels.insert(review.label);
    unsigned long long hash = 0;  // by what it says: the same sentence is never in two parts
    const std::string digits = fingerprint(fmt::format("{}", fmt::join(words, " ")));
    std::from_chars(digits.data(), digits.data() + digits.size(), hash, 16);
    const auto tenth = hash % 10;
    if (tenth > 1) known.insert(review.label);
    (tenth > 1 ? reviews.training : tenth == 1 ? reviews.validation : reviews.test).push_back(review);
  }
  if (labels.size() < 2)
    fail("{} has {}; at least 2 different labels are needed", quoted(path),
         labels.empty() ? "no lines" : "only the label " + in_quotes(*labels.begin()));
  for (const std::string& label : labels)
    if (!known.contains(label))
      fail("the label {} in {} is never seen in training, the eight tenths to learn from; give it more lines",
           in_quotes(label), quoted(path));
  if (reviews.validation.empty() || reviews.test.empty())
    fail("{} has too few different lines to hold a tenth out; at least some dozens are needed", quoted(path));
  return reviews;
}

void save(const Reviews& reviews, const std::filesystem::path& folder) {
  auto write = [&](const std::vector<Review>& part, const char* name) {
    std::string text;
    for (const Review& review : part) text += review.label + "\t" + review.text + "\n";
    write_file_atomically(folder / name, text);
  };
  write(reviews.training, "training.tsv");
  write(reviews.validation, "validation.tsv");
  write(reviews.test, "test.tsv");
}

}  // namespace unroll::examples
