// Checkpoints: everything comes back, all or nothing, from the newest file that is good.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <optim/adam.h>
#include <optim/checkpoint.h>
#include <optim/checksum.h>
#include <optim/early_stopping.h>
#include <tests/examples/program.h>
#include <tests/support.h>

#include <doctest/doctest.h>
#include <sys/file.h>

using namespace unroll;
using namespace unroll::testing;
using unroll::tests::content_of;
using unroll::tests::Folder;

namespace {

namespace fs = std::filesystem;

bool same_state(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b) {
  return std::ranges::equal(
      a, b, [](const auto& x, const auto& y) { return x.first == y.first && same_bits(x.second, y.second); });
}

/// A training with everything that a checkpoint can hold.
struct Training {
  Generator rng, noise = Generator(5).split(1);
  LSTM model;
  Adam adam;
  EarlyStopping stopping;
  RecurrentState state;
  std::map<std::string, Tensor> tensors;
  Index step = 0;
  double loss = std::nan("");
  std::string text = "rows\nand \"quotes\" \xc3\xa4";
  Checkpoint checkpoint;

  explicit Training(const fs::path& path, std::uint64_t seed = 1, Index hidden = 4, Checkpoint::Options options = {})
      : rng(seed),
        model(3, hidden, rng, {.layers = 2, .dropout = 0.5, .cell = {}}),
        adam(model.parameters()),
        stopping(model, {}),
        checkpoint(path, std::move(options)) {
    each_part([&](const char* name, auto& part) { checkpoint.add(name, part); });
  }

  template <class F>
  void each_part(F f) {
    f("step", step);
    f("model", model);
    f("adam", adam);
    f("stopping", stopping);
    f("noise", noise);
    f("state", state);
    f("tensors", tensors);
    f("loss", loss);
    f("text", text);
  }

  void train() {
    Tensor x({5, 2, 3});
    noise.fill_uniform(x);
    Tape tape;
    auto [y, next] = model(tape.constant(x), state);
    Var mean_y = mean(y);
    tape.backward(mean_y);
    adam.step();
    state = detach(next);
    loss = mean_y.item();
    stopping.observe(loss);
    tensors[fmt::format("at.{}", step++)] = Tensor::scalar(loss, float64);
  }

  /// What a checkpoint of it would hold.
  std::string content(const Folder& folder) {
    Checkpoint all(folder / "content", {.keep = 1});
    each_part([&](const char* name, auto& part) { all.add(name, part); });
    all.save();
    return content_of(folder / "content");
  }
};

/// A checkpoint of a number alone, of which several versions can be told apart.
struct Counter {
  Index step = 0;
  std::map<std::string, Tensor> tensors{{"x", Tensor({3}, {1, 2, 3})}};
  Checkpoint checkpoint;
  explicit Counter(const fs::path& path, Index keep = 2) : checkpoint(path, {.program = "counter", .keep = keep}) {
    checkpoint.add("step", step);
    checkpoint.add("tensors", tensors);
  }
  void save(Index at) {
    step = at;
    checkpoint.save();
  }
};

Index step_in(const fs::path& path) {
  Counter counter(path, 1);
  counter.checkpoint.load();
  return counter.step;
}

}  // namespace

TEST_CASE("a checkpoint gives everything back, and the training goes on with the same bits") {
  Folder folder;
  const fs::path path = folder / "c.safetensors";
  Training a(path);
  CHECK_FALSE(a.checkpoint.exists());
  a.checkpoint.save();  // before anything has happened
  Training(path, 2).checkpoint.load();
  for (int i = 0; i < 3; ++i) a.train();
  a.checkpoint.save();
  CHECK(a.checkpoint.exists());

  Training b(path, 2);
  b.train();  // everything is another
  const Checkpoint::Source source = b.checkpoint.load();
  CHECK(source.file == path);
  CHECK(source.note == "");
  CHECK(a.content(folder) == b.content(folder));
  CHECK(b.step == 3);
  CHECK(b.loss == a.loss);
  CHECK(b.text == a.text);
  CHECK(b.noise == a.noise);
  for (int i = 0; i < 3; ++i) {
    a.train();
    b.train();
  }
  CHECK(same_state(a.model.state_dict(), b.model.state_dict()));
  CHECK(a.content(folder) == b.content(folder));
}

