#include <autograd/safetensors.h>
#include <tests/examples/program.h>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

using namespace unroll::tests;

namespace {

const std::string program = UNROLL_EXAMPLES_DIR "/char_lm";

using Arguments = std::vector<std::string>;

Outcome char_lm(
    const Arguments& arguments, const std::function<void()>& prepare = [] {}) {
  return Program(program, arguments, prepare).wait();
}

/// A text with something to learn: sums, written out.
std::string sums() {
  std::string text;
  for (int a = 0; text.size() < 6000; a = (a * 7 + 3) % 101)
    text += std::to_string(a) + " + " + std::to_string(a / 2) + " = " + std::to_string(a + a / 2) + "\n";
  return text;
}

/// A quick model on `sums`, in the folder's `out`.
Arguments quick(const Folder& folder, const std::string& out, const Arguments& more) {
  Arguments all = {"--data",      folder.write("sums.txt", sums()),
                   "--out",       folder / out,
                   "--hidden",    "16",
                   "--embedding", "8",
                   "--batch",     "4",
                   "--window",    "16",
                   "--rate",      "0.01",
                   "--length",    "40"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

void check_same_run(const Folder& folder, const std::string& a, const std::string& b) {
  for (const char* name : {"best.safetensors", "checkpoint.safetensors", "metrics.csv"}) {
    CAPTURE(name);
    const std::string content = content_of(folder / a + "/" + name);
    CHECK(!content.empty());
    CHECK((content == content_of(folder / b + "/" + name)));
  }
}

/// As on a full disk: no file may grow beyond `bytes`.
std::function<void()> limit_files(rlim_t bytes) {
  return [bytes] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, bytes};
    setrlimit(RLIMIT_FSIZE, &limit);
  };
}

}  // namespace

TEST_CASE("every cell learns, and the run leaves what it promises") {
  Folder folder;
  for (const std::string cell : {"rnn", "lstm", "gru"}) {
    CAPTURE(cell);
    const Outcome outcome = char_lm(quick(folder, cell, {"--cell", cell, "--steps", "300"}));
    REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
    const auto result = nlohmann::json::parse(outcome.last_line());
    for (const char* key :
         {"steps", "train_bits_per_char", "validation_nats", "validation_bits_per_char", "chars_per_second", "seconds"})
      CHECK_MESSAGE(result.contains(key), key);
    CHECK(result["steps"] == 300);
    CHECK(result["validation_bits_per_char"].get<double>() ==
          doctest::Approx(result["validation_nats"].get<double>() / std::log(2.0)));
    CHECK(result["validation_nats"].get<double>() < 1.7);  // from ln 14 = 2.6

    const std::string metrics = content_of(folder / cell + "/metrics.csv");
    CHECK(metrics.starts_with("step,epoch,train_nats,validation_nats\n50,"));
    CHECK(std::ranges::count(metrics, '\n') == 7);
    CHECK(metrics.find("\n300,") != metrics.npos);

    const auto weights = unroll::read_safetensors(folder / cell + "/best.safetensors");
    CHECK(weights.tensors.contains(cell + ".weight_hh_l0"));
    CHECK(weights.metadata.at("cell") == cell);
    CHECK(weights.metadata.at("vocabulary") == "[10,32,43,48,49,50,51,52,53,54,55,56,57,61]");
  }
}

TEST_CASE("with no file, the text of this repository is read") {
  Folder folder;
  const Outcome outcome = char_lm(
      {"--out", folder / "out", "--steps", "2", "--hidden", "4", "--embedding", "2", "--batch", "2", "--length", "9"});
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  CHECK(nlohmann::json::parse(outcome.last_line())["steps"] == 2);
}

TEST_CASE("any number of threads gives the same bits") {
  Folder folder;
  // Large enough for every operation to be shared out.
  const Arguments sizes = {"--hidden", "128", "--batch", "32", "--dropout", "0.1", "--steps", "40"};
  for (const std::string threads : {"1", "2", "3"}) {
    Arguments arguments = quick(folder, "threads" + threads, {"--threads", threads});
    for (std::size_t i = 0; i + 1 < sizes.size(); i += 2) {
      const auto at = std::ranges::find(arguments, sizes[i]);
      if (at == arguments.end()) {
        arguments.insert(arguments.end(), {sizes[i], sizes[i + 1]});
      } else {
        at[1] = sizes[i + 1];
      }
    }
    const Outcome outcome = char_lm(arguments);
    REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  }
  check_same_run(folder, "threads1", "threads2");
  check_same_run(folder, "threads1", "threads3");
}

