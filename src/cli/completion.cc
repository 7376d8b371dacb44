// thorns completion: scripts that complete verbs, options, the few fixed values and method names,
// and file names everywhere else. They are made from the options themselves, so they cannot lag
// behind.
#include <fmt/format.h>

#include <algorithm>

#include "cli/verbs.h"

namespace thorns::cli {
namespace {

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

// Inside '...' of any of the three shells.
std::string in_quotes(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '\'') {
      result += "'\\''";
    } else {
      result += c;
    }
  }
  return result;
}

// A verb's word after it, where it is one of a few.
std::vector<std::string> argument_choices(const VerbSketch& verb) {
  if (verb.name == "completion") return completion_shells();
  std::vector<std::string> names;
  if (verb.name == "methods") {
    for (const MethodInfo& method : methods()) names.push_back(method.name);
    for (const MethodInfo& combination : combinations()) names.push_back(combination.name);
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
  }
  return names;
}

// ---------------------------------------------------------------- bash

std::string bash_script(const std::vector<VerbSketch>& verbs) {
  std::vector<std::string> names;
  std::string cases;
  for (const VerbSketch& verb : verbs) {
    names.push_back(verb.name);
    std::vector<std::string> options;
    std::string values;
    for (const OptionSketch& option : verb.options) {
      options.insert(options.end(), option.names.begin(), option.names.end());
      if (option.value.empty()) continue;
      values +=
          fmt::format("        {}) words='{}'; value=1 ;;\n",
                      fmt::format("{}", fmt::join(option.names, "|")), joined(option.choices));
    }
    cases += fmt::format(
        "    {})\n      case \"$before\" in\n{}        *) words='{}' ;;\n      esac\n"
        "      [[ $value == 0 && $word == -* ]] && words='{}' ;;\n",
        verb.name, values, joined(argument_choices(verb)), joined(options));
  }
  return fmt::format(
      "# bash completion of thorns\n"
      "_thorns() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}\n"
      "  local words='' value=0\n"
      "  COMPREPLY=()\n"
      "  if [[ $COMP_CWORD == 1 ]]; then\n"
      "    COMPREPLY=($(compgen -W '{} --help --version' -- \"$word\"))\n"
      "    return\n"
      "  fi\n"
      "  case \"${{COMP_WORDS[1]}}\" in\n{}  esac\n"
      "  [[ -n $words ]] && COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
      "}}\n"
      "complete -o default -F _thorns thorns\n",
      joined(names), cases);
}

// ---------------------------------------------------------------- zsh

// A colon or a bracket in a description would end it.
std::string zsh_text(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == ':' || c == '[' || c == ']') result += '\\';
    result += c;
  }
  return in_quotes(result);
}

std::string zsh_option(const OptionSketch& option) {
  std::string value;
  if (!option.value.empty()) {
    const std::string action =
        option.choices.empty() ? "_files" : "(" + joined(option.choices) + ")";
    value = fmt::format(":{}:{}", zsh_text(option.value), action);
  }
  std::string specs;
  for (const std::string& name : option.names) {
    specs += fmt::format(" \\\n        '*{}[{}]{}'", name, zsh_text(option.summary), value);
  }
  return specs;
}

std::string zsh_script(const std::vector<VerbSketch>& verbs) {
  std::string list;
  std::string cases;
  for (const VerbSketch& verb : verbs) {
    list += fmt::format("    '{}:{}'\n", verb.name, zsh_text(verb.summary));
    std::string options;
    for (const OptionSketch& option : verb.options) options += zsh_option(option);
    const std::vector<std::string> choices = argument_choices(verb);
    const std::string action = choices.empty() ? "_files" : "(" + joined(choices) + ")";
    cases += fmt::format("    {})\n      _arguments{} \\\n        '1:argument:{}' ;;\n", verb.name,
                         options, action);
  }
  return fmt::format(
      "#compdef thorns\n"
      "# zsh completion of thorns\n"
      "_thorns() {{\n"
      "  local -a verbs\n"
      "  verbs=(\n{}  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe 'verb' verbs\n"
      "    return\n"
      "  fi\n"
      "  local verb=$words[2]\n"
      "  shift words\n"
      "  (( CURRENT-- ))\n"
      "  case $verb in\n{}  esac\n"
      "}}\n"
      "if [[ $funcstack[1] == _thorns ]]; then _thorns \"$@\"; else compdef _thorns thorns; fi\n",
      list, cases);
}

// ---------------------------------------------------------------- fish

std::string fish_option(const std::string& verb, const OptionSketch& option) {
  std::string line = fmt::format("complete -c thorns -n '__fish_seen_subcommand_from {}'", verb);
  for (const std::string& name : option.names) {
    line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  }
  if (!option.choices.empty()) {
    line += fmt::format(" -x -a '{}'", joined(option.choices));
  } else if (!option.value.empty()) {
    line += " -r";
  }
  return line + fmt::format(" -d '{}'\n", in_quotes(option.summary));
}

std::string fish_script(const std::vector<VerbSketch>& verbs) {
  std::string text = "# fish completion of thorns\n";
  for (const VerbSketch& verb : verbs) {
    text += fmt::format("complete -c thorns -n __fish_use_subcommand -f -a {} -d '{}'\n", verb.name,
                        in_quotes(verb.summary));
  }
  for (const VerbSketch& verb : verbs) {
    const std::vector<std::string> choices = argument_choices(verb);
    if (!choices.empty()) {
      text += fmt::format("complete -c thorns -n '__fish_seen_subcommand_from {}' -f -a '{}'\n",
                          verb.name, joined(choices));
    }
    for (const OptionSketch& option : verb.options) text += fish_option(verb.name, option);
  }
  return text;
}

}  // namespace

int run_completion(const CompletionArguments& arguments, Console& console) {
  const std::vector<VerbSketch> verbs = sketch_verbs();
  if (arguments.shell == "bash") return answer(console, bash_script(verbs));
  if (arguments.shell == "zsh") return answer(console, zsh_script(verbs));
  return answer(console, fish_script(verbs));
}

}  // namespace thorns::cli
