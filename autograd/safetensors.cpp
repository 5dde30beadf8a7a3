#include <autograd/file.h>
#include <autograd/safetensors.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <cstring>
#include <deque>
#include <optional>
#include <set>
#include <vector>

namespace unroll {

/// An element type of the format.
struct detail::Encoding {
  std::string_view name;
  std::uint64_t size;
  DType becomes;
  /// Converts `n` elements; null when the bytes are the elements.
  void (*convert)(const std::byte* from, std::size_t n, void* to);
};

namespace {

using detail::Encoding;
using Header = detail::SafetensorsHeader;

static_assert(std::endian::native == std::endian::little, "safetensors data are little-endian");

constexpr std::size_t length_bytes = 8;
constexpr std::uint64_t largest_header = 100'000'000;  // as in the format's own implementation
constexpr std::string_view metadata_key = "__metadata__";
constexpr const char* damaged = "the file is damaged or not a safetensors file: fetch or save it again";

template <class From, class To>
void convert(const std::byte* from, std::size_t n, void* to) {
  auto* out = static_cast<To*>(to);
  for (std::size_t i = 0; i < n; ++i) {
    From element;
    std::memcpy(&element, from + i * sizeof(From), sizeof(From));
    out[i] = static_cast<To>(element);
  }
}

constexpr Encoding encodings[] = {
    {"F32", 4, float32, nullptr},
    {"F64", 8, float64, nullptr},
    {"F16", 2, float32, convert<Eigen::half, float>},
    {"BF16", 2, float32, convert<Eigen::bfloat16, float>},
    {"BOOL", 1, float64, convert<std::uint8_t, double>},
    {"U8", 1, float64, convert<std::uint8_t, double>},
    {"I8", 1, float64, convert<std::int8_t, double>},
    {"U16", 2, float64, convert<std::uint16_t, double>},
    {"I16", 2, float64, convert<std::int16_t, double>},
    {"U32", 4, float64, convert<std::uint32_t, double>},
    {"I32", 4, float64, convert<std::int32_t, double>},
    {"U64", 8, float64, convert<std::uint64_t, double>},
    {"I64", 8, float64, convert<std::int64_t, double>},
};

/// Builds error messages about one file.
struct Context {
  std::string file;

  template <class... Args>
  [[noreturn]] void fail_file(fmt::format_string<Args...> text, Args&&... args) const {
    fail("read_safetensors: {}: {}; {}", file, fmt::format(text, std::forward<Args>(args)...), damaged);
  }
  template <class... Args>
  [[noreturn]] void fail_tensor(std::string_view name, fmt::format_string<Args...> text, Args&&... args) const {
    fail_file("tensor {}: {}", detail::in_quotes(name, 100), fmt::format(text, std::forward<Args>(args)...));
  }
};

/// Follows the header's JSON piece by piece. Nothing is kept but what the format has a place for, so a
/// hostile header costs no more memory than its text, and a repeated key is seen, which nlohmann's own
/// parser would let replace the first.
class HeaderParser : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderParser(const Context& context) : context_(context) {}

