#include "congestion.hpp"

#include "background_control.hpp"
#include "bbr_control.hpp"
#include "fixed_control.hpp"
#include "native_control.hpp"

namespace longhaul::udt {

std::unique_ptr<CongestionControl> make_control(const ControlSettings& settings) {
  switch (settings.kind) {
    case ControlKind::kNative: return std::make_unique<NativeControl>(settings);
    case ControlKind::kFixed: return std::make_unique<FixedControl>(settings);
    case ControlKind::kBackground: return std::make_unique<BackgroundControl>(settings);
    case ControlKind::kBbr: break;
  }
  return std::make_unique<BbrControl>(settings);
}

}  // namespace longhaul::udt
