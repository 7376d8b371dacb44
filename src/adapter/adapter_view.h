// An opened adapter with other updates; all else is its own. Private to this room.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "adapter/adapter.h"

namespace thorns {

class AdapterView final : public Adapter {
 public:
  AdapterView(std::unique_ptr<Adapter> inner, std::vector<Update> updates,
              std::vector<std::string> warnings, bool rotates_neighbours)
      : inner_(std::move(inner)),
        updates_(std::move(updates)),
        warnings_(std::move(warnings)),
        rotates_neighbours_(rotates_neighbours) {}

  const std::string& path() const override { return inner_->path(); }
  const std::string& family() const override { return inner_->family(); }
  const std::string& base_model() const override { return inner_->base_model(); }
  const std::vector<Update>& updates() const override { return updates_; }
  const std::vector<std::string>& warnings() const override { return warnings_; }
  const std::vector<InputFile>& files() const override { return inner_->files(); }
  const TensorSource& source() const override { return inner_->source(); }
  bool fan_in_fan_out() const override { return inner_->fan_in_fan_out(); }
  bool rotates_neighbours() const override { return rotates_neighbours_; }
  const Adapter& inner() const { return *inner_; }

 private:
  std::unique_ptr<Adapter> inner_;
  std::vector<Update> updates_;
  std::vector<std::string> warnings_;
  bool rotates_neighbours_;
};

}  // namespace thorns