  Header header;

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(number_integer_t value) override {
    if (place_ == Place::numbers) fail_here("{} holds {}; sizes and offsets cannot be negative", field_name(), value);
    unexpected("a number");
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::numbers) unexpected("a number");
    std::vector<std::uint64_t>& numbers = *numbers_;
    const std::size_t most = field_ == Field::shape ? static_cast<std::size_t>(max_rank) : 2;
    if (numbers.size() == most) {
      if (field_ == Field::offsets) fail_here("data_offsets holds more than two numbers");
      fail_here("shape has more than {} sizes, the most that a tensor can have here", max_rank);
    }
    numbers.push_back(value);
    return true;
  }
  bool number_float(number_float_t, const string_t& text) override {
    if (place_ == Place::numbers)
      fail_here("{} holds {}; sizes and offsets are whole numbers of at most 64 bits", field_name(),
                detail::in_quotes(text, 40));
    unexpected("a number");
  }
  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      *metadata_value_ = std::move(value);
    } else if (place_ == Place::tensor && field_ == Field::dtype) {
      set_encoding(value);
    } else {
      unexpected("a string");
    }
    return true;
  }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::start:
        place_ = Place::top;
        return true;
      case Place::top:
        place_ = in_metadata_ ? Place::metadata : Place::tensor;
        return true;
      default:
        unexpected("an object");
    }
  }
  bool key(string_t& key) override {
    switch (place_) {
      case Place::top:
        start_entry(key);
        break;
      case Place::metadata: {
        auto [at, added] = header.metadata.try_emplace(key);
        if (!added) context_.fail_file("{} has the key {} twice", metadata_key, detail::in_quotes(key, 100));
        metadata_value_ = &at->second;
        break;
      }
      default:
        start_field(key);
    }
    return true;
  }
  bool end_object() override {
    if (place_ == Place::tensor) finish_tensor();
    place_ = place_ == Place::top ? Place::end : Place::top;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::tensor || field_ == Field::dtype) unexpected("an array");
    place_ = Place::numbers;
    numbers_ = &(field_ == Field::shape ? shape_ : offsets_).emplace();
    return true;
  }
  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    parse_error_at(position);
  }
  [[noreturn]] void parse_error_at(std::size_t position) const {
    context_.fail_file("the header is not valid JSON at its byte {}", position);
  }

 private:
  enum class Place { start, top, metadata, tensor, numbers, end };
  enum class Field { dtype, shape, offsets };

  const char* field_name() const {
    return field_ == Field::dtype ? "dtype" : field_ == Field::shape ? "shape" : "data_offsets";
  }

  /// Throws an Error that says where in the header the parser is.
  template <class... Args>
  [[noreturn]] void fail_here(fmt::format_string<Args...> text, Args&&... args) const {
    const std::string what = fmt::format(text, std::forward<Args>(args)...);
    if (name_ != nullptr) context_.fail_tensor(*name_, "{}", what);
    context_.fail_file("{}", what);
  }
  [[noreturn]] void unexpected(const char* what) const {
    switch (place_) {
      case Place::metadata:
        context_.fail_file("{} holds {}; it may only hold strings", metadata_key, what);
      case Place::tensor:
        fail_here("{} is {}", field_name(), what);
      case Place::numbers:
        fail_here("{} holds {}; it may only hold whole numbers", field_name(), what);
      case Place::top:
        if (in_metadata_) context_.fail_file("{} is {} and not an object", metadata_key, what);
        fail_here("its entry in the header is {} and not an object", what);
      default:
        context_.fail_file("the header is {} and not an object", what);
    }
  }

  void start_entry(const std::string& key) {
    name_ = nullptr;
    in_metadata_ = key == metadata_key;
    if (in_metadata_) {
      if (std::exchange(metadata_seen_, true)) context_.fail_file("{} occurs twice", metadata_key);
      return;
    }
    auto [at, added] = header.tensors.try_emplace(key);
    if (!added) context_.fail_tensor(key, "the name occurs twice");
    name_ = &at->first;
    entry_ = &at->second;
    shape_.reset();
    offsets_.reset();
  }

  void start_field(const std::string& key) {
    bool seen = false;
    if (key == "dtype") {
      field_ = Field::dtype;
      seen = entry_->encoding != nullptr;
    } else if (key == "shape") {
      field_ = Field::shape;
      seen = shape_.has_value();
    } else if (key == "data_offsets") {
      field_ = Field::offsets;
      seen = offsets_.has_value();
    } else {
      fail_here("it has the unknown field {}", detail::in_quotes(key, 100));
    }
    if (seen) fail_here("the field {} occurs twice", field_name());
  }

  void set_encoding(const std::string& text) {
    const auto* found = std::ranges::find(encodings, text, &Encoding::name);
    if (found == std::end(encodings)) {
      std::vector<std::string_view> known;
      for (const Encoding& encoding : encodings) known.push_back(encoding.name);
      fail("read_safetensors: {}: tensor {}: the dtype {} is not supported; save it as one of {}", context_.file,
           detail::in_quotes(*name_, 100), detail::in_quotes(text, 40), fmt::join(known, ", "));
    }
    entry_->encoding = found;
  }

  void finish_tensor() {
    const Encoding* encoding = entry_->encoding;
    if (encoding == nullptr) fail_here("the field dtype is missing");
    if (!shape_) fail_here("the field shape is missing");
    if (!offsets_) fail_here("the field data_offsets is missing");
    if (offsets_->size() != 2) fail_here("data_offsets holds {} numbers and not two", offsets_->size());
    const auto [begin, end] = std::pair((*offsets_)[0], (*offsets_)[1]);
    if (end < begin) fail_here("data_offsets [{}, {}] end before they begin", begin, end);

    std::uint64_t bytes = encoding->size;
    bool empty = false;
    std::vector<Index> sizes;
    for (std::uint64_t size : *shape_) {
      empty |= size == 0;
      // The Shape multiplies all sizes but 0, as this does: an empty tensor's must fit too.
      if (size != 0 && (__builtin_mul_overflow(bytes, size, &bytes) || bytes > std::uint64_t{PTRDIFF_MAX}))
        fail_here("shape [{}] has more bytes than fit in 63 bits", fmt::join(*shape_, ", "));
      sizes.push_back(static_cast<Index>(size));
    }
    if (empty) bytes = 0;
    if (bytes != end - begin)
      fail_here("shape [{}] of {} makes {} bytes, but data_offsets [{}, {}] hold {}", fmt::join(*shape_, ", "),
                encoding->name, bytes, begin, end, end - begin);
    *entry_ = {encoding, Shape(std::span<const Index>(sizes)), begin, end};
    name_ = nullptr;
  }

  const Context& context_;
  Place place_ = Place::start;
  bool in_metadata_ = false;
  bool metadata_seen_ = false;
  std::string* metadata_value_ = nullptr;
  // The tensor that is being read.
  const std::string* name_ = nullptr;
  Header::Entry* entry_ = nullptr;
  Field field_ = Field::dtype;
  std::optional<std::vector<std::uint64_t>> shape_;
  std::optional<std::vector<std::uint64_t>> offsets_;
  std::vector<std::uint64_t>* numbers_ = nullptr;
};