TEST_CASE("numbers come back with all their bits") {
  Folder folder;
  for (double value : {0.1 + 0.2, 5e-324, -0.0, 1.7976931348623157e308, -HUGE_VAL, std::nan("")}) {
    for (Index count : {Index{0}, Index{-1}, INT64_MAX, INT64_MIN}) {
      Index index = count;
      double number = value;
      Checkpoint checkpoint(folder / "c");
      checkpoint.add("index", index);
      checkpoint.add("number", number);
      checkpoint.save();
      index = 7;
      number = 7;
      checkpoint.load();
      CHECK(index == count);
      CHECK(same_bits(Tensor::scalar(number, float64), Tensor::scalar(value, float64)));
    }
  }
}

TEST_CASE("when one part does not fit, nothing has changed") {
  Folder folder;
  const fs::path path = folder / "c.safetensors";
  Training a(path);
  a.train();
  const std::string before = a.content(folder);
  auto refused = [&](auto... says) {
    CHECK_ERROR(a.checkpoint.load(), "cannot go on from", "c.safetensors", says...);
    CHECK(a.content(folder) == before);
  };

  // The first parts fit, and a later one does not.
  Training narrow(path, 1, 5);
  narrow.train();
  narrow.checkpoint.save();
  refused("model: ", "weight_ih_l0 is [20, 3] instead of [16, 3]", "weight_hh_l1 is [20, 5] instead of [16, 4]");

  struct Broken {
    std::map<std::string, Tensor> state;
    std::map<std::string, Tensor> state_dict() const { return state; }
    void load_state_dict(const std::map<std::string, Tensor>&) {}
  };
  for (const std::string bad : {"adam", "stopping", "noise", "state", "loss", "text"}) {
    CAPTURE(bad);
    Training other(path, 2);
    other.train();
    Broken broken{{{"strange", Tensor({1}, {1.0})}}};
    Checkpoint crafted(path);
    other.each_part([&](const char* name, auto& part) {
      if (name == bad)
        crafted.add(name, broken);
      else
        crafted.add(name, part);
    });
    crafted.save();
    refused(bad + ": ");
  }

  // What another failure leaves is the same, whatever it is.
  struct Fails {
    std::map<std::string, Tensor> state_dict() const { return {}; }
    void load_state_dict(const std::map<std::string, Tensor>&) { throw std::bad_alloc(); }
  } fails;
  Training other(path, 2);
  a.checkpoint.add("last", fails);
  other.checkpoint.add("last", fails);
  other.checkpoint.save();
  CHECK_THROWS_AS(a.checkpoint.load(), std::bad_alloc);
  CHECK(a.content(folder) == before);
}

TEST_CASE("a checkpoint of another program, another run or other parts is refused") {
  Folder folder;
  const fs::path path = folder / "c.safetensors";
  Counter a(path);
  a.checkpoint.set({{"cell", "lstm"}});
  a.checkpoint.fix("text", "1234");
  a.save(1);
  CHECK(a.checkpoint.settings() == std::map<std::string, std::string>{{"cell", "lstm"}, {"text", "1234"}});

  CHECK_ERROR(Checkpoint(path, {.program = "other"}).load(), "is a checkpoint of \"counter\" and not of other");
  Checkpoint no_parts(path, {.program = "counter"});
  CHECK_ERROR(no_parts.load(), "step is unexpected", "tensors is unexpected");
  Counter more(path);
  double loss = 0;
  more.checkpoint.add("loss", loss);
  CHECK_ERROR(more.checkpoint.load(), "loss is missing");
  Counter b(path);
  b.checkpoint.load();
  b.checkpoint.fix("text", "4321");
  CHECK_ERROR(b.checkpoint.load(), "the text is not the same");
  b.checkpoint.fix("text", "1234");
  b.checkpoint.fix("batch", "2");
  CHECK_ERROR(b.checkpoint.load(), "the batch is not the same");

  Index i = 0;
  for (const char* name : {"", "a.b", "checkpoint", "step"}) CHECK_ERROR(a.checkpoint.add(name, i), "Checkpoint", name);
  CHECK_ERROR(Checkpoint(path, {.keep = 0}), "keep is 0");
}

