#include <examples/common/plot.h>
#include <examples/recognise/report.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace unroll::examples::recognise {

namespace {

/// Names for the frames of a picture: each label where it was said.
std::vector<std::string> columns_of(const Utterance& utterance) {
  std::vector<std::string> names(static_cast<std::size_t>(utterance.length()));
  for (std::size_t k = 0; k < utterance.labels.size(); ++k)
    names[static_cast<std::size_t>(utterance.when[k])] = label_name(utterance.labels[k]);
  return names;
}

constexpr const char* time_axis =
    "time, in frames of 20 ms; each label is where it was said, of which no model is told";

void draw_sound(const Utterance& utterance, const std::filesystem::path& file) {
  constexpr double decibel = 0.2303;  // as the logarithm of an energy
  const auto [faintest, loudest] = std::ranges::minmax(utterance.frames);
  HeatMap map{.title = "What is heard",
              .x_label = time_axis,
              .y_label = "pitch (Hz)",
              .scale_label = "energy (dB above the faintest)",
              .rows = {},
              .columns = columns_of(utterance),
              .values = {},
              .high = (loudest - faintest) / decibel};
  for (Index band = bands - 1; band >= 0; --band) {
    map.rows.push_back(fmt::format("{:.0f}", band_centre(band)));
    auto& row = map.values.emplace_back();
    for (Index t = 0; t < utterance.length(); ++t)
      row.push_back((utterance.frames[static_cast<std::size_t>(t * bands + band)] - faintest) / decibel);
  }
  draw(map, file.string() + ".csv", file.string() + ".svg");
}

void draw_posteriors(const Utterance& utterance, const Posteriors& p, const std::string& title,
                     const std::filesystem::path& file) {
  HeatMap map{.title = "What the network says in each frame: " + title,
              .x_label = time_axis,
              .y_label = "label",
              .scale_label = "probability",
              .rows = {},
              .columns = columns_of(utterance),
              .values = {}};
  for (std::int32_t label = 0; label < p.classes; ++label) {
    map.rows.push_back(label_name(label));
    auto& row = map.values.emplace_back();
    for (Index t = 0; t < p.length(); ++t) row.push_back(std::exp(p.at(t, label)));
  }
  draw(map, file.string() + ".csv", file.string() + ".svg");
}

/// "said" over "heard", label by label; "-" where there is none.
void print(const Alignment& alignment) {
  auto text = [](std::int32_t label) { return label == blank ? "-" : label_name(label); };
  std::string said, heard, wrong;
  for (const auto& [a, b] : alignment) {
    said += fmt::format("{:>4}", text(a));
    heard += fmt::format("{:>4}", text(b));
    wrong += fmt::format("{:>4}", a == b ? "" : "^");
  }
  wrong.erase(wrong.find_last_not_of(' ') + 1);
  fmt::print("  said {}\n  heard{}\n", said, heard);
  if (!wrong.empty()) fmt::print("       {}\n", wrong);
}

}  // namespace

nlohmann::ordered_json report(const std::vector<Heard>& models, const std::vector<Utterance>& test, Index beam,
                              const std::filesystem::path& folder) {
  Index labels = 0;
  for (const Utterance& utterance : test) labels += std::ssize(utterance.labels);
  nlohmann::ordered_json result;
  fmt::print(
      "Label error rate on {} utterances of {} labels, by speakers who were never heard before:\n{:<22}{:>12}{:>12}\n",
      test.size(), labels, "", "best path", fmt::format("beam of {}", beam));
  for (const Heard& model : models) {
    Index by_path = 0, by_search = 0;
    for (std::size_t n = 0; n < test.size(); ++n) {
      by_path += errors(align(test[n].labels, best_path(model.posteriors[n])));
      by_search += errors(align(test[n].labels, prefix_beam_search(model.posteriors[n], beam).front().labels));
    }
    const double path_rate = static_cast<double>(by_path) / static_cast<double>(labels);
    const double search_rate = static_cast<double>(by_search) / static_cast<double>(labels);
    fmt::print("{:<22}{:>10.1f} %{:>10.1f} %\n", model.title, 100 * path_rate, 100 * search_rate);
    result[model.name] = {{"best_path", path_rate}, {"beam", search_rate}};
  }
  draw_sound(test.front(), folder / "sound");
  for (const Heard& model : models) {
    fmt::print("\n{}:\n", model.title);
    print(align(test.front().labels, best_path(model.posteriors.front())));
    draw_posteriors(test.front(), model.posteriors.front(), model.title, folder / ("posteriors_" + model.name));
  }
  return result;
}

std::vector<std::string> report_files(const std::vector<std::string>& models) {
  std::vector<std::string> files = {"sound.csv", "sound.svg"};
  for (const std::string& model : models)
    for (const char* type : {".csv", ".svg"}) files.push_back("posteriors_" + model + type);
  return files;
}

}  // namespace unroll::examples::recognise
