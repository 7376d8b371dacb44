// What an adapter is made of, in PEFT's terms, whoever made it. Private to this room.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/source.h"

namespace thorns {

struct AdapterContents {
  Json config;              // as adapter_config.json of PEFT has it
  std::string config_path;  // where it stands; the weights where these say it themselves
  std::string weights_path;
  std::unique_ptr<TensorSource> source;  // PEFT's names and shapes
  std::vector<InputFile> files;
  std::vector<std::string> warnings;
  bool rotates_neighbours = false;  // as Adapter says it
};

// `path`: a folder with adapter_config.json and weights, of PEFT or mlx-lm; a weights file beside
// such a configuration; or a single file that says all itself (Kohya's, diffusers', llama.cpp's).
// Throws what reading throws, NotFound for what is missing, and Unsupported where alpha stands
// nowhere.
AdapterContents read_contents(Disk& disk, const std::string& path);

}  // namespace thorns