/// Checks that the tensors cover `size` bytes of data exactly.
void check_ranges(const Header& header, std::uint64_t size, const Context& context) {
  std::vector<std::pair<const std::string, Header::Entry> const*> order;
  order.reserve(header.tensors.size());
  for (const auto& named : header.tensors) order.push_back(&named);
  std::ranges::sort(order, {}, [](const auto* named) {
    return std::tuple(named->second.begin, named->second.end, std::string_view(named->first));
  });
  std::uint64_t covered = 0;
  for (const auto* named : order) {
    const auto& [name, entry] = *named;
    if (entry.end > size)
      context.fail_tensor(name, "its data_offsets [{}, {}] end after the file's {} bytes of data", entry.begin,
                          entry.end, size);
    if (entry.begin < covered)
      context.fail_tensor(name, "its data_offsets [{}, {}] overlap another tensor's, which end at {}", entry.begin,
                          entry.end, covered);
    if (entry.begin > covered)
      context.fail_tensor(name, "its data_offsets [{}, {}] leave a gap of {} bytes before them", entry.begin, entry.end,
                          entry.begin - covered);
    covered = entry.end;
  }
  if (covered != size) context.fail_file("{} bytes after the last tensor belong to none", size - covered);
}

/// Reads the header of a file of `size` bytes; `read(span, offset)` gives any of them.
template <class Read>
Header read_header(std::uint64_t size, const Context& context, Read&& read) {
  if (size < length_bytes) context.fail_file("it has {} bytes, fewer than the 8 of the header's length", size);
  std::uint64_t header_size = 0;
  read(std::as_writable_bytes(std::span(&header_size, 1)), 0);
  if (header_size > size - length_bytes)
    context.fail_file("a header of {} bytes is longer than the file, which has {}", header_size, size);
  if (header_size > largest_header)
    context.fail_file("a header of {} bytes is larger than the limit of {}", header_size, largest_header);

  HeaderParser parser(context);
  std::string text(header_size, '\0');
  read(std::as_writable_bytes(std::span(text)), length_bytes);
  if (!text.starts_with('{')) context.fail_file("the header does not begin with '{{'");
  // The parser would take a zero byte for the end of the text, and not look at what follows.
  if (auto zero = text.find('\0'); zero != text.npos) parser.parse_error_at(zero + 1);
  nlohmann::json::sax_parse(text, &parser);
  parser.header.data = length_bytes + header_size;
  check_ranges(parser.header, size - parser.header.data, context);
  return std::move(parser.header);
}

template <class Read>
Tensor read_tensor(const Header& header, const Header::Entry& entry, Read&& read) {
  const Encoding& encoding = *entry.encoding;
  Tensor tensor(entry.shape, encoding.becomes);
  auto* out = static_cast<std::byte*>(tensor.raw());
  if (encoding.convert == nullptr) {
    read(std::span(out, entry.end - entry.begin), header.data + entry.begin);
    return tensor;
  }
  std::vector<std::byte> chunk;
  for (std::uint64_t at = entry.begin; at < entry.end; at += chunk.size()) {
    constexpr std::uint64_t largest_chunk = 1 << 16;
    chunk.resize(std::min(entry.end - at, largest_chunk));
    read(std::span(chunk), header.data + at);
    const std::size_t n = chunk.size() / encoding.size;
    encoding.convert(chunk.data(), n, out);
    out += n * size_of(encoding.becomes);
  }
  return tensor;
}