TEST_CASE("the last checkpoints are kept, the newest under the path itself") {
  Folder folder;
  const fs::path path = folder / "c.safetensors";
  for (Index keep : {1, 2, 4}) {
    CAPTURE(keep);
    fs::remove_all(folder.path());
    fs::create_directory(folder.path());
    Counter counter(path, keep);
    CHECK(counter.checkpoint.files().size() == static_cast<std::size_t>(keep) + 1);
    for (Index i = 1; i <= 6; ++i) {
      counter.save(i);
      CHECK(step_in(path) == i);
      for (Index older = 1; older < keep; ++older) {
        const std::string file = folder / fmt::format("c.{}.safetensors", older);
        CHECK(fs::exists(file) == (i > older));
        if (i > older) CHECK(step_in(file) == i - older);
      }
      const auto files = std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator());
      CHECK(files == std::min(i, keep));
    }
  }
  Counter plain(folder / "no_extension", 2);
  CHECK(plain.checkpoint.files()[2] == folder / "no_extension.1");
}

TEST_CASE("a damaged checkpoint is passed over for the one before, with a line that says so") {
  Folder folder;
  const fs::path path = folder / "c.safetensors";
  const std::string before = folder / "c.1.safetensors";
  Counter a(path);
  CHECK_ERROR(a.checkpoint.load(), "there is no good checkpoint", "c.safetensors", "No such file");
  a.save(1);
  a.save(2);
  const std::string good = content_of(path), older = content_of(before);
  auto passed_over = [&](const std::string& content, std::string_view because) {
    folder.write("c.safetensors", content);
    Counter b(path);
    const Checkpoint::Source source = b.checkpoint.load();
    CHECK(b.step == 1);
    CHECK(source.file == before);
    CHECK(source.note.find('\n') == source.note.npos);
    for (std::string_view part : {std::string_view("c.safetensors\""), because, std::string_view("c.1.safetensors")})
      CHECK_MESSAGE(source.note.find(part) != source.note.npos, source.note);
  };
  auto replaced = [&](std::string_view what, std::string_view with) {
    std::string content = good;
    content.replace(content.find(what), what.size(), with);
    return content;
  };
  passed_over("", "it has 0 bytes");
  passed_over(good.substr(0, good.size() / 2), "damaged");
  passed_over(good.substr(0, good.size() - 1), "damaged");
  passed_over(replaced("\"F32\"", "\"F3x\""), "dtype \"F3x\" is not supported");
  passed_over(replaced(R"("step":"2")", R"("step":"3")"), "its checksum is wrong");
  passed_over(replaced(R"("shape":[3])", R"("shape":[ 3])"), "");
  std::string data = good;
  data.back() ^= 1;
  passed_over(data, "its checksum is wrong");
  write_safetensors(path, TensorFile{{}, {{"a", "b"}}});
  passed_over(content_of(path), "is not a checkpoint");
  fs::remove(path);
  CHECK(a.checkpoint.exists());
  CHECK(a.checkpoint.load().note.find("No such file") != std::string::npos);

  // With none left, all reasons are told and nothing has changed; with the older one back, a save makes all well.
  folder.write("c.safetensors", data);
  folder.write("c.1.safetensors", "short");
  a.step = 9;
  CHECK_ERROR(a.checkpoint.load(), "no good checkpoint", "c.safetensors\" is damaged: its checksum", "c.1.safetensors",
              "it has 5 bytes");
  CHECK_ERROR(a.checkpoint.settings(), "no good checkpoint");
  CHECK(a.step == 9);
  folder.write("c.1.safetensors", older);
  CHECK(a.checkpoint.load().note != "");
  a.save(3);
  CHECK(a.checkpoint.load().note == "");
}

TEST_CASE("no changed byte goes unseen") {
  Folder folder;
  const fs::path path = folder / "c.safetensors";
  Counter a(path);
  a.save(1);
  a.save(2);
  const std::string good = content_of(path);
  int passed_over = 0;
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 4);
    folder.write("c.safetensors", bad);
    Counter b(path);
    const bool noted = !b.checkpoint.load().note.empty();
    CHECK(b.step == (noted ? 1 : 2));
    CHECK(same_state(b.tensors, a.tensors));
    passed_over += noted;
  }
  CHECK(passed_over == static_cast<int>(good.size()));
}

