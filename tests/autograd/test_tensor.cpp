#include <autograd/tensor.h>

#include <doctest/doctest.h>

using namespace unroll;

TEST_CASE("a shape knows its count, rows and columns") {
  Shape shape{2, 3, 4};
  CHECK(shape.rank() == 3);
  CHECK(shape.count() == 24);
  CHECK(shape.rows() == 6);
  CHECK(shape.columns() == 4);
  CHECK(Shape{}.count() == 1);
  CHECK(Shape{3, 0}.count() == 0);
  CHECK(shape.axis(-1, "f") == 2);
  CHECK(shape.without(1) == Shape{2, 4});
  CHECK(shape.insert(0, 5) == Shape{5, 2, 3, 4});
  CHECK(to_string(shape) == "[2, 3, 4]");
}

TEST_CASE("bad shapes are refused in one line") {
  CHECK_THROWS_WITH_AS(Shape({2, -1}), "Shape: the sizes [2, -1] hold a negative one", Error);
  CHECK_THROWS_AS(Shape({1, 1, 1, 1, 1, 1, 1}), Error);
  Index huge = Index{1} << 40;
  CHECK_THROWS_AS(Shape({huge, huge}), Error);
  CHECK_THROWS_AS(Shape({huge, huge, 0}), Error);  // a product that would wrap to 0
  CHECK_THROWS_AS(Tensor({Index{1} << 62}), Error);
  CHECK_THROWS_WITH_AS((void)Shape({2, 3}).axis(2, "sum", {"a/model.cpp", 7}),
                       "sum: axis 2 of a tensor of shape [2, 3]; its axes are -2 to 1 (model.cpp:7)", Error);
}

TEST_CASE("shapes broadcast from the last axis") {
  CHECK(broadcast({2, 3}, {3}, "f") == Shape{2, 3});
  CHECK(broadcast({2, 1}, {1, 3}, "f") == Shape{2, 3});
  CHECK(broadcast({1, 1}, {1}, "f") == Shape{1, 1});
  CHECK(broadcast({0, 3}, {1, 3}, "f") == Shape{0, 3});
  CHECK_THROWS_AS(broadcast({2, 3}, {2}, "f"), Error);
}

TEST_CASE("a tensor is a value") {
  Tensor a({2, 2}, {1, 2, 3, 4});
  Tensor b = a;
  b.set({0, 1}, 9);
  CHECK(a.at({0, 1}) == 2);
  CHECK(b.at({0, 1}) == 9);
  a = b;
  CHECK(a.to_vector() == std::vector<double>{1, 9, 3, 4});
  Tensor moved = std::move(a);
  a = moved;  // a moved-from tensor can be assigned to
  CHECK(a.at({1, 1}) == 4);
  CHECK(reinterpret_cast<std::uintptr_t>(moved.raw()) % 64 == 0);
}

TEST_CASE("assign keeps the memory when shape and type agree") {
  Tensor a({2, 2}), b({2, 2}, {1, 2, 3, 4});
  const void* memory = a.raw();
  a.assign(b);
  CHECK(a.raw() == memory);
  CHECK(a.at({1, 0}) == 3);
}

TEST_CASE("types are converted on request and checked on access") {
  Tensor a({2}, {0.1, 0.2}, float64);
  CHECK(a.to(float32).to(float64).at({0}) == doctest::Approx(0.1).epsilon(1e-7));
  CHECK_THROWS_WITH_AS(a.data<float>(), "the tensor is float64 and was read as float32", Error);
  CHECK_THROWS_AS((void)a.item(), Error);
  CHECK_THROWS_AS((void)a.at({2}), Error);
  CHECK_THROWS_AS((void)a.at({0, 0}), Error);
  CHECK_THROWS_AS(Tensor({3}, {1, 2}), Error);
  CHECK(Tensor({2, 3}, {1, 2, 3, 4, 5, 6}).transposed().to_vector() == std::vector<double>{1, 4, 2, 5, 3, 6});
}

TEST_CASE("tensors print readably, large ones by their ends") {
  CHECK(fmt::format("{}", Tensor({2, 2}, {1, 2.5, -3, 4})) == "Tensor float32 [2, 2]\n[[1, 2.5],\n [-3, 4]]");
  CHECK(fmt::format("{}", Tensor::scalar(3)) == "Tensor float32 []\n3");
  CHECK(fmt::format("{}", Tensor(Shape{2000})) == "Tensor float32 [2000]\n[0, 0, 0, ..., 0, 0, 0]");
}

TEST_CASE("the compiler's flags keep constants of 64 bytes as they are written") {
  // GCC 12 with AVX-512 does not, without the flags that the target brings (see CMakeLists.txt).
  const std::vector<double> values{0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0};
  CHECK(values[3] == 0.5);
  CHECK(values[4] == 0);
}
