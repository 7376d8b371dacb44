#include "recipe/binder.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

#include "base/text.h"
#include "recipe/blend_options.h"
#include "recipe/fold_options.h"
#include "recipe/key_map_file.h"
#include "recipe/names.h"

namespace thorns {
namespace {

// The keys of all nodes together, which are kept for reports; no key that people write comes near.
constexpr std::size_t kMaxNodeKeyBytes = std::size_t{16} << 20;

// A text with an expression in it: the key, or an entry of `let`.
struct Source {
  std::string text;
  std::string context;  // end of messages about it: " in the key of r.yaml:3"
  ExpressionPtr expression;

  [[noreturn]] void fail(Span span, const std::string& message, const std::string& hint) const {
    throw Error(ErrorCode::BadRecipe, message + context, place(span), hint);
  }
  KeySpan place(Span span) const { return {text, span.begin, span.end}; }
};

Source parse_source(const std::string& text, const std::string& context) {
  try {
    return {text, context, parse_key(text)};
  } catch (const Error& error) {
    throw Error(error.code(), error.message() + context, error.where(), error.hint());
  }
}

// A part of the recipe that is bound: its node, and its expression with `let` names expanded.
struct Bound {
  std::size_t node = 0;
  ExpressionPtr expanded;
};

// An entry of `let`.
struct Part {
  std::string name;
  Source source;
  std::size_t expanded_bytes = 0;  // of its key, at most
  bool used = false;
  Bound bound;
};

std::string trimmed(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin);
}

class Binder {
 public:
  Binder(Disk& disk, const Bindings& bindings, const RecipeFile* file)
      : disk_(disk), bindings_(bindings), names_(disk, bindings, file), file_(file) {}

  Recipe bind(const Source& key) {
    if (file_ != nullptr) recipe_.settings = file_->settings;
    read_parts();
    measure(key, parts_.size());
    mark_used(key);
    for (Part& part : parts_) {
      if (!part.used) continue;
      part.bound = bind_whole(part.source);
      RecipeNode& node = recipe_.nodes[part.bound.node];
      if (node.name.empty()) node.name = part.name;
    }
    const Bound root = bind_whole(key);
    recipe_.root = root.node;
    recipe_.key = to_string(*root.expanded);
    recipe_.published = trimmed(key.text);
    if (!recipe_.settings.tokenizer.empty()) bind_tokenizer();
    bind_key_maps();
    return std::move(recipe_);
  }

 private:
  // ---------------------------------------------------------------- let

  // Each entry may use those before it, so that none can lead back to itself.
  void read_parts() {
    if (file_ == nullptr) return;
    for (const FileEntry& entry : file_->let) {
      parts_.push_back(
          {entry.name,
           parse_source(entry.value, fmt::format(" in `{}` of `let` ({}:{})", entry.name,
                                                 entry.place.path, entry.place.line)),
           0,
           false,
           {}});
      part_of_.emplace(entry.name, parts_.size() - 1);
    }
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      refuse_forward_uses(i);
      parts_[i].expanded_bytes = measure(parts_[i].source, i);
    }
  }

  const Part* part_named(const std::string& name) const {
    const auto found = part_of_.find(name);
    return found == part_of_.end() ? nullptr : &parts_[found->second];
  }

  void refuse_forward_uses(std::size_t index) const {
    const Part& part = parts_[index];
    visit_names(
        *part.source.expression,
        [&](const KeyName& name) {
          const auto found = part_of_.find(name.text);
          if (found == part_of_.end() || found->second < index) return;
          if (found->second == index) {
            part.source.fail(name.span, fmt::format("`{}` is defined by itself", part.name),
                             "if it stands for a model of this name, give the entry another one");
          }
          const bool circle = uses(found->second, part.name);
          part.source.fail(
              name.span,
              circle ? fmt::format("`{}` and `{}` are defined by each other", part.name, name.text)
                     : fmt::format("`{}` is used before it is defined", name.text),
              circle ? "write one of them without the other"
                     : fmt::format("move `{}` above `{}`", name.text, part.name));
        },
        [](const KeyName&) {});
  }

