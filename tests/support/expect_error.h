// Checks of a thorns::Error: code, a part of the message, the place, a part of the hint.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "support/error_of.h"
#include "thorns/error.h"

namespace thorns {

using test::error_of;

inline void expect_has(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "`" << text << "` lacks `" << part << "`";
}

inline void expect_error(const Error& error, ErrorCode code, const std::string& message_part,
                         const std::string& hint_part = {}) {
  EXPECT_STREQ(to_string(error.code()), to_string(code));
  expect_has(error.message(), message_part);
  expect_has(error.hint(), hint_part);
  EXPECT_FALSE(error.message().ends_with('.')) << error.message();
}

// What `action` throws; it points at `path`, if that is not empty.
template <typename Action>
void expect_file_error(const Action& action, ErrorCode code, const std::string& message_part,
                       const std::string& path, const std::string& hint_part) {
  const Error error = error_of(action);
  expect_error(error, code, message_part, hint_part);
  if (!path.empty()) {
    EXPECT_EQ(test::path_of(error), path);
  }
}

// The part of the key that the caret stands under; "<end>" for the place behind its last byte.
inline std::string marked(const Error& error) {
  const auto* span = std::get_if<KeySpan>(&error.where());
  if (span == nullptr) return "<no span>";
  if (span->begin > span->end || span->end > span->text.size()) return "<outside>";
  if (span->begin == span->text.size()) return "<end>";
  return span->text.substr(span->begin, span->end - span->begin);
}

}  // namespace thorns
