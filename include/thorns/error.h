// The one exception type of thorns: what went wrong, where, and what to do about it.
//
// Every function of the library reports failure by throwing thorns::Error; no other exception
// leaves the public API. The library never prints and never exits: the caller decides what to show.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <variant>

namespace thorns {

enum class ErrorCode {
  BadUsage,     // an option or argument that makes no sense
  BadRecipe,    // the key, the recipe file, or what its names mean
  NotFound,     // a file or folder that is not there
  Exists,       // an output that is there already
  Mismatch,     // inputs that do not fit together
  Corrupt,      // a file that is not what its format demands
  Unsupported,  // well-formed, but thorns cannot merge it
  NoSpace,      // the disk or the memory ceiling is too small
  Io,           // the operating system said no
  NonFinite,    // NaN or Inf in an input or an output
  Cancelled,    // the caller asked to stop
  Internal,     // a bug in thorns
};

// A stable lower-case word for programs: "bad_recipe", "not_found", ...
const char* to_string(ErrorCode code);

// Exit code of a program that failed with `code`: 2 for usage and recipe, 130 for Cancelled,
// else 1.
int exit_code(ErrorCode code);

// Bytes [begin, end) of a key. `text` is the whole key, so that a caret can be drawn under the
// span.
struct KeySpan {
  std::string text;
  std::size_t begin = 0;
  std::size_t end = 0;
};

// A file or folder, and where known the byte in it that is wrong. `line` and `column` (from 1) are
// set for text files such as recipe YAML; 0 means unknown.
struct FilePlace {
  std::string path;
  std::optional<std::uint64_t> offset = std::nullopt;
  std::size_t line = 0;
  std::size_t column = 0;
};

// A tensor, where known the flat index of an element in it, and the file or leaf it came from.
struct TensorPlace {
  std::string tensor;
  std::optional<std::uint64_t> element = std::nullopt;
  std::string source = {};
};

using Where = std::variant<std::monostate, KeySpan, FilePlace, TensorPlace>;

class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message, Where where = {}, std::string hint = {})
      : code_(code),
        message_(std::move(message)),
        where_(std::move(where)),
        hint_(std::move(hint)) {}

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }  // one sentence, no full stop
  const Where& where() const { return where_; }
  const std::string& hint() const { return hint_; }  // what to do; may be empty
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  ErrorCode code_;
  std::string message_;
  Where where_;
  std::string hint_;
};

// The error as people read it: `error: message`, the key with a caret or the place, `hint: ...`.
// Several lines, each ended by a newline; no colour.
std::string to_string(const Error& error);

}  // namespace thorns