  // Whether the definition of part `from` mentions `name`, directly or through other parts.
  bool uses(std::size_t from, const std::string& name) const {
    std::set<std::size_t> seen = {from};
    std::vector<std::size_t> open = {from};
    while (!open.empty()) {
      const Part& part = parts_[open.back()];
      open.pop_back();
      for (const std::string& model : mentioned_models(*part.source.expression)) {
        if (model == name) return true;
        const auto found = part_of_.find(model);
        if (found != part_of_.end() && seen.insert(found->second).second) {
          open.push_back(found->second);
        }
      }
    }
    return false;
  }

  // An upper limit of the bytes of a key once its `let` names are expanded, found without expanding
  // anything: sizes can double with every entry.
  std::size_t measure(const Source& source, std::size_t parts_before) const {
    std::size_t bytes = to_string(*source.expression).size();
    visit_names(
        *source.expression,
        [&](const KeyName& name) {
          const auto found = part_of_.find(name.text);
          if (found == part_of_.end() || found->second >= parts_before) return;
          bytes += parts_[found->second].expanded_bytes - quoted_name(name.text).size();
          if (bytes > kMaxKeyBytes) {
            source.fail(name.span,
                        fmt::format("the key grows beyond {} bytes where `{}` is expanded",
                                    kMaxKeyBytes, name.text),
                        "use fewer parts, or merge some of them first");
          }
        },
        [](const KeyName&) {});
    return bytes;
  }

  void mark_used(const Source& key) {
    const auto mark = [&](const Source& source) {
      for (const std::string& name : mentioned_models(*source.expression)) {
        const auto found = part_of_.find(name);
        if (found != part_of_.end()) parts_[found->second].used = true;
      }
    };
    mark(key);
    for (std::size_t i = parts_.size(); i-- > 0;) {
      if (parts_[i].used) mark(parts_[i].source);
    }
  }

  // ---------------------------------------------------------------- nodes

  Bound bind_whole(const Source& source) {
    Bound bound = bind_part(source.expression, source);
    if (depth_of(*bound.expanded) > kMaxKeyDepth) {
      source.fail(source.expression->span,
                  fmt::format("brackets nest more than {} deep once `let` names are expanded",
                              kMaxKeyDepth),
                  "remove brackets that are not needed");
    }
    return bound;
  }

  Bound bind_part(const ExpressionPtr& expression, const Source& source) {
    return std::visit([&](const auto& node) { return bind_node(node, expression, source); },
                      expression->node);
  }

  Bound bind_node(const LeafExpression& leaf, const ExpressionPtr& self, const Source& source) {
    if (const Part* part = part_named(leaf.name.text)) return part->bound;
    const std::size_t index = leaf_index(leaf.name, source);
    return {add(fmt::format("leaf {}", index), {LeafNode{index}, {}, {}, source.place(self->span)},
                *self),
            self};
  }

  Bound bind_node(const CompositeExpression& composite, const ExpressionPtr& self,
                  const Source& source) {
    Bound inside = bind_part(composite.inside, source);
    if (inside.expanded == composite.inside) return {inside.node, self};
    return {inside.node, make({CompositeExpression{inside.expanded}, self->span})};
  }

  Bound bind_node(const FoldExpression& fold, const ExpressionPtr& self, const Source& source) {
    if (!fold.options.empty()) return bind_combination(fold, self, source);
    Bound model = bind_part(fold.model, source);
    const bool changed = model.expanded != fold.model;
    for (std::size_t i = 0; i < fold.adapters.size(); ++i) {
      const KeyAdapter& adapter = fold.adapters[i];
      const FoldNode node{model.node,
                          {{adapter_index(adapter.name, source), adapter.weight.value_or(1.0)}},
                          std::nullopt};
      // The node of the first adapters of several is a part that the key does not write.
      const bool whole = i + 1 == fold.adapters.size() && !changed;
      model.expanded = whole ? self : make(fold_into(model.expanded, {adapter}, {}, self->span));
      model.node = add(signature(node), {node, {}, {}, source.place(self->span)}, *model.expanded);
    }
    return model;
  }