auto reader_of(const detail::InputFile& file) {
  return [&file](std::span<std::byte> to, std::uint64_t offset) { file.read(to, offset); };
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : name_(detail::in_quotes(path.native())),
      file_(path, "read_safetensors"),
      header_(read_header(file_.size(), Context{name_}, reader_of(file_))) {}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : header_.tensors) names.push_back(name);
  return names;
}

const Header::Entry& SafetensorsFile::entry(std::string_view name) const {
  const auto found = header_.tensors.find(name);
  if (found == header_.tensors.end())
    fail("read_safetensors: {} has no tensor {}; it has {}", name_, detail::in_quotes(name, 100),
         detail::in_quotes(fmt::format("{}", fmt::join(names(), ", "))));
  return found->second;
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  return read_tensor(header_, entry(name), reader_of(file_));
}

TensorFile read_safetensors(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  TensorFile content{{}, file.metadata()};
  for (const std::string& name : file.names()) content.tensors.emplace(name, file.tensor(name));
  return content;
}

TensorFile parse_safetensors(std::span<const std::byte> bytes, std::string_view name) {
  const auto read = [bytes](std::span<std::byte> to, std::uint64_t offset) {
    std::ranges::copy(bytes.subspan(offset, to.size()), to.begin());
  };
  Header header = read_header(bytes.size(), Context{detail::in_quotes(name)}, read);
  TensorFile content{{}, std::move(header.metadata)};
  for (const auto& [tensor, entry] : header.tensors) content.tensors.emplace(tensor, read_tensor(header, entry, read));
  return content;
}

void write_safetensors(const std::filesystem::path& path, const TensorFile& content) {
  std::vector<NamedTensor> tensors;
  tensors.reserve(content.tensors.size());
  for (const auto& [name, tensor] : content.tensors) tensors.push_back({name, tensor.view()});
  write_safetensors(path, tensors, content.metadata);
}

void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::string file = detail::in_quotes(path.native());
  std::vector<const NamedTensor*> order;
  std::set<std::string_view> names;
  for (const NamedTensor& t : tensors) {
    if (t.name == metadata_key)
      fail("write_safetensors: {}: {} is not a tensor's name in this format; choose another", file, metadata_key);
    if (!names.insert(t.name).second)
      fail("write_safetensors: {}: two tensors have the name {}; give each its own", file,
           detail::in_quotes(t.name, 100));
    order.push_back(&t);
  }
  // Wider types first, for PyTorch refuses a float64 tensor at an odd multiple of four bytes.
  std::ranges::sort(order, {}, [](const NamedTensor* t) { return std::pair(t->tensor.dtype() == float32, t->name); });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(metadata_key)] = metadata;
  std::deque<Tensor> copies;
  std::vector<std::span<const std::byte>> parts(2);
  std::uint64_t offset = 0;
  for (const NamedTensor* t : order) {
    TensorView view = t->tensor;
    if (!view.layout().contiguous()) view = copies.emplace_back(view).view();
    const std::size_t bytes = static_cast<std::size_t>(view.shape().count()) * size_of(view.dtype());
    parts.emplace_back(static_cast<const std::byte*>(view.raw()), bytes);
    // Straight to its end: the ordered map would search for the name, which is known to be new.
    header.get_ref<nlohmann::ordered_json::object_t&>().emplace_back(
        std::string(t->name), nlohmann::ordered_json{{"dtype", view.dtype() == float32 ? "F32" : "F64"},
                                                     {"shape", view.shape().sizes()},
                                                     {"data_offsets", {offset, offset + bytes}}});
    offset += bytes;
  }

  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::type_error&) {
    fail("write_safetensors: {}: a name or the metadata are not UTF-8 text; the format allows nothing else", file);
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > largest_header)
    fail(
        "write_safetensors: {}: the header would have {} bytes, above the limit of {}; write fewer tensors or less "
        "metadata",
        file, text.size(), largest_header);
  const std::uint64_t length = text.size();
  parts[0] = std::as_bytes(std::span(&length, 1));
  parts[1] = std::as_bytes(std::span(text));
  write_file_atomically(path, parts);
}

}  // namespace unroll
