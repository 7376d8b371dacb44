// Any bytes as a stream of JSON events: they are those of the tree that another parser builds of
// the same text, or both refuse it. A tree may begin with a byte order mark and has no key twice;
// events are the other way round.
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "checkpoint/json_events.h"
#include "support/fuzz_parts.h"
#include "thorns/error.h"

namespace {

using thorns::Json;
using thorns::fuzz::require;

// Puts the tree together again.
class Builder final : public thorns::JsonEvents {
 public:
  explicit Builder(std::string_view text) : text_(text) {}
  Json root;

  void begin_object() override { open(Json::object()); }
  void end_object() override { open_.pop_back(); }
  void begin_array() override { open(Json::array()); }
  void end_array() override { open_.pop_back(); }
  void key(std::string& name) override {
    require(position() <= text_.size() && text_[quote_position()] == '"');
    key_ = std::move(name);
  }
  void scalar(const thorns::JsonScalar& value) override {
    using Kind = thorns::JsonScalar::Kind;
    require(position() <= text_.size());
    switch (value.kind) {
      case Kind::Null:
        return put(nullptr);
      case Kind::Boolean:
        return put(kBoolean);
      case Kind::Unsigned:
        return put(value.number);
      case Kind::OtherNumber:
        return put(kOther);
      case Kind::Text:
        require(text_[quote_position()] == '"');
        return put(std::move(*value.text));
    }
  }

  // The tree as events tell it: they say of some values only what kind they are.
  static Json told(Json value) {
    if (value.is_boolean()) return kBoolean;
    if (value.is_number() && !value.is_number_unsigned()) return kOther;
    if (!value.is_structured()) return value;
    for (Json& item : value) item = told(std::move(item));
    return value;
  }

 private:
  static constexpr const char* kBoolean = "\x01 a truth value";
  static constexpr const char* kOther = "\x01 a number";

  Json& place() {
    if (open_.empty()) return root;
    if (open_.back()->is_object()) return (*open_.back())[key_];
    open_.back()->push_back(nullptr);
    return open_.back()->back();
  }
  void put(Json value) { place() = std::move(value); }
  void open(Json value) {
    if (open_.size() > 64) {
      throw thorns::Error(thorns::ErrorCode::Corrupt, "deep", thorns::FilePlace{"", 0});
    }
    Json& at = place();
    at = std::move(value);
    open_.push_back(&at);
  }

  std::string_view text_;
  std::vector<Json*> open_;
  std::string key_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  Builder builder(text);
  bool read = true;
  try {
    thorns::refuse_lfs_pointer(text, "f.json");
    thorns::read_json_events(text, "f.json", 100, builder);
  } catch (const thorns::Error& error) {
    const auto* place = std::get_if<thorns::FilePlace>(&error.where());
    require(place != nullptr && *place->offset <= size + 100);
    read = false;
  }
  try {
    const Json tree = thorns::parse_json(text, "f.json", 0, 60);
    if (text.starts_with("\xEF\xBB\xBF")) return 0;
    require(read && Builder::told(tree) == builder.root);
  } catch (const thorns::Error&) {
    // What stands twice or is too deep or too large for a tree.
  }
  return 0;
}
