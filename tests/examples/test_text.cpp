#include <autograd/error.h>
#include <examples/common/text.h>
#include <tests/examples/program.h>

#include <doctest/doctest.h>

using namespace unroll;
using namespace unroll::examples;
using unroll::tests::Folder;
namespace fs = std::filesystem;

TEST_CASE("files and folders are read in the order of their paths") {
  Folder folder;
  folder.write("d/b.txt", "B");
  folder.write("d/a/z.txt", "A");
  folder.write("d/.hidden", "H");
  folder.write("d/.git/x", "G");
  folder.write("d/image", std::string("\0\1", 2));
  folder.write("d/empty", "");
  const std::string c = folder.write("c.txt", "C");
  CHECK(read_text({folder / "d", c}) == "CAB");
  CHECK(read_text({c, c}) == "C");
  CHECK(read_text({folder / "d/image"}) == std::string("\0\1", 2));
}

TEST_CASE("a text that is missing, empty or no file is refused") {
  Folder folder;
  fs::create_directory(folder / "none");
  CHECK_THROWS_WITH_AS(read_text({folder / "gone"}), doctest::Contains("No such file"), Error);
  CHECK_THROWS_WITH_AS(read_text({folder.write("empty", "")}), doctest::Contains("is empty"), Error);
  CHECK_THROWS_WITH_AS(read_text({folder / "none"}), doctest::Contains("there is none in"), Error);
  CHECK_THROWS_AS(read_text({"/dev/null"}), Error);
}

TEST_CASE("the repository's own text is there") {
  const std::string text = read_repository();
  CHECK(text.find("class Tape {") != text.npos);
  CHECK(text.find("a needle that only this test has") != text.npos);
}

TEST_CASE("a vocabulary is the bytes of a text in order, and survives its metadata") {
  const Vocabulary vocabulary(
      "b\xc3\xa4"
      "ab\n");
  CHECK(vocabulary.size() == 5);
  CHECK(vocabulary.encode("\nab") == std::vector<std::int32_t>{0, 1, 2});
  CHECK(vocabulary.byte(4) == '\xc3');
  CHECK(vocabulary.to_json() == "[10,97,98,164,195]");
  CHECK(Vocabulary::from_json(vocabulary.to_json()).encode("\xc3\xa4") == vocabulary.encode("\xc3\xa4"));
  CHECK_THROWS_WITH_AS(vocabulary.encode("a\xc3\xb6"), doctest::Contains("the character \"\xc3\xb6\""), Error);
  CHECK_THROWS_WITH_AS(vocabulary.encode("a?b"), doctest::Contains("the character \"?\""), Error);
  for (const char* bad : {"", "[]", "{}", "[1", "[256]", "[-1]", "[2,1]", "[1,1]", "[\"a\"]", "[1.5]"})
    CHECK_THROWS_AS(Vocabulary::from_json(bad), Error);
}

TEST_CASE("a fingerprint tells texts apart") {
  CHECK(fingerprint("") == "cbf29ce484222325");
  CHECK(fingerprint("a") == "af63dc4c8601ec8c");  // a published value of FNV-1a
  CHECK(fingerprint("ab") != fingerprint("ba"));
}
