#include "cli/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "thorns/error.h"
#include "thorns/words.h"

namespace thorns::cli {
namespace {

std::string help_hint(const CLI::App& app) {
  return fmt::format("`thorns {} --help` lists the options", app.get_name());
}

// A value that looks like an option is most likely an option whose value was forgotten before.
void refuse_option_as_value(const std::string& name, const std::string& value) {
  if (value.empty()) refuse(fmt::format("`{}` needs a value", name));
  if (value.size() > 1 && value[0] == '-') {
    refuse(fmt::format("`{}` needs a value, found `{}`", name, value),
           "a path that begins with - is written ./-");
  }
}

bool is_flag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }

// CLI11 would take the next argument as the value of `--name=`, and the value of a flag as a count.
void refuse_odd_equals(const CLI::App& app, const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (argument == "--") return;
    const std::size_t equals = argument.find('=');
    if (!argument.starts_with("--") || equals == std::string::npos) continue;
    const std::string name = argument.substr(0, equals);
    const CLI::Option* const option = app.get_option_no_throw(name);
    if (option == nullptr) continue;
    if (is_flag(*option)) refuse(fmt::format("`{}` takes no value", name));
    if (equals + 1 == argument.size()) refuse(fmt::format("`{}` needs a value", name));
  }
}

[[noreturn]] void refuse_extra(const CLI::App& app, const std::string& argument) {
  if (argument.size() > 1 && argument[0] == '-') {
    const std::string name = argument.substr(0, argument.find('='));
    std::vector<std::string> names;
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& known : option->get_lnames()) names.push_back("--" + known);
    }
    const std::string near = did_you_mean(name, names);
    refuse(fmt::format("`thorns {}` has no option `{}`", app.get_name(), name),
           near.empty() ? help_hint(app) : near);
  }
  refuse(
      fmt::format("unexpected argument `{}`", argument),
      "a key with blanks or brackets stands in quotes: thorns " + app.get_name() + " \"{A + B}\"");
}

}  // namespace

void refuse(const std::string& message, const std::string& hint) {
  throw Error(ErrorCode::BadUsage, message, {}, hint);
}

void OptionTable::positional(const std::string& name, const std::string& help,
                             std::string& target) {
  app_.add_option(
          name,
          [&target](const CLI::results_t& values) {
            target = values.at(0);
            return true;
          },
          help)
      ->group(heading_);
}

void OptionTable::positionals(const std::string& name, const std::string& help,
                              std::vector<std::string>& target) {
  app_.add_option(name, target, help)->group(heading_);
}

CLI::Option* OptionTable::add(const std::string& names, const std::string& value,
                              const std::string& help, CLI::callback_t callback) {
  return app_.add_option(names, std::move(callback), help)
      ->type_name(value)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group(heading_);
}

CLI::Option* OptionTable::once(const std::string& names, const std::string& value,
                               const std::string& help, Setter set) {
  const std::string name = names.substr(names.find("--"));
  return add(names, value, help, [name, set = std::move(set)](const CLI::results_t& values) {
    if (values.size() > 1) refuse(fmt::format("`{}` is given twice", name));
    refuse_option_as_value(name, values.at(0));
    set(values[0]);
    return true;
  });
}

void OptionTable::repeated(const std::string& names, const std::string& value,
                           const std::string& help, Setter add_value) {
  const std::string name = names.substr(names.find("--"));
  add(names, value, help, [name, add_value = std::move(add_value)](const CLI::results_t& values) {
    for (const std::string& one : values) {
      refuse_option_as_value(name, one);
      add_value(one);
    }
    return true;
  });
}

void OptionTable::flag(const std::string& names, const std::string& help, bool& target) {
  app_.add_flag_callback(
          names, [&target] { target = true; }, help)
      ->group(heading_);
}

std::string shown_name(const CLI::Option& option) {
  if (!option.get_lnames().empty()) return "--" + option.get_lnames().front();
  if (!option.get_snames().empty()) return "-" + option.get_snames().front();
  return option.get_name(true);
}

void parse(CLI::App& app, std::vector<std::string> arguments) {
  refuse_odd_equals(app, arguments);
  const std::string last = arguments.empty() ? std::string() : arguments.back();
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    throw;
  } catch (const CLI::ExtrasError&) {
    refuse_extra(app, app.remaining().front());
  } catch (const CLI::ArgumentMismatch&) {
    // Only an option at the very end can lack its value.
    refuse(fmt::format("`{}` needs a value", last), help_hint(app));
  } catch (const CLI::ParseError& error) {
    refuse(error.what(), help_hint(app));
  }
}

}  // namespace thorns::cli
