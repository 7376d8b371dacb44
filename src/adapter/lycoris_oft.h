// OFT and BOFT of LyCORIS and of Kohya's trainer, which rotate the outputs of a layer. Private to
// this room.
#pragma once

#include "adapter/family.h"

namespace thorns {

// The update of a module that has `oft_blocks`.
void fold_lycoris_oft(FamilyModule& module);

}  // namespace thorns
