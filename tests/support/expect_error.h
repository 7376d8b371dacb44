// Checks of a thorns::Error: code, a part of the message, the place, a part of the hint.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "thorns/error.h"

namespace thorns {

// The error that `call` throws; fails the test and returns nothing where it throws none.
template <typename Call>
std::optional<Error> error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return std::nullopt;
}

inline void expect_has(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "`" << text << "` lacks `" << part << "`";
}

inline void expect_error(const std::optional<Error>& error, ErrorCode code,
                         const std::string& message_part, const std::string& hint_part = {}) {
  if (!error) return;
  EXPECT_STREQ(to_string(error->code()), to_string(code));
  expect_has(error->message(), message_part);
  expect_has(error->hint(), hint_part);
  EXPECT_FALSE(error->message().ends_with('.')) << error->message();
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
