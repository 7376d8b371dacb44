// For the tests of this room: a channel that keeps what is written, and what a terminal would show.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "cli/columns.h"
#include "cli/terminal.h"

namespace thorns::cli {

class RecordingChannel : public Channel {
 public:
  WriteResult write(std::string_view text) override {
    if (result == WriteResult::Done) written += text;
    ++writes;
    return result;
  }
  bool is_terminal() const override { return terminal; }
  bool has_colour() const override { return colour; }
  std::size_t width() const override { return columns; }
  bool can_redraw() const override { return terminal; }
  bool has_unicode() const override { return unicode; }

  // The lines that stand on the screen after everything was written, and the widest one on the way.
  struct Screen {
    std::vector<std::string> lines;
    std::size_t widest = 0;
  };
  Screen screen() const {
    Screen result;
    std::istringstream stream(written);
    for (std::string row; std::getline(stream, row);) {
      std::string shown;
      std::istringstream drawings(row);
      for (std::string drawn; std::getline(drawings, drawn, '\r');) {
        result.widest = std::max(result.widest, display_width(drawn));
        // ASCII only: a column is a byte.
        if (drawn.size() < shown.size()) drawn += shown.substr(drawn.size());
        shown = drawn;
      }
      shown.erase(shown.find_last_not_of(' ') + 1);
      result.lines.push_back(shown);
    }
    return result;
  }

  std::string written;
  int writes = 0;
  WriteResult result = WriteResult::Done;
  bool terminal = false;
  bool colour = false;
  bool unicode = false;
  std::size_t columns = 80;
};

}  // namespace thorns::cli
