#include <examples/common/folder.h>
#include <examples/common/plot.h>
#include <examples/common/run.h>
#include <tests/examples/program.h>

#include <doctest/doctest.h>
#include <CLI/CLI.hpp>

using namespace unroll;
using namespace unroll::examples;
using unroll::tests::content_of;
using unroll::tests::Folder;
namespace fs = std::filesystem;

namespace {

struct Command {
  CLI::App app{"", "test"};
  TrainingOptions options;
  std::vector<std::string> data;

  explicit Command(const std::string& line) {
    add_training_options(app, options);
    app.add_option("--data", data)->default_str("");
    app.parse(line);
  }
};

}  // namespace

TEST_CASE("a resumed run gets the options it was started with") {
  Command first("--rate 0.0050 --epochs 3 --data a --data b,c");
  const auto saved = option_values(first.app, {"rate", "batch", "epochs", "steps", "data"});
  CHECK(saved.at("batch") == "32");

  Command resumed("");
  restore_options(resumed.app, saved, {"rate", "batch"});
  CHECK(resumed.options.rate == 0.005);
  CHECK(resumed.options.epochs == 3);
  CHECK(resumed.data == std::vector<std::string>{"a", "b,c"});
  CHECK(option_values(resumed.app, {"rate", "batch", "epochs", "steps", "data"}) == saved);

  Command longer("--steps 9 --rate 5e-3 --data x");
  restore_options(longer.app, saved, {"rate", "batch"});
  CHECK(longer.options.steps == 9);
  CHECK(longer.options.epochs == 0);
  CHECK(longer.data == std::vector<std::string>{"x"});

  Command other("--rate 0.1");
  CHECK_THROWS_WITH_AS(restore_options(other.app, saved, {"rate"}), doctest::Contains("--rate 0.1 does not fit"),
                       Error);
  Command damaged("");
  CHECK_THROWS_WITH_AS(restore_options(damaged.app, {{"batch", "many"}}, {}), doctest::Contains("damaged"), Error);
}

TEST_CASE("numbers out of range and unknown options are refused") {
  for (const char* line : {"--batch 0", "--batch -1", "--batch 1e9", "--rate nan", "--rate inf", "--rate 0", "--rate x",
                           "--dropout 1", "--dropout -0.1", "--dropout nan", "--clip -1", "--steps 0", "--steps 1.5",
                           "--epochs 2 --steps 2", "--threads -1", "--seed -1", "--no-such-option", "word"})
    CHECK_THROWS_AS_MESSAGE(Command{line}, CLI::ParseError, std::string(line));
}

TEST_CASE("an earlier run is set aside, each in a folder of its own") {
  Folder folder;
  folder.write("a", "1");
  folder.write("mine", "x");
  set_earlier_run_aside(folder.path(), {"a", "b"});
  CHECK_FALSE(fs::exists(folder / "a"));
  CHECK(content_of(folder / "earlier-1/a") == "1");
  set_earlier_run_aside(folder.path(), {"a", "b"});
  CHECK_FALSE(fs::exists(folder / "earlier-2"));
  folder.write("b", "2");
  set_earlier_run_aside(folder.path(), {"a", "b"});
  CHECK(content_of(folder / "earlier-2/b") == "2");
  CHECK(content_of(folder / "mine") == "x");
}

TEST_CASE("a plot with quotes in its title and path is drawn, or its absence does no harm") {
  Folder folder;
  const std::string csv = folder.write("it's.csv", "step,a\n1,2\n2,3\n");
  draw({.title = "it's \"so\"", .x_label = "x", .y_label = "y", .curves = {{2, "a_b"}}}, csv, folder / "o'.svg");
  if (fs::exists(folder / "o'.svg")) CHECK(content_of(folder / "o'.svg").find("a_b") != std::string::npos);
  draw({.title = "", .x_label = "", .y_label = "", .curves = {{2, ""}}}, folder / "gone.csv", folder / "gone.svg");
  CHECK_FALSE(fs::exists(folder / "gone.svg"));
}
