#include <autograd/autograd.h>
#include <layers/linear.h>
#include <optim/adam.h>
#include <optim/checkpoint.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cstdlib>

using namespace unroll;
using namespace unroll::testing;

// Of use to tests/pytorch/files.py, which says where.
TEST_CASE("files from PyTorch and for it") {
  const char* given = std::getenv("UNROLL_FILES_FOLDER");
  if (given == nullptr) return;
  const std::filesystem::path folder = given;

  const TensorFile file = read_safetensors(folder / "from_pytorch.safetensors");
  CHECK(file.metadata.at("format") == "pt");
  CHECK(file.tensors.size() == 12);
  for (const std::string name : {"f64", "f32", "f16", "bf16", "i64", "scalar"}) {
    CAPTURE(name);
    CHECK(same_bits(file.tensors.at(name).to(float64), file.tensors.at(name + ".as_f64")));
  }

  Generator rng(1, 2, 3);
  Linear model(3, 2, rng);
  model.to(float64);
  model.W.value() = Tensor({3, 2}, {0, 0.125, 0.25, 0.375, 0.5, 0.625}, float64);
  model.b.value().fill(0.25);
  Adam adam(model.parameters(), {.rate = 0.01});
  Tensor x({4, 3}, float64);
  for (Index i = 0; i < 12; ++i) x.set({i / 3, i % 3}, static_cast<double>(i) / 16);
  Index step = 0;
  double loss = 0;
  std::string note = "two\nlines, \"quoted\"";
  rng = Generator(1, 2, 3);
  Tape tape;
  for (; step < 3; ++step) {
    tape.clear();
    Var y = model(tape.constant(x));
    Var mean_square = mean(y * y);
    tape.backward(mean_square);
    adam.step();
    loss = mean_square.item();
  }
  Checkpoint checkpoint(folder / "checkpoint.safetensors", {.program = "files"});
  checkpoint.add("model", model);
  checkpoint.add("adam", adam);
  checkpoint.add("rng", rng);
  checkpoint.add("step", step);
  checkpoint.add("loss", loss);
  checkpoint.add("note", note);
  checkpoint.save();
}