TEST_CASE("a run that was stopped and resumed has the bits of one that was not") {
  Folder folder;
  const Arguments model = {"--dropout", "0.3", "--layers", "2"};
  auto with_steps = [&](const std::string& steps) {
    Arguments all = model;
    all.insert(all.end(), {"--steps", steps});
    return all;
  };
  REQUIRE(char_lm(quick(folder, "whole", with_steps("560"))).code == 0);

  SUBCASE("by --steps") {
    REQUIRE(char_lm(quick(folder, "parts", with_steps("37"))).code == 0);
    for (const char* steps : {"250", "273", "300", "560"}) {
      const Outcome outcome = char_lm({"--resume", "--out", folder / "parts", "--steps", steps, "--length", "5"});
      REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
    }
  }
  SUBCASE("by being killed, again and again") {
    std::filesystem::path out = folder / "parts";
    for (int i = 0; i < 8; ++i) {
      const bool started = fs::exists(out / "checkpoint.safetensors");
      Program run(program, started ? Arguments{"--resume", "--out", out, "--length", "5", "--steps", "1000000"}
                                   : quick(folder, "parts", with_steps("1000000")));
      const std::string before = content_of(out / "checkpoint.safetensors");
      REQUIRE(wait_until([&] { return content_of(out / "checkpoint.safetensors") != before; }));
      std::this_thread::sleep_for(std::chrono::milliseconds(i * 37 % 50));
      run.signal(SIGKILL);
      const Outcome outcome = run.wait();
      CHECK(outcome.code == -SIGKILL);
      CHECK_MESSAGE(outcome.err.find("going on from") == outcome.err.npos, outcome.err);
    }
    const std::string steps = unroll::SafetensorsFile(out / "checkpoint.safetensors").metadata().at("step");
    const std::string more = std::to_string(std::stoll(steps) + 60);
    const Outcome outcome = char_lm({"--resume", "--out", out, "--steps", more, "--length", "5"});
    REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
    REQUIRE(char_lm(quick(folder, "whole", with_steps(more))).code == 0);
  }
  SUBCASE("by a signal") {
    for (int signal : {SIGINT, SIGTERM}) {
      fs::remove_all(folder / "parts");
      Program run(program, quick(folder, "parts", with_steps("1000000")));
      REQUIRE(wait_until([&] { return fs::exists(folder / "parts/checkpoint.safetensors"); }));
      run.signal(signal);
      const Outcome outcome = run.wait();
      CHECK(outcome.code == 130);
      CHECK_MESSAGE(outcome.err.find("--resume goes on") != std::string::npos, outcome.err);
    }
    // Wherever that was: the rest must lead to the same end.
    const Outcome outcome = char_lm({"--resume", "--out", folder / "parts", "--steps", "560", "--length", "5"});
    REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
    const auto result = nlohmann::json::parse(outcome.last_line());
    if (result["steps"] != 560)  // it was fast: compare with a run of that length
      REQUIRE(char_lm(quick(folder, "whole", with_steps(to_string(result["steps"])))).code == 0);
  }
  if (content_of(folder / "parts/metrics.csv").size() > 0) check_same_run(folder, "whole", "parts");
}

TEST_CASE("resuming: the same run, or a clear line") {
  Folder folder;
  REQUIRE(char_lm(quick(folder, "out", {"--steps", "20"})).code == 0);
  const std::string before = content_of(folder / "out/checkpoint.safetensors");
  auto resume = [&](const Arguments& more) {
    Arguments all = {"--resume", "--out", folder / "out"};
    all.insert(all.end(), more.begin(), more.end());
    return char_lm(all);
  };
  check_refused(resume({"--cell", "gru"}), "--cell gru does not fit");
  check_refused(resume({"--hidden", "17"}), "--hidden 17 does not fit");
  check_refused(resume({"--dropout", "0.5"}), "--dropout 0.5 does not fit");
  check_refused(resume({"--data", folder.write("other.txt", sums() + "!")}), "the text is not the same");
  check_refused(char_lm({"--resume", "--out", folder / "nothing"}), "no run to resume");
  CHECK(content_of(folder / "out/checkpoint.safetensors") == before);
  folder.write("out/checkpoint.safetensors", before.substr(0, before.size() / 2));
  const Outcome fallen_back = resume({"--length", "5"});
  CHECK(fallen_back.code == 0);
  CHECK_MESSAGE(fallen_back.err.find("going on from") != fallen_back.err.npos, fallen_back.err);
  CHECK(content_of(folder / "out/checkpoint.safetensors") == before);
  folder.write("out/checkpoint.safetensors", before.substr(0, before.size() / 2));
  folder.write("out/checkpoint.1.safetensors", content_of(folder / "out/best.safetensors"));
  check_refused(resume({}), "damaged");
  check_refused(resume({}), "not a checkpoint");
}

TEST_CASE("a new run in the same folder loses nothing of the earlier one") {
  Folder folder;
  REQUIRE(char_lm(quick(folder, "out", {"--steps", "20"})).code == 0);
  const std::string before = content_of(folder / "out/best.safetensors");
  const Outcome outcome = char_lm(quick(folder, "out", {"--steps", "20", "--seed", "2"}));
  REQUIRE(outcome.code == 0);
  CHECK(outcome.err.find("earlier-1") != std::string::npos);
  CHECK(content_of(folder / "out/earlier-1/best.safetensors") == before);
  CHECK(content_of(folder / "out/best.safetensors") != before);
}

