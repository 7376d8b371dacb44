// JSON read as a stream of events, for files whose size follows the number of tensors (safetensors
// headers, shard indices): no tree is built, and every event knows its place in the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace thorns {

struct JsonScalar {
  // OtherNumber: negative, with a point or exponent, or above 2^64 - 1.
  enum class Kind { Null, Boolean, Unsigned, OtherNumber, Text };
  Kind kind = Kind::Null;
  std::uint64_t number = 0;     // Unsigned; of a Boolean 1 for true
  std::string* text = nullptr;  // Text; may be moved from
  double real = 0;              // of any number
};

// Derive and override; a member may throw to stop the reading. Events arrive in the order of the
// text and are well nested.
class JsonEvents {
 public:
  virtual ~JsonEvents() = default;
  virtual void begin_object() = 0;
  virtual void end_object() = 0;
  virtual void begin_array() = 0;
  virtual void end_array() = 0;
  virtual void key(std::string& name) = 0;  // may be moved from
  virtual void scalar(const JsonScalar& value) = 0;

 protected:
  // Bytes of the text that are read so far: just behind the token of the current event (one more
  // behind a number).
  std::size_t position() const { return static_cast<std::size_t>(*now_ - begin_); }
  // Of the opening quote of the key or text of the current event.
  std::size_t quote_position() const;

 private:
  friend void read_json_events(std::string_view, const std::string&, std::size_t, JsonEvents&);
  const char* begin_ = nullptr;
  const char* const* now_ = nullptr;
};

// Feeds one JSON document to `events`. Throws Corrupt for anything that is not JSON in UTF-8, a
// byte order mark, a raw NUL or text after the value; `path` and `base` (file offset of text[0])
// name the place.
void read_json_events(std::string_view text, const std::string& path, std::size_t base,
                      JsonEvents& events);

// Throws Corrupt where `text` (the beginning of a file is enough) is a Git-LFS pointer.
void refuse_lfs_pointer(std::string_view text, const std::string& path);

}  // namespace thorns
