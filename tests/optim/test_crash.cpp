// A training that is killed goes on where it was, with the same bits: killed at each system call of a save, and at
// random moments.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <optim/adam.h>
#include <optim/checkpoint.h>
#include <optim/early_stopping.h>
#include <tests/examples/program.h>

#include <doctest/doctest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <set>

using namespace unroll;
using unroll::tests::content_of;
using unroll::tests::Folder;
using unroll::tests::Outcome;
using unroll::tests::Program;

namespace fs = std::filesystem;

namespace {

/// The process ends itself when this many moments have passed; never, as long as it is negative.
int moments_to_live = -1;

void moment() {
  if (moments_to_live >= 0 && moments_to_live-- == 0) raise(SIGKILL);
}

}  // namespace

// What a save does to the disk, with a moment before and after each call. A write is two halves.
extern "C" {
ssize_t write(int file, const void* bytes, std::size_t count) {
  if (moments_to_live >= 0 && count > 1) count /= 2;
  moment();
  return syscall(SYS_write, file, bytes, count);
}
int fsync(int file) {
  moment();
  const auto result = syscall(SYS_fsync, file);
  moment();
  return static_cast<int>(result);
}
int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
  moment();
  const auto result = syscall(SYS_renameat2, from_folder, from, to_folder, to, 0);
  moment();
  return static_cast<int>(result);
}
int rename(const char* from, const char* to) noexcept { return renameat(AT_FDCWD, from, AT_FDCWD, to); }
}

TEST_CASE("killed at any system call, a save leaves the checkpoint before it or its own") {
  Folder folder;
  std::set<Index> steps_seen;
  for (const bool damaged : {false, true}) {
    for (int moments = 0;; ++moments) {
      CAPTURE(moments);
      Index step = 0;
      Checkpoint checkpoint(folder / "c.safetensors", {.keep = 2});
      checkpoint.add("step", step);
      for (step = 1; step <= 4; ++step) checkpoint.save();
      if (damaged) folder.write("c.safetensors", "damaged");

      step = 10;
      const pid_t child = fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        moments_to_live = moments;
        checkpoint.save();
        _exit(0);
      }
      int status = 0;
      waitpid(child, &status, 0);
      const bool killed = !WIFEXITED(status);
      checkpoint.load();
      steps_seen.insert(step);
      CHECK((step == 10 || (killed && step == (damaged ? 3 : 4))));

      // What is left behind does no harm to the next saves.
      for (step = 11; step <= 13; ++step) checkpoint.save();
      CHECK(checkpoint.load().note == "");
      CHECK(step == 13);
      CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 2);
      if (!killed) {
        CHECK(moments > 10);
        break;
      }
    }
  }
  CHECK(steps_seen == std::set<Index>{3, 4, 10});
}

namespace {

/// A small training that saves after every step.
void train(const fs::path& folder, Index steps) {
  Generator rng(1), noise = rng.split(1);
  LSTM model(3, 8, rng, {.layers = 2, .dropout = 0.3});
  Adam adam(model.parameters());
  EarlyStopping best(model, {.patience = 1'000'000});
  RecurrentState state;
  Index step = 0;
  Checkpoint checkpoint(folder / "checkpoint.safetensors", {.program = "trainer", .keep = 2});
  checkpoint.add("model", model);
  checkpoint.add("adam", adam);
  checkpoint.add("best", best);
  checkpoint.add("noise", noise);
  checkpoint.add("state", state);
  checkpoint.add("step", step);
  if (checkpoint.exists()) fmt::print(stderr, "{}", checkpoint.load().note);
  Tape tape;
  while (step < steps) {
    tape.clear();
    Tensor x({5, 2, 3});
    noise.fill_uniform(x);
    auto [y, next] = model(tape.constant(x), state);
    Var loss = mean(y * y);
    tape.backward(loss);
    adam.step();
    state = detach(next);
    ++step;
    best.observe(loss.item());
    checkpoint.save();
  }
  best.restore();
  save_weights(folder / "best.safetensors", model);
}

}  // namespace

// Run by the test below, which says where.
TEST_CASE("a trainer to be killed") {
  const char *folder = std::getenv("UNROLL_TRAINER_FOLDER"), *steps = std::getenv("UNROLL_TRAINER_STEPS");
  if (folder != nullptr && steps != nullptr) train(folder, std::atoll(steps));
}

TEST_CASE("a training that is killed at random moments ends with the bits of one that is not") {
  Folder folder;
  auto trainer = [](const std::string& in, Index steps) {
    fs::create_directories(in);
    return std::make_unique<Program>(fs::read_symlink("/proc/self/exe"),
                                     std::vector<std::string>{"--test-case=a trainer to be killed"}, [=] {
                                       setenv("UNROLL_TRAINER_FOLDER", in.c_str(), 1);
                                       setenv("UNROLL_TRAINER_STEPS", fmt::to_string(steps).c_str(), 1);
                                     });
  };
  auto steps_made = [](const std::string& in) {
    for (const std::string& file : {in + "/checkpoint.next.safetensors", in + "/checkpoint.safetensors"})
      if (fs::exists(file)) return Index{std::stoll(SafetensorsFile(file).metadata().at("step"))};
    return Index{0};
  };
  const char* given = std::getenv("UNROLL_CRASH_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  MESSAGE("UNROLL_CRASH_SEED=", seed);
  Generator random(seed);

  const std::string killed = folder / "killed", whole = folder / "whole";
  // How long a trainer takes to its first checkpoint differs: with sanitizers, on a busy machine.
  const auto start = std::chrono::steady_clock::now();
  auto elapsed = [&] {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start);
  };
  auto first = trainer(killed, 1'000'000);
  while (!fs::exists(killed + "/checkpoint.safetensors") && elapsed() < std::chrono::minutes(2))
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const std::chrono::microseconds longest = 4 * elapsed();
  first->signal(SIGKILL);
  first->wait();
  REQUIRE(steps_made(killed) > 0);
  const auto kills = static_cast<int>(std::clamp<std::int64_t>(10'000'000 / longest.count(), 10, 100));

  int progressed = 0;
  for (int i = 0; i < kills; ++i) {
    const Index before = steps_made(killed);
    auto program = trainer(killed, 1'000'000);
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(longest.count())));
    program->signal(SIGKILL);
    const Outcome outcome = program->wait();
    CHECK(outcome.code == -SIGKILL);
    CHECK_MESSAGE(outcome.err.empty(), outcome.err);  // no checkpoint was damaged
    progressed += steps_made(killed) > before;
  }
  CHECK(progressed > kills / 4);  // else the test kills before there is anything to kill

  const Index steps = steps_made(killed) + 5;
  for (const std::string& in : {killed, whole}) {
    const Outcome outcome = trainer(in, steps)->wait();
    CHECK_MESSAGE(outcome.code == 0, outcome.out);
    CHECK(steps_made(in) == steps);
  }
  for (const char* name : {"/best.safetensors", "/checkpoint.safetensors"})
    CHECK((content_of(killed + name) == content_of(whole + name)));
  CHECK(std::distance(fs::directory_iterator(killed), fs::directory_iterator()) == 3);  // and nothing is left over
}