TEST_CASE("text is written from saved weights") {
  Folder folder;
  REQUIRE(char_lm(quick(folder, "out", {"--steps", "250", "--cell", "gru", "--layers", "2"})).code == 0);
  auto sample = [&](const Arguments& more, const std::string& out = "out") {
    Arguments all = {"--sample", "--out", folder / out, "--length", "30"};
    all.insert(all.end(), more.begin(), more.end());
    return char_lm(all);
  };
  const Outcome first = sample({"--prompt", "12 + "});
  CHECK(first.code == 0);
  CHECK(first.out.starts_with("12 + "));
  CHECK(first.out.size() == 5 + 30 + 1);
  CHECK(sample({"--prompt", "12 + "}).out == first.out);
  CHECK(sample({"--prompt", "12 + "}, "out/best.safetensors").out == first.out);
  CHECK(sample({"--seed", "9", "--temperature", "2"}).out != sample({"--temperature", "2"}).out);
  CHECK(sample({"--seed", "9", "--top-k", "1"}).out == sample({"--temperature", "0"}).out);

  check_refused(sample({"--prompt", "1 \xc3\xa4"}), "the character \"\xc3\xa4\" does not occur");
  check_refused(sample({"--hidden", "99"}), "--hidden 99 does not fit");
  check_refused(sample({"--temperature", "-1"}), "--temperature");
  check_refused(sample({}, "nothing"), "No such file");
  check_refused(sample({}, "sums.txt"), "not a safetensors file");
  const std::string weights = content_of(folder / "out/best.safetensors");
  folder.write("cut", weights.substr(0, weights.size() - 1));
  check_refused(sample({}, "cut"), "damaged");
  unroll::TensorFile other = unroll::read_safetensors(folder / "out/best.safetensors");
  other.tensors.erase("head.weight");
  unroll::write_safetensors(folder / "other", other);
  check_refused(sample({}, "other"), "head.weight is missing");
  other.metadata = {};
  unroll::write_safetensors(folder / "foreign", other);
  check_refused(sample({}, "foreign"), "does not hold weights of char_lm");
}

TEST_CASE("bad input is one clear line") {
  Folder folder;
  auto with = [&](const Arguments& arguments) {
    Arguments all = {"--out", folder / "out", "--steps", "2"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return char_lm(all);
  };
  const std::string text = folder.write("text", sums());
  check_refused(with({"--data", folder / "gone"}), "No such file");
  check_refused(with({"--data", folder.write("empty", "")}), "is empty");
  check_refused(with({"--data", folder.write("short", "too short")}), "too few");
  check_refused(with({"--data", folder.write("one", "1")}), "too few");
  check_refused(with({"--data", text, "--batch", "4000"}), "too few");
  check_refused(with({"--data", text, "--window", "4000"}), "too few");
  check_refused(with({"--data", text, "--prompt", "?"}), "does not occur");
  check_refused(with({"--no-such-option"}), "--no-such-option");
  check_refused(with({"--cell", "transformer"}), "transformer");
  check_refused(with({"--hidden", "0"}), "--hidden");
  check_refused(with({"--rate", "fast"}), "fast");
  if (geteuid() != 0) {
    fs::permissions(folder.write("secret", "x"), fs::perms::none);
    check_refused(with({"--data", folder / "secret"}), "Permission denied");
  }
  CHECK_FALSE(fs::exists(folder / "out"));
  check_refused(with({"--data", text, "--batch", "4", "--window", "8", "--rate", "1e30", "--steps", "200"}), "");
  check_refused(char_lm(quick(folder, "text/inside", {"--steps", "2"})), "cannot be made");
}

TEST_CASE("a full disk stops a run and leaves its files whole") {
  Folder folder;
  REQUIRE(char_lm(quick(folder, "out", {"--steps", "20"})).code == 0);
  const std::string checkpoint = content_of(folder / "out/checkpoint.safetensors");
  const std::string weights = content_of(folder / "out/best.safetensors");
  for (rlim_t bytes : {1000, 12000})
    check_refused(char_lm({"--resume", "--out", folder / "out", "--steps", "600"}, limit_files(bytes)), "too large");
  CHECK(content_of(folder / "out/checkpoint.safetensors") == checkpoint);
  CHECK(char_lm({"--resume", "--out", folder / "out", "--steps", "40"}).code == 0);
  const Outcome outcome =
      char_lm({"--sample", "--out", folder / "out"}, [] { dup2(open("/dev/full", O_WRONLY), STDOUT_FILENO); });
  CHECK(outcome.code == 1);
  CHECK(outcome.err.find("standard output") != std::string::npos);
}
