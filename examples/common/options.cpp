#include <autograd/error.h>
#include <examples/common/options.h>

#include <fmt/ranges.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace unroll::examples {

namespace {

/// CLI11's own ranges let NaN pass.
CLI::Validator number_where(bool (*good)(double), const char* what) {
  return CLI::Validator(
      [good, what](std::string& text) {
        double value = 0;
        const bool number = CLI::detail::lexical_cast(text, value);
        return number && good(value) ? std::string() : fmt::format("{} is not {}", text, what);
      },
      "");
}

using Values = std::vector<std::string>;

Values values_of(const CLI::Option& option) {
  if (option.count() > 0) return option.results();
  if (option.get_default_str().empty()) return {};
  return {option.get_default_str()};
}

void remove_options(CLI::App& app, const std::vector<std::string>& names) {
  for (const std::string& name : names) app.remove_option(app.get_option("--" + name));
}

bool many(const CLI::Option& option) { return option.get_expected_max() > 1; }

/// True when both say the same, in whatever way numbers are written.
bool same(const Values& a, const Values& b) {
  return std::ranges::equal(a, b, [](const std::string& x, const std::string& y) {
    double number = 0, other = 0;
    if (CLI::detail::lexical_cast(x, number) && CLI::detail::lexical_cast(y, other)) return number == other;
    return x == y;
  });
}

}  // namespace

CLI::Validator size_range() {
  return number_where([](double x) { return x >= 1 && x <= 16384; }, "in the range 1 to 16384");
}
CLI::Validator above_zero() {
  return number_where([](double x) { return std::isfinite(x) && x > 0; }, "a number above 0");
}
CLI::Validator at_least_zero() {
  return number_where([](double x) { return std::isfinite(x) && x >= 0; }, "a number of at least 0");
}
CLI::Validator probability() {
  return number_where([](double x) { return x >= 0 && x < 1; }, "in the range 0 to below 1");
}

CLI::Validator absolute_path() {
  return CLI::Validator(
      [](std::string& path) {
        if (path.empty()) return std::string("a path is empty");
        path = std::filesystem::absolute(path).string();
        return std::string();
      },
      "");
}

void add_training_options(CLI::App& app, TrainingOptions& o, const std::vector<std::string>& without) {
  app.option_defaults()->always_capture_default();
  app.add_option("--out", o.out, "Folder for the weights, the checkpoint, the metrics and the plot");
  app.add_option("--batch", o.batch, "Sequences trained on side by side")->check(size_range());
  app.add_option("--rate", o.rate, "Learning rate of Adam")->check(above_zero());
  app.add_option("--clip", o.clip, "Largest norm of the gradient; 0: no limit")->check(at_least_zero());
  app.add_option("--dropout", o.dropout, "Probability of dropping a unit between layers")->check(probability());
  auto* steps = app.add_option("--steps", o.steps, "Training steps in all")->check(above_zero());
  app.add_option("--epochs", o.epochs, "Passes over the data, instead of --steps; 0: as --steps says")
      ->check(number_where([](double x) { return x >= 0 && x <= 1e9; }, "in the range 0 to 1000000000"))
      ->excludes(steps);
  app.add_option("--seed", o.seed, "Fixes the first weights and every random choice")->check(at_least_zero());
  app.add_option("--threads", o.threads, "Threads; 0: one for each core. Results are the same bits for any number")
      ->check(CLI::Range(0, 1024));
  app.add_flag("--resume", o.resume, "Go on exactly where the run in --out stopped, with its options");
  remove_options(app, without);
}

void add_model_options(CLI::App& app, ModelOptions& o, const std::vector<std::string>& without) {
  app.option_defaults()->always_capture_default();
  app.add_option("--cell", o.cell, "rnn, lstm or gru")->check(CLI::IsMember({"rnn", "lstm", "gru"}));
  app.add_option("--hidden", o.hidden, "Units of a recurrent layer")->check(size_range());
  app.add_option("--layers", o.layers, "Recurrent layers")->check(size_range());
  app.add_option("--embedding", o.embedding, "Size of the vector that stands for a token")->check(size_range());
  remove_options(app, without);
}

void add_sampling_options(CLI::App& app, SamplingOptions& o) {
  app.option_defaults()->always_capture_default();
  app.add_flag("--sample", o.sample, "Only write text, with the weights in --out (a run's folder or a weight file)");
  app.add_option("--prompt", o.prompt, "How the sample begins");
  app.add_option("--length", o.length, "Length of what is written after the prompt")->check(at_least_zero());
  app.add_option("--temperature", o.temperature, "Below 1 safer, above 1 bolder; 0: always the likeliest choice")
      ->check(at_least_zero());
  app.add_option("--top-k", o.top_k, "Choose among that many likeliest only; 0: among all")->check(at_least_zero());
}

std::map<std::string, std::string> option_values(const CLI::App& app, const std::vector<std::string>& names) {
  std::map<std::string, std::string> all;
  for (const std::string& name : names) {
    const CLI::Option& option = *app.get_option("--" + name);
    const Values values = values_of(option);
    const nlohmann::json json = values;
    if (!many(option))
      all[name] = values.empty() ? "" : values.front();
    else
      all[name] = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);  // a path may be any bytes
  }
  return all;
}

void restore_options(CLI::App& app, const std::map<std::string, std::string>& saved,
                     const std::vector<std::string>& fixed) {
  auto given = [](const CLI::Option* option) { return option->count() > 0; };
  std::vector<std::pair<CLI::Option*, Values>> changes;
  for (const auto& [name, text] : saved) {
    CLI::Option* option = app.get_option_no_throw("--" + name);
    if (option == nullptr) continue;
    Values values;
    if (!many(*option)) {
      values = {text};
    } else if (const auto json = nlohmann::json::parse(text, nullptr, false); json.is_array()) {
      for (const auto& value : json) values.push_back(value.is_string() ? value.get<std::string>() : value.dump());
    }
    if (given(option)) {
      if (std::ranges::find(fixed, name) != fixed.end() && !same(values, option->results()))
        fail("--{} {} does not fit the saved run, which has {}; leave the option out", name,
             fmt::join(option->results(), " "), fmt::join(values, " "));
    } else if (!values.empty() && std::ranges::none_of(option->get_excludes(), given)) {
      changes.emplace_back(option, values);
    }
  }
  for (auto& [option, values] : changes) {
    try {
      option->add_result(values);
      option->run_callback();
    } catch (const CLI::Error& error) {
      fail("the saved value of {} is damaged: {}", option->get_name(), error.what());
    }
  }
}

}  // namespace unroll::examples