  // A fold with options: its adapters become one.
  Bound bind_combination(const FoldExpression& fold, const ExpressionPtr& self,
                         const Source& source) {
    FoldNode node;
    node.combination = bind_combination_options(
        fold, [&](Span span, const std::string& message, const std::string& hint) {
          source.fail(span, message, hint);
        });
    const Bound model = bind_part(fold.model, source);
    node.model = model.node;
    for (const KeyAdapter& adapter : fold.adapters) {
      node.adapters.push_back({adapter_index(adapter.name, source), adapter.weight.value_or(1.0)});
    }
    const ExpressionPtr expanded =
        model.expanded == fold.model
            ? self
            : make({FoldExpression{model.expanded, fold.adapters, fold.options}, self->span});
    return {add(signature(node), {node, {}, {}, source.place(self->span)}, *expanded), expanded};
  }

  Bound bind_node(const BlendExpression& blend, const ExpressionPtr& self, const Source& source) {
    BlendNode node;
    bind_options(
        blend, self->span,
        [&](Span span, const std::string& message, const std::string& hint) {
          source.fail(span, message, hint);
        },
        node);
    BlendExpression expanded = blend;
    bool changed = false;
    for (std::size_t i = 0; i < blend.terms.size(); ++i) {
      const Bound model = bind_part(blend.terms[i].model, source);
      node.models.push_back(model.node);
      changed = changed || model.expanded != blend.terms[i].model;
      expanded.terms[i].model = model.expanded;
    }
    const ExpressionPtr result = changed ? make({std::move(expanded), self->span}) : self;
    const std::string known_as = signature(node);
    return {add(known_as, {std::move(node), {}, {}, source.place(self->span)}, *result), result};
  }

  static ExpressionPtr make(Expression expression) {
    return std::make_shared<const Expression>(std::move(expression));
  }

  static std::string signature(const FoldNode& node) {
    std::string text = fmt::format("fold {}", node.model);
    for (const FoldNode::Share& share : node.adapters) {
      text += fmt::format(" {}*{}", number_text(share.weight), share.adapter);
    }
    if (!node.combination) return text;
    const Combination& how = *node.combination;
    return text + fmt::format(" {} {} {} {} {}", how.rule.name, number_text(how.density),
                              how.by_frequency, how.svd_rank.value_or(0), how.seed);
  }

  static std::string signature(const BlendNode& node) {
    std::string text = "blend " + node.method->name() + (node.weighted ? " weighted" : "");
    for (std::size_t i = 0; i < node.models.size(); ++i) {
      text += fmt::format(" {}*{}", number_text(node.weights[i]), node.models[i]);
    }
    for (const Setting& setting : node.settings) {
      text += fmt::format(" {}({}:{})", setting.parameter, setting.filter.size(), setting.filter);
      for (const double value : setting.values) text += "," + number_text(value);
    }
    return text;
  }

  // The node with this signature, made if it is new.
  std::size_t add(const std::string& signature, RecipeNode node, const Expression& expanded) {
    const auto [place, is_new] = node_of_.emplace(signature, recipe_.nodes.size());
    if (is_new) {
      node.key = to_string(expanded);
      node_key_bytes_ += node.key.size();
      if (node_key_bytes_ > kMaxNodeKeyBytes) {
        throw Error(ErrorCode::BadRecipe, "the key has too many parts", node.span,
                    "merge some of them first");
      }
      recipe_.nodes.push_back(std::move(node));
    }
    return place->second;
  }

  // ---------------------------------------------------------------- leaves

  // Index of the leaf or adapter that `name` stands for; those with one path are one.
  template <typename Item>
  std::size_t index_of(NameKind kind, const KeyName& name, const Source& source,
                       std::vector<Item>& items, std::map<std::string, std::size_t>& by_name,
                       std::map<std::string, std::size_t>& by_path) {
    const auto known = by_name.find(name.text);
    if (known != by_name.end()) return known->second;
    const KeySpan span = source.place(name.span);
    Found found;
    try {
      found = names_.find(kind, name.text, span, source.context);
    } catch (const Error& error) {
      recipe_.problems.push_back(error);
    }
    const bool missing = found.path.empty();
    const auto [place, is_new] =
        by_path.emplace(missing ? name.text : names_.canonical(found.path), items.size());
    if (is_new) {
      Item item;
      item.name = name.text;
      item.path = std::move(found.path);
      item.where = std::move(found.where);
      item.span = span;
      items.push_back(std::move(item));
    }
    by_name.emplace(name.text, place->second);
    return place->second;
  }

