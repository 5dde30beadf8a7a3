#include <autograd/file.h>
#include <examples/common/console.h>
#include <examples/common/plot.h>
#include <examples/why_lstm/report.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace unroll::examples {

namespace {

constexpr const char *start_file = "gradient_start", *trained_file = "gradient_trained", *reach_file = "reach",
                     *clipping_file = "clipping";

void print_table(const std::string& title, const std::vector<Curve>& rows, const char* format) {
  fmt::print("\n{}\n{:22}", title, "");
  for (Index steps : Findings::lengths) fmt::print("{:>10}", fmt::format("T = {}", steps));
  for (const Curve& row : rows) {
    fmt::print("\n{:22}", row.name);
    for (double value : row.values) fmt::print(fmt::runtime(format), value);
  }
  fmt::print("\n");
}

/// Writes curves over `x` (none: 1, 2, ...) as FOLDER/NAME.csv and draws them as FOLDER/NAME.svg. What is not a number,
/// and the end of a curve that is shorter than others, are empty cells.
void write_curves(const std::filesystem::path& folder, const std::string& name, Plot plot,
                  const std::vector<Curve>& curves, std::span<const Index> x = {}) {
  std::string csv = plot.x_label;
  std::size_t rows = x.size();
  for (const Curve& curve : curves) {
    csv += "," + curve.name;
    plot.curves.push_back({static_cast<int>(plot.curves.size()) + 2, curve.name});
    rows = std::max(rows, curve.values.size());
  }
  for (std::size_t i = 0; i < rows; ++i) {
    csv += fmt::format("\n{}", x.empty() ? static_cast<Index>(i + 1) : x[i]);
    for (const Curve& curve : curves) {
      const bool known = i < curve.values.size() && std::isfinite(curve.values[i]);
      csv += known ? fmt::format(",{}", curve.values[i]) : ",";
    }
  }
  const std::filesystem::path path = folder / (name + ".csv");
  write_file_atomically(path, csv + "\n");
  draw(plot, path, folder / (name + ".svg"));
}

/// The rows of the models themselves, before and after training, in one picture.
std::vector<Curve> before_and_after(const Findings& f) {
  std::vector<Curve> all;
  for (const Curve& trained : f.trained.reach) {
    if (trained.name == "LSTM h") continue;  // c, where its gradient is carried, is enough
    const auto start = std::ranges::find(f.start.reach, trained.name, &Curve::name);
    all.push_back({trained.name + " before", start->values});
    all.push_back({trained.name + " after", trained.values});
  }
  return all;
}

nlohmann::ordered_json to_json(const std::vector<Curve>& curves) {
  nlohmann::ordered_json json;
  for (const Curve& curve : curves) json[curve.name] = curve.values;
  return json;
}

}  // namespace

void report(const Findings& f, const std::filesystem::path& folder) {
  const std::string relative = "|dL/dv_t| / |dL/dv_T|", reach = "|dL/dv_1| / |dL/dv_T|";
  print_table(reach + " at the start", f.start.reach, "{:>10.1e}");
  print_table(reach + " after training", f.trained.reach, "{:>10.1e}");
  print_table("root mean square error on new sequences", f.error, "{:>10.3f}");
  const bool exploded = f.unclipped.values.size() < f.clipped.values.size();
  const double from = f.clipped.values.front(), to = f.clipped.values.back();
  fmt::print(
      "\nRNN with recurrent weights x {}\n  without clipping: {}\n  with it: the loss goes from {:.3f} to {:.4f}\n\n",
      f.scale,
      exploded ? fmt::format("in step {} the gradient is no number any more", f.unclipped.values.size())
               : fmt::format("the loss goes from {:.3f} to {:.4f}", from, f.unclipped.values.back()),
      from, to);

  Plot plot{.title = {}, .x_label = "step t", .y_label = relative, .curves = {}, .log_y = true};
  plot.title =
      fmt::format("The gradient on its way back from step {}, before training", f.start.along[0].values.size());
  write_curves(folder, start_file, plot, f.start.along);
  plot.title = "The same after training";
  write_curves(folder, trained_file, plot, f.trained.along);
  plot = {.title = "What of the gradient reaches the first step",
          .x_label = "length of the sequence T",
          .y_label = reach,
          .curves = {},
          .log_x = true,
          .log_y = true};
  write_curves(folder, reach_file, plot, before_and_after(f), Findings::lengths);
  plot = {.title = fmt::format("An RNN with recurrent weights x {}", f.scale),
          .x_label = "training step",
          .y_label = "mean square error",
          .curves = {},
          .log_y = true};
  write_curves(folder, clipping_file, plot, {f.unclipped, f.clipped});

  print_result({{"lengths", Findings::lengths},
                {"reach_start", to_json(f.start.reach)},
                {"reach_trained", to_json(f.trained.reach)},
                {"error", to_json(f.error)},
                {"unclipped_steps", f.unclipped.values.size()},
                {"clipped_steps", f.clipped.values.size()},
                {"clipped_loss", to}});
}

std::vector<std::filesystem::path> report_files() {
  std::vector<std::filesystem::path> files;
  for (const std::string name : {start_file, trained_file, reach_file, clipping_file})
    files.insert(files.end(), {name + ".csv", name + ".svg"});
  return files;
}

}  // namespace unroll::examples
