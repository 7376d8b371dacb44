// Ways out that errors of several readers give. Private to this room.
#pragma once

namespace thorns {

inline constexpr const char* kFetchAgain = "the file is cut short or damaged; fetch it again";
inline constexpr const char* kSaveAgain = "save it again with torch.save";

}  // namespace thorns