  std::size_t leaf_index(const KeyName& name, const Source& source) {
    return index_of(NameKind::Model, name, source, recipe_.leaves, leaf_by_name_, leaf_by_path_);
  }
  std::size_t adapter_index(const KeyName& name, const Source& source) {
    return index_of(NameKind::Adapter, name, source, recipe_.adapters, adapter_by_name_,
                    adapter_by_path_);
  }

  // ---------------------------------------------------------------- key maps

  void bind_key_maps() {
    if (file_ != nullptr) {
      for (const FileEntry& entry : file_->key_maps) {
        set_key_map(entry.name, entry.value, names_.located_in_file(entry.value), entry.place);
      }
    }
    for (const Binding& binding : bindings_.key_maps) {
      if (!binding.name.empty()) set_key_map(binding.name, binding.where, binding.where, {});
    }
    for (const Binding& binding : bindings_.key_maps) {
      if (!binding.name.empty()) continue;
      if (recipe_.adapters.empty()) {
        throw Error(ErrorCode::BadRecipe, "a key map is given, but the key folds no adapter",
                    FilePlace{binding.where});
      }
      for (RecipeAdapter& adapter : recipe_.adapters) {
        if (adapter.key_map.empty()) give(adapter, binding.where, binding.where);
      }
    }
  }

  void set_key_map(const std::string& name, const std::string& where, const std::string& path,
                   const Where& place) {
    const auto found = adapter_by_name_.find(name);
    if (found == adapter_by_name_.end()) {
      std::vector<std::string> names;
      for (const auto& [known, index] : adapter_by_name_) names.push_back(known);
      const std::string near = did_you_mean(name, names);
      throw Error(ErrorCode::BadRecipe,
                  fmt::format("a key map is given for `{}`, which the key does not fold", name),
                  place, near.empty() ? "adapters of the key: " + list_text(names) : near);
    }
    RecipeAdapter& adapter = recipe_.adapters[found->second];
    if (!adapter.key_map.empty()) {
      throw Error(ErrorCode::BadRecipe,
                  fmt::format("the adapter `{}` is given two key maps, `{}` and `{}`", adapter.name,
                              adapter.key_map_where, where),
                  place, "put all rules into one file");
    }
    give(adapter, where, path);
  }

  void give(RecipeAdapter& adapter, const std::string& where, const std::string& path) {
    adapter.key_map = read_key_map(disk_, path);
    adapter.key_map_path = path;
    adapter.key_map_where = where;
  }

  void bind_tokenizer() {
    std::string& name = recipe_.settings.tokenizer;
    const auto found = leaf_by_name_.find(name);
    if (found != leaf_by_name_.end()) {
      name = recipe_.leaves[found->second].name;
      return;
    }
    std::vector<std::string> leaves;
    for (const RecipeLeaf& leaf : recipe_.leaves) leaves.push_back(leaf.name);
    const std::string near = did_you_mean(name, leaves);
    throw Error(ErrorCode::BadRecipe,
                fmt::format("the tokenizer's model `{}` is not part of the key", name),
                file_->tokenizer_place,
                near.empty() ? "models of the key: " + list_text(leaves) : near);
  }

  Disk& disk_;
  const Bindings& bindings_;
  Names names_;
  const RecipeFile* file_;
  Recipe recipe_;
  std::vector<Part> parts_;
  std::unordered_map<std::string, std::size_t> part_of_;
  std::unordered_map<std::string, std::size_t> node_of_;  // by signature
  std::size_t node_key_bytes_ = 0;
  std::map<std::string, std::size_t> leaf_by_name_;
  std::map<std::string, std::size_t> leaf_by_path_;
  std::map<std::string, std::size_t> adapter_by_name_;
  std::map<std::string, std::size_t> adapter_by_path_;
};

}  // namespace

Recipe bind_file(Disk& disk, const RecipeFile& file, const Bindings& bindings) {
  const std::string context =
      fmt::format(" in the key of {}:{}", file.key.place.path, file.key.place.line);
  return Binder(disk, bindings, &file).bind(parse_source(file.key.value, context));
}

Recipe bind_key(Disk& disk, const std::string& key, const Bindings& bindings) {
  return Binder(disk, bindings, nullptr).bind(parse_source(key, {}));
}

}  // namespace thorns
