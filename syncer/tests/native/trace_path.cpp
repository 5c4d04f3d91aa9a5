#include "trace_path.hpp"

#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace longhaul::udt::simulation {

namespace {

std::vector<std::string> cells(const std::string& line) {
  std::vector<std::string> found;
  std::string cell;
  std::istringstream in(line);
  while (std::getline(in, cell, ',')) found.push_back(cell);
  if (!line.empty() && line.back() == ',') found.emplace_back();
  return found;
}

// "1.5 MB" or "400 kB" in bits.
double size_bits(const std::string& text) {
  std::istringstream in(text);
  double number = 0;
  std::string unit;
  in >> number >> unit;
  double scale = unit == "MB" ? 1e6 : unit == "kB" ? 1e3 : 1;
  return number * scale * 8;
}

}  // namespace

PathSettings read_trace(const std::string& file, bool up) {
  std::ifstream in(file);
  if (!in) throw std::runtime_error("cannot open " + file);
  PathSettings path;
  path.steps.clear();
  std::string line;
  std::string direction = up ? "up_" : "down_";
  while (std::getline(in, line) && line != "---") {
    if (line.rfind(direction + "buffer: ", 0) == 0) path.buffer_bits = size_bits(line.substr(direction.size() + 8));
    if (line.rfind("duration: ", 0) == 0) path.period = static_cast<Micros>(std::stod(line.substr(10)) * 1e6);
  }
  if (!std::getline(in, line)) throw std::runtime_error(file + " has no table");
  std::vector<std::string> columns = cells(line);
  std::map<std::string, double> value;
  while (std::getline(in, line)) {
    std::vector<std::string> row = cells(line);
    for (size_t i = 0; i < row.size() && i < columns.size(); ++i) {
      if (row[i].empty()) continue;
      std::string name = columns[i];
      if (name.rfind(direction, 0) == 0) name = name.substr(direction.size());
      value[name] = std::stod(row[i]);
    }
    PathStep step;
    step.at = static_cast<Micros>(value["time_ms"] * 1000);
    step.bits_per_second = value["rate_kbps"] * 1000;
    step.delay = static_cast<Micros>(value["delay_ms"] * 1000);
    step.jitter = static_cast<Micros>(value["jitter_ms"] * 1000);
    step.blocked = value["blocked"] > 0;
    step.loss = value["loss_pct"] / 100;
    path.steps.push_back(step);
  }
  return path;
}

}  // namespace longhaul::udt::simulation
