// solomonic._native: the Python door to the C interface. No arithmetic happens here.
#include "module.h"

NB_MODULE(_native, module) {
  module.doc() = "The native core: see native/include/solomonic.h.";
  module.def("version", slm_version);
  module.def("isa", slm_isa, "Name of the instruction set in use.");
  module.def(
      "isa_list", [] { return std::string(slm_isa_list()); },
      "Instruction sets this processor can run, best first, separated by spaces.");
  module.def(
      "isa_use", [](const char* name) { check(slm_isa_use(name)); }, nb::arg("name"));
  bind_runtime(module);
  bind_train(module);
  bind_packed(module);
  bind_speech_net(module);
  bind_speech_search(module);
  bind_speech_stream(module);
  bind_induction(module);
}