TEST_CASE("the checksum is XXH64") {
  // From the xxHash library, version 0.8.1.
  auto hash = [](std::string_view text, std::uint64_t seed = 0) {
    return detail::xxh64(std::as_bytes(std::span(text)), seed);
  };
  CHECK(hash("") == 0xef46db3751d8e999);
  CHECK(hash("a") == 0xd24ec4f1a98c6e5b);
  CHECK(hash("abc") == 0x44bc2cf5ad770999);
  std::string text;
  for (int i = 0; i < 101; ++i) text += static_cast<char>(i * 37);
  struct Row {
    std::size_t length;
    std::uint64_t seed, hash;
  };
  for (const Row& row : std::initializer_list<Row>{{4, 0, 0xa9c00ae8f9b200f0},
                                                   {5, 1, 0x2c108e8c671c150b},
                                                   {31, 0, 0x4513ec5ebc46d0d3},
                                                   {32, 0, 0x2c1f2ffa2ace16d3},
                                                   {33, 7, 0x8e8d9894c3df9728},
                                                   {63, 0, 0x2c9d78b9323007f3},
                                                   {64, 0, 0xcb86cfdc04a5148a},
                                                   {100, 1, 0x627057c9432c40c3},
                                                   {101, UINT64_MAX, 0x96b23432266f8327}}) {
    CAPTURE(row.length);
    CHECK(hash(std::string_view(text).substr(0, row.length), row.seed) == row.hash);
  }
}

TEST_CASE("a save that fails says why, and the earlier checkpoints are as they were") {
  Folder folder;
  const fs::path path = folder / "c.safetensors";
  Counter a(path);
  a.save(1);
  a.save(2);
  a.tensors["large"] = Tensor({100'000});
  {
    // As on a full disk: no file may grow beyond 64 KiB.
    rlimit before{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    const rlimit limit{65536, before.rlim_max};
    auto* previous = signal(SIGXFSZ, SIG_IGN);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    const std::string message = error_of([&] { a.save(3); });
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, previous);
    CHECK_MESSAGE(message.find("File too large") != message.npos, message);
  }
  CHECK(step_in(path) == 2);
  CHECK(step_in(folder / "c.1.safetensors") == 1);
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 2);
  a.save(4);
  CHECK(step_in(path) == 4);

  // A folder that cannot be written to, also by root: it is a file.
  Counter below(path / "below");
  CHECK_ERROR(below.save(1), "cannot write", "Not a directory", "create the folder");
  Counter missing(folder / "missing/c");
  CHECK_ERROR(missing.save(1), "cannot write", "No such file");
  // A place that is taken.
  fs::create_directory(folder / "c.2.safetensors");
  Counter three(path, 3);
  three.step = 5;
  CHECK_ERROR(three.checkpoint.save(), "cannot be moved to", "c.2.safetensors");
  Counter b(path);
  CHECK(b.checkpoint.load().file == folder / "c.next.safetensors");
  CHECK(b.step == 5);
}

TEST_CASE("temporary files of killed processes are removed, and no others") {
  Folder folder;
  for (const char* name : {".unroll-1-0.tmp", ".unroll-999999-3.tmp"}) folder.write(name, "left");
  for (const char* name : {".unroll-1-0.temp", "unroll-1-0.tmp", ".tmp", "mine.tmp"}) folder.write(name, "mine");
  // A living writer has a lock on its own.
  const int writer = open(folder.write(".unroll-2-0.tmp", "in use").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(flock(writer, LOCK_EX) == 0);
  Counter a(folder / "c.safetensors");
  a.save(1);
  CHECK_FALSE(fs::exists(folder / ".unroll-1-0.tmp"));
  CHECK_FALSE(fs::exists(folder / ".unroll-999999-3.tmp"));
  CHECK(content_of(folder / ".unroll-2-0.tmp") == "in use");
  close(writer);
  a.save(2);
  CHECK_FALSE(fs::exists(folder / ".unroll-2-0.tmp"));
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 4 + 2);
}

TEST_CASE("several threads may save in one folder") {
  Folder folder;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&folder, t] {
      Counter counter(folder / fmt::format("c{}.safetensors", t));
      for (Index i = 1; i <= 20; ++i) counter.save(i);
    });
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < 4; ++t) CHECK(step_in(folder / fmt::format("c{}.safetensors", t)) == 20);
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 8);
}
