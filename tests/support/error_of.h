// Runs something that must throw thorns::Error and hands the error back.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "thorns/error.h"

namespace thorns::test {

template <typename Action>
Error error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return Error(ErrorCode::Internal, "nothing was thrown");
}

// The file an error points at, and the byte in it; empty and -1 where it points elsewhere.
inline std::string path_of(const Error& error) {
  const auto* place = std::get_if<FilePlace>(&error.where());
  return place != nullptr ? place->path : std::string();
}
inline long long offset_of(const Error& error) {
  const auto* place = std::get_if<FilePlace>(&error.where());
  return place != nullptr && place->offset ? static_cast<long long>(*place->offset) : -1;
}

}  // namespace thorns::test
